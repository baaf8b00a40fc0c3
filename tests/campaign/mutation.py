"""Mutation campaign: break the engine's RTL in many places, one at a time, and see whether whole programs show it.

    python -m tests.campaign.mutation --arch tiny --mutants 150 --seed 1

One Verilator build holds all mutants (``mutation_sites``); each runs the directed engine programs, random ones, illegal
ones, some after a reset in mid-operation and some with random latencies, until one differs from the simulator in
outputs, cycles, counters, error or a transfer between units, or takes too long. What survives is proved equivalent by
Yosys where that is quick, else it is listed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from accel.arch import Arch, load_arch
from accel.verify.harness import run_bench
from rtl.verilog import engine_verilog
from tests.campaign.mutation_programs import Programs
from tests.campaign.mutation_proof import is_equivalent
from tests.campaign.mutation_sites import Site, choose, sites, with_mutants

BENCH = "tests.campaign.mutation_bench"
AT_ONCE = 25  # mutants per simulation: what a crash costs, and how often progress is told
GOAL = 0.9


class Campaign:
    """The build with all mutants, and its programs."""

    def __init__(self, arch: Arch, chosen: list[Site], text: str, folder: Path, randoms: int, seed: int) -> None:
        self._arch, self._text = arch, with_mutants(text, chosen)
        self._programs = Programs(arch, folder, randoms, seed)
        self._shown: list[int] = []
        self._expected: list[Any] = []

    def _simulate(self, mutants: list[int], expected: list[Any] | None) -> Any:
        work = {
            "arch": self._arch.model_dump(), "programs": self._programs.entries, "mutants": mutants,
            "expected": expected, "shown": self._shown,
        }  # fmt: skip
        return run_bench(self._text, "engine", BENCH, work, bench_dir=Path(__file__).parents[2])

    def check_unbroken(self) -> None:
        """Run mutant 0, the engine as it is, twice: first for what is expected, then as if it were a mutant.

        Raises:
            RuntimeError: it differs from the simulator, or from itself.
        """
        (self._expected,) = self._simulate([0], None)["records"]
        if wrong := self._programs.differing(self._expected):
            raise RuntimeError("the engine differs already without a mutant: " + "; ".join(wrong[:3]))
        self._programs.tighten(self._expected)
        self._shown = [0] * len(self._expected)
        (control,) = self._simulate([0], self._expected)["records"]
        if control["by"]:
            raise RuntimeError(f"the engine without a mutant is caught too, by {control['by']}: {control['program']}")
        cycles = sum(r["counters"]["cycles"] for r in self._expected)
        print(f"{len(self._expected)} programs, {cycles:,} cycles: the engine as it is agrees", flush=True)

    def run(self, mutants: list[int]) -> list[dict[str, Any]]:
        """One record per mutant; what ends the simulator is a crash."""
        try:
            answer = self._simulate(mutants, self._expected)
        except RuntimeError:
            if len(mutants) == 1:
                return [{"mutant": mutants[0], "by": "crash", "program": "", "runs": 1, "detail": ""}]
            return [record for mutant in mutants for record in self.run([mutant])]
        self._shown = answer["shown"]
        return answer["records"]


def report(chosen: list[Site], records: list[dict[str, Any]], equivalent: set[int]) -> str:
    """The summary: counts, per unit, and every survivor."""
    caught = [r for r in records if r["by"]]
    survivors = [r for r in records if not r["by"]]
    share = len(caught) / len(records)
    real = len(records) - len(equivalent)
    lines = [
        f"{len(records)} mutants, {len(caught)} caught ({share:.1%}); {len(survivors)} survived, {len(equivalent)} of "
        f"them proved equivalent: {len(caught)} of the {real} others ({len(caught) / real:.1%})",
        "by " + ", ".join(f"{by} {n}" for by, n in Counter(r["by"] for r in caught).most_common()),
        "of " + ", ".join(f"{kind} {_score(chosen, records, lambda s, k=kind: s.kind == k)}"
                          for kind in sorted({s.kind for s in chosen})),
    ]  # fmt: skip
    for unit in sorted({site.unit for site in chosen}):
        lines.append(f"  {unit:28} {_score(chosen, records, lambda s, u=unit: s.unit == u)}")
    for record in survivors:
        why = "equivalent" if record["mutant"] in equivalent else "not shown"
        lines.append(f"survived, {why}: mutant {record['mutant']}, {chosen[record['mutant'] - 1]}")
    return "\n".join(lines)


def _score(chosen: list[Site], records: list[dict[str, Any]], belongs: Any) -> str:
    mine = [r for r in records if belongs(chosen[r["mutant"] - 1])]
    return f"{sum(bool(r['by']) for r in mine)}/{len(mine)}"


def main() -> int:
    """Exit code 0 if at least GOAL of the mutants that are not proved equivalent were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("--arch", default="tiny", help="machine")
    parser.add_argument("--mutants", type=int, default=150, help="how many, over all units in turn")
    parser.add_argument("--seed", type=int, default=1, help="of the places and of the random programs")
    parser.add_argument("--random", type=int, default=60, help="random programs beside the directed ones")
    parser.add_argument("--unit", help="only mutants of this unit, as the report names it")
    parser.add_argument("-o", "--out", type=Path, help="a JSON file with every mutant")
    args = parser.parse_args()
    start = time.monotonic()
    arch = load_arch(args.arch)
    text = engine_verilog(arch, probes=True, shared=False)
    found = [site for site in sites(text) if args.unit in (None, site.unit)]
    chosen = choose(found, args.mutants, args.seed)
    print(f"{arch.name}: {len(chosen)} of {len(found):,} places in {len({s.unit for s in chosen})} units", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(arch, chosen, text, Path(folder), args.random, args.seed)
        campaign.check_unbroken()
        records: list[dict[str, Any]] = []
        numbers = list(range(1, len(chosen) + 1))
        for i in range(0, len(numbers), AT_ONCE):
            records += campaign.run(numbers[i : i + AT_ONCE])
            caught = sum(bool(r["by"]) for r in records)
            print(f"  {len(records)}: {caught} caught, {time.monotonic() - start:.0f} s", flush=True)
    survivors = [r["mutant"] for r in records if not r["by"]]
    equivalent = {mutant for mutant in survivors if is_equivalent(text, chosen[mutant - 1])}
    print(report(chosen, records, equivalent))
    print(f"{time.monotonic() - start:.0f} s")
    if args.out:
        rows = [r | chosen[r["mutant"] - 1]._asdict() | {"equivalent": r["mutant"] in equivalent} for r in records]
        args.out.write_text(json.dumps(rows, indent=1))
    return 0 if sum(bool(r["by"]) for r in records) >= GOAL * (len(records) - len(equivalent)) else 1


if __name__ == "__main__":
    sys.exit(main())
