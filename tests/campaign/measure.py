"""One engine program on golden, simulator and Verilog, with what differs and what each took."""

import time
from dataclasses import asdict, dataclass

import numpy as np

from accel.verify.cases import EngineCase
from accel.verify.compare import Prediction, compare, predict
from accel.verify.engine import EngineRun, written_outputs
from sim.engine import run_timing
from sim.unroll import unroll
from sim.values import Executor

LEAST_S = 0.2  # timing runs are repeated until they took as long
BITS = 16  # of an output number


@dataclass(frozen=True)
class SimulatorSpeed:
    """Seconds of a run of ``cycles``: of the timing alone, and of values, unrolling and timing."""

    cycles: int
    timing_s: float
    values_s: float

    def faster(self, verilog_cycles_per_s: float) -> tuple[float, float]:
        """Ratio to the Verilog's cycles per second: timing only, with values."""
        return (self.cycles / self.timing_s / verilog_cycles_per_s, self.cycles / self.values_s / verilog_cycles_per_s)


def simulator_speed(case: EngineCase) -> SimulatorSpeed:
    """Time a program that has run before, so nothing is compiled any more."""

    def once() -> float:
        start = time.perf_counter()
        run_timing(case.arch, work)
        return time.perf_counter() - start

    start = time.perf_counter()
    executor = Executor(case.arch, 1)
    executor.run(case.program.jobs, tensors=case.tensors)
    work = unroll(case.arch, executor.recorded)
    cycles = run_timing(case.arch, work).cycles
    with_values = time.perf_counter() - start
    spent = [once()]
    while sum(spent) < LEAST_S:
        spent.append(once())
    return SimulatorSpeed(cycles, float(np.median(spent)), with_values)


@dataclass
class Verdict:
    """Of one program. bits: of the outputs, that are not golden's, in simulator and Verilog; cycles: by which the
    Verilog's number differs; mismatches: everything, as :func:`accel.verify.compare.compare` says it.
    """

    name: str
    about: str
    cycles: int
    rows: int
    differing_bits: int
    differing_cycles: int
    mismatches: list[str]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def judge(prediction: Prediction, run: EngineRun, command: str) -> Verdict:
    """Compare a run on the simulator's memory with its prediction."""
    case, wanted = prediction.case, prediction.timing.cycles
    bits = sum(_differing_bits(a, b) for a, b in zip(prediction.outputs, prediction.simulated, strict=True))
    try:
        found = written_outputs(prediction.jobs, run.writes)
        bits += sum(
            _differing_bits(prediction.outputs[number], output)
            for number, output in zip(prediction.worked, found, strict=True)
        )
    except RuntimeError:  # a write is missing or where it should not be; compare says which
        bits += BITS * sum(output.size for output in prediction.outputs)
    return Verdict(
        case.name, case.about, wanted, len(prediction.work.rows), bits, abs(run.cycles - wanted),
        [str(wrong) for wrong in compare(prediction, run, command=command)],
    )  # fmt: skip


def _differing_bits(wanted: np.ndarray, found: np.ndarray) -> int:
    if wanted.shape != found.shape:
        return BITS * max(wanted.size, found.size)
    return int(np.bitwise_count((wanted.astype(np.int64) ^ found.astype(np.int64)) & (1 << BITS) - 1).sum())


def predictions(cases: list[EngineCase]) -> list[Prediction]:
    """Of each case; its writes' cycles are recorded."""
    return [predict(case) for case in cases]
