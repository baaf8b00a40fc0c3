"""From jobs to rows for the QK array: how many keys each row sees, where its lines lie and how many V rows it keeps."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.program import Mode
from accel.units.engine import ROWS_BITS, EngineUnit
from accel.units.modes import DECAY_BITS, DECAY_SUM_BITS, MAX_LAG
from accel.units.qk import SHIFT_BITS, SMALLEST_DIM
from accel.units.softmax import SCALE_BITS
from rtl.job import (
    COUNT_BITS,
    decay_layout,
    format_layout,
    job_layout,
    line_bits,
    pass_layout,
    sequence_bits,
)
from rtl.sram import Sram

__all__ = ["QkRows", "format_value", "k_ring", "row_layout"]

RATIO_FRACTION_BITS = 16  # of keep_ratio, accel.program
#: Fields of a pass that are known before it starts: of the job as it is, and of the row.
JOB_FIELDS = (
    "lsb", "threshold", "k_lsb_address", "first_key", "list", "version", "selecting", "v_selected", "accumulate",
    "first_tile", "sums_in",
)  # fmt: skip
ROW_FIELDS = ("keys", "lines", "line", "kept", "ends_k", "k_lines")
#: Fields of a job that are needed for that.
STORED = (
    *JOB_FIELDS, "rows", "group", "keys", "causal", "first_visible", "second", "keep_values", "keep_ratio",
    "score_mantissa", "score_shift", "decay",
)  # fmt: skip


def row_layout(unit: EngineUnit) -> data.StructLayout:
    """A row that can start. Fields that pass_layout has too are those; number: running number of its first K line;
    side: its keys are the second of a fused pair; mantissa, shift: of its score scale; decay.
    """
    of_pass = pass_layout(unit)
    return data.StructLayout(
        {
            **{name: of_pass[name].shape for name in (*JOB_FIELDS, *ROW_FIELDS)},
            "number": sequence_bits(unit),
            "side": 1,
            "mantissa": SCALE_BITS,
            "shift": SHIFT_BITS,
            "decay": decay_layout(),
        }
    )


def format_value(format: data.View, values: dict[int, int]) -> Value:
    """The constant of the padded head dimension that runs; ``values`` has one for each."""
    width = max(1, max(values.values()).bit_length())
    chosen: Value = Const(0, width)
    for dim, value in values.items():
        chosen = chosen | Mux(format.log2_dim == dim.bit_length() - 1, Const(value, width), 0)
    return chosen[:width]


def k_ring(unit: EngineUnit, format: data.View) -> Value:
    """Lines in the K ring."""
    dims = [SMALLEST_DIM << i for i in range((unit.entry_words // SMALLEST_DIM).bit_length())]
    wide = {dim: unit.lines(unit.k_entries, unit.arch.keys_per_line(dim), True) for dim in dims}
    narrow = {dim: 2 * lines for dim, lines in wide.items()}
    return Mux(format.k_wide, format_value(format, wide), format_value(format, narrow))


class QkRows(wiring.Component):
    """Keeps the jobs dispatched and works out their rows ahead of their start.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch : In(stream of job_layout, always ready). At most unit.job_slots are held: the sequencer sees to it.
    format : In(format_layout), a level that stands from the cycle after a dispatch until all jobs have retired.
    restart : In, a pulse while no job is held, or with the first one: the next K line is ring line 0. Running numbers
        go on.
    row : Out(stream of row_layout). The rows in order, each offered until it is taken.

    Latency: PREPARE_CYCLES from a dispatch to the job's first row, if none is waiting before it; one row per cycle. A
    query cannot be there as early, so in the engine this delay is never seen.

    Back-pressure: with row stalled, three rows are held and the jobs wait. row.ready enables the registers of all three
    stages; no input reaches an output within the cycle.
    """

    #: Into the memory, its read, three stages.
    PREPARE_CYCLES = 5

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        arch = unit.arch
        self.dims = [SMALLEST_DIM << i for i in range((unit.entry_words // SMALLEST_DIM).bit_length())]
        self.per_line = {dim: arch.keys_per_line(dim) for dim in self.dims}
        super().__init__(
            {
                "dispatch": In(stream.Signature(job_layout(), always_ready=True)),
                "format": In(format_layout()),
                "restart": In(1),
                "row": Out(stream.Signature(row_layout(unit))),
            }
        )

    def _lines(self, keys: Value) -> Value:
        """Lines of that many keys."""
        lines: Value = Const(0, 1)
        for per_line in set(self.per_line.values()):
            dims = [dim for dim in self.dims if self.per_line[dim] == per_line]
            whole = keys + (per_line - 1) >> per_line.bit_length() - 1
            is_it = Cat(self.format.log2_dim == dim.bit_length() - 1 for dim in dims).any()
            lines = lines | (Mux(is_it, whole, 0) if len(dims) < len(self.dims) else whole)
        return lines[: line_bits(self.unit) + 1]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Each stage moves on when the one behind it does, or is empty.
        seen_step, counted_step, step = Signal(), Signal(), Signal()
        seen_valid, counted_valid = Signal(), Signal()
        m.d.comb += [
            step.eq(~self.row.valid | self.row.ready),
            counted_step.eq(~counted_valid | step),
            seen_step.eq(~seen_valid | counted_step),
        ]

        self._keys = self.format.mode != Mode.LINEAR  # jobs have any
        have, last = Signal(), Signal()
        job = self._job(m, have, seen_step & last)
        visible, lag = self._count_rows(m, job, have & seen_step, last)
        line, number, k_lines = self._k_lines(m, job, have & seen_step & last)

        # Stage 1: the keys that the row sees.
        row = row_layout(self.unit)
        to_come = {"keep_values": COUNT_BITS, "keep_ratio": RATIO_FRACTION_BITS + 1}
        seen_layout = data.StructLayout({"row": row, **to_come, "lag": range(MAX_LAG + 1)})
        seen, offered = Signal(seen_layout, reset_less=True), Signal(row, reset_less=True)
        with m.If(seen_step):
            m.d.sync += [
                seen_valid.eq(have),
                *(seen.row[name].eq(job[name]) for name in JOB_FIELDS),
                *(seen[name].eq(job[name]) for name in to_come),
                seen.row.keys.eq(visible),
                seen.row.line.eq(line),
                seen.row.number.eq(number),
                seen.row.side.eq(job.second),
                seen.row.mantissa.eq(job.score_mantissa),
                seen.row.shift.eq(job.score_shift),
                seen.row.decay.step.eq(job.decay),
                seen.lag.eq(lag),
                seen.row.ends_k.eq(last & ~(self.format.fused & ~job.second) & self._keys),
                seen.row.k_lines.eq(k_lines),
            ]
        # Stage 2: its lines, its share of V rows, and its lag times the decay, by halves of that.
        half_bits = DECAY_BITS // 2
        counted = Signal(row, reset_less=True)
        wanted = Signal(COUNT_BITS + 1, reset_less=True)
        share = Signal(COUNT_BITS + 1)
        m.d.comb += share.eq(seen.row.keys * seen.keep_ratio >> RATIO_FRACTION_BITS)
        halves = [Signal(DECAY_SUM_BITS - half_bits, name=f"lag_times_{i}", reset_less=True) for i in range(2)]
        with m.If(counted_step):
            m.d.sync += [
                counted_valid.eq(seen_valid),
                counted.eq(seen.row),
                counted.lines.eq(self._lines(seen.row.keys)),
                wanted.eq(Mux(seen.keep_values != 0, seen.keep_values, share)),
                *(half.eq(seen.lag * seen.row.decay.step.word_select(i, half_bits)) for i, half in enumerate(halves)),
            ]
        # Stage 3: at least one of the V rows, at most what there is.
        with m.If(step):
            m.d.sync += [
                self.row.valid.eq(counted_valid),
                offered.eq(counted),
                offered.decay.start.eq(halves[0] + (halves[1] << half_bits)),
            ]
            with m.If(wanted == 0):
                m.d.sync += offered.kept.eq(1)
            with m.Elif(wanted > counted.keys):
                m.d.sync += offered.kept.eq(counted.keys)
            with m.Else():
                m.d.sync += offered.kept.eq(wanted)
        m.d.comb += self.row.payload.eq(offered)
        return m

    def _job(self, m: Module, have: Signal, leaves: Value) -> data.View:
        """The oldest job, at the output of the memory that holds all."""
        stored = data.StructLayout({name: job_layout()[name].shape for name in STORED})
        slots = self.unit.job_slots
        m.submodules.jobs = jobs = Sram(stored.size, slots)
        write_at, read_at, waiting = Signal(range(slots)), Signal(range(slots)), Signal(range(slots + 1))
        new, fetch = Signal(stored), Signal()
        m.d.comb += [
            *(new[name].eq(self.dispatch.payload[name]) for name in STORED),
            fetch.eq((~have | leaves) & (waiting != 0)),
            jobs.write_enable.eq(self.dispatch.valid),
            jobs.write_address.eq(write_at),
            jobs.write_data.eq(new),
            jobs.read_enable.eq(fetch),
            jobs.read_address.eq(read_at),
        ]
        m.d.sync += [
            write_at.eq(write_at + self.dispatch.valid),
            read_at.eq(read_at + fetch),
            waiting.eq(waiting + self.dispatch.valid - fetch),
            have.eq(fetch | have & ~leaves),
        ]
        return data.View(stored, jobs.read_data)

    def _count_rows(self, m: Module, job: data.View, leaves: Value, last: Signal) -> tuple[Value, Value]:
        """Through the rows of the job: its group's members of one query, then those of the next. Returns the keys that
        the row sees, and the lag of the first.
        """
        ordinal, member = Signal(ROWS_BITS, init=1), Signal(9, init=1)
        query = Signal(ROWS_BITS)
        m.d.comb += last.eq(ordinal == job.rows)
        with m.If(leaves):
            m.d.sync += [ordinal.eq(ordinal + 1), member.eq(member + 1)]
            with m.If(member == job.group):
                m.d.sync += [member.eq(1), query.eq(query + 1)]
            with m.If(last):
                m.d.sync += [ordinal.eq(1), member.eq(1), query.eq(0)]
        sees, visible = Signal(ROWS_BITS + 1), Signal(COUNT_BITS)
        m.d.comb += [
            sees.eq(job.first_visible + query),
            visible.eq(Mux(job.causal & (sees < job.keys), sees, job.keys)),
        ]
        return visible, (sees - 1)[: MAX_LAG.bit_length()]

    def _k_lines(self, m: Module, job: data.View, leaves: Value) -> tuple[Value, Value, Value]:
        """Ring line and running number of the job's first key, and its lines. Jobs follow each other, but the second of
        a fused pair has the lines of the first.
        """
        unit = self.unit
        bits = line_bits(unit)
        next_line, shared_line = Signal(bits), Signal(bits, reset_less=True)
        next_number, shared_number = Signal(sequence_bits(unit)), Signal(sequence_bits(unit), reset_less=True)
        k_lines, ring, beyond = Signal(bits + 1), Signal(bits + 1), Signal(bits + 2)
        m.d.comb += [
            k_lines.eq(self._lines(job.keys)),
            ring.eq(k_ring(unit, self.format)),
            beyond.eq(next_line + k_lines),
        ]
        with m.If(leaves & ~job.second & self._keys):
            m.d.sync += [
                shared_line.eq(next_line),
                shared_number.eq(next_number),
                next_line.eq(Mux(beyond >= ring, beyond - ring, beyond)),
                next_number.eq(next_number + k_lines),
            ]
        with m.If(self.restart):
            m.d.sync += next_line.eq(0)
        return Mux(job.second, shared_line, next_line), Mux(job.second, shared_number, next_number), k_lines
