"""cocotb side of a run of the engine: clock, reset, registers, memory. Runs inside the simulator.

What to do is in the JSON file named by ACCEL_BENCH_WORK (see ``harness.run_engine``), what happened goes to the one
named by ACCEL_BENCH_RECORD.

It wakes once per cycle, at the falling edge: there it reads the engine's outputs of this cycle and sets its inputs of
this cycle, which the rising edge takes over. That is sound because AXI allows no combinational path from an input to an
output, and it makes a cycle cost little more than the signals that change.
"""

import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import Immediate
from cocotb.triggers import FallingEdge, RisingEdge

from accel.arch import Arch
from accel.lower.image import Memory
from accel.registers import COUNTERS, WORD_BYTES, register
from accel.units.engine import PROGRAM_BEAT_BYTES
from accel.verify import ports
from accel.verify.memory import NONE, DramModel, MemoryModel, ProgramModel, RandomModel

RESET_CYCLES = 2
PROBE_LAG_CYCLES = 1  # of rtl.probes
REGISTER_TIMEOUT_CYCLES = 20_000  # the engine clears its memories first after a reset


class Input:
    """An input of the engine: set only when it changes."""

    def __init__(self, dut: Any, name: str, value: int = 0) -> None:
        self._handle, self._value = getattr(dut, name), value
        self._handle.set(Immediate(value))

    def set(self, value: int) -> None:
        if value != self._value:
            self._value = value
            self._handle.set(Immediate(value))


class Output:
    """An output of the engine."""

    def __init__(self, dut: Any, name: str) -> None:
        self._handle = getattr(dut, name)

    def get(self) -> int:
        return int(self._handle.value)


class RegisterDriver:
    """Writes and reads registers, one at a time; calls begin and end at a falling edge."""

    def __init__(self, dut: Any) -> None:
        self._clock = getattr(dut, ports.CLOCK)
        inputs = ("araddr", "arvalid", "awaddr", "awvalid", "wdata", "wvalid")
        self._in = {name: Input(dut, ports.registers(name)) for name in inputs}
        outputs = ("awready", "wready", "bvalid", "bresp", "arready", "rvalid", "rdata", "rresp")
        self._out = {name: Output(dut, ports.registers(name)) for name in outputs}
        for name, value in (("wstrb", 0xF), ("bready", 1), ("rready", 1)):
            Input(dut, ports.registers(name), value)

    async def post(self, address: int, word: int) -> None:
        """Write without waiting for the answer; returns in the cycle after the one in which the write was taken."""
        self._in["awaddr"].set(address)
        self._in["wdata"].set(word)
        await self._take("awvalid", "wvalid")

    async def write(self, address: int, *words: int) -> None:
        """Write words from ``address`` on."""
        for i, word in enumerate(words):
            await self.post(address + i * WORD_BYTES, word)
            await self._answer("b")

    async def read(self, address: int, words: int = 1) -> int:
        """One number of so many words, lowest first."""
        number = 0
        for i in range(words):
            self._in["araddr"].set(address + i * WORD_BYTES)
            await self._take("arvalid")
            number |= await self._answer("r") << 8 * WORD_BYTES * i
        return number

    async def _take(self, *valids: str) -> None:
        waiting = list(valids)
        for valid in waiting:
            self._in[valid].set(1)
        for _ in range(REGISTER_TIMEOUT_CYCLES):
            taken = [valid for valid in waiting if self._out[valid.replace("valid", "ready")].get()]
            await FallingEdge(self._clock)
            for valid in taken:
                self._in[valid].set(0)
                waiting.remove(valid)
            if not waiting:
                return
        raise RuntimeError(f"register port: {' and '.join(waiting)} refused for {REGISTER_TIMEOUT_CYCLES} cycles")

    async def _answer(self, channel: str) -> int:
        for _ in range(REGISTER_TIMEOUT_CYCLES):
            valid, response = (self._out[channel + name].get() for name in ("valid", "resp"))
            data = self._out["rdata"].get()
            await FallingEdge(self._clock)
            if valid and response:
                raise RuntimeError(f"register port: answered with {channel}resp = {response}")
            if valid:
                return data
        raise RuntimeError(f"register port: no {channel}valid for {REGISTER_TIMEOUT_CYCLES} cycles")


