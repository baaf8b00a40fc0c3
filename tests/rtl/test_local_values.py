"""Local values alone: where weights come to lie in the ring, what goes with them, and when."""

import random
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.topk import top_k
from accel.units.engine import EngineUnit
from rtl.local_values import LocalValues
from rtl.second_pass import ring_words

WIDE = {"softmax.lanes": 4, "qk.multipliers": 32, "topk.lanes": 8}


class Bench:
    """A LocalValues and its surroundings, one ``cycle`` at a time."""

    def __init__(self, unit: EngineUnit, log2_dim: int) -> None:
        self.unit, self.dut, self.log2_dim = unit, LocalValues(unit), log2_dim
        self.lanes, self.words = unit.arch.topk.lanes, ring_words(unit)
        self.step = unit.arch.keys_per_line(1 << log2_dim)
        self.t, self.v_rows, self.selected = 0, [], []  # type: ignore[var-annotated]

    async def cycle(self, ctx: Any) -> None:
        dut = self.dut
        if ctx.get(dut.v_row.valid):
            self.v_rows.append((self.t, ctx.get(dut.v_row.payload.kept), ctx.get(dut.v_row.payload.granule)))
        if ctx.get(dut.selected):
            self.selected.append(self.t)
        await ctx.tick()
        self.t += 1
        ctx.set(dut.line.valid, 0)
        ctx.set(dut.select.valid, 0)
        ctx.set(dut.ring_read.valid, 0)
        ctx.set(dut.kept_read.enable, 0)

    async def send(
        self, ctx: Any, weights: list[int], granule: int, selecting: int, kept: int = 0, by_row: int = 0
    ) -> int:
        """A row whose key j is token 1000 + 3 j; returns the cycle of its last line."""
        dut, lanes = self.dut, self.unit.arch.softmax.lanes
        if selecting:
            ctx.set(dut.select.valid, 1)
            row = {"keys": len(weights), "kept": kept, "granule": granule, "v_selected": by_row}
            ctx.set(dut.select.payload, row)
            await self.cycle(ctx)
        for first in range(0, len(weights), self.step):
            part = weights[first : first + self.step]
            line = {
                "weights": part + [0xABC] * (lanes - len(part)),
                "tokens": [1000 + 3 * (first + lane) for lane in range(lanes)],
                "position": first, "count": len(part), "first": first == 0, "last": first + self.step >= len(weights),
            }  # fmt: skip
            word = (granule * self.unit.granule + first) // self.lanes % self.words
            ctx.set(dut.line.valid, 1)
            ctx.set(dut.line.payload, line)
            ctx.set(dut.place, {"selecting": selecting, "v_selected": by_row, "word": word})
            at = self.t
            await self.cycle(ctx)
        return at

    async def read(self, ctx: Any, granule: int, count: int) -> tuple[list[int], list[int], list[int]]:
        """``count`` items: weights, payloads, and payloads as the fetcher's lanes see them."""
        weights, payloads, tokens = [], [], []
        fetch_lanes = self.unit.arch.fetcher.lanes
        for first in range(0, count, self.lanes):
            word = (granule * self.unit.granule + first) // self.lanes % self.words
            for part in range(0, self.lanes, fetch_lanes):
                ctx.set(self.dut.ring_read.valid, 1)
                ctx.set(self.dut.ring_read.payload.word, word)
                ctx.set(self.dut.kept_read.enable, 1)
                for lane in range(fetch_lanes):
                    ctx.set(self.dut.kept_read.index[lane], word * self.lanes + part + lane)
                await self.cycle(ctx)
                tokens += [ctx.get(item) for item in self.dut.kept_read.data]
            weights += list(ctx.get(self.dut.ring_items.weights))
            payloads += list(ctx.get(self.dut.ring_items.payloads))
        return weights[:count], payloads[:count], tokens[:count]

    def run(self, play: Any) -> None:
        async def testbench(ctx: Any) -> None:
            ctx.set(self.dut.format.log2_dim, self.log2_dim)
            await play(ctx)

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-9)
        simulator.add_testbench(testbench)
        simulator.run()


@pytest.mark.parametrize(("change", "log2_dim"), [({}, 3), ({}, 5), (WIDE, 3), (WIDE, 4), (WIDE, 5)])
def test_dense_rows_lie_key_by_key(change: dict, log2_dim: int) -> None:
    """Readable in the cycle after the line, also around the end of the ring; lines of a word leave each other alone."""
    bench = Bench(EngineUnit.of(load_arch("tiny", change)), log2_dim)
    rng = random.Random(log2_dim)

    async def play(ctx: Any) -> None:
        lines = 0
        for granule, keys in ((0, 1), (3, 13), (bench.unit.granules - 1, 2 * bench.unit.granule)):
            row = [rng.randrange(1 << 12) for _ in range(keys)]
            last = await bench.send(ctx, row, granule, selecting=0)
            lines += -(-keys // bench.step)
            assert ctx.get(bench.dut.dense_lines) == lines
            assert bench.t == last + 1
            assert (await bench.read(ctx, granule, keys))[0] == row
        assert ctx.get(bench.dut.emitted) == 0

    bench.run(play)


@pytest.mark.parametrize(("change", "log2_dim"), [({}, 3), (WIDE, 3), (WIDE, 5)])
@pytest.mark.parametrize("by_row", [0, 1])
def test_selected_values_with_token_or_position(change: dict, log2_dim: int, by_row: int) -> None:
    unit = EngineUnit.of(load_arch("tiny", change))
    bench = Bench(unit, log2_dim)
    rng = random.Random(log2_dim)
    # the longest around the end of the ring
    work = [(20, 7, 2), (1, 1, 5), (9, 9, 9), (4 * unit.granule, 4 * unit.granule - 3, unit.granules - 2)]

    async def play(ctx: Any) -> None:
        for number, (keys, kept, granule) in enumerate(work):
            row = [rng.randrange(40) for _ in range(keys)]
            last = await bench.send(ctx, row, granule, selecting=1, kept=kept, by_row=by_row)
            while len(bench.selected) == number:
                assert ctx.get(bench.dut.emitted) == number
                await bench.cycle(ctx)
                assert bench.t < last + 400
            assert ctx.get(bench.dut.emitted) == number + 1
            assert bench.t == bench.selected[-1] + 1  # and can be read at once
            positions = top_k(row, kept).positions.tolist()
            weights, payloads, tokens = await bench.read(ctx, granule, kept)
            assert weights == [row[j] for j in positions]
            assert payloads == tokens == [1000 + 3 * j if by_row else j for j in positions]
        assert ctx.get(bench.dut.dense_lines) == 0

    bench.run(play)
    right = [(at, kept, granule) for at, (_, kept, granule) in zip(bench.selected, work, strict=True)]
    assert bench.v_rows == (right if by_row else [])


def test_two_selecting_rows_with_one_cycle_between() -> None:
    """The second row's command comes in the first cycle in which the top-k takes it; a lost one would lose the row."""
    bench = Bench(EngineUnit.of(load_arch("tiny")), 3)

    async def play(ctx: Any) -> None:
        first = await bench.send(ctx, [3, 1, 4, 1, 5], 0, selecting=1, kept=2)
        second = await bench.send(ctx, [2, 7, 1], 1, selecting=1, kept=1)
        assert second == first + 3
        while len(bench.selected) < 2:
            await bench.cycle(ctx)
            assert bench.t < 200
        assert (await bench.read(ctx, 0, 2))[:2] == ([4, 5], [2, 4])
        assert (await bench.read(ctx, 1, 1))[:2] == ([7], [1])

    bench.run(play)
