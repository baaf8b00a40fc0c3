"""Crossbar: cycle by cycle against a model that states docs/hardware.md with lists; the AXI rules; errors."""

import random
from dataclasses import dataclass, field

import pytest

pytest.importorskip("amaranth", reason="RTL: pip install 'accel-codesign[rtl]'")

from amaranth.back import rtlil
from amaranth.hdl import Const, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from accel.arch import load_arch
from accel.units.engine import EngineUnit
from rtl.crossbar import Crossbar
from rtl.window_fifo import WindowFifo

SLICE_ITEMS = 2  # of a register slice


def ports_of(component: wiring.Component) -> dict:
    """Ports for Amaranth 0.5.10's converter, which by itself stumbles over the constant ready of helper streams."""
    values = {"__".join(map(str, path)): Value.cast(value) for path, _, value in component.signature.flatten(component)}
    return {name: (value, None) for name, value in values.items() if not isinstance(value, Const)}


@dataclass
class Model:
    """Registered state at the start of a cycle. An access is (channel, address, atom); address is unique."""

    lanes: int
    channels: int
    window: int
    outstanding: int
    fifos: list[list[tuple]] = field(init=False)
    slices: list[list[int]] = field(init=False)
    tags: list[list[tuple]] = field(init=False)
    received: list[list[tuple]] = field(init=False)
    under_way: list[int] = field(init=False)
    arrived: list[tuple | None] = field(init=False)

    def __post_init__(self) -> None:
        self.fifos = [[] for _ in range(self.lanes)]
        self.slices = [[] for _ in range(self.channels)]
        self.tags = [[] for _ in range(self.channels)]
        self.received = [[] for _ in range(self.channels)]
        self.under_way = [0] * self.channels
        self.arrived = [None] * self.lanes

    def grants(self, t: int, queues: list[list], target_of: dict, free: set[int]) -> dict[int, tuple[int, int]]:
        """Asker to (target, place in its queue), phase by phase."""
        result: dict[int, tuple[int, int]] = {}
        for place in range(self.window):
            asked: dict[int, list[int]] = {}
            for turn in range(len(queues)):
                asker = (t + turn) % len(queues)
                if asker not in result and len(queues[asker]) > place:
                    asked.setdefault(target_of[queues[asker][place][0]], []).append(asker)
            for target, askers in asked.items():
                if target in free:
                    free.remove(target)
                    result[askers[0]] = (target, place)
        return result

    def cycle(self, t: int, pushes: list, arready: list, answers: list) -> dict:
        """What is seen in cycle t; then the state after it. ``answers``: per channel (address, data) or None."""
        free = {
            c for c in range(self.channels)
            if len(self.slices[c]) < SLICE_ITEMS and self.under_way[c] < self.outstanding
        }  # fmt: skip
        out = self.grants(t, self.fifos, {a[0]: a[2] for q in self.fifos for a in q}, free)
        lane_of = {entry[0]: entry[1] for queue in self.received for entry in queue}
        back = self.grants(t, self.received, lane_of, set(range(self.lanes)))
        rready = [len(self.received[c]) - (c in back) < self.window for c in range(self.channels)]
        seen = {
            "level": [len(queue) for queue in self.fifos],
            "ar": [queue[0] if queue else None for queue in self.slices],
            "rready": rready,
            "arrived": list(self.arrived),
            "idle": not any(self.fifos) and not any(self.under_way),
            "granted": bool(out),
        }
        for c in range(self.channels):
            if arready[c] and self.slices[c]:
                self.slices[c].pop(0)
        self.arrived = [None] * self.lanes
        for c, (lane, place) in back.items():
            address, _, atom, data = self.received[c].pop(place)
            self.arrived[lane] = (atom, data)
            self.under_way[c] -= 1
        for c in range(self.channels):
            if answers[c] is not None and rready[c]:
                address, lane, atom = self.tags[c].pop(0)
                assert address == answers[c][0]
                self.received[c].append((address, lane, atom, answers[c][1]))
        for lane, (c, place) in out.items():
            address, atom, _ = self.fifos[lane].pop(place)
            self.slices[c].append(address)
            self.tags[c].append((address, lane, atom))
            self.under_way[c] += 1
        for lane, push in enumerate(pushes):
            if push is not None:
                self.fifos[lane].append(push)
        return seen


