"""Golden, simulator and RTL on one program: everything that the engine leaves must be the same, to the bit and the
cycle.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.program import Flag, Jobs
from accel.registers import COUNTERS, ErrorCode
from accel.verify.cases import EngineCase
from accel.verify.engine import EngineRun, Mode, Write, written_outputs
from accel.verify.golden import GoldenMachine
from sim.engine import Timing, run_timing
from sim.recorded import Recorded
from sim.unroll import unroll
from sim.values import Executor
from sim.work import Work


@dataclass(frozen=True)
class Mismatch:
    """What is not as it should be.

    Attributes:
        unit: what it left. transfer: which of them, in order, from 0. cycle: in which the simulator has it, None if
            no cycle belongs to it. expected, actual: value, or cycle. command: repeats it.
    """

    case: str
    unit: str
    transfer: int
    cycle: int | None
    expected: object
    actual: object
    command: str = ""

    def __str__(self) -> str:
        when = "" if self.cycle is None else f", cycle {self.cycle}"
        repeat = f"; repeat: {self.command}" if self.command else ""
        return (
            f"program {self.case}: {self.unit}, transfer {self.transfer}{when}: "
            f"expected {self.expected}, found {self.actual}{repeat}"
        )


class Access(NamedTuple):
    """An access that the write port must take. ``data``, ``strobes``: None where only memory's later reader tells."""

    cycle: int
    address: int
    data: bytes | None
    strobes: int | None


@dataclass(frozen=True)
class Prediction:
    """What golden and simulator say of a program.

    Attributes:
        golden: the machine after its run. outputs: its outputs, per attend job, int64 (rows, dim). simulated: those of
            the simulator. jobs: attend jobs that were worked on; worked: their numbers among all attend jobs.
    """

    case: EngineCase
    golden: GoldenMachine
    outputs: list[NDArray[np.int64]]
    simulated: list[NDArray[np.int64]]
    executor: Executor
    work: Work
    timing: Timing
    jobs: Jobs
    worked: list[int]

    @property
    def recorded(self) -> Recorded:
        return self.executor.recorded


def predict(case: EngineCase, record: bool = True) -> Prediction:
    """Run golden machine and simulator. ``record``: also the cycles of lines and accesses."""
    golden, executor = GoldenMachine(case.arch), Executor(case.arch, 1)
    outputs = golden.run(case.program.jobs, case.tensors)
    simulated = executor.run(case.program.jobs, tensors=case.tensors)
    work = unroll(case.arch, executor.recorded)
    timing = run_timing(case.arch, work, record)
    return Prediction(
        case, golden, outputs, simulated, executor, work, timing, np.concatenate(executor.recorded.jobs),
        golden.worked,
    )  # fmt: skip


def expected_counters(work: Work, timing: Timing) -> dict[str, int]:
    """All of :data:`accel.registers.COUNTERS`, from the simulator."""
    found = {
        "cycles": timing.cycles,
        **{f"{name}_issues": count for name, count in timing.issue_cycles.items()},
        **{f"busy_{name}": count for name, count in timing.busy.items()},
        "rows": len(work.rows) - int(work.rows["silent"].sum()),
        "lsb_rows": int(work.rows["lsb"].sum()),
        "read_accesses": timing.dram["rd"],
        "write_accesses": timing.dram["wr"],
    }
    return {name: found[name] for name, _ in COUNTERS}


def expected_writes(arch: Arch, prediction: Prediction) -> list[Access]:
    """Every access of the write port, in order."""
    atom, rows, jobs = arch.memory_spec.access_bytes, prediction.work.rows, prediction.jobs
    cycles = iter(prediction.timing.times.write.tolist())
    out = []
    for number, (job, row) in enumerate(zip(rows["job"], rows, strict=True)):
        ends = bool(jobs[job]["flags"] & Flag.LAST_TILE)
        data = b""
        if ends:
            data = prediction.golden.rows[number].result.output.astype("<i2").tobytes()
        for access in range(int(row["w_atoms"])):
            part = data[access * atom : (access + 1) * atom]
            out.append(
                Access(
                    next(cycles),
                    int(row["w_address"]) + access * atom,
                    part.ljust(atom, b"\0") if ends else None,
                    (1 << len(part)) - 1 if ends else None,
                )
            )
    return out


