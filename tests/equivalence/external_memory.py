"""cocotb side of a run of the engine with memories and a register master from outside: cocotbext-axi. Runs inside the
simulator.

Nothing here but the ports' names knows the engine; the AXI side is Alex Forencich's, who has never seen it. Each AXI
channel of each port pauses at random, so addresses, data and answers come in any cycle that AXI allows.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import Immediate
from cocotb.triggers import First, RisingEdge, Timer

from accel.arch import Arch
from accel.lower.image import Memory
from accel.registers import COUNTERS, WORD_BYTES, register
from accel.verify import ports

warnings.filterwarnings("ignore", category=DeprecationWarning)  # cocotbext-axi uses names that cocotb 2 will drop
from cocotbext.axi import (  # noqa: E402
    AxiLiteBus,
    AxiLiteMaster,
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiWriteBus,
)

PERIOD_NS = 10
RESET_CYCLES = 4
PAUSES = [0.0, 0.0, 0.3, 0.9]  # shares of the cycles in which a channel pauses; each stretch has one of them
STRETCH_CYCLES = 64


class SharedMemory:
    """All memory ports' storage, as cocotbext-axi wants it: a slice is a range of bytes. ``image`` is exchanged between
    runs; ``writes`` are all pieces written: cycle 0 (nobody needs it), address, bytes, strobes.
    """

    def __init__(self) -> None:
        self.image = Memory()
        self.writes: list[tuple[int, int, int, int]] = []

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, where: slice) -> bytes:
        return self.image.read(where.start, where.stop - where.start)

    def __setitem__(self, where: slice, data: bytes) -> None:
        self.image.write(where.start, data)
        self.writes.append((0, where.start, int.from_bytes(data, "little"), (1 << len(data)) - 1))


def pauses(rng: np.random.Generator) -> Iterator[bool]:
    """Whether a channel pauses, cycle by cycle, for ever."""
    while True:
        yield from (rng.random(STRETCH_CYCLES) < rng.choice(PAUSES)).tolist()


class Bench:
    """The engine's surroundings, for all runs."""

    def __init__(self, dut: Any, arch: Arch) -> None:
        self._dut, self._arch = dut, arch
        self._clock, self._reset = getattr(dut, ports.CLOCK), getattr(dut, ports.RESET)
        self._interrupt = getattr(dut, ports.INTERRUPT)
        self._reset.set(Immediate(1))
        self._memory = SharedMemory()

        def prefix(port: str) -> str:
            return port.removesuffix("_")  # cocotbext-axi puts an underscore of its own between it and the signal

        def reads(port: str) -> AxiRamRead:
            return AxiRamRead(AxiReadBus.from_prefix(dut, prefix(port)), self._clock, self._reset, mem=self._memory)

        read_ports = [*(ports.read(c, "") for c in range(arch.memory_spec.channels)), ports.program("")]
        self._rams = [reads(port) for port in read_ports]
        write_bus = AxiWriteBus.from_prefix(dut, prefix(ports.write("")))
        self._rams.append(AxiRamWrite(write_bus, self._clock, self._reset, mem=self._memory))
        registers = AxiLiteBus.from_prefix(dut, prefix(ports.registers("")))
        self._master = AxiLiteMaster(registers, self._clock, self._reset)
        for part in (*self._rams, self._master.read_if, self._master.write_if):
            part.log.setLevel(logging.WARNING)

    def _pause(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for part in (*self._rams, self._master.read_if, self._master.write_if):
            for name in ("aw", "w", "b", "ar", "r"):
                if (channel := getattr(part, f"{name}_channel", None)) is not None:
                    channel.set_pause_generator(pauses(np.random.default_rng(rng.integers(1 << 32))))

    async def _numbers(self, name: str, words: int = 1) -> int:
        answer = await self._master.read(register(name).offset, words * WORD_BYTES)
        return int.from_bytes(answer.data, "little")

    async def run(self, work: dict[str, Any]) -> dict[str, Any]:
        """One program from reset to interrupt; the record is that of ``accel.verify.bench``."""
        self._memory.image, self._memory.writes = Memory.load(Path(work["memory"])), []
        self._reset.set(Immediate(1))
        self._pause(work["seed"])
        for _ in range(RESET_CYCLES):
            await RisingEdge(self._clock)
        self._reset.set(Immediate(0))
        await RisingEdge(self._clock)
        await self._master.write(register("PROGRAM_ADDRESS").offset, work["program_address"].to_bytes(8, "little"))
        await self._master.write(register("INTERRUPT_ENABLE").offset, (1).to_bytes(WORD_BYTES, "little"))
        await self._master.write(register("CONTROL").offset, (1).to_bytes(WORD_BYTES, "little"))
        if not self._interrupt.value:
            await First(RisingEdge(self._interrupt), Timer(work["max_cycles"] * PERIOD_NS, "ns"))
        finished = bool(self._interrupt.value)
        error, counters = [0, 0], {}
        if finished:
            both = await self._numbers("ERROR", 2)
            error = [both & 0xFFFF_FFFF, both >> 32]
            counters = {name: await self._numbers(name.upper(), 2) for name, _ in COUNTERS}
        return {
            "finished": finished,
            "writes": self._memory.writes,
            "events": [],
            "counters": counters,
            "error": error,
            "seconds": 0.0,
            "taken": [],
            "given": [],
            "transfers": {},
        }


@cocotb.test()
async def run_programs(dut: Any) -> None:
    """All runs, each from a reset."""
    work = json.loads(Path(os.environ["ACCEL_BENCH_WORK"]).read_text())
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    bench = Bench(dut, Arch.model_validate(work["arch"]))
    Clock(getattr(dut, ports.CLOCK), PERIOD_NS, unit="ns", impl="gpi").start()
    records = [await bench.run(run) for run in work["runs"]]
    Path(os.environ["ACCEL_BENCH_RECORD"]).write_text(json.dumps(records))
