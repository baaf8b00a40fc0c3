"""The DRAM model against the reference simulators, and its speed. Run: python tests/benchmarks/bench_dram.py

Prints, for every trace of tests/data/dram, clocks and ACTs of the model and the error against both references, then
mean and worst error per column, then requests per second (median of repeated runs on one core, after compilation).
"""

import csv
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the trace generator is part of the tests, which are not installed

from accel.memory import MemorySpec, load_memory  # noqa: E402
from sim.dram_replay import ReplayResult, replay  # noqa: E402
from tests.sim.dram_patterns import ADDRESS_MAPS, accesses, logical_reads  # noqa: E402

LIMITS = {  # error in percent that the model was asked to stay below: (mean, worst or None)
    "r2_cycles": (1.0, 5.0),
    "r2_act": (2.0, 2.0),
    "r2_noref_cycles": (1.0, 5.0),
    "d3_cycles without random": (4.0, None),
    "d3_cycles without random, cl64_xor": (4.0, None),
}
SPEED_TRACES = (
    "a_seq_4MiB",
    "c_S64_d50_N16384",
    "c_S64_d25_N16384",
    "c_S64_d10_N16384",
    "d_tm_hloop_H16_d25",
    "e_kv_same_n8192",
    "b_rand64_n32768",
)
SPEED_RUNS = 9
SPEED_REQUESTS_PER_RUN = 400_000


def _golden() -> list[dict[str, str]]:
    text = (ROOT / "tests" / "data" / "dram" / "golden_min.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _setup(row: dict[str, str]) -> tuple[MemorySpec, np.ndarray]:
    channels = int(row["nch"])
    spec = load_memory("hbm2").with_channels(channels).with_address_map(ADDRESS_MAPS[row["mapping"]])
    return spec, accesses(logical_reads(row["pattern"], channels), spec.access_bytes)


def _error_percent(got: int, reference: str) -> float:
    return (got / int(reference) - 1) * 100


def _compare(row: dict[str, str], errors: dict[str, list[float]]) -> ReplayResult:
    spec, trace = _setup(row)
    result = replay(spec, trace)
    for column, got in (("cycles", result.cycles), ("act", result.act), ("row_hit", result.row_hit)):
        errors[f"r2_{column}"].append(_error_percent(got, row[f"r2_{column}"]))
        errors[f"d3_{column}"].append(_error_percent(got, row[f"d3_{column}"]))
    if not row["pattern"].startswith("b_rand"):
        errors["d3_cycles without random"].append(errors["d3_cycles"][-1])
        errors[f"d3_cycles without random, {row['mapping']}"].append(errors["d3_cycles"][-1])
    if row["r2_noref_cycles"]:
        cycles = replay(spec, trace, refresh=False).cycles
        errors["r2_noref_cycles"].append(_error_percent(cycles, row["r2_noref_cycles"]))
        errors["d3_noref_cycles"].append(_error_percent(cycles, row["d3_noref_cycles"]))
    return result


def accuracy() -> None:
    """Print the table of all traces and the summary of errors."""
    errors: dict[str, list[float]] = defaultdict(list)
    print(
        f"{'ch':>2} {'map':8} {'trace':28} {'cycles':>7} {'r2':>7} {'d3':>7} {'r2 err':>8} {'d3 err':>8} {'ACT err':>8}"
    )
    for row in _golden():
        result = _compare(row, errors)
        print(
            f"{row['nch']:>2} {row['mapping']:8} {row['pattern']:28} {result.cycles:7} {row['r2_cycles']:>7} "
            f"{row['d3_cycles']:>7} {errors['r2_cycles'][-1]:7.2f}% {errors['d3_cycles'][-1]:7.2f}% "
            f"{errors['r2_act'][-1]:7.2f}%"
        )
    print(f"\n{'error against':36} {'runs':>5} {'equal':>6} {'mean':>8} {'p95':>8} {'worst':>8}   asked for")
    for column, values in errors.items():
        size = np.abs(values)
        mean, worst = size.mean(), size.max()
        asked = ""
        if column in LIMITS:
            mean_limit, worst_limit = LIMITS[column]
            met = mean <= mean_limit and (worst_limit is None or worst <= worst_limit)
            asked = f"mean {mean_limit:.0f} %" + (f", worst {worst_limit:.0f} %" if worst_limit else "")
            asked += ": met" if met else ": NOT MET (the references are as far apart)"
        print(
            f"{column:36} {size.size:5} {int((size == 0).sum()):6} {mean:7.2f}% {np.percentile(size, 95):7.2f}% "
            f"{worst:7.2f}%   {asked}"
        )


def speed() -> None:
    """Print requests per second of `replay` for 16 channels."""
    spec = load_memory("hbm2")
    print(f"\n{'16 channels, replay':28} {'requests':>9} {'median':>12}")
    for pattern in SPEED_TRACES:
        trace = accesses(logical_reads(pattern, spec.channels), spec.access_bytes)
        repeats = max(1, SPEED_REQUESTS_PER_RUN // trace.size)
        replay(spec, trace)
        rates = []
        for _ in range(SPEED_RUNS):
            start = time.perf_counter()
            for _ in range(repeats):
                replay(spec, trace)
            rates.append(repeats * trace.size / (time.perf_counter() - start) / 1e6)
        print(f"{pattern:28} {trace.size:9} {statistics.median(rates):8.2f} M/s")


if __name__ == "__main__":
    accuracy()
    speed()
