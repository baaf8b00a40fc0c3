"""The report of ``accel bench``: rows, averages, and the reproduction table where all it needs was run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accel import row_store
from accel.arch import Arch
from accel.bench import beside, end_to_end, figures_cost, figures_speed, figures_traffic
from accel.bench.figure import Results, Row, geometric, mean
from accel.bench.row import FORMAT, Asked
from accel.bench.runner import code_digest, run_rows
from accel.bench.sets import BERT, EVERY, GPT2, MAIN, SETS, asked_of
from accel.session import code_version
from workloads.benchmarks import Benchmark, Variant, load_benchmarks

Report = dict[str, Any]
Tell = Callable[[str, float], None]
PUBLISHED_MACHINE = "spatten"


def bench(
    chosen: Sequence[Benchmark], variant: Variant, arch: Arch, changes: dict[str, Any], seed: int, folder: Path,
    processes: int, tell: Tell, command: str,
) -> tuple[Report, int]:  # fmt: skip
    """Run what is not in ``folder`` yet.

    The reproduction table needs all benchmarks with all techniques, on the published machine (whatever is changed in
    it), and the sets of runs that it compares.

    Returns:
        The report, and how many runs had to be made.

    Raises:
        UserError: a benchmark that the machine cannot run.
    """
    reproduces = len(chosen) == len(load_benchmarks()) and variant == Variant() and arch.name == PUBLISHED_MACHINE
    asked: dict[str, list[Asked]]
    if reproduces:
        asked = {name: asked_of(name, chosen, arch, changes, seed) for name in SETS}
    else:
        asked = {MAIN: [Asked(one, variant, arch, tuple(changes.items()), seed) for one in chosen]}
    rows, ran = run_rows([one for found in asked.values() for one in found], folder, processes, tell)
    sets: dict[str, list[Row]] = {}
    for name, found in asked.items():
        sets[name], rows = rows[: len(found)], rows[len(found) :]
    report = {
        "format": FORMAT,
        "kind": "bench",
        "command": command,
        "code_version": code_version(),
        "code_digest": code_digest(),
        "arch": arch.model_dump(mode="json"),
        "set": changes,
        "seed": seed,
        "without": list(variant.without),
        "rows": sets[MAIN],
        "averages": averages(sets[MAIN]),
    }
    if reproduces:
        fc = {bits: _fc(bits, arch, seed, folder) for bits in end_to_end.WEIGHT_BITS}
        results = Results(arch, sets, fc, command, beside.rivals(seed, folder), beside.topk(arch, seed))
        report |= {"figures": figures(results), "fc": list(fc.values()), "sets": _brief(results)}
    return report, ran


def figures(results: Results) -> list[Row]:
    """The reproduction table, by section."""
    found = [
        *figures_traffic.traffic(results),
        *figures_speed.throughput(results),
        *figures_cost.eighth(results),
        *figures_speed.steps(results),
        *figures_speed.end_to_end(results),
        *figures_cost.area_and_power(results),
        *figures_cost.sorter(results),
    ]
    return sorted(found, key=lambda row: [int(part) for part in row["where"].split(".")])


def averages(rows: Sequence[Row]) -> list[Row]:
    """Per family and over all: ratios by geometric mean, rates, times, powers and energies by arithmetic mean."""
    found = []
    groups = [*((family, (family,)) for family in EVERY), ("all BERT", BERT), ("all GPT-2", GPT2), ("all", EVERY)]
    for title, families in groups:
        those = [row for row in rows if row["family"] in families]
        if those and not (len(families) > 1 and {row["family"] for row in those} != set(families)):
            found.append({"group": title, "benchmarks": len(those), **_average(those)})
    return found


def _average(rows: Sequence[Row]) -> Row:
    return {
        **{f"ratio_{name}": geometric(row["ratio"][name] for row in rows) for name in ("fp32", "fp16", "int8")},
        "done": mean(row["throughput_ops_per_s"]["done"] for row in rows),
        "without_second_passes": mean(row["throughput_ops_per_s"]["without_second_passes"] for row in rows),
        "dense_equivalent": mean(row["throughput_ops_per_s"]["dense_equivalent"] for row in rows),
        "peak_share": mean(row["peak_share"] for row in rows),
        "latency_s": mean(row["latency_s"] for row in rows),
        "energy_pJ": mean(row["energy_pJ"]["total"] for row in rows),
        "power_W": mean(row["power_W"]["total"] for row in rows),
    }


def _fc(bits: int, arch: Arch, seed: int, folder: Path) -> Row:
    key = end_to_end.key_of(end_to_end.GPT2_MEDIUM, bits, arch, seed, code_digest())
    path = folder / "rows" / f"fc-{arch.name}-{key}.json"
    return row_store.kept(
        path, end_to_end.FORMAT, lambda: end_to_end.measure_fc(end_to_end.GPT2_MEDIUM, bits, arch, seed)
    )


def _brief(results: Results) -> Report:
    """Every set of runs: what was off or changed, and the figures that the table uses."""
    return {
        name: {
            "without": list(SETS[name].without),
            "set": rows[0]["set"],
            "arch": rows[0]["arch"],
            "command": results.options(name),
            "rows": [
                {
                    "name": row["name"], "cycles": row["cycles"], "latency_s": row["latency_s"],
                    "dram_bytes": row["dram_bytes"], "limit": row["bound"]["limit"],
                    "power_W": row["power_W"]["total"], "throughput_ops_per_s": row["throughput_ops_per_s"],
                }
                for row in rows
            ],
        }
        for name, rows in results.sets.items()
    }  # fmt: skip
