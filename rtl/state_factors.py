"""Mode state: how far each row of a state has decayed, and with it the words of k and q of a line's rows."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.numerics.quantise import WORD_BITS
from accel.units.engine import EngineUnit
from accel.units.modes import (
    DECAY_BITS,
    DECAY_FRACTION_BITS,
    DECAY_WORD_MANTISSA_BITS,
    DECAY_WORD_UNIT_SHIFT,
    TABLE_INPUT_BITS,
)
from accel.units.softmax import TABLE_BITS
from accel.units.state import StateUnit
from rtl.softmax.power import power_of_two
from rtl.softmax.stages import Stages
from rtl.sram import Sram
from rtl.state_issue import most_rows, rows_layout, state_line_layout

__all__ = ["StateFactors"]

WHOLE_BITS = DECAY_BITS + 1 - DECAY_FRACTION_BITS


def decoded_decay(word: Value) -> Value:
    """Decay exponent of a decay word (``accel.numerics.decay.decode_decay_words``)."""
    mantissa, octave = word[:DECAY_WORD_MANTISSA_BITS], word[DECAY_WORD_MANTISSA_BITS:WORD_BITS]
    full = Cat(mantissa, octave.any())
    return (full << Mux(octave.any(), octave - 1, 0)[: len(octave)])[: DECAY_BITS - 1] << DECAY_WORD_UNIT_SHIFT


class StateFactors(wiring.Component):
    """The fraction of every row of every state, and what becomes of k and q by it.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    lines : In(stream of state_line_layout, always ready), at t; not in the cycle after another.
    keys, decays : In(rows_layout), at t. queries : In(rows_layout), at t + 1.
    whole : Out, of each row the shift of its state words, at t + 2.
    grown : Out(rows_layout). k', from t + ``GROWN_CYCLES`` on until the next. shrunk : Out. q', a cycle later.

    A line issued three cycles or more behind another finds its fractions. There is no back-pressure.
    """

    GROWN_CYCLES = 7

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        rows = rows_layout(unit)
        super().__init__(
            {
                "lines": In(stream.Signature(state_line_layout(unit), always_ready=True)),
                "keys": In(rows),
                "decays": In(rows),
                "queries": In(rows),
                "whole": Out(data.ArrayLayout(WHOLE_BITS, most_rows(unit))),
                "grown": Out(rows),
                "shrunk": Out(rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = most_rows(self.unit)
        stages = Stages(m, Const(1))
        line = self.lines.payload
        m.submodules.fractions = memory = Sram(rows * DECAY_FRACTION_BITS, StateUnit(self.unit.arch).max_lines)
        valid = [self.lines.valid]
        for n in range(6):
            valid.append(stages.flag(valid[-1], f"valid_{n + 1}"))
        m.d.comb += [memory.read_enable.eq(self.lines.valid), memory.read_address.eq(line.line)]

        # One cycle behind the issue: the rows are older by a decay.
        fresh, has_words = stages.after(line.fresh, "fresh"), stages.after(line.has_words, "has_words")
        decay = stages.after(line.decay, "decay")
        levels = []
        for c in range(rows):
            word = stages.after(Value.cast(self.decays[c]).as_unsigned(), f"decay_word_{c}")
            before = memory.read_data.word_select(c, DECAY_FRACTION_BITS)
            level = Signal(DECAY_BITS + 1, name=f"level_{c}")
            m.d.comb += level.eq(Mux(fresh, 0, before) + Mux(has_words, decoded_decay(word), decay))
            levels.append(stages.after(level, f"aged_{c}"))
        fractions = [level[:DECAY_FRACTION_BITS] for level in levels]
        m.d.comb += [
            memory.write_enable.eq(valid[2]),
            memory.write_address.eq(stages.delayed(line.line, "line", 2)),
            memory.write_data.eq(Cat(fractions)),
            *(whole.eq(level[DECAY_FRACTION_BITS:]) for whole, level in zip(self.whole, levels, strict=True)),
        ]

        # Two cycles behind it k, three cycles behind it q.
        is_q = valid[3]
        for c, fraction in enumerate(fractions):
            fine = fraction[-TABLE_INPUT_BITS:]
            below = Signal(TABLE_INPUT_BITS, name=f"below_{c}")
            key = stages.delayed(self.keys[c], f"key_{c}", 2)
            query = stages.delayed(self.queries[c], f"query_{c}", 2)
            m.d.comb += below.eq(Mux(is_q, stages.after(fine, f"fine_of_q_{c}"), -fine))
            halved = stages.delayed(~is_q & (fine == 0), f"halved_{c}", 4)
            word = stages.delayed(Mux(is_q, query, key).as_signed(), f"word_{c}", 3)
            _, mantissa = power_of_two(m, stages, below, Const(0, 1), c)
            product = stages.after(word.as_signed() * mantissa, f"product_{c}").as_signed()
            doubled = Signal(signed(WORD_BITS + 2), name=f"doubled_{c}")
            rounded = Signal(signed(WORD_BITS), name=f"rounded_{c}")
            m.d.comb += [
                doubled.eq(Mux(halved, product >> TABLE_BITS, product >> (TABLE_BITS - 1))),
                rounded.eq((doubled + 1) >> 1),
            ]
            with m.If(valid[6]):
                m.d.sync += self.grown[c].eq(rounded)
            with m.If(stages.flag(valid[6], f"valid_q_{c}")):
                m.d.sync += self.shrunk[c].eq(rounded)
        return m
