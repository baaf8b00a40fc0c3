"""Whole programs on the engine's Verilog."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.lower.image import Memory, Tensors, memory_image, read_outputs
from accel.lower.layout import partial_stride_bytes
from accel.lower.partials import transit
from accel.program import Flag, Jobs, Opcode, Program
from accel.registers import ErrorCode
from accel.units.softmax import OUTPUT_BITS
from accel.verify.harness import run_bench

PROGRAM_ADDRESS = (1 << 40) + 64  # far above all tensors; jobs of 128 bytes then lie whole in 4 KiB
MAX_CYCLES = 1_000_000
Mode = Literal["dram", "random"]


class Case(NamedTuple):
    """A program and one set of tensors per attend job.

    code: bytes to run in the program's place. reset: before it; else what the case before left is still there.
    max_cycles: cut off after so many. expected: what is shown next to the probes (:class:`accel.verify.bench.Probes`).
    """

    program: Program
    tensors: Sequence[Tensors]
    code: bytes | None = None
    reset: bool = True
    max_cycles: int | None = None
    expected: dict[str, list[tuple[int, list[int]]]] | None = None


class Write(NamedTuple):
    """An access that the write port took in ``cycle``: a memory access's bytes, and which of them are written."""

    cycle: int
    address: int
    data: bytes
    strobes: int


@dataclass(frozen=True)
class EngineRun:
    """One program from reset to interrupt.

    Attributes:
        finished: whether the interrupt came before the limit of cycles.
        cycles: from start to done, both counted, as the engine's counter says; 0 if it has not finished.
        error: why it stopped and at which job, see :class:`accel.registers.ErrorCode`.
        writes: all accesses of the write port, in order. outputs: what they left in memory, per attend job, int16
            (rows, dim); see :func:`accel.lower.image.read_outputs`.
        counters: all of :data:`accel.registers.COUNTERS`. events: (output, cycle) of each cycle in which an observed
            output was not 0; cycle 0 is the first of the program. transfers: per probe (cycle, fields as their ports
            carry them). taken, given: with probes, of the read ports, (cycle, channel, address) of each access and
            (cycle, channel) of its data. seconds: that the simulation took from start to interrupt, with its memory.
    """

    finished: bool
    cycles: int
    error: tuple[ErrorCode, int]
    writes: list[Write]
    outputs: list[NDArray[np.int16]]
    counters: dict[str, int]
    events: list[tuple[str, int]]
    transfers: dict[str, list[tuple[int, list[int]]]]
    taken: list[tuple[int, int, int]]
    given: list[tuple[int, int]]
    seconds: float


