"""Progressive quantisation: a pass whose maximum is known becomes a final row or asks for its LSB plane."""

from amaranth.hdl import Const, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel.numerics.softmax import NO_MAXIMUM
from accel.program import Lsb, Mode
from accel.units.engine import EngineUnit
from accel.units.modes import DECAY_FRACTION_BITS, DECAY_SUM_BITS, TABLE_INPUT_BITS
from accel.units.qk import QkUnit
from accel.units.softmax import MAXIMUM_BITS, THRESHOLD_BITS, SoftmaxUnit
from rtl.job import (
    decay_layout,
    format_layout,
    line_bits,
    log2_keys_per_line,
    lsb_request_layout,
    pass_layout,
    release_layout,
)
from rtl.qk import scores_layout
from rtl.softmax.adders import compress
from rtl.softmax.decay import GONE
from rtl.softmax.exponent import row_sum, score_line
from rtl.softmax.reciprocal import final_row
from rtl.stream import Queue

__all__ = ["Requant", "final_layout"]

#: Of a pass, what the second pass needs to know of its row.
_FINAL_FIELDS = (
    "row", "keys", "lines", "score", "kept", "first_key", "list", "version", "selecting", "v_selected", "accumulate",
    "first_tile", "sums_in",
)  # fmt: skip


def _signed_digits(number: int) -> tuple[list[int], list[int]]:
    """Powers of two to add and to take away so that -number comes out, few of them: 7 is 8 - 1."""
    added: list[int] = []
    taken: list[int] = []
    bit = 0
    while number:
        if number & 1:
            down = number & 3 == 3
            (added if down else taken).append(bit)
            number += 1 if down else -1
        number >>= 1
        bit += 1
    return added, taken


def final_layout(unit: EngineUnit) -> data.StructLayout:
    """A row that is final, as its second pass needs it: the fields of ``pass_layout`` of the same names. start_maximum:
    of the sums from memory. total: its sum.
    """
    fields: dict[str, ShapeLike] = {name: pass_layout(unit)[name].shape for name in _FINAL_FIELDS}
    total = SoftmaxUnit.of(unit.arch).total_bits
    return data.StructLayout({**fields, "start_maximum": signed(MAXIMUM_BITS), "total": total})


