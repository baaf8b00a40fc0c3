"""Issue of PV lines on its own: what holds a line back, wrap of running numbers, rows it cannot take."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.job import sequence_bits
from rtl.pv_issue import PvIssue

UNIT = EngineUnit.of(load_arch("tiny"))
WRAP = 1 << sequence_bits(UNIT)
Context = Any


def run(testbench: Callable[[Context, PvIssue], Awaitable[None]]) -> None:
    issue = PvIssue(UNIT)
    simulator = Simulator(issue)
    simulator.add_clock(1e-6)

    async def bench(ctx: Context) -> None:
        await testbench(ctx, issue)

    simulator.add_testbench(bench)
    simulator.run()


async def dispatch(ctx: Context, issue: PvIssue, head_dim: int, **job: int) -> None:
    padded = UNIT.arch.padded_head_dim(head_dim)
    ctx.set(issue.format, {"head_dim": head_dim, "log2_dim": padded.bit_length() - 1})
    ctx.set(issue.dispatch.payload, {"rows": 1, "first_tile": 1, "last_tile": 1, **job})
    ctx.set(issue.dispatch.valid, 1)
    await ctx.tick()
    ctx.set(issue.dispatch.valid, 0)


async def push(ctx: Context, issue: PvIssue, **row: int) -> None:
    ctx.set(issue.weights.payload, row)
    ctx.set(issue.weights.valid, 1)
    await ctx.tick()
    ctx.set(issue.weights.valid, 0)


def test_resident_selection_waits_for_all_lines_of_the_row() -> None:
    """A kept position may be anywhere: V of all visible keys, though not of the job's other keys."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        await dispatch(ctx, issue, 16, keys=20)
        ctx.set(issue.emitted, 1)
        await push(ctx, issue, keys=9, kept=2, selecting=1)
        for passed in range(9):
            ctx.set(issue.v_passed, passed)
            assert not ctx.get(issue.issue)
            await ctx.tick()
        ctx.set(issue.v_passed, 9)
        assert ctx.get(issue.issue)

    run(testbench)