def run_engine(
    arch: Arch, verilog: str, cases: Sequence[Case], mode: Mode = "dram", seed: int = 1, *,
    events: Sequence[str] = (), max_cycles: int = MAX_CYCLES, name: str = "engine", builds: Path | None = None,
    bench: str = "accel.verify.bench", bench_dir: Path | None = None,
    probes: Mapping[str, Sequence[str]] | None = None, waves: Path | None = None,
) -> list[EngineRun]:  # fmt: skip
    """Run each case from reset on the module ``name`` of the text ``verilog``, all in one simulation.

    Args:
        mode: what is behind the memory ports: ``dram``, the simulator's memory, or ``random`` latencies.
        seed: of the latencies, and of all registers that are not reset.
        events: outputs whose cycles are recorded.
        builds, bench, bench_dir: see :func:`accel.verify.harness.run_bench`. Another bench than the default one must
            keep the same records; it may give ``mode`` a meaning of its own.
        probes: the fields of each probe, in order, of an engine that has them (:func:`rtl.probes.probe_fields`).
        waves: file for a waveform of all runs.

    Raises:
        UserError: tensors that memory cannot hold (:func:`accel.lower.image.memory_image`).
        RuntimeError: the build or the simulation fails.
    """
    images = [memory_image(arch, case.program.jobs, case.tensors) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for i, (case, image) in enumerate(zip(cases, images, strict=True)):
            image.write(PROGRAM_ADDRESS, case.program.encode() if case.code is None else case.code)
            image.save(path := Path(folder, f"{i}.npz"))
            runs.append(
                {
                    "memory": str(path), "program_address": PROGRAM_ADDRESS, "mode": mode, "seed": seed + i,
                    "max_cycles": case.max_cycles or max_cycles, "events": list(events), "reset": case.reset,
                    "probes": {name: list(fields) for name, fields in (probes or {}).items()},
                    "expected": case.expected or {},
                }
            )  # fmt: skip
        work = {"arch": arch.model_dump(), "runs": runs}
        records = run_bench(verilog, name, bench, work, seed, builds, bench_dir, waves)
    atom_bytes = arch.memory_spec.access_bytes
    out = []
    for case, image, record in zip(cases, images, records, strict=True):
        writes = [Write(t, at, data.to_bytes(atom_bytes, "little"), s) for t, at, data, s in record["writes"]]
        for write in writes:
            image.write(write.address, write.data, write.strobes)
        counters, (code, job) = record["counters"], record["error"]
        out.append(
            EngineRun(
                finished=record["finished"],
                cycles=counters.get("cycles", 0),
                error=(ErrorCode(code), job),
                writes=writes,
                outputs=read_outputs(image, case.program.jobs),
                counters=counters,
                events=[(name, t) for name, t in record["events"]],
                transfers=record["transfers"],
                taken=[tuple(access) for access in record["taken"]],
                given=[tuple(access) for access in record["given"]],
                seconds=record["seconds"],
            )
        )
    return out


def written_rows(jobs: Jobs, writes: Sequence[Write]) -> list[list[bytes]]:
    """The bytes that each attend job that was worked on has written, per row: of outputs, or a record of sums
    (``accel.lower.partials``); no rows for a tile whose sums stay on chip. Also where later jobs wrote over them.

    Args:
        jobs: without the jobs of pruned heads (``Recorded.jobs`` of the simulator's executor).
        writes: of one run, in order.

    Raises:
        RuntimeError: a write where another one is due, or too many or too few.
    """
    waiting = iter(writes)
    out: list[list[bytes]] = []
    attend = jobs[jobs["opcode"] == Opcode.ATTEND]
    for number, (job, leaves) in enumerate(zip(attend, transit(attend).leaves, strict=True)):
        dim = int(job["head_dim"])
        rows = int(job["queries"]) * int(job["group"]) if leaves or job["flags"] & Flag.LAST_TILE else 0
        address, stride, size = int(job["output_address"]), int(job["output_stride"]), dim * OUTPUT_BITS // 8
        if leaves:
            address = int(job["partial_address"])
            stride = size = partial_stride_bytes(dim, len(writes[0].data) if writes else size)
        out.append([])
        for r in range(rows):
            start, row = address + r * stride, Memory()
            at = start
            while at < start + size:
                write = next(waiting, None)
                if write is None or write.address != at:
                    found = "none" if write is None else f"{write.address:#x} in cycle {write.cycle}"
                    raise RuntimeError(f"attend job {number}, row {r}: write to {at:#x} expected, {found} found")
                row.write(at, write.data, write.strobes)
                at += len(write.data)
            out[-1].append(row.read(start, size))
    if (write := next(waiting, None)) is not None:
        raise RuntimeError(f"write to {write.address:#x} in cycle {write.cycle} after the last output")
    return out


def written_outputs(jobs: Jobs, writes: Sequence[Write]) -> list[NDArray[np.int16]]:
    """Outputs among :func:`written_rows`, int16 (rows, dim); no rows for a tile that is not its rows' last."""
    out: list[NDArray[np.int16]] = []
    attend = jobs[jobs["opcode"] == Opcode.ATTEND]
    for job, rows in zip(attend, written_rows(jobs, writes), strict=True):
        data = b"".join(rows) if job["flags"] & Flag.LAST_TILE else b""
        out.append(np.frombuffer(data, "<i2").astype(np.int16).reshape(-1, int(job["head_dim"])))
    return out
