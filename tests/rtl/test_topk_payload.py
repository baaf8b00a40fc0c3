"""Payloads of the top-k engine: each kept value comes out with its own, in the cycles of an engine without payloads."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Elaboratable, Module
from amaranth.sim import Simulator

from accel.errors import UserError
from accel.numerics.topk import top_k
from accel.units.topk import TopKUnit
from rtl.topk.quickselect import TopK

PLAIN = TopKUnit(4, 5, 32)
CARRYING = dataclasses.replace(PLAIN, payload_bits=9)


class Pair(Elaboratable):
    """Both engines, with the same inputs."""

    def __init__(self) -> None:
        self.plain, self.carrying = TopK(PLAIN), TopK(CARRYING)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.plain, m.submodules.carrying = plain, carrying = self.plain, self.carrying
        m.d.comb += [
            plain.command.valid.eq(carrying.command.valid),
            plain.command.payload.eq(carrying.command.payload),
            plain.input.valid.eq(carrying.input.valid),
            plain.input.payload.eq(carrying.input.payload.values),
            plain.output.ready.eq(carrying.output.ready),
        ]
        return m


def test_payloads_follow_their_values() -> None:
    rng = np.random.default_rng(5)
    rows = []
    for n in (0, 1, 3, 4, 5, 12, 31, 32, 17, 9, 32):
        rows.append((rng.integers(0, 8 if n % 2 else 32, n), rng.integers(0, 512, n), int(rng.integers(0, n + 2))))
    pair = Pair()
    dut, plain = pair.carrying, pair.plain
    found: list[list[tuple[int, int, int]]] = [[]]
    takes, selecting = 0, []

    async def commands(ctx):  # type: ignore[no-untyped-def]
        for values, payloads, k in rows:
            ctx.set(dut.command.payload, {"n": len(values), "k": k})
            ctx.set(dut.command.valid, 1)
            await ctx.tick().until(dut.command.ready)
            ctx.set(dut.command.valid, 0)
            for first in range(0, len(values), 4):
                word = {"values": [0] * 4, "payloads": [0] * 4}
                for lane in range(min(4, len(values) - first)):
                    word["values"][lane] = int(values[first + lane])
                    word["payloads"][lane] = int(payloads[first + lane])
                ctx.set(dut.input.payload, word)
                ctx.set(dut.input.valid, 1)
                await ctx.tick().until(dut.input.ready)
                ctx.set(dut.input.valid, 0)
                for _ in range(int(rng.integers(0, 3))):
                    await ctx.tick()

    async def outputs(ctx):  # type: ignore[no-untyped-def]
        nonlocal takes
        while len(found) <= len(rows):
            ready = int(rng.random() < 0.6)
            ctx.set(dut.output.ready, ready)
            same = [ctx.get(u.output.valid) for u in (dut, plain)]
            same += [ctx.get(u.command.ready) for u in (dut, plain)]
            assert same[::2] == same[1::2], "not the cycles of the engine without payloads"
            takes += ctx.get(dut.taking)
            selecting.append(ctx.get(dut.selecting))
            if ready and same[0]:
                word, other = ctx.get(dut.output.payload), ctx.get(plain.output.payload)
                assert (word.count, word.last) == (other.count, other.last)
                found[-1] += [(word.positions[i], word.values[i], word.payloads[i]) for i in range(word.count)]
                if word.last:
                    found.append([])
            await ctx.tick()

    simulator = Simulator(pair)
    simulator.add_clock(1e-6)
    simulator.add_testbench(commands, background=True)
    simulator.add_testbench(outputs)
    simulator.run()
    for (values, payloads, k), kept in zip(rows, found, strict=False):
        assert kept == [(int(i), int(values[i]), int(payloads[i])) for i in top_k(values, k).positions]
    assert takes == len(rows)
    assert len(rows) * 2 <= sum(selecting) < len(selecting)


def test_selecting_lasts_from_take_to_handoff() -> None:
    """A row that keeps everything is handed off in the cycle after its take; one of two words takes rounds."""
    dut = TopK(CARRYING)
    traces = []

    async def bench(ctx):  # type: ignore[no-untyped-def]
        ctx.set(dut.output.ready, 1)
        for k in (8, 3):
            ctx.set(dut.command.payload, {"n": 8, "k": k})
            ctx.set(dut.command.valid, 1)
            await ctx.tick()
            ctx.set(dut.command.valid, 0)
            ctx.set(dut.input.valid, 1)
            for word in ([1, 2, 3, 4], [5, 6, 7, 8]):
                ctx.set(dut.input.payload, {"values": word, "payloads": word})
                await ctx.tick()
            ctx.set(dut.input.valid, 0)
            trace = []
            while True:
                trace.append((ctx.get(dut.taking), ctx.get(dut.selecting)))
                if ctx.get(dut.output.valid) and ctx.get(dut.output.payload.last):
                    break
                await ctx.tick()
            traces.append(trace)
            await ctx.tick().repeat(3)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    whole, rounds = traces
    # Both words are loaded, the first cycle here is the take (take_cycles = 1 after the last word). With every value
    # kept the last output word leaves filter_cycles + 1 (source word 1 completes it) after the handoff.
    assert [busy for _, busy in whole] == [1, 1] + [0] * (CARRYING.filter_cycles + 1)
    assert [take for take, _ in whole] == [1] + [0] * (len(whole) - 1)
    busy = [b for _, b in rounds]
    assert (sum(busy) - 2 - CARRYING.round_overhead_cycles) >= 2  # at least one round of two words
    assert busy == sorted(busy, reverse=True)


def test_without_payloads_the_ports_are_as_before() -> None:
    plain = TopK(PLAIN)
    assert "payloads" not in plain.output.payload.shape().members
    assert len(plain.input.payload.as_value()) == 4 * 5
    assert "module topk" in verilog.convert(plain, name="topk", emit_src=False)


@pytest.mark.parametrize("bits", [-1, 33, True])
def test_bad_payload_bits(bits: int) -> None:
    with pytest.raises(UserError, match="payload_bits must be"):
        TopKUnit(payload_bits=bits)


def test_memory_bits_count_payloads_in_the_banks_only() -> None:
    assert CARRYING.memory_bits - PLAIN.memory_bits == 2 * 32 * 9
