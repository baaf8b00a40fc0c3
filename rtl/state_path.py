"""Mode state: everything of it that is not in the arrays and the line memories."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.modes import STATE_BITS, STATE_LOW_BITS
from accel.units.qk import PRODUCT_BITS, QkUnit
from rtl.job import format_layout, job_layout, line_bits, sequence_bits
from rtl.pv_ports import line_control_layout
from rtl.qk import line_layout, query_layout
from rtl.qk_rows import format_value
from rtl.softmax.stages import Stages
from rtl.state_factors import StateFactors
from rtl.state_issue import StateIssue, most_rows, spread

__all__ = ["StatePath"]


def _rounded(value: Value, by: Value, m: Module, name: str) -> Signal:
    """``value / 2^by``, half up, signed."""
    shifted, out = Signal(signed(len(value) + 1), name=f"{name}_shifted"), Signal(signed(len(value)), name=name)
    m.d.comb += [shifted.eq(Cat(Const(0, 1), value).as_signed() >> by), out.eq((shifted + 1) >> 1)]
    return out


class StatePath(wiring.Component):
    """``StateIssue``, ``StateFactors`` and the update of state words.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch, format, query_passed, query_number, record_taken, query_read_slot, query_words, query, room, row_started :
        of ``StateIssue``. The others, for a line issued at t, whose part p comes p cycles later:
    read_enable, read_line, read_part : Out, at t + 6, to both line memories. k_words, v_words : In, at t + 7.
    qk_line : Out(stream of rtl.qk.line_layout, always ready), at t + 7. products : In, of it, at t + 8.
    store_enable, store_line, store_part, store_k, store_v : Out, at t + 10, to the line memories.
    pv_line : Out(stream of line_control_layout, always ready), at t + 11; pv_words : Out, with it.

    Everything runs freely. A line issued five cycles or more behind the same line of a token before finds its words.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.qk = unit, QkUnit.of(unit.arch)
        self.issue = StateIssue(unit)
        words = data.ArrayLayout(signed(WORD_BITS), unit.arch.pv.multipliers)
        part = range(max(2, self.qk.fold(unit.entry_words)))
        sequence = sequence_bits(unit)

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
                "query_words": In(data.ArrayLayout(signed(WORD_BITS), unit.entry_words)),
                "query": Out(free(query_layout(self.qk))),
                "room": In(1),
                "row_started": Out(1),
                "read_enable": Out(1),
                "read_line": Out(line_bits(unit)),
                "read_part": Out(part),
                "k_words": In(words),
                "v_words": In(words),
                "qk_line": Out(free(line_layout(self.qk))),
                "products": In(data.ArrayLayout(signed(PRODUCT_BITS), self.qk.multipliers_reached)),
                "store_enable": Out(1),
                "store_line": Out(line_bits(unit)),
                "store_part": Out(part),
                "store_k": Out(words),
                "store_v": Out(words),
                "pv_line": Out(free(line_control_layout(unit))),
                "pv_words": Out(words),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        m.submodules.issue = issue = self.issue
        m.submodules.factors = factors = StateFactors(unit)
        for name in ("dispatch", "query"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(issue, name))
        m.d.comb += [
            *(getattr(issue, name).eq(getattr(self, name))
              for name in ("format", "query_passed", "query_number", "query_words", "room")),
            *(getattr(self, name).eq(getattr(issue, name))
              for name in ("record_taken", "query_read_slot", "row_started")),
            factors.lines.valid.eq(issue.lines.valid),
            factors.lines.payload.eq(issue.lines.payload),
            factors.keys.eq(issue.keys),
            factors.decays.eq(issue.decays),
            factors.queries.eq(issue.queries),
        ]  # fmt: skip

        # Five cycles behind the issue: the line, for all of its parts.
        stages = Stages(m, Const(1))
        line = Signal(issue.lines.payload.shape(), reset_less=True)
        whole = Signal(factors.whole.shape(), reset_less=True)
        valid: Value = issue.lines.valid
        for n in range(5):
            valid = stages.flag(valid, f"issued_{n + 1}")
        reading, part = Signal(), Signal.like(self.read_part)
        folds = format_value(self.format, {dim: self.qk.fold(dim) - 1 for dim in self.qk.dims})
        m.d.sync += [reading.eq(valid | (reading & (part != folds))), part.eq(Mux(valid, 0, part + 1))]
        issued, aged_by = stages.delayed(issue.lines.payload, "line", 5), stages.delayed(factors.whole, "whole", 3)
        with m.If(valid):
            m.d.sync += [line.eq(issued), whole.eq(aged_by)]
        m.d.comb += [self.read_enable.eq(reading), self.read_line.eq(line.line), self.read_part.eq(part)]

        # t + 7: k' into the QK array, beside words that leave the memories.
        at = {6: reading}
        for n in range(7, 12):
            at[n] = stages.flag(at[n - 1], f"at_{n}")
        fresh = stages.after(line.fresh, "fresh_read")
        ages = data.View(whole.shape(), stages.after(whole, "whole_read"))
        age_of, key_of = spread(unit, m, self.format, ages, "ages"), spread(unit, m, self.format, factors.grown, "keys")
        m.d.comb += [
            self.qk_line.valid.eq(at[7]),
            self.qk_line.payload.last.eq(stages.after(line.last, "last_read")),
            *(word.eq(key) for word, key in zip(self.qk_line.payload.words, key_of, strict=True)),
        ]
        shift = stages.delayed(line.shift, "shift", 2)
        top = (1 << (STATE_BITS - 1)) - 1
        for i in range(unit.arch.pv.multipliers):
            before = Cat(self.k_words[i], self.v_words[i])
            aged = stages.after(_rounded(Mux(fresh, 0, before)[:STATE_BITS], age_of[i], m, f"aged_{i}"), f"old_{i}")
            product: Value = self.products[i] if i < len(self.products) else Const(0, PRODUCT_BITS)
            added = stages.after(_rounded(product, shift, m, f"added_{i}"), f"new_{i}").as_signed()
            total = Signal(signed(STATE_BITS + 1), name=f"total_{i}")
            m.d.comb += total.eq(stages.after(aged, f"older_{i}").as_signed() + added)
            limited = Mux(total > top, top, Mux(total < -top - 1, -top - 1, total))[:STATE_BITS]
            word = stages.after(limited, f"word_{i}")
            upper, rounds = word[STATE_LOW_BITS:], word[STATE_LOW_BITS - 1]
            largest = (1 << (WORD_BITS - 1)) - 1
            m.d.comb += [self.store_k[i].eq(word[:STATE_LOW_BITS]), self.store_v[i].eq(upper)]
            m.d.comb += self.pv_words[i].eq(
                stages.after(upper + (rounds & (upper != largest)), f"seen_{i}")[:WORD_BITS]
            )
        m.d.comb += [
            self.store_enable.eq(at[10]),
            self.store_line.eq(stages.delayed(line.line, "line_stored", 4)),
            self.store_part.eq(stages.delayed(part, "part_stored", 4)),
        ]
        self._to_pv(m, stages, at[11], line, factors.shrunk)
        return m

    def _to_pv(self, m: Module, stages: Stages, valid: Value, line: data.View, shrunk: data.View) -> None:
        """t + 11: q' and what belongs to its row."""
        arch, out = self.unit.arch, self.pv_line.payload
        per_line = format_value(self.format, {dim: arch.values_per_line(dim) for dim in self.qk.dims})
        held = data.View(line.shape(), stages.delayed(line, "line_seen", 5))
        weights = data.View(shrunk.shape(), stages.delayed(shrunk, "shrunk", 3))
        m.d.comb += [
            self.pv_line.valid.eq(valid),
            *(out.weights[c].eq(weights[c]) for c in range(most_rows(self.unit))),
            out["count"].eq(per_line),
            out.row.last.eq(held.last),
            out.row.log2_dim.eq(self.format.log2_dim),
            out.row.head_dim.eq(self.format.head_dim),
            out.row.signed.eq(1),
            out.row.reciprocal.eq(held.mantissa),
            out.row.shift.eq(held.scale_shift),
        ]