def test_payload_is_the_line_of_every_part() -> None:
    """D = 32 on 16 multipliers: two reads of the line that the position names, though the next item follows."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        await dispatch(ctx, issue, 32, keys=20)
        ctx.set(issue.emitted, 1)
        ctx.set(issue.v_passed, 20)
        await push(ctx, issue, keys=20, kept=3, selecting=1, granule=2)
        positions = [4, 11, 19]
        words: list[int | None] = []
        reads: list[tuple[int, int]] = []
        for _ in range(10):
            if words and words[-1] is not None:
                for lane, position in enumerate(positions):
                    ctx.set(issue.ring_items.payloads[lane], position)
            else:
                ctx.set(issue.ring_items.payloads.as_value(), 0x1234567890ABCDEF)
            words.append(ctx.get(issue.ring_read.payload.word) if ctx.get(issue.ring_read.valid) else None)
            if ctx.get(issue.v_read.valid):
                reads.append((ctx.get(issue.v_read.payload.lines[0]), ctx.get(issue.v_read.payload.part)))
            await ctx.tick()
        assert words == [2, None] * 3 + [None] * 4
        assert reads == [(position, part) for position in positions for part in range(2)]

    run(testbench)


@pytest.mark.parametrize("selecting", [False, True])
def test_running_numbers_wrap(selecting: bool) -> None:
    """More lines and rows than the counts can tell apart: a line that is not there is still waited for."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        keys = 60
        for row in range(WRAP // keys + 3):
            await dispatch(ctx, issue, 16, keys=keys)
            ctx.set(issue.rows_written, row % WRAP)
            await push(ctx, issue, keys=keys, kept=keys, selecting=selecting)
            first = row * keys
            ctx.set(issue.emitted, row % WRAP)
            for lines in (first + keys // 2, first + keys):
                ctx.set(issue.v_passed, (lines if not selecting else first + keys) % WRAP)
                ctx.set(issue.dense_lines, (first + keys) % WRAP)
                while ctx.get(issue.issue):
                    assert not selecting
                    await ctx.tick()
            if selecting:
                for _ in range(2):
                    assert not ctx.get(issue.issue)
                    await ctx.tick()
                ctx.set(issue.emitted, (row + 1) % WRAP)
                while not ctx.get(issue.row_finished):
                    assert ctx.get(issue.issue)
                    await ctx.tick()
                await ctx.tick()
            assert not ctx.get(issue.issue)
            for _ in range(8):
                await ctx.tick()

    run(testbench)


def test_row_across_the_end_of_the_ring() -> None:
    """Granules are taken round the ring, so a row may begin in the last one and go on in the first."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        await dispatch(ctx, issue, 16, keys=10)
        ctx.set(issue.dense_lines, 10)
        ctx.set(issue.v_passed, 10)
        await push(ctx, issue, keys=10, kept=10, granule=UNIT.granules - 1)
        words = []
        while ctx.get(issue.issue):
            words.append(ctx.get(issue.ring_read.payload.word))
            await ctx.tick()
        assert words == [UNIT.ring_words - 1] * 4 + [0] * 4 + [1] * 2

    run(testbench)


def test_row_without_its_columns_waits() -> None:
    """D = 8 has two V rows per line: the row stays, and says so, until it is known how full its columns are."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        for count in ("v_passed", "dense_lines"):
            ctx.set(getattr(issue, count), 40)
        ctx.set(issue.emitted, 1)
        await dispatch(ctx, issue, 8, keys=8, v_selected=1)
        await dispatch(ctx, issue, 8, keys=8)
        await push(ctx, issue, keys=8, kept=2, selecting=1)
        assert not ctx.get(issue.unsupported)
        assert ctx.get(issue.row_finished)
        await push(ctx, issue, keys=8, kept=4, selecting=1)
        assert not ctx.get(issue.unsupported)
        ctx.set(issue.emitted, 2)
        for _ in range(5):
            assert ctx.get(issue.unsupported)
            assert not ctx.get(issue.issue)
            await ctx.tick()
        ctx.set(issue.columns.payload, {"counts": [1, 3]})
        ctx.set(issue.columns.valid, 1)
        await ctx.tick()
        ctx.set(issue.columns.valid, 0)
        finished = []
        for _ in range(4):
            finished.append((ctx.get(issue.issue), ctx.get(issue.row_finished)))
            await ctx.tick()
        assert finished == [(1, 0), (1, 0), (1, 1), (0, 0)]

    run(testbench)


def test_columns_read_lines_of_their_own() -> None:
    """Positions 2, 3, 5, 7: column 0 has one, column 1 three, in V lines 1, 2, 3; an empty column weighs nothing."""

    async def testbench(ctx: Context, issue: PvIssue) -> None:
        ctx.set(issue.emitted, 1)
        ctx.set(issue.v_passed, 4)
        await dispatch(ctx, issue, 8, keys=8)
        ctx.set(issue.columns.payload, {"counts": [1, 3]})
        ctx.set(issue.columns.valid, 1)
        await push(ctx, issue, keys=8, kept=4, selecting=1)
        ctx.set(issue.columns.valid, 0)
        ring = [(2, 10), (3, 11), (999, 4095), (5, 12), (999, 4095), (7, 13)]
        reads, weights, word = [], [], None
        for _ in range(6):
            for lane in range(UNIT.arch.topk.lanes):
                at = (word or 0) * UNIT.arch.topk.lanes + lane
                position, weight = ring[at] if word is not None and at < len(ring) else (777, 7)
                ctx.set(issue.ring_items.payloads[lane], position)
                ctx.set(issue.ring_items.weights[lane], weight)
            word = ctx.get(issue.ring_read.payload.word) if ctx.get(issue.ring_read.valid) else None
            if ctx.get(issue.v_read.valid):
                reads.append([ctx.get(line) for line in issue.v_read.payload.lines])
            if ctx.get(issue.line.valid):
                weights.append([ctx.get(weight) for weight in issue.line.payload.weights])
            await ctx.tick()
        assert [read[1] for read in reads] == [1, 2, 3]
        assert reads[0][0] == 1
        assert weights == [[10, 11], [0, 12], [0, 13]]

    run(testbench)