class ReadPort:
    """One channel's AR and R, single beats."""

    def __init__(self, dut: Any, channel: int) -> None:
        def name(signal: str) -> str:
            return ports.read(channel, signal)

        self.arvalid, self.araddr, self.rready = (Output(dut, name(s)) for s in ("arvalid", "araddr", "rready"))
        self.arready, self.rvalid, self.rdata = (Input(dut, name(s)) for s in ("arready", "rvalid", "rdata"))
        _hold(dut, name, rlast=1, rresp=0, rid=0)
        self.under_way: deque[int] = deque()  # addresses taken whose data have not been given


class WritePort:
    """AW, W and B, single beats."""

    def __init__(self, dut: Any) -> None:
        outputs = ("awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bready")
        self.awvalid, self.awaddr, self.wvalid, self.wdata, self.wstrb, self.bready = (
            Output(dut, ports.write(s)) for s in outputs
        )
        self.awready, self.wready, self.bvalid = (Input(dut, ports.write(s)) for s in ("awready", "wready", "bvalid"))
        _hold(dut, ports.write, bresp=0, bid=0)
        self.unanswered = 0


class ProgramPort:
    """AR and R, bursts."""

    def __init__(self, dut: Any) -> None:
        self.arvalid, self.araddr, self.arlen, self.rready = (
            Output(dut, ports.program(s)) for s in ("arvalid", "araddr", "arlen", "rready")
        )
        self.rvalid, self.rdata, self.rlast = (Input(dut, ports.program(s)) for s in ("rvalid", "rdata", "rlast"))
        _hold(dut, ports.program, arready=1, rresp=0, rid=0)


def _hold(dut: Any, name: Any, **values: int) -> None:
    """Set inputs that never change; the engine may leave out those that it does not look at."""
    for signal, value in values.items():
        if hasattr(dut, name(signal)):
            Input(dut, name(signal), value)


class Probes:
    """What passes the engine's boundaries, see ``rtl.probes``.

    ``fields``: of each probe, in the order of the bits of ``probes__active``. ``expected``: per probe [cycle, content],
    in order of cycle, shown at the inputs next to what is seen; contents have None where nothing is expected.
    """

    def __init__(self, dut: Any, fields: dict[str, list[str]], expected: dict[str, list[tuple[int, list]]]) -> None:
        self._active = Output(dut, ports.probe("active"))
        self._ports = [(name, [Output(dut, ports.probe(name, field)) for field in of]) for name, of in fields.items()]
        self.transfers: dict[str, list[tuple[int, list[int]]]] = {name: [] for name in fields}
        self._expected = {name: deque(transfers) for name, transfers in expected.items()}
        self._valid = {name: Input(dut, ports.expected(name, "valid")) for name in expected}
        self._shown = {name: [Input(dut, ports.expected(name, field)) for field in fields[name]] for name in expected}

    def cycle(self, t: int) -> None:
        """See and show what happened at ``t``."""
        active = self._active.get()
        while active:
            low = active & -active
            name, fields = self._ports[low.bit_length() - 1]
            self.transfers[name].append((t, [field.get() for field in fields]))
            active ^= low
        for name, waiting in self._expected.items():
            now = bool(waiting) and waiting[0][0] == t
            self._valid[name].set(now)
            if now:
                for field, value in zip(self._shown[name], waiting.popleft()[1], strict=True):
                    field.set(value)