def compare(prediction: Prediction, run: EngineRun, mode: Mode = "dram", command: str = "") -> list[Mismatch]:
    """Golden = simulator = RTL: outputs, in ``dram`` mode also cycles, counters and writes; the first difference each.

    In ``random`` mode memory is not the simulator's, so times mean nothing and only outputs are compared.
    """
    found = [*_values(prediction), *_outcome(prediction, run)]
    if not found and mode == "dram":
        found += [*_counters(prediction, run), *_writes(prediction, run)]
    elif not found:
        found += _counters(prediction, run, ("rows", "lsb_rows", "read_accesses", "write_accesses"))
    name = prediction.case.name
    return [Mismatch(name, *difference, command) for difference in found]


Difference = tuple[str, int, int | None, object, object]


def _values(prediction: Prediction) -> Iterator[Difference]:
    """Golden against simulator."""
    golden, executor, recorded = prediction.golden, prediction.executor, prediction.recorded
    for number, (right, found) in enumerate(zip(prediction.outputs, prediction.simulated, strict=True)):
        if not np.array_equal(right, found):
            yield (f"simulator's output, attend job {number}", *_first(right, found))
            return
    lists: list[tuple[str, list, list]] = [
        ("simulator's second passes", golden.lsb, np.concatenate(recorded.lsb).tolist()),
        ("simulator's V rows kept", [len(kept) for kept in golden.kept], np.concatenate(recorded.kept).tolist()),
        ("simulator's V rows fetched", golden.selected, [int(t) for part in recorded.selected for t in part]),
        ("simulator's keep list", golden.keep, executor.keep.tolist()),
        ("simulator's live heads", golden.heads, executor.live_heads.tolist()),
        ("simulator's token scores", _dense(golden.scores, len(executor.token_scores)), executor.token_scores.tolist()),
        ("simulator's head scores", _dense(golden.head_scores, len(executor.head_scores)),
         executor.head_scores.tolist()),
    ]  # fmt: skip
    for what, wanted, have in lists:
        if wanted != have:
            yield (what, *_first(np.array(wanted), np.array(have)))


def _dense(scores: Mapping[int, int], count: int) -> list[int]:
    return [scores.get(i, 0) for i in range(count)]


def _first(right: NDArray, found: NDArray) -> tuple[int, None, object, object]:
    """Number of the first item that differs, and both of them."""
    if right.shape != found.shape:
        return 0, None, f"{right.shape} items", f"{found.shape}"
    at = int(np.flatnonzero(right.ravel() != found.ravel())[0])
    return at, None, int(right.ravel()[at]), int(found.ravel()[at])


def _outcome(prediction: Prediction, run: EngineRun) -> Iterator[Difference]:
    """Golden against RTL: what is in memory."""
    if not run.finished:
        yield "interrupt", 0, prediction.timing.cycles, "done", "nothing until the limit of cycles"
        return
    if run.error[0] != ErrorCode.NONE:
        yield "error register", 0, None, ErrorCode.NONE.name, f"{run.error[0].name} at job {run.error[1]}"
        return
    try:
        outputs = written_outputs(prediction.jobs, run.writes)
    except RuntimeError as error:
        yield "writes", 0, None, "outputs in order", error
        return
    for number, found in zip(prediction.worked, outputs, strict=True):
        right = prediction.outputs[number]
        if not np.array_equal(right, found):
            yield (f"output, attend job {number}", *_first(right, found))
            return


def _counters(prediction: Prediction, run: EngineRun, names: Sequence[str] = ()) -> Iterator[Difference]:
    """Simulator against RTL."""
    for number, (name, right) in enumerate(expected_counters(prediction.work, prediction.timing).items()):
        if (not names or name in names) and run.counters[name] != right:
            yield f"counter {name}", number, None, right, run.counters[name]


def _writes(prediction: Prediction, run: EngineRun) -> Iterator[Difference]:
    expected = expected_writes(prediction.case.arch, prediction)
    for number, (right, found) in enumerate(zip(expected, run.writes, strict=False)):
        if not _same(right, found):
            yield "write port", number, right.cycle, tuple(right), tuple(found)
            return
    if len(expected) != len(run.writes):
        yield "write port", min(len(expected), len(run.writes)), None, f"{len(expected)} accesses", len(run.writes)


def _same(right: Access, found: Write) -> bool:
    if (right.cycle, right.address) != (found.cycle, found.address):
        return False
    if right.data is None or right.strobes is None:
        return True
    size = right.strobes.bit_length()
    return (right.strobes, right.data[:size]) == (found.strobes, found.data[:size])
