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

WIDE = {"softmax.lanes": 4, "qk.multipliers": 32, "topk.lanes": 8}
FOUR = {"softmax.lanes": 4, "pv.multipliers": 32}  # V rows in a line of D = 8: as many as the top-k has lanes
FOUR_OF_EIGHT = {**FOUR, "topk.lanes": 8}
FOUR_OF_SIXTEEN = {**FOUR, "topk.lanes": 16, "softmax.buffer_keys": 48}  # ring of three words


class Bench:
    """A LocalValues and its surroundings, one ``cycle`` at a time."""

    def __init__(self, unit: EngineUnit, log2_dim: int) -> None:
        self.unit, self.dut, self.log2_dim = unit, LocalValues(unit), log2_dim
        self.lanes, self.words = unit.arch.topk.lanes, unit.ring_words
        self.step = unit.arch.keys_per_line(1 << log2_dim)
        self.t, self.v_rows, self.selected, self.columns = 0, [], [], []  # type: ignore[var-annotated]

    async def cycle(self, ctx: Any) -> None:
        dut = self.dut
        if ctx.get(dut.v_row.valid):
            self.v_rows.append((self.t, ctx.get(dut.v_row.payload.kept), ctx.get(dut.v_row.payload.granule)))
        if ctx.get(dut.columns.valid):
            self.columns.append((self.t, list(ctx.get(dut.columns.payload.counts))))
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


@pytest.mark.parametrize(("change", "log2_dim", "by_row"), [({}, 3, 1), ({}, 4, 0), (WIDE, 3, 1), (WIDE, 5, 0)])
def test_selected_values_with_token_or_position(change: dict, log2_dim: int, by_row: int) -> None:
    """One V row per line, or V by row: the kept keys one after another."""
    unit = EngineUnit.of(load_arch("tiny", change))
    bench = Bench(unit, log2_dim)
    rng = random.Random(log2_dim)
    # the longest around the end of the ring
    work = [(20, 7, 2), (1, 1, 5), (9, 9, 9), (4 * unit.granule, 4 * unit.granule - 3, unit.granules - 2)]

    async def play(ctx: Any) -> None:
        for keys, kept, granule in work:
            row = [rng.randrange(40) for _ in range(keys)]
            await select(ctx, bench, row, granule, kept, by_row)
            positions = top_k(row, kept).positions.tolist()
            weights, payloads, tokens = await bench.read(ctx, granule, kept)
            assert weights == [row[j] for j in positions]
            assert payloads == [1000 + 3 * j if by_row else j for j in positions]
            if by_row:
                assert tokens == payloads
        assert ctx.get(bench.dut.dense_lines) == 0

    bench.run(play)
    right = [(at, kept, granule) for at, (_, kept, granule) in zip(bench.selected, work, strict=True)]
    assert bench.v_rows == (right if by_row else [])
    assert bench.columns == []


async def select(ctx: Any, bench: Bench, row: list[int], granule: int, kept: int, by_row: int) -> None:
    """Sends a selecting row and waits until it is ``emitted``, in which cycle the ring can be read."""
    number = len(bench.selected)
    last = await bench.send(ctx, row, granule, selecting=1, kept=kept, by_row=by_row)
    while len(bench.selected) == number:
        assert ctx.get(bench.dut.emitted) == number
        await bench.cycle(ctx)
        assert bench.t < last + 400
    assert ctx.get(bench.dut.emitted) == number + 1
    assert bench.t == bench.selected[-1] + 1


