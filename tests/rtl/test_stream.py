"""Skid buffer and queue: latency, rate, capacity. That they lose nothing in any traffic is proved in tests/formal."""

from collections.abc import Callable

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.lib.wiring import Component
from amaranth.sim import Simulator

from rtl.stream import Queue, SkidBuffer

CYCLES = 6


def play(component: Component, accept: bool) -> tuple[list[int], list[int]]:
    """Offer an item in every cycle; return i.ready and o.valid of each."""
    ready: list[int] = []
    valid: list[int] = []

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        ctx.set(component.i.valid, 1)
        ctx.set(component.o.ready, accept)
        for _ in range(CYCLES):
            ready.append(ctx.get(component.i.ready))
            valid.append(ctx.get(component.o.valid))
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return ready, valid


BUFFERS = [
    pytest.param(lambda: SkidBuffer(8), 2, id="skid buffer"),
    pytest.param(lambda: Queue(8, 2), 2, id="queue of 2"),
    pytest.param(lambda: Queue(8, 3), 3, id="queue of 3"),
]


@pytest.mark.parametrize(("build", "capacity"), BUFFERS)
def test_one_item_per_cycle_after_one_cycle(build: Callable[[], Component], capacity: int) -> None:
    assert play(build(), accept=True) == ([1] * CYCLES, [0] + [1] * (CYCLES - 1))


@pytest.mark.parametrize(("build", "capacity"), BUFFERS)
def test_capacity(build: Callable[[], Component], capacity: int) -> None:
    ready, _ = play(build(), accept=False)
    assert ready == [1] * capacity + [0] * (CYCLES - capacity)


def test_queue_of_one_alternates() -> None:
    assert play(Queue(8, 1), accept=True)[0] == [1, 0] * (CYCLES // 2)