class Bench:
    """Everything around the engine during one run, from reset if the work says so."""

    def __init__(self, dut: Any, arch: Arch, work: dict[str, Any]) -> None:
        self._dut, self._work = dut, work
        self._clock = getattr(dut, ports.CLOCK)
        self._atom_bytes = arch.memory_spec.access_bytes
        self._memory = Memory.load(Path(work["memory"]))
        self._model: MemoryModel = DramModel(arch)
        self._program_model = ProgramModel(PROGRAM_BEAT_BYTES)
        if work["mode"] == "random":
            self._model = RandomModel(arch, work["seed"])
            self._program_model = ProgramModel(PROGRAM_BEAT_BYTES, np.random.default_rng(work["seed"]))
        self._reads = [ReadPort(dut, channel) for channel in range(arch.memory_spec.channels)]
        self._write, self._program = WritePort(dut), ProgramPort(dut)
        self._registers = RegisterDriver(dut)
        self._interrupt = Output(dut, ports.INTERRUPT)
        self._events = [(name, Output(dut, name)) for name in work["events"]]
        self._writes: list[tuple[int, int, int, int]] = []
        self._probes = Probes(dut, work["probes"], work.get("expected", {})) if work.get("probes") else None
        self._taken: list[tuple[int, int, int]] = []  # cycle, channel, address
        self._given: list[tuple[int, int]] = []  # cycle, channel

    async def run(self) -> dict[str, Any]:
        registers, address = self._registers, self._work["program_address"]
        if self._work.get("reset", True):
            reset = Input(self._dut, ports.RESET, 1)
            for _ in range(RESET_CYCLES):
                await FallingEdge(self._clock)
            reset.set(0)
            await FallingEdge(self._clock)
        else:
            await registers.write(register("INTERRUPT_STATUS").offset, 3)
        await registers.write(register("PROGRAM_ADDRESS").offset, address & 0xFFFF_FFFF, address >> 32)
        await registers.write(register("INTERRUPT_ENABLE").offset, 1)
        await registers.post(register("CONTROL").offset, 1)

        t, events, begin = 1 - ports.START_CYCLES, [], time.perf_counter()
        while not (finished := bool(self._interrupt.get())) and t < self._work["max_cycles"]:
            self._cycle(t)
            if self._probes:
                self._probes.cycle(t - PROBE_LAG_CYCLES)
            if self._events:  # only here, as they may depend on this cycle's inputs
                await RisingEdge(self._clock)
                events += [(name, t) for name, signal in self._events if signal.get()]
            await FallingEdge(self._clock)
            t += 1
        record: dict[str, Any] = {
            "finished": finished, "writes": self._writes, "events": events, "counters": {}, "error": [0, 0],
            "seconds": time.perf_counter() - begin,
            "taken": self._taken, "given": self._given, "transfers": self._probes.transfers if self._probes else {},
        }  # fmt: skip
        if finished:
            code = await registers.read(register("ERROR").offset)
            record["error"] = [code, await registers.read(register("ERROR").offset + WORD_BYTES)]
            record["counters"] = {name: await registers.read(register(name.upper()).offset, 2) for name, _ in COUNTERS}
        return record

    def _cycle(self, t: int) -> None:
        """Read the outputs of cycle ``t`` and set its inputs."""
        ready, done = self._model.ready, self._model.done
        reads, given = {}, 0
        for channel, port in enumerate(self._reads):
            taking, giving = ready >> channel & 1, done >> channel & 1
            port.arready.set(taking)
            port.rvalid.set(giving)
            if giving:
                data = self._memory.read(port.under_way[0], self._atom_bytes)
                port.rdata.set(int.from_bytes(data, "little"))
                if port.rready.get():
                    given |= 1 << channel
                    port.under_way.popleft()
                    if self._probes:
                        self._given.append((t, channel))
            if taking and port.arvalid.get():
                reads[channel] = address = port.araddr.get()
                port.under_way.append(address)
                if self._probes:
                    self._taken.append((t, channel, address))
        write = self._write
        offered = write.awaddr.get() if write.awvalid.get() and write.wvalid.get() else NONE
        taken = self._model.cycle(t, reads, given, offered)
        write.awready.set(taken)
        write.wready.set(taken)
        write.bvalid.set(write.unanswered > 0)
        if write.unanswered and write.bready.get():
            write.unanswered -= 1
        if taken:
            word, strobes = write.wdata.get(), write.wstrb.get()
            self._memory.write(offered, word.to_bytes(self._atom_bytes, "little"), strobes)
            self._writes.append((t, offered, word, strobes))
            write.unanswered += 1
        self._program_cycle(t)

    def _program_cycle(self, t: int) -> None:
        port = self._program
        beat = self._program_model.offer(t)
        port.rvalid.set(beat is not None)
        if beat is not None:
            address, last = beat
            port.rdata.set(int.from_bytes(self._memory.read(address, PROGRAM_BEAT_BYTES), "little"))
            port.rlast.set(last)
            if port.rready.get():
                self._program_model.give()
        if port.arvalid.get():
            self._program_model.take(t, port.araddr.get(), port.arlen.get() + 1)


@cocotb.test()
async def run_programs(dut: Any) -> None:
    """Every run starts with a reset, so a run cut short is a reset in mid-operation for the next one."""
    work = json.loads(Path(os.environ["ACCEL_BENCH_WORK"]).read_text())
    arch = Arch.model_validate(work["arch"])
    Clock(getattr(dut, ports.CLOCK), 10, unit="ns", impl="gpi").start()
    records = [await Bench(dut, arch, run).run() for run in work["runs"]]
    Path(os.environ["ACCEL_BENCH_RECORD"]).write_text(json.dumps(records))
