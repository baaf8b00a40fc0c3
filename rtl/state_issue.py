"""Mode state: which record of a token is read, and when the lines of its state are issued."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import ROWS_BITS, EngineUnit
from accel.units.modes import DECAY_BITS, MAX_STATE_SHIFT, OUTPUT_SCALE_BITS
from accel.units.pv import SHIFT_BITS as OUTPUT_SHIFT_BITS
from accel.units.qk import SMALLEST_DIM, QkUnit
from accel.units.state import RECORDS, RECORDS_WITH_DECAYS, ROW_STEP, StateUnit
from rtl.job import format_layout, job_layout, line_bits, sequence_bits
from rtl.qk import query_layout
from rtl.qk_rows import format_value
from rtl.stream import Queue

__all__ = ["StateIssue", "most_rows", "rows_layout", "state_line_layout"]


def most_rows(unit: EngineUnit) -> int:
    """Rows of a state in a line at most."""
    return min(ROW_STEP, unit.arch.values_per_line(SMALLEST_DIM))


def rows_layout(unit: EngineUnit) -> data.ArrayLayout:
    """A word for each row of a line."""
    return data.ArrayLayout(signed(WORD_BITS), most_rows(unit))


def state_line_layout(unit: EngineUnit) -> data.StructLayout:
    """A line of a state that is issued: its ring line; whether it is the state's last; fresh: all of it is 0. shift: of
    the product. decay: of all rows; has_words: each row has its own instead. mantissa, scale_shift: of the outputs.
    """
    return data.StructLayout(
        {
            "line": line_bits(unit),
            "last": 1,
            "fresh": 1,
            "shift": range(MAX_STATE_SHIFT + 1),
            "decay": DECAY_BITS,
            "has_words": 1,
            "mantissa": OUTPUT_SCALE_BITS,
            "scale_shift": OUTPUT_SHIFT_BITS,
        }
    )


class StateIssue(wiring.Component):
    """Takes the records of a token, one per cycle, then issues its lines.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch : In(stream of job_layout, always ready). Jobs that are not ``state`` are passed over.
    format : In(format_layout), a level.
    query_passed : In, running count of records that are there. query_number : In, running number of the next.
    record_taken : Out. It is read from the query buffer in this cycle, and its slot is free.
    query_read_slot : Out, with it. query_words : In, a cycle later.
    query : Out(stream of rtl.qk.query_layout, always ready). v, a cycle after it was taken; words from head_dim on
        are 0.
    room : In. The output buffer has room for a row. row_started : Out. It is taken, with a token's first line.
    lines : Out(stream of state_line_layout, always ready), at t: a line is issued.
    keys, decays : Out(rows_layout), at t: words of k, and decay words, of the line's rows. queries : Out, at t + 1: of
        q.

    Times: docs/hardware.md, *Modes*. query_passed and room reach the outputs within the cycle.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.qk = unit, QkUnit.of(unit.arch)
        sequence, words = sequence_bits(unit), data.ArrayLayout(signed(WORD_BITS), unit.entry_words)

        def free(layout: data.StructLayout) -> stream.Signature:
            return stream.Signature(layout, always_ready=True)

        super().__init__(
            {
                "dispatch": In(free(job_layout())),
                "format": In(format_layout()),
                "query_passed": In(sequence),
                "query_number": In(sequence),
                "record_taken": Out(1),
                "query_read_slot": Out(range(max(2, unit.arch.fetcher.query_slots))),
                "query_words": In(words),
                "query": Out(free(query_layout(self.qk))),
                "room": In(1),
                "row_started": Out(1),
                "lines": Out(free(state_line_layout(unit))),
                "keys": Out(rows_layout(unit)),
                "decays": Out(rows_layout(unit)),
                "queries": Out(rows_layout(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, arch, states = self.unit, self.unit.arch, StateUnit(self.unit.arch)
        dims = self.qk.dims
        per_line = format_value(self.format, {dim: arch.values_per_line(dim).bit_length() - 1 for dim in dims})
        line_cycles = {dim: states.line_cycles(dim) for dim in dims}
        log2_cycles = format_value(self.format, {dim: cycles.bit_length() - 1 for dim, cycles in line_cycles.items()})
        longest = max((unit.entry_words // arch.values_per_line(dim)) * line_cycles[dim] for dim in dims)
        drain_lanes = arch.pv.output_lanes

        names = ("rows", "keys", "first_key", "fresh", "decay_words", "decay", "score_shift", "output_mantissa",
                 "output_shift")  # fmt: skip
        of_job = data.StructLayout({name: job_layout()[name].shape for name in names})
        m.submodules.jobs = jobs = Queue(of_job, unit.job_slots)
        job = jobs.o.payload
        m.d.comb += jobs.i.valid.eq(self.dispatch.valid & self.dispatch.payload.state)
        m.d.comb += [jobs.i.payload[name].eq(self.dispatch.payload[name]) for name in names]

        # Records first.
        token = Signal(ROWS_BITS)
        loaded, pause = Signal(range(RECORDS_WITH_DECAYS + 1)), Signal(range(max(line_cycles.values())))
        running, idle, have_all = Signal(), Signal(), Signal()
        ahead = (self.query_passed - self.query_number)[: len(self.query_passed)]
        m.d.comb += [
            idle.eq(jobs.o.valid & ~running & (pause == 0)),
            have_all.eq(loaded == Mux(job.decay_words, RECORDS_WITH_DECAYS, RECORDS)),
            self.record_taken.eq(idle & ~have_all & (ahead != 0) & ~ahead[-1]),
            self.query_read_slot.eq(self.query_number),
        ]

        # Then lines. The last ones of two rows are at least as far apart as the output scaler needs.
        lines, left = Signal(range(longest + 1)), Signal(range(longest + 1))
        span, draining = Signal(range(2 * longest + unit.entry_words)), Signal(range(2 * longest + unit.entry_words))
        drain = (self.format.head_dim + drain_lanes - 1) >> (drain_lanes.bit_length() - 1)
        start, issue, last, place = Signal(), Signal(), Signal(), Signal(line_bits(unit))
        line = self.lines.payload
        m.d.comb += [
            lines.eq(job["keys"] >> per_line),
            span.eq((lines - 1)[: len(lines)] << log2_cycles),
            start.eq(idle & have_all & self.room & (draining <= span)),
            issue.eq(start | (running & (pause == 0))),
            last.eq(Mux(start, lines, left) == 1),
            jobs.o.ready.eq(issue & last & (token + 1 == job.rows)),
            self.row_started.eq(start),
            self.lines.valid.eq(issue),
            line.line.eq(Mux(start, job.first_key >> per_line, place)),
            line.last.eq(last),
            line.fresh.eq(job.fresh & (token == 0)),
            line.shift.eq(job.score_shift),
            line.decay.eq(job.decay),
            line.has_words.eq(job.decay_words),
            line.mantissa.eq(job.output_mantissa),
            line.scale_shift.eq(job.output_shift),
        ]
        with m.If(self.record_taken):
            m.d.sync += loaded.eq(loaded + 1)
        with m.If(start):
            m.d.sync += [loaded.eq(0), draining.eq(span + drain - 1)]
        with m.Elif(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        with m.If(issue):
            m.d.sync += [
                running.eq(~last),
                left.eq(Mux(start, lines, left) - 1),
                place.eq(line.line + 1),
                pause.eq((1 << log2_cycles) - 1),
            ]
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.If(issue & last):
            m.d.sync += token.eq(Mux(token + 1 == job.rows, 0, token + 1))
        self._hold(m, loaded, job.decay_words, issue, per_line)
        return m

    def _hold(self, m: Module, loaded: Value, decay_words: Value, issue: Value, per_line: Value) -> None:
        """Records are held here, and move down by a line with each line; v goes to the QK array."""
        unit, number = self.unit, self.qk
        is_v, query = Signal(), self.query.payload
        m.d.sync += is_v.eq(self.record_taken & (loaded == 1))
        # Of their own, as they are driven under conditions: see rtl.fetch_jobs.
        words = Signal(query.words.shape(), name="v_words")
        m.d.comb += [self.query.valid.eq(is_v), query.log2_dim.eq(self.format.log2_dim), query.words.eq(words)]
        for at in range(0, number.max_head_dim, SMALLEST_DIM):
            with m.If(self.format.head_dim > at):
                m.d.comb += [words[i].eq(self.query_words[i]) for i in range(at, at + SMALLEST_DIM)]
        late = Signal()
        m.d.sync += late.eq(issue)
        roles = {
            "keys": (loaded == 0, issue),
            "decays": (decay_words & (loaded == RECORDS - 1), issue),
            "queries": (loaded == Mux(decay_words, RECORDS_WITH_DECAYS, RECORDS) - 1, late),
        }
        shifts = sorted({unit.arch.values_per_line(dim) for dim in self.qk.dims})
        for name, (arrives, moves) in roles.items():
            held = Signal(unit.entry_words * WORD_BITS, name=f"held_{name}", reset_less=True)
            loads = Signal(name=f"loads_{name}")
            m.d.sync += loads.eq(self.record_taken & arrives)
            with m.If(loads):
                m.d.sync += held.eq(self.query_words.as_value())
            with m.Elif(moves), m.Switch(per_line):
                for rows in shifts:
                    with m.Case(rows.bit_length() - 1):
                        m.d.sync += held.eq(held[rows * WORD_BITS :])
            m.d.comb += getattr(self, name).eq(held[: most_rows(unit) * WORD_BITS])


def spread(unit: EngineUnit, m: Module, format: data.View, words: data.View, name: str) -> list[Value]:
    """For each multiplier the word of the row that lies before it."""
    array = unit.arch.pv.multipliers
    groups = max(1, array // SMALLEST_DIM)
    chosen = Signal(groups * len(Value.cast(words[0])), name=name)
    with m.Switch(format.log2_dim):
        for dim in QkUnit.of(unit.arch).dims:
            rows = [group * SMALLEST_DIM // dim % unit.arch.values_per_line(dim) for group in range(groups)]
            with m.Case(dim.bit_length() - 1):
                m.d.comb += chosen.eq(Cat(words[row] for row in rows))
    width = len(chosen) // groups
    return [chosen[i // SMALLEST_DIM % groups * width :][:width] for i in range(array)]