@pytest.mark.parametrize(
    ("change", "log2_dim", "columns"),
    [({}, 3, 2), (FOUR, 3, 4), (FOUR, 4, 2), (FOUR_OF_EIGHT, 3, 4), (FOUR_OF_EIGHT, 4, 2), (FOUR_OF_SIXTEEN, 4, 2)],
)
def test_resident_v_of_several_rows_per_line(change: dict, log2_dim: int, columns: int) -> None:
    """The n-th kept key of column c is item n * columns + c; columns may be empty, or hold all that is kept."""
    unit = EngineUnit.of(load_arch("tiny", change))
    assert unit.arch.values_per_line(1 << log2_dim) == columns
    bench, rng = Bench(unit, log2_dim), random.Random(columns)
    most = min(4 * unit.granule, unit.granules * unit.granule)
    shapes = [(20, 7), (1, 1), (9, 9), (most, most - 3), (most, 1), (most, most // columns)]
    shapes += [(n, rng.randint(1, n)) for n in (rng.randint(2, most) for _ in range(8))]
    work = []
    for number, (keys, kept) in enumerate(shapes):
        row = [rng.randrange(40 if number % 2 else 1 << 12) for _ in range(keys)]
        if number == 5:  # all in the last column
            row = [4000 if j % columns == columns - 1 else 1 for j in range(keys)]
        work.append((row, kept, rng.choice([0, unit.granules - 1, rng.randrange(unit.granules)])))
    counts = []

    async def play(ctx: Any) -> None:
        for row, kept, granule in work:
            await select(ctx, bench, row, granule, kept, 0)
            of_column: list[list[int]] = [[] for _ in range(columns)]
            for position in top_k(row, kept).positions.tolist():
                of_column[position % columns].append(position)
            counts.append([len(positions) for positions in of_column] + [0] * (4 - columns))
            items = min(kept, -(-len(row) // columns)) * columns
            weights, payloads, _ = await bench.read(ctx, granule, items)
            for column, positions in enumerate(of_column):
                n = len(positions)
                assert payloads[column::columns][:n] == positions
                assert weights[column::columns][:n] == [row[j] for j in positions]

    bench.run(play)
    assert [t for t, _ in bench.columns] == bench.selected
    assert [seen + [0] * (4 - len(seen)) for _, seen in bench.columns] == counts


def test_rows_of_both_kinds_follow_each_other() -> None:
    """By column, by row and dense: none writes into another's granules, also when one is loaded while one is read."""
    unit = EngineUnit.of(load_arch("tiny", FOUR_OF_EIGHT))
    bench, rng = Bench(unit, 4), random.Random(1)

    async def play(ctx: Any) -> None:
        await bench.send(ctx, [77] * 8 * unit.granule, 0, selecting=0)
        for by_rows in [(0, 1), (1, 0), (0, 0)]:
            number, rows = len(bench.selected), [[rng.randrange(1 << 12) for _ in range(16)] for _ in range(2)]
            for half, (row, by_row) in enumerate(zip(rows, by_rows, strict=True)):
                await bench.send(ctx, row, 1 + 3 * half, selecting=1, kept=5, by_row=by_row)
                await bench.cycle(ctx)
            while len(bench.selected) < number + 2:
                await bench.cycle(ctx)
            for half, (row, by_row) in enumerate(zip(rows, by_rows, strict=True)):
                positions = top_k(row, 5).positions.tolist()
                weights, payloads, tokens = await bench.read(ctx, 1 + 3 * half, 10)
                if by_row:
                    assert weights[:5] == [row[j] for j in positions]
                    assert tokens[:5] == [1000 + 3 * j for j in positions]
                    continue
                for column in range(2):
                    those = [j for j in positions if j % 2 == column]
                    assert payloads[column::2][: len(those)] == those
                    assert weights[column::2][: len(those)] == [row[j] for j in those]
            for granule in (0, 3, 6):  # two granules hold any of these rows
                assert (await bench.read(ctx, granule, unit.granule))[0] == [77] * unit.granule

    bench.run(play)


def test_two_selecting_rows_with_one_cycle_between() -> None:
    """The second row's command comes in the first cycle in which the top-k takes it; a lost one would lose the row."""
    bench = Bench(EngineUnit.of(load_arch("tiny")), 3)

    async def play(ctx: Any) -> None:
        first = await bench.send(ctx, [3, 1, 4, 1, 5], 0, selecting=1, kept=2, by_row=1)
        second = await bench.send(ctx, [2, 7, 1], 1, selecting=1, kept=1, by_row=1)
        assert second == first + 3
        while len(bench.selected) < 2:
            await bench.cycle(ctx)
            assert bench.t < 200
        assert (await bench.read(ctx, 0, 2))[:2] == ([4, 5], [1006, 1012])
        assert (await bench.read(ctx, 1, 1))[:2] == ([7], [1003])

    bench.run(play)