def small_unit(channels: int, window: int, depth: int = 4, outstanding: int = 8, lanes: int = 4) -> EngineUnit:
    return EngineUnit.of(
        load_arch(
            "tiny",
            {
                "memory.channels": channels,
                "fetcher.lanes": lanes,
                "fetcher.window": window,
                "fetcher.address_fifo_depth": depth,
                "fetcher.outstanding_per_channel": outstanding,
                "softmax.lanes": min(2, lanes),
            },
        )
    )


def play(unit: EngineUnit, cycles: int, seed: str, push_rate: float, ready_rate: float, delay: int) -> Crossbar:
    """Random traffic; every output of every cycle is what the model says. Afterwards everything drains."""
    fetcher, channels = unit.arch.fetcher, unit.arch.memory_spec.channels
    lanes, rng = fetcher.lanes, random.Random(seed)
    dut = Crossbar(unit)
    model = Model(lanes, channels, fetcher.window, fetcher.outstanding_per_channel)
    memory: list[list[tuple[int, int]]] = [[] for _ in range(channels)]  # (earliest cycle, address), in order
    offered: list[tuple | None] = [None] * channels
    arrivals = 0

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        nonlocal arrivals
        number = 0
        for t in range(cycles):
            pushes: list[tuple | None] = [None] * lanes
            for lane in range(lanes):
                push = dut.push[lane]
                going = t < cycles * 2 // 3 and len(model.fifos[lane]) < fetcher.address_fifo_depth
                ctx.set(push.valid, going := going and rng.random() < push_rate)
                if going:
                    number += 1
                    address, atom, channel = number << 5, rng.randrange(64), rng.randrange(channels)
                    pushes[lane] = (address, atom, channel)
                    ctx.set(push.payload.address, address)
                    ctx.set(push.payload.tag.atom, atom)
                    ctx.set(push.payload.channel, channel)
            arready = [rng.random() < ready_rate for _ in range(channels)]
            for c, port in enumerate(dut.read):
                ctx.set(port.arready, arready[c])
                if offered[c] is None and memory[c] and memory[c][0][0] <= t:
                    address = memory[c].pop(0)[1]
                    offered[c] = (address, address * 0x9E3779B97F4A7C15 % (1 << 256))
                answer = offered[c]
                ctx.set(port.rvalid, answer is not None)
                ctx.set(port.rdata, answer[1] if answer else rng.getrandbits(256))
            ctx.set(dut.cycle, t % (1 << 16))
            wanted = model.cycle(t, pushes, arready, offered)
            ar = [ctx.get(port.araddr) if ctx.get(port.arvalid) else None for port in dut.read]
            rready = [bool(ctx.get(port.rready)) for port in dut.read]
            arrived = [
                (ctx.get(lane.payload.tag.atom), ctx.get(lane.payload.data)) if ctx.get(lane.valid) else None
                for lane in dut.arrived
            ]
            seen = {
                "level": [ctx.get(level) for level in dut.level],
                "ar": ar,
                "rready": rready,
                "arrived": arrived,
                "idle": bool(ctx.get(dut.idle)),
                "granted": bool(ctx.get(dut.granted_cycles)),
            }
            assert seen == wanted, t
            arrivals += sum(access is not None for access in arrived)
            for c in range(channels):
                if arready[c] and (taken := ar[c]) is not None:
                    memory[c].append((t + 1 + rng.randrange(delay), taken))
                if rready[c]:
                    offered[c] = None
            await ctx.tick()
        assert arrivals == number > 0
        assert ctx.get(dut.idle)

    run(dut, testbench)
    return dut


def run(dut: wiring.Component, testbench: object) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)  # type: ignore[arg-type]
    simulator.run()


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_every_cycle_is_the_models(channels: int, window: int) -> None:
    seed = f"crossbar {channels} {window}"
    play(small_unit(channels, window, depth=5), 180, seed, 0.5 * channels / 4, 0.9, 8)


