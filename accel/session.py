"""One run from workload to report: lower, execute for values, simulate for time, count, cost.

The report is a plain dictionary (see ``docs/counters.md``), the same for every workload; nothing in it depends on the
clock on the wall, so the same input and seed give the same bytes.
"""

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from accel.arch import Arch
from accel.cost.area import area
from accel.cost.energy import run_energy
from accel.cost.factors import load_memory_energy
from accel.lower.trace import lower_trace
from sim.counts import baseline_bytes, bound, counts
from sim.engine import Timing, run_timing
from sim.unroll import unroll
from sim.values import Executor, Recorded
from sim.work import Work
from workloads.draw import DrawnScores
from workloads.row_trace import RowTrace, dense_bytes, dense_operations, operations, useful_bytes

FORMAT = 1
DRAWN = "the trace says how many rows, not their scores: scores are drawn from the seed"
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Run:
    """``report`` is what is stored; ``work`` and ``timing`` are there for a timeline."""

    report: dict[str, Any]
    work: Work
    timing: Timing


def code_version() -> str:
    """Version of the package, and of the checkout it runs from, with a mark when that has changed since its commit."""
    try:
        released = version("accel-codesign")
    except PackageNotFoundError:
        released = "0"
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return released
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return released
    return f"{released}+{commit.stdout.strip()}{'-modified' if changed.stdout.strip() else ''}"


def report_of(
    arch: Arch, recorded: Recorded, *, workload: dict[str, Any], seed: int, dense: tuple[int, int] | None = None,
    dense_operations: int | None = None, quality: dict[str, Any] | None = None, notes: tuple[str, ...] = (),
) -> Run:  # fmt: skip
    """Time and cost of recorded values.

    Args:
        workload: what ran, for the reader and for repeating it; becomes ``report["workload"]``.
        dense: numbers in K and V, and in Q, of the unpruned network, for the baselines.
        dense_operations: multiply and add operations of the unpruned attention, for the effective throughput.
    """
    load_memory_energy(arch.memory.unit)  # refused now, not after the simulation
    work = unroll(arch, recorded)
    timing = run_timing(arch, work)
    counted = counts(arch, work, recorded, timing)
    baselines = baseline_bytes(work, dense)
    moved = sum(counted["dram_read_bytes"].values()) + counted["dram_write_bytes"]
    useful = sum(counted["dram_useful_bytes"].values()) + counted["dram_write_bytes"]
    latency_s = timing.cycles / (arch.clock_MHz * 1e6)
    energy = run_energy(arch, counted, timing.cycles)
    done = 2 * sum(counted["macs"].values())
    macs_once = 2 * (counted["macs"]["pv"] + int((work.rows["keys"] * work.jobs["head_dim"][work.rows["job"]]).sum()))
    report = {
        "format": FORMAT,
        "workload": workload,
        "arch": arch.model_dump(),
        "seed": seed,
        "code_version": code_version(),
        "cycles": timing.cycles,
        "latency_s": latency_s,
        "counts": counted,
        "baseline_bytes": baselines,
        "dram_reduction": {name: size / moved for name, size in baselines.items()},
        "dram_reduction_useful": {name: size / useful for name, size in baselines.items()},
        "operations": {
            "done": done,
            "without_second_passes": macs_once,
            "dense": dense_operations if dense_operations is not None else macs_once,
        },
        "throughput_ops_per_s": {
            "done": done / latency_s,
            "without_second_passes": macs_once / latency_s,
            "dense_equivalent": (dense_operations if dense_operations is not None else macs_once) / latency_s,
            "peak": arch.peak_ops_per_second,
        },
        "bound": bound(arch, counted, timing),
        "busy_cycles": timing.busy,
        "energy_pJ": energy.energy_pJ,
        "energy_lines": [
            {
                "part": e.part,
                "count_name": e.count_name,
                "count": e.count,
                "factor_pJ": e.factor_pJ,
                "energy_pJ": e.energy_pJ,
            }
            for e in energy.lines
        ],
        "area_mm2": area(arch).area_mm2,
        "quality": quality,
        "notes": list(notes),
    }
    return Run(report, work, timing)


def run_trace(
    trace: RowTrace, arch: Arch, seed: int = 1, spread_seeds: int = 0, progress: Progress | None = None
) -> Run:
    """A per-row trace, with drawn scores.

    Args:
        trace: the rows. seed: of the drawn scores and of the pivot generators, 1 to 65535.
        spread_seeds: further seeds to run, for the spread of the cycles that the report then states.

    Raises:
        UserError: the trace does not fit the machine.
    """
    program = lower_trace(trace, arch)

    def recorded(with_seed: int) -> Recorded:
        executor = Executor(arch, with_seed)
        executor.run(program.jobs, DrawnScores(with_seed))
        return executor.recorded

    tell = progress or (lambda what, share: None)
    total = 1 + spread_seeds
    tell(f"seed {seed}", 0.0)
    queries = int(trace.head_dim.sum(dtype="int64"))
    run = report_of(
        arch,
        recorded(seed),
        workload={
            "name": trace.name,
            "kind": "trace",
            "source": Path(trace.source.path).name,
            "sha256": trace.source.sha256,
            "config": trace.config,
            "rows": trace.rows,
            "program_sha256": hashlib.sha256(program.encode()).hexdigest(),
        },
        seed=seed,
        dense=(int(dense_bytes(trace, 8)), queries),
        dense_operations=dense_operations(trace),
        notes=(DRAWN, *trace.notes),
    )
    run.report["trace_counts"] = {
        "useful_bytes_rows_of_8": {name: int(size) for name, size in useful_bytes(trace, round_to=8).items()},
        "operations": operations(trace),
    }
    cycles = [run.timing.cycles]
    for i in range(1, total):
        tell(f"seed {seed + i}", i / total)
        cycles.append(run_timing(arch, unroll(arch, recorded(seed + i))).cycles)
    tell("done", 1.0)
    run.report["spread"] = {
        "seeds": total,
        "cycles": {"least": min(cycles), "median": median(cycles), "most": max(cycles)},
    }
    return run
