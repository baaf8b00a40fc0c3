"""cocotb side of the equivalence tests: drives the stream ports of any unit and records every transfer.

Runs inside the simulator. What to do is in the JSON file named by ACCEL_BENCH_WORK, what happened goes to the one named
by ACCEL_BENCH_RECORD (see accel.verify.harness.run_bench). It knows nothing of any unit.
"""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


class Source:
    """Offers payloads in order; an offer begins in a cycle in which the pattern is true and stays until accepted."""

    def __init__(self, dut: Any, port: str, payloads: list[int], pattern: list[int]):
        self.port, self.payloads, self.pattern = port, payloads, pattern
        self.valid, self.ready = getattr(dut, f"{port}__valid"), getattr(dut, f"{port}__ready")
        self.payload = getattr(dut, f"{port}__payload")
        self.sent, self.offering = 0, False
        self.valid.value = 0

    def drive(self, cycle: int) -> None:
        if not self.offering and self.sent < len(self.payloads) and self.pattern[cycle % len(self.pattern)]:
            self.payload.value = self.payloads[self.sent]
            self.valid.value = 1
            self.offering = True

    def sample(self, cycle: int, record: list) -> None:
        if self.offering and self.ready.value == 1:
            record.append([self.port, cycle, self.payloads[self.sent]])
            self.sent += 1
            self.offering = False
            self.valid.value = 0


class Sink:
    """Ready in the cycles in which the pattern is true. Insists that a refused offer stays as it is."""

    def __init__(self, dut: Any, port: str, pattern: list[int]):
        self.port, self.pattern = port, pattern
        self.valid, self.ready = getattr(dut, f"{port}__valid"), getattr(dut, f"{port}__ready")
        self.payload = getattr(dut, f"{port}__payload")
        self.is_ready = False
        self.refused: int | None = None
        self.ready.value = 0

    def drive(self, cycle: int) -> None:
        self.is_ready = bool(self.pattern[cycle % len(self.pattern)])
        self.ready.value = int(self.is_ready)

    def sample(self, cycle: int, record: list) -> None:
        offered = int(self.payload.value) if self.valid.value == 1 else None
        if self.refused is not None and offered != self.refused:
            record.append([f"{self.port} changed while refused", cycle, 0])
        self.refused = None
        if offered is not None and self.is_ready:
            record.append([self.port, cycle, offered])
        elif offered is not None:
            self.refused = offered


@cocotb.test()
async def record_transfers(dut: Any) -> None:
    """Every run starts with two cycles of reset, so a run cut short is a reset in mid-operation for the next one."""
    work = json.loads(Path(os.environ["ACCEL_BENCH_WORK"]).read_text())
    Clock(dut.clk, 10, unit="ns").start()
    records = []
    for run in work:
        dut.rst.value = 1
        ports: list[Source | Sink] = [Source(dut, name, *spec) for name, spec in run["sources"].items()]
        ports += [Sink(dut, name, pattern) for name, pattern in run["sinks"].items()]
        for _ in range(2):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        record: list = []
        for cycle in range(run["cycles"]):
            for port in ports:
                port.drive(cycle)
            await RisingEdge(dut.clk)
            for port in ports:
                port.sample(cycle, record)
        records.append(record)
    Path(os.environ["ACCEL_BENCH_RECORD"]).write_text(json.dumps(records))
