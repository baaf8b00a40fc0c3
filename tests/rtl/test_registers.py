"""Registers by AXI4-Lite transactions, addresses and data in any order, against a model of the map."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.registers import PAGE_BYTES, REGISTERS, Access, ErrorCode, constant_words, register
from accel.units.engine import EngineUnit
from rtl.registers import Registers, event_names

UNIT = EngineUnit.of(load_arch("tiny", {"memory.channels": 4}))
OKAY, SLVERR = 0, 2


class Host:
    """Transactions on the bus; ``tick`` is called for every cycle and may be replaced."""

    def __init__(self, ctx: Any, dut: Registers, rng: np.random.Generator) -> None:
        self.ctx, self.dut, self.rng = ctx, dut, rng
        self.cycle = 0
        self.starts: list[int] = []

    async def tick(self) -> None:
        if self.ctx.get(self.dut.start):
            self.starts.append(self.cycle)
        await self.ctx.tick()
        self.cycle += 1

    async def write(self, offset: int, value: int, strobe: int = 0xF) -> int:
        """Address and data each after a wait of its own; the response."""
        ctx, bus = self.ctx, self.dut.bus
        wait = {"aw": int(self.rng.integers(4)), "w": int(self.rng.integers(4)), "b": int(self.rng.integers(6))}
        ctx.set(bus.awaddr, offset)
        ctx.set(bus.wdata, value)
        ctx.set(bus.wstrb, strobe)
        left, t = {"aw", "w", "b"}, 0
        response = -1
        while left:
            taken = set()
            for channel, valid, ready in (("aw", bus.awvalid, bus.awready), ("w", bus.wvalid, bus.wready)):
                offered = channel in left and t >= wait[channel]
                ctx.set(valid, offered)
                if offered:
                    assert ctx.get(ready), "the one waits for the other"
                    taken.add(channel)
            ctx.set(bus.bready, t >= wait["b"])
            if ctx.get(bus.bvalid):
                assert left == {"b"}, "a response before address and data"
                if t >= wait["b"]:
                    taken.add("b")
                    response = ctx.get(bus.bresp)
            left -= taken
            await self.tick()
            t += 1
        ctx.set(bus.bready, 0)
        assert not ctx.get(bus.bvalid)
        return response

    async def read(self, offset: int) -> tuple[int, int]:
        """Data and response."""
        ctx, bus = self.ctx, self.dut.bus
        ctx.set(bus.araddr, offset)
        ctx.set(bus.arvalid, 1)
        while not ctx.get(bus.arready):
            await self.tick()
        await self.tick()
        ctx.set(bus.arvalid, 0)
        for _ in range(self.rng.integers(3)):
            assert ctx.get(bus.rvalid)
            assert not ctx.get(bus.arready)
            await self.tick()
        ctx.set(bus.rready, 1)
        assert ctx.get(bus.rvalid)
        answer = ctx.get(bus.rdata), ctx.get(bus.rresp)
        await self.tick()
        ctx.set(bus.rready, 0)
        return answer

    async def value(self, name: str) -> int:
        """All words of a register, lowest first."""
        r, out = register(name), 0
        for i in range(r.words):
            word, response = await self.read(r.offset + 4 * i)
            assert response == OKAY
            out |= word << 32 * i
        return out


def play(steps: Any, seed: int = 1) -> None:
    """Run ``steps(host)``."""
    dut = Registers(UNIT)

    async def testbench(ctx: Any) -> None:
        await steps(Host(ctx, dut, np.random.default_rng(seed)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()


def test_random_transactions() -> None:
    """Reads and writes everywhere, strobes and all; nothing runs."""
    words = {r.offset + 4 * i: (r, i) for r in REGISTERS for i in range(r.words)}
    writable = {register("INTERRUPT_ENABLE").offset: 0x3, 0x18: 0xFFFFFFFF, 0x1C: 0xFFFF}
    model = dict.fromkeys(words, 0) | constant_words(UNIT)

    async def steps(host: Host) -> None:
        for _ in range(250):
            known = host.rng.random() < 0.8
            offset = int(host.rng.choice(list(words))) if known else 4 * int(host.rng.integers(PAGE_BYTES // 4))
            if host.rng.random() < 0.5:
                assert await host.read(offset) == ((model[offset], OKAY) if offset in words else (0, SLVERR))
                continue
            value, strobe = int(host.rng.integers(1 << 32)), int(host.rng.integers(16))
            if offset == register("CONTROL").offset:
                value &= ~1
            mask = sum(0xFF << 8 * i for i in range(4) if strobe >> i & 1)
            allowed = offset in words and words[offset][0].access is not Access.READ_ONLY
            assert await host.write(offset, value, strobe) == (OKAY if allowed else SLVERR), hex(offset)
            if offset in writable:
                model[offset] = (model[offset] & ~mask | value & mask) & writable[offset]
        assert not host.starts

    play(steps)


@pytest.mark.parametrize("error", [0, int(ErrorCode.KEYS)])
def test_a_run(error: int) -> None:
    """Start, counters, status, interrupt; then another start clears them."""

    async def steps(host: Host) -> None:
        ctx, dut, rng = host.ctx, host.dut, host.rng
        assert await host.write(0x18, 0x89ABCDC0) == OKAY
        assert await host.write(0x1C, 0x4567) == OKAY
        assert await host.write(register("INTERRUPT_ENABLE").offset, 1 << bool(error)) == OKAY
        assert ctx.get(dut.program_address) == 0x456789ABCDC0
        for name in event_names():
            ctx.set(getattr(dut, name), 1)  # nothing counts before the start
        ctx.set(dut.read_accesses, 4)
        counts = dict.fromkeys(event_names(), 0)
        running = False
        n = 0

        async def tick() -> None:
            nonlocal running, n
            if ctx.get(dut.start):
                assert not running
                running, n = True, 0
            for name in counts:
                value = int(rng.integers(5 if name == "read_accesses" else 2))
                ctx.set(getattr(dut, name), value)
                counts[name] += value * running
            if running:
                assert ctx.get(dut.cycle) == n
            n += 1
            await ctx.tick()

        host.tick = tick  # type: ignore[method-assign]
        assert await host.write(0x08, 1) == OKAY
        assert running
        assert await host.value("STATUS") == 1
        assert await host.write(0x08, 1) == SLVERR
        for _ in range(40):
            await tick()
        assert not ctx.get(dut.interrupt)
        ctx.set(dut.done, 1)
        ctx.set(dut.error_code, error)
        ctx.set(dut.error_job, 0x12345678 if error else 0)
        await tick()
        cycles, running = n, False
        ctx.set(dut.done, 0)
        ctx.set(dut.error_code, 0)
        ctx.set(dut.error_job, 0)
        await tick()
        assert ctx.get(dut.interrupt) == 1
        assert await host.value("CYCLES") == cycles
        for name, expected in counts.items():
            assert await host.value(name.upper()) == expected > 0, name
        assert await host.value("STATUS") == (6 if error else 2)
        assert await host.value("ERROR") == (error | (0x12345678 << 32 if error else 0))
        assert await host.value("INTERRUPT_STATUS") == (3 if error else 1)
        assert await host.write(register("INTERRUPT_STATUS").offset, 1 << (not error)) == OKAY
        assert ctx.get(dut.interrupt) == 1  # the other event was cleared
        assert await host.write(register("INTERRUPT_STATUS").offset, 3) == OKAY
        await tick()
        assert not ctx.get(dut.interrupt)
        counts = dict.fromkeys(counts, 0)
        assert await host.write(0x08, 1) == OKAY
        assert await host.value("STATUS") == 1
        assert await host.value("ERROR") == 0
        assert await host.value("ROWS") < 50

    play(steps)


def test_high_words_belong_to_the_low_words_read_before() -> None:
    """A counter that carries between the two reads is still read whole."""
    dut = Registers(UNIT)
    offset = register("CYCLES").offset

    async def testbench(ctx: Any) -> None:
        host = Host(ctx, dut, np.random.default_rng(0))
        await host.write(0x08, 1)
        ctx.set(dut.cycle, (1 << 32) - 2)
        low, _ = await host.read(offset)
        for _ in range(4):
            await host.tick()
        assert (await host.read(offset + 4))[0] == (0 if low else 1)
        low, _ = await host.read(offset)
        assert low < 100
        assert (await host.read(offset + 4))[0] == 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()


def test_verilog() -> None:
    assert "module top" in verilog.convert(Registers(UNIT), name="top")
