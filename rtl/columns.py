"""Kept weights of a row into the places of their V line columns: each column walks through its own kept rows."""

import functools
import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.pv import MIN_HEAD_DIM
from accel.units.softmax import WEIGHT_BITS
from accel.units.topk import TopKUnit
from rtl.job import format_layout, log2_values_per_line
from rtl.pv_ports import columns_layout
from rtl.topk.row_filter import marked_layout
from rtl.zero_eliminator import count_ones

__all__ = ["PLACE_CYCLES", "ColumnPlacer", "item_layout", "ring_write_layout"]

#: From a source word of the top-k to its kept items on ``ColumnPlacer.write``.
PLACE_CYCLES = 3


def item_layout() -> data.StructLayout:
    """A kept weight in the ring, and what goes with it: token number or position."""
    return data.StructLayout({"weight": WEIGHT_BITS, "payload": TOKEN_BITS})


def ring_write_layout(unit: EngineUnit) -> data.StructLayout:
    """What a bank of the ring takes: an item, and into which of the ring's words."""
    return data.StructLayout({"word": range(unit.ring_words), "item": item_layout()})


class ColumnPlacer(wiring.Component):
    """Places of kept items if a V line holds P > 1 rows and V is resident: item n * P + c of the ring is the n-th kept
    key of column c, the keys at positions c modulo P.

    The ring is in ``topk.lanes`` banks, item i in bank ``i mod topk.lanes``. A source word holds ``topk.lanes`` keys in
    a row, so ``topk.lanes / P`` at most of a column; these are consecutive in their column and so lie in different
    banks: all kept items of a word are written in one cycle.

    Parameters
    ----------
    unit : EngineUnit. The ring holds as many items as a row has keys, rounded up to whole V lines.
    topk : TopKUnit, of local values.

    Members
    -------
    format : In(format_layout).
    marked : In(stream of marked_layout, always ready). Source words of the row.
    word : In. First word of the row in the ring; constant until its last write.
    write : Out(stream of ring_write_layout, always ready).array(topk.lanes). One for each bank, ``PLACE_CYCLES`` after
        marked.
    clear : In(1). The row has ended, ``PLACE_CYCLES`` or more after its last kept value; the next may begin.
    counts : Out(columns_layout). Kept items of each column, of the words up to two cycles ago; registers.

    One word per cycle; never refused.
    """

    def __init__(self, unit: EngineUnit, topk: TopKUnit):
        self.unit, self.topk = unit, topk
        super().__init__(
            {
                "format": In(format_layout()),
                "marked": In(stream.Signature(marked_layout(topk), always_ready=True)),
                "word": In(range(unit.ring_words)),
                "write": Out(stream.Signature(ring_write_layout(unit), always_ready=True)).array(topk.lanes),
                "clear": In(1),
                "counts": Out(columns_layout(unit)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, words = self.topk.lanes, self.unit.ring_words
        lane_bits = lanes.bit_length() - 1
        widest = self.unit.arch.values_per_line(MIN_HEAD_DIM)
        source = self.marked.payload
        items = [Cat(source["values"][lane], source.payloads[lane]) for lane in range(lanes)]

        # One cycle on: which place of the ring each lane's item takes. Counts: of the words before.
        keep = Signal(lanes)
        held = [Signal(item_layout(), name=f"held_{lane}", reset_less=True) for lane in range(lanes)]
        places = [Signal(range(words * lanes), name=f"place_{lane}") for lane in range(lanes)]
        before = [Signal(range(words * lanes // 2 + 1), name=f"count_{column}") for column in range(widest)]
        log2_values = Signal(range(max(2, widest.bit_length())))
        m.d.comb += log2_values.eq(log2_values_per_line(self.unit, self.format.log2_dim))
        m.d.sync += [
            keep.eq(Mux(self.marked.valid, source.keep, 0)),
            *(item.eq(now) for item, now in zip(held, items, strict=True)),
        ]
        with m.Switch(log2_values):
            for bits in range(1, widest.bit_length()):
                with m.Case(bits):
                    step = 1 << bits
                    for lane in range(lanes):
                        column = lane % step
                        rank = before[column] + _count(keep[column:lane:step])
                        m.d.comb += places[lane].eq((rank << bits) | column)
                    m.d.sync += [
                        before[column].eq(before[column] + _count(keep[column::step])) for column in range(step)
                    ]
        with m.If(self.clear):
            m.d.sync += [count.eq(0) for count in before]
        m.d.comb += [self.counts.counts[column].eq(count) for column, count in enumerate(before)]

        # Two cycles on: each bank finds its item, if any, among the lanes of its column (of two columns at least).
        keep_2 = Signal(lanes)
        held_2 = [Signal.like(held[lane], name=f"held_2_{lane}") for lane in range(lanes)]
        places_2 = [Signal(range(words * lanes), name=f"place_2_{lane}", reset_less=True) for lane in range(lanes)]
        m.d.sync += [
            keep_2.eq(keep),
            *(after.eq(now) for after, now in zip(held_2, held, strict=True)),
            *(after.eq(now) for after, now in zip(places_2, places, strict=True)),
        ]
        for bank, write in enumerate(self.write):
            valid, item = Signal(name=f"valid_{bank}"), Signal(item_layout(), name=f"item_{bank}", reset_less=True)
            offset = Signal(range(words), name=f"offset_{bank}", reset_less=True)
            those = range(bank % 2, lanes, 2)
            hits = [keep_2[lane] & (places_2[lane][:lane_bits] == bank) for lane in those]
            m.d.sync += [
                valid.eq(Cat(hits).any()),
                item.eq(_chosen(hits, [held_2[lane].as_value() for lane in those])),
                offset.eq(_chosen(hits, [places_2[lane][lane_bits:] for lane in those])),
            ]

            # Three cycles on: written.
            word = self.word + offset
            m.d.comb += [
                write.valid.eq(valid),
                write.payload.item.eq(item),
                write.payload.word.eq(Mux(word >= words, word - words, word)),
            ]
        return m


def _count(bits: Value) -> Value:
    return count_ones(list(bits)) if len(bits) else Const(0, 1)


def _chosen(hits: list[Value], values: list[Value]) -> Value:
    """The value whose hit is set, of which there is one at most."""
    return functools.reduce(operator.or_, (Mux(hit, value, 0) for hit, value in zip(hits, values, strict=True)))