@pytest.mark.parametrize(
    ("channels", "window", "depth", "outstanding", "lanes", "push", "ready", "delay"),
    [
        pytest.param(2, 2, 3, 3, 4, 0.9, 0.3, 1, id="slow ports: the slices fill"),
        pytest.param(2, 2, 2, 1, 4, 0.9, 1.0, 4, id="one access under way"),
        pytest.param(4, 3, 7, 5, 4, 0.9, 1.0, 12, id="window of three, limit of outstanding accesses"),
        pytest.param(4, 2, 8, 8, 2, 1.0, 1.0, 1, id="more channels than lanes: the receive windows fill"),
        pytest.param(1, 2, 4, 8, 1, 1.0, 1.0, 3, id="one lane, one channel"),
    ],
)
def test_limits(
    channels: int, window: int, depth: int, outstanding: int, lanes: int, push: float, ready: float, delay: int
) -> None:
    unit = small_unit(channels, window, depth, outstanding, lanes)
    play(unit, 360 if outstanding == 1 else 180, f"limits {channels} {window} {depth}", push, ready, delay)


@pytest.mark.parametrize(("depth", "window"), [(1, 1), (2, 1), (2, 2), (3, 1), (6, 2), (5, 3)])
def test_window_fifo_keeps_the_order_of_what_stays(depth: int, window: int) -> None:
    dut, rng, held = WindowFifo(8, depth, window), random.Random(f"{depth} {window}"), list[int]()

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        for t in range(150):
            assert ctx.get(dut.level) == len(held)
            assert [ctx.get(head) for head in dut.heads][: len(held)] == held[:window]
            reach = min(window, len(held))
            # Long fills and long drains, so that what is behind the window wraps around both full and empty.
            place = rng.randrange(reach) if reach and rng.random() < (0.9 if t // 20 % 2 else 0.4) else None
            push = (len(held) < depth or place is not None) and rng.random() < (0.4 if t // 20 % 2 else 0.9)
            item = rng.getrandbits(8)
            ctx.set(dut.take, 0 if place is None else 1 << place)
            ctx.set(dut.push.valid, push)
            ctx.set(dut.push.payload, item)
            if place is not None:
                held.pop(place)
            if push:
                held.append(item)
            await ctx.tick()

    run(dut, testbench)


def test_ar_is_one_whole_beat_and_errors_stay() -> None:
    dut = Crossbar(small_unit(1, 1))

    async def testbench(ctx):  # type: ignore[no-untyped-def]
        port = dut.read[0]
        ctx.set(dut.push[2].payload.address, 0xABCDEF012340)
        ctx.set(dut.push[2].payload.tag.index, 3)
        ctx.set(dut.push[2].valid, 1)
        await ctx.tick()
        ctx.set(dut.push[2].valid, 0)
        await ctx.tick()
        assert ctx.get(port.arvalid)
        assert ctx.get(port.araddr) == 0xABCDEF012340
        assert (ctx.get(port.arlen), 1 << ctx.get(port.arsize), ctx.get(port.arburst)) == (0, 32, 1)
        ctx.set(port.arready, 1)
        await ctx.tick()
        assert not ctx.get(dut.read_error)
        ctx.set(port.rvalid, 1)
        ctx.set(port.rresp, 2)
        await ctx.tick()
        ctx.set(port.rvalid, 0)
        ctx.set(port.rresp, 0)
        assert ctx.get(dut.read_error)
        assert not ctx.get(dut.arrived[2].valid)
        await ctx.tick()
        assert ctx.get(dut.arrived[2].valid)
        assert ctx.get(dut.arrived[2].payload.tag.index) == 3
        await ctx.tick()
        assert not ctx.get(dut.arrived[2].valid)
        assert ctx.get(dut.read_error)

    run(dut, testbench)


def test_converts() -> None:
    dut = Crossbar(EngineUnit.of(load_arch("tiny")))
    assert "read__0__araddr" in rtlil.convert(dut, ports=ports_of(dut))
