"""LaneList: every lane gets the item it asks for one cycle later, whatever the widths of word and lanes, and only the
items of the mask are written.
"""

import random

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.sim import Simulator

from rtl.lane_list import LaneList

BITS = 9
SIZES = [(32, 4, 4), (32, 4, 2), (64, 8, 1), (32, 2, 8), (48, 4, 16), (24, 4, 8), (16, 1, 4), (16, 1, 1), (16, 4, 16)]


@pytest.mark.parametrize(("items", "lanes", "word_items"), SIZES)
def test_every_lane_reads_its_item(items: int, lanes: int, word_items: int) -> None:
    random_of = random.Random(f"{items} {lanes} {word_items}")
    component = LaneList(items, BITS, lanes, word_items)
    held = [0] * items

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        def write(word: int, mask: int) -> None:
            ctx.set(component.write_enable, 1)
            ctx.set(component.write_word, word)
            ctx.set(component.write_mask, mask)
            for i in range(word_items):
                value = random_of.randrange(1 << BITS)
                ctx.set(component.write_items[i], value)
                if mask >> i & 1:
                    held[word * word_items + i] = value

        for word in range(items // word_items):
            write(word, (1 << word_items) - 1)
            await ctx.tick()
        expected: list[int] = []
        for _ in range(150):
            if random_of.random() < 0.7:
                rotate = random_of.randrange(lanes)
                index = [random_of.randrange(items // lanes) * lanes + (lane + rotate) % lanes for lane in range(lanes)]
                ctx.set(component.read_enable, 1)
                ctx.set(component.read_rotate, rotate)
                for lane in range(lanes):
                    ctx.set(component.read_index[lane], index[lane])
                expected = [held[i] for i in index]  # before this cycle's write
                touched = {i // word_items for i in index}
            else:  # what was read stays, whatever the other inputs are
                ctx.set(component.read_enable, 0)
                ctx.set(component.read_rotate, random_of.randrange(lanes))
                for lane in range(lanes):
                    ctx.set(component.read_index[lane], random_of.randrange(items))
                touched = set()
            word = random_of.randrange(items // word_items)
            ctx.set(component.write_enable, 0)
            if word not in touched:
                write(word, random_of.randrange(1 << word_items))
            await ctx.tick()
            if expected:
                assert [ctx.get(component.data[lane]) for lane in range(lanes)] == expected

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize(("items", "lanes", "word_items"), [(128, 4, 4), (64, 4, 16), (64, 8, 4)])
def test_becomes_verilog(items: int, lanes: int, word_items: int) -> None:
    assert "module top" in verilog.convert(LaneList(items, BITS, lanes, word_items), name="top")
