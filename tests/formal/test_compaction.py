"""Zero eliminator and packer: kept items stay in order, none is lost or invented, whatever the masks and counts."""

from pathlib import Path

import pytest
from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.topk.packer import Packer
from rtl.zero_eliminator import ZeroEliminator
from tests.formal.proof import (
    DEEP,
    always,
    assert_bounded,
    assert_proved,
    broken,
    counterexample,
)  # first: it skips where Yosys is missing


class Eliminated(wiring.Component):
    """Two steps after a word, each kept lane sits behind exactly the kept lanes below it."""

    def __init__(self, eliminator: wiring.Component):
        self.eliminator = eliminator
        lanes, width = eliminator.lanes, eliminator.width
        super().__init__(
            {"valid": In(1), "enable": In(1), "clear": In(1), "keep": In(lanes), "items": In(lanes * width)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.eliminator
        valid, keep, items = ([Signal.like(s) for _ in range(2)] for s in (self.valid, self.keep, self.items))
        m.d.comb += [
            dut.enable.eq(self.enable),
            dut.clear.eq(self.clear),
            dut.i_valid.eq(self.valid),
            dut.i_keep.eq(self.keep),
            dut.i_items.eq(self.items),
        ]
        always(m, dut.o_valid == valid[1])
        with m.If(self.enable):
            for delayed, now in ((valid, self.valid), (keep, self.keep), (items, self.items)):
                m.d.sync += [delayed[0].eq(now), delayed[1].eq(delayed[0])]
        with m.If(self.clear):
            m.d.sync += [valid[0].eq(0), valid[1].eq(0)]
        below: Value | int = 0
        with m.If(dut.o_valid):
            for lane in range(dut.lanes):
                with m.If(keep[1][lane]):
                    packed = dut.o_items.as_value().word_select(below, dut.width) if lane else dut.o_items[0]
                    always(m, packed == items[1].word_select(lane, dut.width))
                below = below + keep[1][lane]
            always(m, dut.o_count == below)
        return m


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_zero_eliminator(lanes: int, tmp_path: Path) -> None:
    """All masks and freezes. One bit per item: the bits of an item never meet."""
    assert_proved(Eliminated(ZeroEliminator(1, lanes)), tmp_path)


def test_zero_eliminator_of_published_width(tmp_path: Path) -> None:
    """All masks of a word; a word is through after two steps, so four cycles see every mask and some freezes."""
    assert_bounded(Eliminated(ZeroEliminator(1, 16)), 6 if DEEP else 4, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("count_ones([~bit for bit in", "count_ones([bit for bit in"),  # moves by the kept ones below
        ("comes.eq(from_keep & from_distance[layer])", "comes.eq(0)"),
        ("kept.eq(count_ones(list(self.i_keep)))", "kept.eq(count_ones(list(self.i_keep[1:])))"),
        ("[valid.eq(0), self.o_valid.eq(0)]", "self.o_valid.eq(0)"),  # clear leaves one word inside
    ],
)
def test_broken_zero_eliminator_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    eliminator = broken("rtl.zero_eliminator", right, wrong).ZeroEliminator(1, 4)
    assert counterexample(Eliminated(eliminator), 6, tmp_path) is not None


class Packed(wiring.Component):
    """A packer under any traffic. One item, of any lane of any word, is followed: it has to lie behind those that came
    before it, in the word that leaves or in the accumulator.
    """

    def __init__(self, packer: wiring.Component):
        self.packer = packer
        lanes = packer.lanes
        super().__init__(
            {
                "valid": In(1),
                "count": In(range(lanes + 1)),
                "items": In(lanes * packer.width),
                "clear": In(1),
                "mark": In(1),
                "lane": In(range(lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.packer
        lanes, width = dut.lanes, dut.width
        count, total, leaves = Signal(range(lanes + 1)), Signal(range(2 * lanes)), Signal()
        held = Signal(range(lanes))
        m.d.comb += [
            count.eq(self.count),
            dut.i_valid.eq(self.valid),
            dut.i_items.eq(self.items),
            dut.clear.eq(self.clear),
            total.eq(held + count),
            leaves.eq(total >= lanes),
        ]
        with m.If(self.count > lanes):
            m.d.comb += count.eq(lanes)
        m.d.comb += dut.i_count.eq(count)
        with m.If(~self.valid):
            m.d.comb += total.eq(held)
        m.d.sync += held.eq(total - leaves * lanes)
        with m.If(self.clear):
            m.d.sync += held.eq(0)
        always(m, dut.o_total == total)
        always(m, dut.fill == held)

        following, place, item = Signal(), Signal(range(2 * lanes)), Signal(width)
        marked, marked_place, marked_item = Signal(), Signal(range(2 * lanes)), Signal(width)
        m.d.comb += [
            marked.eq(self.valid & self.mark & (self.lane < count)),
            marked_place.eq(held + self.lane),
            marked_item.eq(self.items.word_select(self.lane, width)),
        ]
        word = Array(dut.o_word.as_value().word_select(lane, width) for lane in range(lanes))
        kept = Array(dut.held.as_value().word_select(lane, width) for lane in range(lanes))
        with m.If(following):
            always(m, word[place] == item)
            always(m, kept[place] == item)
            m.d.sync += following.eq(~leaves)
        with m.Elif(marked):
            with m.If(marked_place < lanes):
                always(m, word[marked_place] == marked_item)
            m.d.sync += [
                following.eq(~leaves | (marked_place >= lanes)),
                place.eq(marked_place - leaves * lanes),
                item.eq(marked_item),
            ]
        with m.If(self.clear):
            m.d.sync += following.eq(0)
        return m


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_packer(lanes: int, tmp_path: Path) -> None:
    assert_proved(Packed(Packer(1, lanes)), tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("lane < self.fill", "lane <= self.fill"),
        ("Mux(self.o_total >= lanes, rotated[lane], word[lane])", "word[lane]"),
        ("rotated[lane - (1 << layer)]", "rotated[lane - 1]"),
    ],
)
def test_broken_packer_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    assert counterexample(Packed(broken("rtl.topk.packer", right, wrong).Packer(1, 4)), 8, tmp_path) is not None
