"""Counting array of the histogram engine: how many of a row's values have each digit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from accel.units.topk.histogram import DIGIT_BITS, GROUP_BITS
from rtl.zero_eliminator import count_ones

__all__ = ["BINS", "DigitCounter", "digits_layout"]

BINS = 1 << DIGIT_BITS


def digits_layout(unit: TopKUnit) -> data.StructLayout:
    """A digit of each value of a word; ``member``: the lanes that count; ``first``: all counts begin anew."""
    return data.StructLayout({"digits": data.ArrayLayout(DIGIT_BITS, unit.lanes), "member": unit.lanes, "first": 1})


class DigitCounter(wiring.Component):
    """A counter for each of ``BINS`` digits; in each, the lanes of a word that have the digit are added up.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    i : In(stream of digits_layout, always ready).
    counts : Out(array of size_bits). Registers. A word at t is counted in them from t + 2 on. Between a first word's
        t + 2 and the next one's, they count one row.
    """

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        super().__init__(
            {
                "i": In(stream.Signature(digits_layout(unit), always_ready=True)),
                "counts": Out(unit.size_bits).array(BINS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, word = self.unit.lanes, self.i.payload
        valid, first = Signal(), Signal()
        m.d.sync += [valid.eq(self.i.valid), first.eq(word.first)]
        # One-hot, in two halves: a bin is a row and a column.
        high, low = [], []
        for lane in range(lanes):
            rows = Signal(BINS >> GROUP_BITS, name=f"row_{lane}")
            columns = Signal(1 << GROUP_BITS, name=f"column_{lane}")
            m.d.comb += [
                rows.eq(Mux(word.member[lane], 1 << word.digits[lane][GROUP_BITS:], 0)),
                columns.eq(1 << word.digits[lane][:GROUP_BITS]),
            ]
            high.append(rows)
            low.append(columns)
        for digit, count in enumerate(self.counts):
            row, column = digit >> GROUP_BITS, digit & (1 << GROUP_BITS) - 1
            has = Signal(lanes, name=f"has_{digit}")
            in_word = Signal(range(lanes + 1), name=f"in_word_{digit}")
            m.d.comb += has.eq(Cat(high[lane][row] & low[lane][column] for lane in range(lanes)))
            m.d.sync += in_word.eq(count_ones(list(has)))
            with m.If(valid):
                m.d.sync += count.eq(Mux(first, 0, count) + in_word)
        return m
