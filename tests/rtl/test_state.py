"""The parts of mode state in hardware: when records and lines go, factors of rows, words that are stored back."""

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, Value
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.decay import LARGEST_DECAY, decode_decay_words, times_power
from accel.numerics.state import age, grown_keys
from accel.program import Mode
from accel.units.engine import EngineUnit
from accel.units.state import StateUnit
from rtl.line_memory import LineMemory
from rtl.state_factors import StateFactors
from rtl.state_issue import StateIssue, most_rows
from rtl.state_path import StatePath

TINY = EngineUnit.of(load_arch("tiny"))
#: Four rows of 8 in a line, one of 32; the output scaler takes 32 cycles for those.
WIDE = EngineUnit.of(
    load_arch("tiny", {"qk.multipliers": 32, "pv.multipliers": 32, "softmax.lanes": 4, "pv.output_lanes": 1})
)
UNITS = {"tiny": TINY, "wide": WIDE}


def simulate(dut: Any, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def form(unit: EngineUnit, dim: int) -> dict[str, int]:
    wide = int(unit.wide(dim))
    log2_dim = (unit.arch.padded_head_dim(dim) - 1).bit_length()
    return {"head_dim": dim, "log2_dim": log2_dim, "k_wide": wide, "v_wide": wide, "mode": Mode.STATE}


@pytest.mark.parametrize("name", UNITS)
def test_factors_are_golden(name: str) -> None:
    """Lines of a few states, every third cycle or later: fractions add up from token to token, k' and q' follow."""
    unit, rng = UNITS[name], np.random.default_rng(3)
    rows, dut = most_rows(unit), StateFactors(unit)
    fractions = np.zeros((4, rows), np.int64)
    wanted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    shifts: dict[int, np.ndarray] = {}

    async def bench(ctx: Any) -> None:
        t = 0
        for _ in range(120):
            line, fresh = int(rng.integers(4)), t < 40 or rng.integers(8) == 0
            words = rng.integers(0, 4096, rows)
            has_words, decay = bool(rng.integers(2)), int(rng.choice([0, 1, LARGEST_DECAY, rng.integers(1 << 24)]))
            k, q = (rng.choice([-2048, 2047, *rng.integers(-2048, 2048, 6)], rows) for _ in range(2))
            base = np.zeros(rows, np.int64) if fresh else fractions[line]
            whole, fractions[line] = age(base, decode_decay_words(words) if has_words else np.full(rows, decay))
            wanted[t] = grown_keys(k, fractions[line]), times_power(q, fractions[line])
            shifts[t] = whole
            payload = {"line": line, "fresh": int(fresh), "has_words": int(has_words), "decay": decay}
            ctx.set(dut.lines.valid, 1)
            ctx.set(dut.lines.payload, payload)
            ctx.set(dut.keys, k.tolist())
            ctx.set(dut.decays, [int(w) - 4096 * (w >= 2048) for w in words])
            for gap in range(3 + int(rng.integers(3))):
                if gap == 1:
                    ctx.set(dut.lines.valid, 0)
                    ctx.set(dut.queries, q.tolist())
                if t - 2 in shifts:
                    assert [ctx.get(dut.whole[c]) for c in range(rows)] == shifts[t - 2].tolist()
                if t - StateFactors.GROWN_CYCLES in wanted:
                    found = [ctx.get(dut.grown[c]) for c in range(rows)]
                    assert found == wanted[t - StateFactors.GROWN_CYCLES][0].tolist()
                if t - StateFactors.GROWN_CYCLES - 1 in wanted:
                    found = [ctx.get(dut.shrunk[c]) for c in range(rows)]
                    assert found == wanted[t - StateFactors.GROWN_CYCLES - 1][1].tolist()
                await ctx.tick()
                t += 1

    simulate(dut, bench)
    assert len(wanted) == 120


@pytest.mark.parametrize(("name", "dim", "words"), [("tiny", 8, 0), ("tiny", 32, 1), ("wide", 8, 1), ("wide", 32, 0)])
def test_records_and_lines_have_their_cycles(name: str, dim: int, words: int) -> None:
    """One record per cycle, then a line every other cycle, never nearer than the output scaler allows."""
    unit = UNITS[name]
    arch, states, dut = unit.arch, StateUnit(unit.arch), StateIssue(unit)
    lines, records = states.lines(8, dim), 3 + words
    cycles, drain = states.line_cycles(dim), -(-dim // arch.pv.output_lanes)
    tokens, taken, issued, started = 5, [], [], []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.format, form(unit, dim))
        job = {"state": 1, "rows": tokens, "keys": 8, "first_key": 8, "fresh": 1, "decay_words": words}
        ctx.set(dut.dispatch.payload, job)
        ctx.set(dut.dispatch.valid, 1)
        await ctx.tick()
        ctx.set(dut.dispatch.valid, 0)
        for t in range(400):
            ctx.set(dut.query_passed, tokens * records)
            ctx.set(dut.query_number, len(taken))
            ctx.set(dut.room, not 100 <= t < 130)
            if ctx.get(dut.record_taken):
                assert ctx.get(dut.query_read_slot) == len(taken) % arch.fetcher.query_slots
                taken.append(t)
            if ctx.get(dut.row_started):
                assert ctx.get(dut.lines.valid)
                started.append(t)
            if ctx.get(dut.lines.valid):
                line = ctx.get(dut.lines.payload)
                number = len(issued) % lines
                assert line.line == 8 // arch.values_per_line(dim) + number
                assert (line.last, line.fresh) == (number == lines - 1, len(issued) < lines)
                issued.append(t)
            await ctx.tick()

    simulate(dut, bench)
    assert (len(taken), len(issued), len(started)) == (tokens * records, tokens * lines, tokens)
    free, drained = taken[0], 0
    for token in range(tokens):
        assert taken[token * records : (token + 1) * records] == list(range(free, free + records))
        start = max(free + records, drained - (lines - 1) * cycles)
        start = 130 if 100 <= start < 130 else start
        assert started[token] == start
        assert issued[token * lines : (token + 1) * lines] == list(range(start, start + lines * cycles, cycles))
        free, drained = start + lines * cycles, start + (lines - 1) * cycles + drain


@pytest.mark.parametrize("which", ["k", "v"])
@pytest.mark.parametrize(("name", "dim"), [(name, dim) for name in UNITS for dim in (8, 16, 32)])
def test_what_is_stored_is_read(name: str, which: Any, dim: int) -> None:
    unit, rng = UNITS[name], random.Random(dim)
    memory = LineMemory(unit, which)
    per_line, parts = unit.arch.values_per_line(dim), unit.arch.pv_fold(dim)
    used = min(dim, memory.multipliers) * per_line
    lines = unit.v_ring_lines(dim)
    held = {
        (line, part): [rng.randrange(-2048, 2048) for _ in range(memory.multipliers)]
        for line in range(lines)
        for part in range(parts)
    }

    async def bench(ctx: Any) -> None:
        ctx.set(memory.format, form(unit, dim))
        order = list(held)
        rng.shuffle(order)
        for line, part in order:
            ctx.set(memory.store_enable, 1)
            ctx.set(memory.store_line, line)
            ctx.set(memory.store_part, part)
            ctx.set(memory.store_words, held[line, part])
            await ctx.tick()
        ctx.set(memory.store_enable, 0)
        for (line, part), words in held.items():
            ctx.set(memory.read_enable, 1)
            ctx.set(memory.read_part, part)
            for place in [memory.read_line] if which == "k" else memory.read_line:
                ctx.set(place, line)
            await ctx.tick()
            assert [ctx.get(memory.data[i]) for i in range(used)] == words[:used]

    simulate(memory, bench)


def test_verilog() -> None:
    path = StatePath(TINY)
    ports = [Value.cast(value) for _, _, value in path.signature.flatten(path)]
    text = verilog.convert(path, name="state_path", ports=[port for port in ports if not isinstance(port, Const)])
    assert "module state_path" in text
