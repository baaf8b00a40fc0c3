"""Bench of the sequencer: a memory with latency, units and a state that answer at random, all recorded by cycle."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from accel.units.engine import EngineUnit
from accel.units.sequencer import StateOperation
from rtl.sequencer import Sequencer


@dataclass
class Memory:
    """Answers bursts in order. ``bad``: beat addresses that are answered with SLVERR. ``cut``: burst addresses whose
    RLAST comes a beat early. ``hurry``: no random delays.
    """

    base: int
    contents: bytes
    rng: np.random.Generator
    hurry: bool = False
    bad: frozenset[int] = frozenset()
    cut: frozenset[int] = frozenset()
    asked: list[tuple[int, int, int]] = field(default_factory=list)  # cycle, address, beats
    offered: list[int] = field(default_factory=list)  # first cycle of each AR
    beats: list[tuple[int, int, bool]] = field(default_factory=list)  # cycle taken, address, last
    _queue: list[tuple[int, int, bool]] = field(default_factory=list)  # earliest cycle, address, last
    _pending: tuple[int, int] | None = None
    _ready: bool = False

    def drive(self, ctx: Any, bus: Any, t: int) -> None:
        self._ready = self.hurry or bool(self.rng.random() < 0.6)
        ctx.set(bus.arready, self._ready)
        go = bool(self._queue) and self._queue[0][0] <= t and (self.hurry or self.rng.random() < 0.8)
        ctx.set(bus.rvalid, go)
        if go:
            _, address, last = self._queue.pop(0)
            at = address - self.base
            ctx.set(bus.rdata, int.from_bytes(self.contents[at : at + 32].ljust(32, b"\xa5"), "little"))
            ctx.set(bus.rresp, 2 if address in self.bad else 0)
            ctx.set(bus.rlast, last)
            self.beats.append((t, address, last))

    def look(self, ctx: Any, bus: Any, t: int) -> None:
        assert ctx.get(bus.rready)
        if not ctx.get(bus.arvalid):
            assert self._pending is None, "an AR was taken back"
            return
        address, beats = ctx.get(bus.araddr), ctx.get(bus.arlen) + 1
        assert (ctx.get(bus.arsize), ctx.get(bus.arburst)) == (5, 1)
        assert address // 4096 == (address + 32 * beats - 1) // 4096, "a burst across 4 KiB"
        if self._pending is None:
            self.offered.append(t)
        assert self._pending in (None, (address, beats)), "an AR changed while offered"
        self._pending = None if self._ready else (address, beats)
        if self._ready:
            self.asked.append((t, address, beats))
            delay = 3 if self.hurry else int(self.rng.integers(3, 30))
            sent = beats - 1 if address in self.cut else beats
            self._queue += [(t + delay, address + 32 * i, i == sent - 1) for i in range(sent)]


@dataclass
class Bench:
    """Runs a program; what happened, by cycle (cycle 0: ``start``)."""

    unit: EngineUnit
    memory: Memory
    rng: np.random.Generator
    slow_units: bool = True
    memory_error_at: int = -1
    dispatches: list[tuple[int, Any, bool]] = field(default_factory=list)  # cycle, job, format_change
    formats: list[Any] = field(default_factory=list)  # in the cycle after each dispatch
    retired: list[int] = field(default_factory=list)
    accumulated: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    ops: list[tuple[int, int, Any]] = field(default_factory=list)  # taken, done, payload
    op_ready: list[bool] = field(default_factory=list)
    all_tokens: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    idle: list[bool] = field(default_factory=list)
    done: tuple[int, int, int] | None = None  # cycle, code, job
    state: "State | None" = None

    def run(self, *following: "Bench", cycles: int = 6000) -> None:
        """This program, and those of other benches after it, without a reset between them."""
        dut = Sequencer(self.unit)
        simulator = Simulator(dut)
        simulator.add_clock(1e-9)

        async def testbench(ctx: Any) -> None:
            for bench in (self, *following):
                await bench._play(ctx, dut, cycles)

        simulator.add_testbench(testbench)
        simulator.run()

    def _pause(self, most: int) -> int:
        return int(self.rng.integers(1, most)) if self.slow_units else 1

    async def _play(self, ctx: Any, dut: Any, cycles: int) -> None:
        state = self.state = State(self.unit.arch.max_heads)
        events: dict[int, list[tuple[str, Any]]] = {}
        last = {"added": 0, "written": 0, "retired": 0}
        new_format = False
        for t in range(cycles):
            ctx.set(dut.start, t == 0)
            ctx.set(dut.program_address, self.memory.base if t == 0 else 0)
            ctx.set(dut.memory_error, t == self.memory_error_at)
            now = events.pop(t, [])
            names = [name for name, _ in now]
            for name, port, record in (
                ("added", dut.row_accumulated, self.accumulated),
                ("written", dut.row_written, self.written),
                ("retired", dut.retired, self.retired),
            ):
                ctx.set(port, name in names)
                record += [t] * (name in names)
            ctx.set(dut.op_done, "op" in names)
            for name, payload in now:
                if name == "state":
                    state.carry_out(payload)
            ctx.set(dut.live_heads, state.heads)
            ctx.set(dut.list_length, state.length)
            ctx.set(dut.version, state.version)
            ready = bool(self.rng.random() < 0.7)
            idle = bool(self.rng.random() < 0.5)
            ctx.set(dut.op.ready, ready)
            ctx.set(dut.write_idle, idle)
            self.op_ready.append(ready)
            self.idle.append(idle)
            self.memory.drive(ctx, dut.bus, t)

            self.memory.look(ctx, dut.bus, t)
            self.live.append(ctx.get(dut.live))
            if new_format:
                self.formats.append(ctx.get(dut.format))
            new_format = bool(ctx.get(dut.dispatch.valid))
            if ctx.get(dut.dispatch.valid):
                job = ctx.get(dut.dispatch.payload)
                self.dispatches.append((t, job, bool(ctx.get(dut.format_change))))
                for _ in range(job.rows):
                    for name, delay in (("added", 8), ("written", 14))[job.state :]:  # tokens add nothing to scores
                        last[name] = max(last[name], t) + self._pause(delay)
                        events.setdefault(last[name], []).append((name, None))
                last["retired"] = max(last["retired"], last["written"], last["added"]) + 1
                events.setdefault(last["retired"], []).append(("retired", None))
            else:
                assert not ctx.get(dut.format_change)
            if ctx.get(dut.op.valid) and ready:
                op = ctx.get(dut.op.payload)
                until = t + int(self.rng.integers(1, 9))
                self.ops.append((t, until, op))
                events.setdefault(until, []).append(("op", None))
                events.setdefault(until + 1, []).append(("state", op))
            if ctx.get(dut.all_tokens):
                self.all_tokens.append(t)
            if ctx.get(dut.done):
                assert self.done is None
                self.done = (t, ctx.get(dut.error_code), ctx.get(dut.error_job))
            await ctx.tick()
            if self.done and t > self.done[0] + 8:
                break
        assert self.done is not None, f"hangs; dispatched {len(self.dispatches)}, operations {len(self.ops)}"
        assert not events


class State:
    """What the state tells the sequencer: heads alive, stored list. Which heads survive is made up."""

    def __init__(self, max_heads: int) -> None:
        self.max_heads = max_heads
        self.heads = (1 << max_heads) - 1
        self.length, self.version = 0, 0

    def carry_out(self, op: Any) -> None:
        if op.op == StateOperation.RESTART:
            self.heads = (1 << self.max_heads) - 1
        elif op.op == StateOperation.PRUNE_TOKENS:
            self.length = min(op.keep, op.live if op.restart else self.length)
            self.version ^= 1
        elif op.op == StateOperation.PRUNE_HEADS:
            self.heads = survivors(op.keep, self.max_heads)


def survivors(keep: int, max_heads: int) -> int:
    """Heads left: the upper ``keep``, or the last but one. So an odd number cuts a pair in two."""
    keep = min(keep, max_heads)
    return 1 << (max_heads - 2) if keep == 1 else ((1 << keep) - 1) << (max_heads - keep)
