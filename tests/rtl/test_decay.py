"""The parts of decay in hardware: decays of a line's keys, weights in place of exponents, signed products."""

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.numerics.decay import decay_weights
from accel.program import Mode
from accel.units.engine import EngineUnit
from accel.units.pv import PvArray
from accel.units.softmax import SoftmaxUnit
from rtl.pv_tree import ProductTree
from rtl.requant import Requant
from rtl.softmax.base2 import Softmax

TOP_DECAY, TOP_START = (1 << 24) - 1, ((1 << 16) - 1) * ((1 << 24) - 1)
TOP_SCORE = (1 << 21) - 1


def simulate(dut: Any, testbench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("lanes", [2, 8])
def test_decays_fall_from_key_to_key(lanes: int) -> None:
    """Rows of one line and of many, back to back, of heads with as many keys per line as lanes and with half of it."""
    changes = {"softmax.lanes": lanes, "fetcher.lanes": 8, "topk.lanes": 8, "qk.multipliers": 8 * lanes}
    unit = EngineUnit.of(load_arch("tiny", changes))
    dut, rng = Requant(unit), random.Random(lanes)

    async def bench(ctx: Any) -> None:
        for dim in (8, 16):
            per_line = unit.arch.keys_per_line(dim)
            ctx.set(dut.format, {"log2_dim": dim.bit_length() - 1, "mode": Mode.DECAY})
            rows = []
            for r in range(20):
                keys = rng.choice([1, per_line, rng.randint(1, 40)])
                decay = rng.choice([0, 1, TOP_DECAY, rng.randrange(1 << 24)])
                # Far back, so that not all is out of reach: few whole bits.
                lag = keys - 1 + rng.choice([0, 0, (1 << 16) - keys, rng.randrange(1 << 4)])
                rows.append((r, keys, decay, lag))
            lines = [(row, first) for row in rows for first in range(0, row[1], per_line)]
            for t in range(len(lines) + 4):
                starting = [row for row in rows if t < len(lines) and lines[t] == (row, 0)]
                ctx.set(dut.passes.valid, bool(starting))
                if starting:
                    r, keys, decay, lag = starting[0]
                    ctx.set(dut.passes.payload, {"row": r % unit.arch.rows_in_flight, "keys": keys, "first_tile": 1})
                    ctx.set(dut.decay, {"step": decay, "start": decay * lag})
                ctx.set(dut.scores.valid, t >= 4)
                if t >= 4:
                    (_, keys, decay, lag), first = lines[t - 4]
                    count, last = min(per_line, keys - first), first + per_line >= keys
                    ctx.set(dut.scores.payload, {"scores": [0] * lanes, "count": count, "last": last})
                    line = dut.lines.payload
                    assert ctx.get(line.weighing) == 1
                    for lane in range(count):
                        distance = (lag - first - lane) * decay
                        wanted = (distance >> 8 & 0xFFF, min(distance >> 20, 12))
                        found = (ctx.get(line.decay_fractions[lane]), ctx.get(line.decay_shifts[lane]))
                        assert found == wanted, (dim, keys, decay, lag, first, lane)
                await ctx.tick()

    simulate(dut, bench)


def test_weights_stand_where_exponents_do_and_pass_the_second_pass() -> None:
    """Lines of weights between lines of exponents, at full rate: golden's weights, with maximum and total 0."""
    unit = SoftmaxUnit(4)
    rng = np.random.default_rng(1)
    count = 400
    scores = rng.choice([-TOP_SCORE - 1, TOP_SCORE, 0, 1, -1, 511, 512, -512, -513], (count, 4))
    drawn = rng.integers(-TOP_SCORE - 1, TOP_SCORE + 1, (count, 4))
    scores = np.where(rng.random((count, 4)) < 0.3, scores, drawn)
    fractions = np.where(
        rng.random((count, 4)) < 0.2, rng.choice([0, 4095], (count, 4)), rng.integers(0, 4096, (count, 4))
    )
    shifts = np.minimum(rng.geometric(0.3, (count, 4)) - 1, 12)
    weighing, last = rng.random(count) < 0.7, rng.random(count) < 0.4
    for i in range(1, count):
        if not last[i - 1]:
            weighing[i] = weighing[i - 1]  # a row is of one kind
    wanted, _ = decay_weights(scores, (shifts << 20) + (fractions << 8))
    dut = Softmax(unit)
    lines: list[dict] = []

    async def bench(ctx: Any) -> None:
        ctx.set(dut.exponents.ready, 1)
        ctx.set(dut.sums.ready, 1)
        ctx.set(dut.weights.ready, 1)
        sums, stored, row_at = [], [], 0
        for t in range(count + unit.exponent_cycles + unit.test_cycles + 1):
            ctx.set(dut.scores.valid, t < count)
            if t < count:
                ctx.set(
                    dut.scores.payload,
                    {
                        "scores": scores[t].tolist(), "count": 4, "last": int(last[t]), "weighing": int(weighing[t]),
                        "start_maximum": 0 if weighing[t] else -1024, "start_total": 0,
                        "decay_fractions": fractions[t].tolist(), "decay_shifts": shifts[t].tolist(),
                    },
                )  # fmt: skip
            assert ctx.get(dut.exponents.valid) == (unit.exponent_cycles <= t < count + unit.exponent_cycles)
            if ctx.get(dut.exponents.valid):
                line = dut.exponents.payload
                exponents = [ctx.get(line.exponents[lane]) for lane in range(4)]
                stored.append({"exponents": exponents, "maximum": ctx.get(line.maximum), "count": 4, "last": 1})
            if ctx.get(dut.sums.valid):
                sums.append((ctx.get(dut.sums.payload.maximum), ctx.get(dut.sums.payload.total)))
            await ctx.tick()
        ends = np.flatnonzero(last)
        for i, end in enumerate(ends):
            assert (sums[i] == (0, 0)) == bool(weighing[end]), i
        assert len(stored) == count
        lines.extend(stored)
        chosen = [i for i in range(count) if weighing[i]]
        for t in range(len(chosen) + unit.normalise_cycles):
            ctx.set(dut.rows.valid, t < len(chosen))
            ctx.set(dut.rows.payload, {"maximum": 0, "reciprocal": 12345, "shift": 7})
            ctx.set(dut.stored.valid, 0 < t <= len(chosen))
            if 0 < t <= len(chosen):
                assert lines[chosen[t - 1]]["maximum"] == 0
                ctx.set(dut.stored.payload, lines[chosen[t - 1]])
            if ctx.get(dut.weights.valid):
                found = [ctx.get(dut.weights.payload.weights[lane]) for lane in range(4)]
                assert found == (wanted[chosen[row_at]] & 0xFFF).tolist(), row_at
                row_at += 1
            await ctx.tick()
        assert row_at >= len(chosen) - 1

    simulate(dut, bench)


@pytest.mark.parametrize("signed", [0, 1])
def test_products_of_signed_weights(signed: int) -> None:
    unit = PvArray(multipliers=16, lanes=2, max_head_dim=16, output_lanes=4)
    dut, rng = ProductTree(unit), random.Random(signed)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.o.ready, 1)
        for _ in range(40):
            values = [rng.choice([-2048, 2047, rng.randrange(-2048, 2048)]) for _ in range(16)]
            weights = [rng.choice([0x800, 0xFFF, 0x7FF, rng.randrange(4096)]) for _ in range(2)]
            row = {"log2_dim": 3, "signed": signed, "last": 1, "head_dim": 8}
            ctx.set(dut.line.payload, {"values": values, "weights": weights, "count": 2, "row": row})
            ctx.set(dut.line.valid, 1)
            await ctx.tick()
            ctx.set(dut.line.valid, 0)
            while not ctx.get(dut.o.valid):
                await ctx.tick()
            numbers = [w - 4096 if signed and w >= 2048 else w for w in weights]
            wanted = [numbers[0] * values[d] + numbers[1] * values[8 + d] for d in range(8)]
            assert [ctx.get(dut.o.payload.words[d]) for d in range(8)] == wanted
            await ctx.tick()

    simulate(dut, bench)
