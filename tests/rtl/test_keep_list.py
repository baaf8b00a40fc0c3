"""Keep list: both versions, read by lanes and by line, keep what was written; and the window of the next prune."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.candidates import WINDOW_WORDS, ListWindow
from rtl.keep_list import KeepList, list_write_layout

MACHINES = [
    {},
    {"softmax.lanes": 2, "topk.lanes": 8},
    {"softmax.lanes": 1, "topk.lanes": 2, "fetcher.lanes": 8, "max_context": 37},
]


def simulate(dut: Any, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_every_machine_has_room_for_its_context() -> None:
    for changes in ({}, {"max_context": 8, "topk.lanes": 16}, {"max_context": 65536}):
        unit = EngineUnit(load_arch("tiny", changes))
        entries = unit.arch.topk.lanes << list_write_layout(unit)["word"].width
        assert entries >= unit.arch.max_context


@pytest.mark.parametrize("changes", MACHINES)
def test_both_versions(changes: dict) -> None:
    unit, rng = EngineUnit(load_arch("tiny", changes)), np.random.default_rng(2)
    dut = KeepList(unit)
    size, word_lanes = unit.arch.max_context, unit.arch.topk.lanes
    lanes, width = unit.arch.fetcher.lanes, unit.arch.softmax.lanes
    lists = rng.integers(0, 1 << 16, (2, -(-size // word_lanes) * word_lanes)).tolist()

    async def bench(ctx):  # type: ignore[no-untyped-def]
        for word in rng.permutation(2 * len(lists[0]) // word_lanes):
            version, number = int(word) % 2, int(word) // 2
            part = lists[version][number * word_lanes : (number + 1) * word_lanes]
            ctx.set(dut.write.payload, {"version": version, "word": number, "tokens": part})
            ctx.set(dut.write.valid, 1)
            await ctx.tick()
        ctx.set(dut.write.valid, 0)
        for _ in range(60):
            version, rotate = int(rng.integers(0, 2)), int(rng.integers(0, lanes))
            rows = rng.integers(0, size // lanes, lanes)  # the lanes need not be at the same row
            at = [int(row) * lanes + (lane + rotate) % lanes for lane, row in enumerate(rows)]
            ctx.set(dut.lane_read.enable, 1)
            ctx.set(dut.lane_read.version, version)
            ctx.set(dut.lane_read.rotate, rotate)
            for lane in range(lanes):
                ctx.set(dut.lane_read.index[lane], at[lane])
            # A line of 1, 2, ... keys begins at a multiple of that.
            per_line = 1 << int(rng.integers(0, width.bit_length()))
            position, line_version = int(rng.integers(0, size // per_line)) * per_line, int(rng.integers(0, 2))
            ctx.set(dut.token_read.enable, 1)
            ctx.set(dut.token_read.version, line_version)
            ctx.set(dut.token_read.position, position)
            await ctx.tick()
            # Both keep the answer while they are not asked.
            ctx.set(dut.lane_read.enable, 0)
            ctx.set(dut.token_read.enable, 0)
            ctx.set(dut.token_read.position, 0)
            for _ in range(2):
                assert [ctx.get(token) for token in dut.lane_read.data] == [lists[version][i] for i in at]
                found = [int(token) for token in ctx.get(dut.token_read.tokens)][:per_line]
                assert found == lists[line_version][position : position + per_line]
                if rng.random() < 0.5:
                    break
                await ctx.tick()

    simulate(dut, bench)


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_window_finds_what_is_listed(lanes: int) -> None:
    """One word of tokens per cycle, with pauses; lists from empty to all, and behind the list's end anything at all."""
    unit, rng = EngineUnit(load_arch("tiny", {"topk.lanes": lanes, "softmax.lanes": 2})), np.random.default_rng(4)
    dut = ListWindow(unit)

    async def bench(ctx):  # type: ignore[no-untyped-def]
        stored = [0] * 128

        async def tick() -> None:
            """With the memory: the word asked for comes in the next cycle and stays."""
            enable, word = ctx.get(dut.read.enable), ctx.get(dut.read.word)
            version = ctx.get(dut.read.version)
            await ctx.tick()
            if enable:
                first = word * lanes % len(stored)
                ctx.set(dut.read.tokens, stored[first : first + lanes] if version else [1] * lanes)

        for share in (0, 0.1, 0.5, 0.9, 1, 0.5):
            listed = [token for token in range(64) if rng.random() < share]
            stored = listed + rng.integers(0, 64, 128 - len(listed)).tolist()
            ctx.set(dut.entries, len(listed))
            ctx.set(dut.version, 1)
            ctx.set(dut.start, 1)
            await tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.version, 0)
            ctx.set(dut.fill, 1)
            for _ in range(WINDOW_WORDS):
                await tick()
            ctx.set(dut.fill, 0)
            for word in range(64 // lanes):
                ctx.set(dut.word, word)
                while rng.random() < 0.2:
                    ctx.set(dut.valid, 0)
                    await tick()
                ctx.set(dut.valid, 1)
                right = sum(1 << lane for lane in range(lanes) if word * lanes + lane in listed)
                assert ctx.get(dut.listed) == right
                await tick()
            ctx.set(dut.valid, 0)

    simulate(dut, bench)
