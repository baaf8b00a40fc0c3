"""cocotb side of a run of the engine on the quickest memory that AXI allows; runs inside the simulator."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock

from accel.arch import Arch
from accel.units.engine import PROGRAM_BEAT_BYTES
from accel.verify import ports
from accel.verify.bench import Bench
from accel.verify.memory import NONE, ProgramModel


class ImmediateModel:
    """Takes every address and every write at once and offers the data in the cycle after the address, unless the data
    of earlier addresses still wait. See :class:`accel.verify.memory.MemoryModel`.
    """

    def __init__(self, arch: Arch) -> None:
        channels = arch.memory_spec.channels
        self._waiting = [0] * channels
        self.ready, self.done = (1 << channels) - 1, 0

    def cycle(self, t: int, reads: dict[int, int], given: int, write_address: int) -> bool:
        self.done = 0
        for channel in range(len(self._waiting)):
            self._waiting[channel] += (channel in reads) - (given >> channel & 1)
            self.done |= bool(self._waiting[channel]) << channel
        return write_address != NONE


class ImmediateProgram(ProgramModel):
    """The same for the program port."""

    def take(self, t: int, address: int, beats: int) -> None:
        self._beats.extend((t + 1, address + i * self._beat_bytes, i == beats - 1) for i in range(beats))


@cocotb.test()
async def run_programs(dut: Any) -> None:
    """As ``accel.verify.bench.run_programs``, with the models above."""
    work = json.loads(Path(os.environ["ACCEL_BENCH_WORK"]).read_text())
    arch = Arch.model_validate(work["arch"])
    Clock(getattr(dut, ports.CLOCK), 10, unit="ns", impl="gpi").start()
    records = []
    for run in work["runs"]:
        bench = Bench(dut, arch, run)
        bench._model, bench._program_model = ImmediateModel(arch), ImmediateProgram(PROGRAM_BEAT_BYTES)
        records.append(await bench.run())
    Path(os.environ["ACCEL_BENCH_RECORD"]).write_text(json.dumps(records))
