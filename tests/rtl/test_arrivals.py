"""Arrivals: an entry is passed in the first cycle in which it can be known complete, in order, never before."""

import random
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import verilog
from amaranth.hdl import Const, ResetInserter, Signal, Value
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.arrivals import Arrivals
from rtl.job import sequence_bits

UNIT = EngineUnit.of(load_arch("tiny"))


def run(dut: Arrivals, bench: Callable[[Any], Any]) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def reset(ctx: Any, dut: Arrivals) -> None:
    cycles = 0
    while not ctx.get(dut.ready):
        await ctx.tick()
        cycles += 1
    assert cycles == dut.entries


class Source:
    """Accesses of entry after entry: random numbers per lane (of some lanes none), returning out of order."""

    def __init__(self, rng: random.Random, lanes: int, most: int) -> None:
        self.rng, self.lanes, self.most = rng, lanes, most
        self.generating, self.first = 0, 0  # running numbers: of the entry that is generated, of that at index 0
        self.under_way: list[list[tuple[int, int]]] = [[] for _ in range(lanes)]  # running number, earliest return
        self._draw()

    def _draw(self) -> None:
        self.untouched = True
        self.left = [self.rng.randrange(3 * self.most) if self.rng.random() < 0.8 else 0 for _ in range(self.lanes)]

    def generate(self, lane: int, cycle: int) -> int | None:
        """Running number of the entry that this lane generates an access of, if any."""
        held = sum(number == self.generating for number, _ in self.under_way[lane])
        if not self.left[lane] or held == self.most or self.rng.random() < 0.3:
            return None
        self.left[lane] -= 1
        self.untouched = False
        self.under_way[lane].append((self.generating, cycle + 3))
        return self.generating

    def arrive(self, lane: int, cycle: int, share: float) -> int | None:
        back = [item for item in self.under_way[lane] if item[1] <= cycle]
        if not back or self.rng.random() > share:
            return None
        item = self.rng.choice(back)
        self.under_way[lane].remove(item)
        return item[0]

    def next_entry(self) -> None:
        if not any(self.left):
            self.generating += 1
            self._draw()


@pytest.mark.parametrize(
    ("entries", "lanes", "most", "rings"),
    [
        pytest.param(6, 3, 3, (6, 4), id="ring of 6, then of 4"),
        pytest.param(2, 1, 5, (2,), id="one lane, two slots"),
        pytest.param(1, 2, 4, (1,), id="one slot"),
        pytest.param(16, 4, 1, (16, 5), id="one access of a lane at a time"),
    ],
)
def test_passes_in_order_as_soon_as_complete(entries: int, lanes: int, most: int, rings: tuple[int, ...]) -> None:
    """The rule of docs/hardware.md: complete at t if generation is complete, and in all lanes as many accesses have
    arrived as were generated, by what happened before t; ``passed`` counts it at t + 1.
    """
    dut = Arrivals(UNIT, entries, lanes, most)
    rng = random.Random(entries)
    source = Source(rng, lanes, most)
    modulus = 1 << sequence_bits(UNIT)

    async def bench(ctx: Any) -> None:
        await reset(ctx, dut)
        passed, limit = 0, 0
        open_accesses: dict[int, int] = {}
        for ring in rings:
            ctx.set(dut.ring, ring)
            cycle = 0
            while cycle < 900 or passed < source.generating or not source.untouched:
                # At the end no entry is left half generated.
                room = source.generating - passed < ring and not (cycle >= 900 and source.untouched)
                complete = passed < limit and not open_accesses.get(passed, 0)
                share = 0.15 if cycle // 100 % 2 else 0.9
                for lane in range(lanes):
                    new = source.generate(lane, cycle) if room else None
                    back = source.arrive(lane, cycle, share)
                    for port, number, change in ((dut.generated, new, 1), (dut.arrived, back, -1)):
                        index = rng.randrange(entries) if number is None else (number - source.first) % ring
                        ctx.set(port[lane].valid, number is not None)
                        ctx.set(port[lane].payload.index, index)
                        if number is not None:
                            open_accesses[number] = open_accesses.get(number, 0) + change
                ctx.set(dut.limit, limit % modulus)
                await ctx.tick()
                passed += complete
                assert ctx.get(dut.passed) == passed % modulus, f"ring {ring}, cycle {cycle}"
                if room:
                    source.next_entry()
                if limit < source.generating and rng.random() < 0.8:  # it may lag
                    limit += 1
                cycle += 1
            ctx.set(dut.restart, 1)
            await ctx.tick()
            ctx.set(dut.restart, 0)
            source.first = source.generating
            assert passed > 20

    run(dut, bench)


def test_one_entry_per_cycle_and_running_numbers_wrap() -> None:
    """Entries without accesses: passed one per cycle, through all running numbers, however far the limit is ahead."""
    dut = Arrivals(UNIT, 4, 1, 1)
    modulus = 1 << sequence_bits(UNIT)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.ring, 3)
        await reset(ctx, dut)
        for number in range(2 * modulus + 5):
            assert ctx.get(dut.passed) == number % modulus
            ctx.set(dut.limit, (number + 1 + number % 3) % modulus)
            await ctx.tick()

    run(dut, bench)


def test_reset_makes_counts_equal() -> None:
    """Accesses that were under way at a reset are forgotten."""
    dut = Arrivals(UNIT, 4, 1, 1)
    restart = Signal()
    simulator = Simulator(ResetInserter(restart)(dut))
    simulator.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.ring, 4)
        await reset(ctx, dut)
        for index in range(4):
            ctx.set(dut.generated[0].valid, 1)
            ctx.set(dut.generated[0].payload.index, index)
            await ctx.tick()
        ctx.set(dut.generated[0].valid, 0)
        ctx.set(restart, 1)
        await ctx.tick()
        ctx.set(restart, 0)
        await reset(ctx, dut)
        ctx.set(dut.limit, 4)
        await ctx.tick().repeat(4)
        assert ctx.get(dut.passed) == 4

    simulator.add_testbench(bench)
    simulator.run()


def test_verilog() -> None:
    dut = Arrivals(UNIT, UNIT.k_ring_lines(8), UNIT.arch.fetcher.lanes, 3)
    ports = [Value.cast(value) for _, _, value in dut.signature.flatten(dut)]
    assert "module top" in verilog.convert(dut, ports=[port for port in ports if not isinstance(port, Const)])
