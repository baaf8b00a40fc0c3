"""Programs through golden machine, simulator and RTL: what ``accel verify`` and the tests do."""

import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accel.arch import Arch
from accel.units.engine import EngineUnit
from accel.verify import harness
from accel.verify.boundaries import expected_transfers
from accel.verify.cases import EngineCase
from accel.verify.compare import Mismatch, Prediction, compare, predict
from accel.verify.engine import Case, EngineRun, Mode, run_engine
from accel.verify.transfers import Tally, compare_transfers, shown
from rtl.verilog import engine_verilog
from sim.engine import run_timing
from sim.unroll import unroll
from sim.values import Executor

TOP = "engine"
MOST_PER_SIMULATION = 20  # programs; each simulation takes a moment to begin, and tells nothing before its end
SLACK_CYCLES = 20_000  # beyond the simulator's end (on its memory), after which a program is cut off
SLOWEST = 200  # times as long on a memory at random


def write_waves(
    case: EngineCase, folder: Path, *, mode: Mode = "dram", seed: int = 1, builds: Path | None = None
) -> Path:
    """Run one program with a waveform of every signal: ``folder``/NAME.vcd.

    The probes are in the top module, ``probes.NAME.FIELD``, and beside them, from the same cycle on, what golden and
    simulator expect there, ``expected.NAME.FIELD``; both a cycle after it happens.

    Raises:
        As :func:`verify`.
    """
    from rtl.probes import probe_fields

    fields, prediction = probe_fields(EngineUnit.of(case.arch)), predict(case)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub('[^A-Za-z0-9]+', '-', case.name)}.vcd"
    run = Case(
        case.program, case.tensors, max_cycles=prediction.timing.cycles + SLACK_CYCLES,
        expected=shown(expected_transfers(prediction), fields),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        made = Path(draft, path.name)
        names = {name: list(of) for name, of in fields.items()}
        text = engine_verilog(case.arch, probes=True)
        run_engine(case.arch, text, [run], mode, seed, builds=builds, probes=names, waves=made)
        os.replace(made, path)
    return path


@dataclass
class Report:
    """What came out.

    Attributes:
        programs, cycles: that ran on the RTL. boundaries: per boundary. mismatches: in order of programs.
        rtl_s: of the programs in the simulations, with the memory and the probes in Python; verilog_s, build_s: before
            them (next to nothing where the same engine was built before). timing_s, values_s: of the simulator, timing
            only, and values and timing.
    """

    programs: int = 0
    cycles: int = 0
    boundaries: dict[str, Tally] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)
    verilog_s: float = 0.0
    build_s: float = 0.0
    rtl_s: float = 0.0
    timing_s: float = 0.0
    values_s: float = 0.0

    @property
    def transfers(self) -> int:
        return sum(tally.transfers for tally in self.boundaries.values())


Tell = Callable[[str, float], None]


def verify(
    arch: Arch, cases: Sequence[EngineCase], *, mode: Mode = "dram", seed: int = 1, builds: Path | None = None,
    command: Callable[[EngineCase], str] = lambda case: "", tell: Tell = lambda text, share: None,
) -> Report:  # fmt: skip
    """Run all cases.

    Args:
        mode: ``dram``: everything is compared; ``random``: values only (:func:`accel.verify.compare.compare`).
        seed: of registers that are not reset, and of the latencies. builds: see :func:`accel.verify.harness.build`.
        command: that repeats a case. tell: progress, as of :func:`accel.commands._progress.progress_bar`.

    Raises:
        UserError: a machine that cannot be built, or tensors that memory cannot hold.
        RuntimeError: the build or a simulation fails.
    """
    from rtl.probes import probe_fields

    report, fields = Report(), probe_fields(EngineUnit.of(arch))
    tell("Verilog", 0.0)
    start = time.perf_counter()
    text = engine_verilog(arch, probes=True)
    report.verilog_s = time.perf_counter() - start
    tell("building", 0.1)
    start = time.perf_counter()
    harness.build(text, TOP, builds)
    report.build_s = time.perf_counter() - start
    for first in range(0, len(cases), MOST_PER_SIMULATION):
        part = cases[first : first + MOST_PER_SIMULATION]
        tell(f"programs {first + 1} to {first + len(part)} of {len(cases)}", 0.5 + 0.5 * first / len(cases))
        predictions = [predict(case) for case in part]
        limits = [p.timing.cycles * (1 if mode == "dram" else SLOWEST) + SLACK_CYCLES for p in predictions]
        runs = [Case(c.program, c.tensors, max_cycles=most) for c, most in zip(part, limits, strict=True)]
        found = run_engine(
            arch, text, runs, mode, seed + first, builds=builds, probes={name: list(of) for name, of in fields.items()}
        )
        report.rtl_s += sum(run.seconds for run in found)
        for prediction, run in zip(predictions, found, strict=True):
            _judge(report, prediction, run, mode, fields, command(prediction.case))
        _time(report, arch, predictions)
    return report


def _judge(report: Report, prediction: Prediction, run: EngineRun, mode: Mode, fields: dict, command: str) -> None:
    mismatches = compare(prediction, run, mode, command)
    if mode == "dram":
        tallies, differing = compare_transfers(prediction, run, fields, command)
        mismatches += differing
        for name, tally in tallies.items():
            report.boundaries.setdefault(name, Tally()).add(tally)
    report.programs += 1
    report.cycles += run.cycles
    report.mismatches += mismatches


def _time(report: Report, arch: Arch, predictions: Sequence[Prediction]) -> None:
    """The simulator once more, compiled by now and without records."""
    start = time.perf_counter()
    for prediction in predictions:
        executor = Executor(arch, 1)
        executor.run(prediction.case.program.jobs, tensors=prediction.case.tensors)
        run_timing(arch, unroll(arch, executor.recorded))
    report.values_s += time.perf_counter() - start
    start = time.perf_counter()
    for prediction in predictions:
        run_timing(arch, prediction.work)
    report.timing_s += time.perf_counter() - start
