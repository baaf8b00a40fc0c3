"""Importance: sums of every traffic in every cycle, saturation, and nothing that depends on a memory's read while it
is written."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.hdl import Module, Mux, Signal
from amaranth.sim import Simulator

import rtl.importance
from accel.arch import load_arch
from accel.units.engine import EngineUnit
from accel.units.importance import ACCUMULATE_CYCLES, ImportanceUnit
from rtl.importance import Importance, ScoreMemory
from rtl.sram import Sram

MACHINES = [{}, {"softmax.lanes": 1}, {"softmax.lanes": 4, "topk.lanes": 8, "max_context": 20}]
TOP = (1 << 32) - 1


class HostileSram(Sram):
    """A word read in the cycle it is written comes out inverted."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cells = cells = Sram(self.width, self.depth)
        for name in ("write_enable", "write_address", "write_data", "read_enable", "read_address"):
            m.d.comb += getattr(cells, name).eq(getattr(self, name))
        collided = Signal()
        with m.If(self.read_enable):
            m.d.sync += collided.eq(self.write_enable & (self.write_address == self.read_address))
        m.d.comb += self.read_data.eq(Mux(collided, ~cells.read_data, cells.read_data))
        return m


@pytest.fixture(autouse=True)
def hostile_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.importance, "Sram", HostileSram)


def simulate(dut: Any, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def write_words(ctx: Any, sweep: Any, scores: list[int], lanes: int) -> None:
    ctx.set(sweep.write_enable, 1)
    for word in range(-(-len(scores) // lanes)):
        part = scores[word * lanes : (word + 1) * lanes]
        ctx.set(sweep.write_word, word)
        ctx.set(sweep.write_scores, part + [0] * (lanes - len(part)))
        await ctx.tick()
    ctx.set(sweep.write_enable, 0)


async def read_words(ctx: Any, sweep: Any, count: int, lanes: int, latency_cycles: int) -> list[int]:
    """One word per cycle, the first in this cycle."""
    words, found = -(-count // lanes), []
    for cycle in range(words + latency_cycles):
        ctx.set(sweep.read_enable, int(cycle < words))
        ctx.set(sweep.read_word, min(cycle, words - 1))
        if cycle >= latency_cycles:
            found += [int(score) for score in ctx.get(sweep.read_scores)]
        await ctx.tick()
    return found[:count]


@pytest.mark.parametrize("changes", MACHINES, ids=["tiny", "one lane", "four lanes"])
def test_lines_in_every_cycle(changes: dict) -> None:
    unit = EngineUnit(load_arch("tiny", changes))
    sizes, rng = ImportanceUnit.of(unit.arch), np.random.default_rng(3)
    lanes, live = sizes.topk_lanes, sizes.max_context
    dut = Importance(unit)
    # Some scores are close to the top.
    scores = [int(x) for x in rng.choice([0, 5, TOP - 6000, TOP], live)]

    async def bench(ctx):  # type: ignore[no-untyped-def]
        last_cycles, accumulated_cycles, cycle = [], [], 0

        async def tick() -> None:
            nonlocal cycle
            if ctx.get(dut.row_accumulated):
                accumulated_cycles.append(cycle)
            cycle += 1
            await ctx.tick()

        await write_words(ctx, dut.sweep, scores, lanes)
        for burst in range(6):
            for _ in range(40):
                # Few tokens in a burst, so that the same word and the same token come in successive cycles.
                near = int(rng.integers(0, live - 3)) if burst % 2 else 0
                tokens = rng.integers(near, near + 3 if burst % 2 else live, sizes.score_lanes)
                probabilities = rng.integers(0, 4097, sizes.score_lanes)
                count = int(rng.integers(1, sizes.score_lanes + 1))
                valid, accumulate, last = (int(rng.random() < share) for share in (0.8, 0.8, 0.3))
                ctx.set(
                    dut.line.payload,
                    {
                        "probabilities": [int(p) for p in probabilities],
                        "tokens": [int(t) for t in tokens],
                        "count": count,
                        "last": last,
                        "accumulate": accumulate,
                    },
                )
                ctx.set(dut.line.valid, valid)
                if valid and last:
                    last_cycles.append(cycle)
                if valid and accumulate:
                    for token, probability in list(zip(tokens, probabilities, strict=True))[:count]:
                        scores[token] = min(TOP, scores[token] + int(probability))
                await tick()
            ctx.set(dut.line.valid, 0)
            for _ in range(ACCUMULATE_CYCLES - 1):  # the last line came in the cycle before this loop
                await tick()
            before = cycle
            if ctx.get(dut.row_accumulated):
                accumulated_cycles.append(cycle)
            assert await read_words(ctx, dut.sweep, live, lanes, 1 + sizes.sum_cycles) == scores
            cycle = before + sizes.token_words + 1 + sizes.sum_cycles
        assert accumulated_cycles == [last + ACCUMULATE_CYCLES for last in last_cycles]
        assert any(score == TOP for score in scores)

    simulate(dut, bench)


def test_writing_a_sweep_leaves_nothing_in_the_other_replicas() -> None:
    unit = EngineUnit(load_arch("tiny"))
    dut = Importance(unit)

    async def bench(ctx):  # type: ignore[no-untyped-def]
        await write_words(ctx, dut.sweep, [0] * 64, 4)
        line = {"probabilities": [100, 30], "tokens": [9, 9], "count": 2, "accumulate": 1}
        ctx.set(dut.line.payload, line)
        ctx.set(dut.line.valid, 1)
        await ctx.tick()
        ctx.set(dut.line.valid, 0)
        await ctx.tick()
        assert (await read_words(ctx, dut.sweep, 64, 4, 2))[9] == 130
        await write_words(ctx, dut.sweep, list(range(64)), 4)
        assert await read_words(ctx, dut.sweep, 64, 4, 2) == list(range(64))

    simulate(dut, bench)


def test_head_scores_saturate_at_48_bits() -> None:
    """Up to ten heads in words of four, any head in any cycle."""
    dut, rng = ScoreMemory(10, 4, 48, 21), np.random.default_rng(8)
    top = (1 << 48) - 1
    scores = [int(x) for x in rng.choice([0, top - (1 << 22), top], 10)]

    async def bench(ctx):  # type: ignore[no-untyped-def]
        await write_words(ctx, dut.sweep, scores, 4)
        for _ in range(120):
            head, magnitude = int(rng.integers(0, 10)), int(rng.integers(0, 1 << 21))
            ctx.set(dut.add.payload, {"score": head, "addend": magnitude})
            ctx.set(dut.add.valid, 1)
            scores[head] = min(top, scores[head] + magnitude)
            await ctx.tick()
        ctx.set(dut.add.valid, 0)
        await ctx.tick()
        assert await read_words(ctx, dut.sweep, 10, 4, 1) == scores

    simulate(dut, bench)