class Requant(wiring.Component):
    """Gives each row the sum it starts from, decides what its sum means, and frees queries and K in row order.

    A row that is not its query's first tile starts from its sum in memory (``sums_in``), or from the final sum of the
    row before, which QK has waited for.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    format : In(format_layout). A level; changes only when nothing is under way.
    passes : In(stream of pass_layout, always ready). At the pass's first issue; scores come in the same order, at least
        three cycles later. At most one pass per row is under way.
    start : In(final_row). With a pass that has ``sums_in``: what it starts from.
    decay : In(decay_layout). With a pass, in the modes that use it.
    scores : In(stream of QK's scores_layout, always taken).
    lines : Out(stream of score_line), never refused: the scores with their row's start and their decays, in the same
        cycle.
    sums : In(stream of row_sum, always taken): the decision of the oldest pass, in this cycle, d.
    lsb_request : Out(stream of lsb_request_layout, always ready). At d of a first pass, if lsb is ALWAYS, or TEST and
        the row is flat.
    finals : Out(stream of final_row), never refused. At d: any other pass.
    final : Out(stream of final_layout, always ready). With finals.
    query_release : Out(1). The oldest row not released yet was final before this cycle. One row per cycle.
    k_release : Out(stream of release_layout, always ready). With query_release, where the row ends its K: lines of K.

    Latency 0 from scores to lines and from sums to lsb_request, finals and final, so register what is behind them;
    releases are decoded from registers. Nothing can be refused.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.softmax = unit, SoftmaxUnit.of(unit.arch)
        super().__init__(
            {
                "format": In(format_layout()),
                "passes": In(stream.Signature(pass_layout(unit), always_ready=True)),
                "start": In(final_row(self.softmax)),
                "decay": In(decay_layout()),
                "scores": In(stream.Signature(scores_layout(QkUnit.of(unit.arch)))),
                "lines": Out(stream.Signature(score_line(self.softmax))),
                "sums": In(stream.Signature(row_sum(self.softmax))),
                "lsb_request": Out(stream.Signature(lsb_request_layout(unit), always_ready=True)),
                "finals": Out(stream.Signature(final_row(self.softmax))),
                "final": Out(stream.Signature(final_layout(unit), always_ready=True)),
                "query_release": Out(1),
                "k_release": Out(stream.Signature(release_layout(line_bits(unit) + 1), always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._start_rows(m)
        self._decide(m)
        self._release(m)
        return m

    def _start_rows(self, m: Module) -> None:
        """Scores to score lines: the row's start stands in a register before its first line comes."""
        unit, scores, line = self.unit, self.scores, self.lines.payload
        rows = unit.arch.rows_in_flight
        fields = ("row", "second", "first_tile", "sums_in", "threshold")
        waiting = data.StructLayout(
            {
                **{name: pass_layout(unit)[name].shape for name in fields},
                "start": final_row(self.softmax),
                "decay": decay_layout(),
            }
        )
        m.submodules.starting = queue = Queue(waiting, rows)
        head = queue.o.payload
        m.d.comb += [
            queue.i.valid.eq(self.passes.valid),
            *(queue.i.payload[name].eq(self.passes.payload[name]) for name in fields),
            queue.i.payload.start.eq(self.start),
            queue.i.payload.decay.eq(self.decay),
        ]

        # Read in the cycle in which the queue's head is known: one row may start in every cycle.
        m.submodules.sum_table = table = Memory(shape=final_row(self.softmax), depth=rows, init=[])
        write, read = table.write_port(), table.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.finals.valid),
            write.addr.eq(self.final.payload.row),
            write.data.eq(self.finals.payload),
            read.addr.eq(head.row - 1),
        ]
        # What a row started from, for its second pass: by then a later row may have the place of the row before.
        m.submodules.start_table = starts = Memory(shape=final_row(self.softmax), depth=rows, init=[])
        keep, again = starts.write_port(), starts.read_port(domain="comb")
        fresh, start = Signal(final_row(self.softmax)), Signal(final_row(self.softmax))
        m.d.comb += [
            fresh.eq(Mux(head.sums_in, head.start, read.data)),
            start.eq(Mux(head.second, again.data, fresh)),
            keep.addr.eq(head.row),
            keep.data.eq(fresh),
            again.addr.eq(head.row),
        ]

        loaded, first = Signal(), Signal(init=1)
        maximum = Signal(signed(MAXIMUM_BITS), reset_less=True)
        total = Signal(self.softmax.total_bits, reset_less=True)
        threshold = Signal(THRESHOLD_BITS, reset_less=True)
        decay = Signal(decay_layout(), reset_less=True)
        m.d.comb += [
            queue.o.ready.eq(~loaded | (scores.valid & first)),
            keep.en.eq(queue.o.ready & queue.o.valid & ~head.second),
        ]
        with m.If(queue.o.ready):
            m.d.sync += [
                loaded.eq(queue.o.valid),
                maximum.eq(Mux(head.first_tile, NO_MAXIMUM, start.maximum)),
                total.eq(Mux(head.first_tile, 0, start.total)),
                threshold.eq(head.threshold),
                decay.eq(head.decay),
            ]
        with m.If(scores.valid):
            m.d.sync += first.eq(scores.payload.last)
        m.d.comb += [
            scores.ready.eq(1),
            self.lines.valid.eq(scores.valid),
            line.scores.eq(scores.payload.scores),
            line.count.eq(scores.payload.count),
            line.last.eq(scores.payload.last),
            line.start_maximum.eq(maximum),
            line.start_total.eq(total),
            line.threshold.eq(threshold),
            line.weighing.eq(self.format.mode != Mode.SOFTMAX),
        ]
        self._decay(m, decay, first)

    def _decay(self, m: Module, of_row: data.View, first: Value) -> None:
        """The decay between the row's query and each key of a line; it falls from key to key, and from line to line."""
        scores, line = self.scores, self.lines.payload
        running, now = Signal(decay_layout(), reset_less=True), Signal(decay_layout())
        m.d.comb += now.eq(Mux(first, of_row.as_value(), running.as_value()))
        with m.If(scores.valid):
            m.d.sync += [
                running.step.eq(now.step),
                running.start.eq(now.start - (now.step << log2_keys_per_line(self.unit, self.format.log2_dim))),
            ]
        for lane in range(self.softmax.lanes):
            added, taken = _signed_digits(lane)
            numbers: list[Value] = [now.start, *(now.step << bit for bit in added)]
            for bit in taken:
                opposite = Signal(DECAY_SUM_BITS, name=f"opposite_{lane}_{bit}")
                m.d.comb += opposite.eq(-1 - (now.step << bit))
                numbers.append(opposite)
            if taken:
                numbers.append(Const(len(taken), DECAY_SUM_BITS))
            total = Signal(DECAY_SUM_BITS, name=f"decay_{lane}")
            m.d.comb += total.eq(sum(compress(m, numbers, DECAY_SUM_BITS)))
            whole = total[DECAY_FRACTION_BITS:]
            m.d.comb += [
                line.decay_fractions[lane].eq(total[DECAY_FRACTION_BITS - TABLE_INPUT_BITS : DECAY_FRACTION_BITS]),
                line.decay_shifts[lane].eq(Mux(whole < GONE, whole, GONE)),
            ]

    def _decide(self, m: Module) -> None:
        """The oldest pass meets its sum."""
        unit, sums, request = self.unit, self.sums, self.lsb_request
        deciding = data.StructLayout({"of_pass": pass_layout(unit), "start_maximum": signed(MAXIMUM_BITS)})
        m.submodules.deciding = queue = Queue(deciding, unit.arch.rows_in_flight)
        head = queue.o.payload.of_pass
        again = Signal()
        m.d.comb += [
            queue.i.valid.eq(self.passes.valid),
            queue.i.payload.of_pass.eq(self.passes.payload),
            queue.i.payload.start_maximum.eq(self.start.maximum),
            queue.o.ready.eq(sums.valid),
            sums.ready.eq(1),
            again.eq(~head.second & ((head.lsb == Lsb.ALWAYS) | ((head.lsb == Lsb.TEST) & sums.payload.flat))),
            request.valid.eq(sums.valid & again),
            *(request.payload[name].eq(head[name]) for name, _ in lsb_request_layout(unit)),
            self.finals.valid.eq(sums.valid & ~again),
            self.finals.payload.maximum.eq(sums.payload.maximum),
            self.finals.payload.total.eq(sums.payload.total),
            self.final.valid.eq(self.finals.valid),
            *(self.final.payload[name].eq(head[name]) for name in _FINAL_FIELDS),
            self.final.payload.start_maximum.eq(queue.o.payload.start_maximum),
            self.final.payload.total.eq(sums.payload.total),
        ]

        k_lines = head.k_lines
        m.submodules.k_table = table = Memory(shape=1 + len(k_lines), depth=unit.arch.rows_in_flight, init=[])
        self._k_write = table.write_port()
        self._k_read = table.read_port(domain="comb")  # a row may be released in every cycle
        m.d.comb += [
            self._k_write.en.eq(self.final.valid),
            self._k_write.addr.eq(head.row),
            self._k_write.data[0].eq(head.ends_k),
            self._k_write.data[1:].eq(k_lines),
        ]

    def _release(self, m: Module) -> None:
        """Rows in order, as soon as they are known to be final."""
        rows = self.unit.arch.rows_in_flight
        final, oldest = Signal(rows), Signal(range(rows))
        with m.If(self.final.valid):
            m.d.sync += final.bit_select(self.final.payload.row, 1).eq(1)
        with m.If(self.query_release):
            m.d.sync += [final.bit_select(oldest, 1).eq(0), oldest.eq(oldest + 1)]
        m.d.comb += [
            self.query_release.eq(final.bit_select(oldest, 1)),
            self._k_read.addr.eq(oldest),
            self.k_release.valid.eq(self.query_release & self._k_read.data[0]),
            self.k_release.payload.count.eq(self._k_read.data[1:]),
        ]
