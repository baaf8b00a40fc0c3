"""Random rows through top-k, QK array, softmax and PV array: every transfer of the Verilog in the simulator's cycle.

    python -m tests.campaign.units --rows 100000

Rows are shared evenly by the units, and those of a unit by the instances (sizes) of its equivalence tests. They are of
the tests' kinds (ties, saturation, sums at powers of two, tiles ...) among the tests' stall patterns on every port.
Golden answers every row, the simulator says value and cycle of every transfer, and both are compared with the Verilog.
Exit code 0 if nothing differs.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel.verify.harness import missing_tools
from tests.campaign.summary import write_summary
from tests.campaign.unit_cases import ROWS, SUITES, Suite, random_cases
from tests.equivalence.harness import simulate
from tests.equivalence.rtl_view import MARGIN_CYCLES

CASES_AT_ONCE = 20  # per simulation


def run_unit(suite: Suite, rows: int, seed: int) -> dict[str, Any]:
    """At least ``rows`` rows on the unit's instances."""
    from rtl.verilog import unit_verilog

    total: dict[str, Any] = {"unit": suite.name, "rows": 0, "transfers": 0, "cycles": 0}
    wrong: dict[str, Any] = {"differing_transfers": 0, "rows_unlike_golden": 0, "differing_cases": []}
    start = time.perf_counter()
    for number, instance in enumerate(suite.instances):
        text, done, first = unit_verilog(suite.name, **asdict(instance)), 0, 0
        share = rows // len(suite.instances) + (number < rows % len(suite.instances))
        while done < share:
            batch = min(CASES_AT_ONCE, -(-(share - done) // ROWS))
            cases = list(random_cases(suite, instance, seed, first, batch))
            first += batch
            counts, differing = _compare(suite, text, cases)
            done += counts["rows"]
            for name, count in counts.items():
                total[name] += count
            wrong["differing_transfers"] += sum(each["transfers"] for each in differing)
            wrong["rows_unlike_golden"] += sum(each["rows"] for each in differing)
            wrong["differing_cases"] += differing
        print(
            f"  {suite.name}: {total['rows']:,} rows after {instance}, {wrong['differing_transfers']} transfers and "
            f"{wrong['rows_unlike_golden']} rows differ, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    return total | wrong


def _compare(suite: Suite, text: str, cases: Sequence[Any]) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Cases of one instance: what was compared, and the cases that differ."""
    expected = [suite.schedule(case.unit, case.rows, case.stalls) for case in cases]
    cycles = [transfers[-1].cycle + MARGIN_CYCLES for transfers in expected]
    runs = [suite.rtl.rtl_run(case, count) for case, count in zip(cases, cycles, strict=True)]
    counts = {"rows": 0, "transfers": 0, "cycles": sum(cycles)}
    differing = []
    for case, right, handshakes in zip(cases, expected, simulate(text, suite.name, runs), strict=True):
        found = suite.rtl.as_transfers(case, handshakes)
        bad = sum(a != b for a, b in zip(right, found, strict=False)) + abs(len(right) - len(found))
        golden, answers = suite.right(case), suite.found(case, found)
        rows = sum(a != b for a, b in zip(golden, answers, strict=False)) + abs(len(golden) - len(answers))
        counts["rows"] += len(case.rows)
        counts["transfers"] += len(right)
        if bad or rows:
            differing.append({"case": case.name, "unit": str(case.unit), "transfers": bad, "rows": rows})
            print(f"  {case.name} on {case.unit}: {bad} transfers, {rows} rows differ", flush=True)
    return counts, differing


def main() -> int:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign.units",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [suite.name for suite in SUITES]
    parser.add_argument("--unit", action="append", choices=names, help="only this one; more than once for several")
    parser.add_argument("--rows", type=int, default=100_000, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, help="JSON summary (default build/campaign/units.json)")
    args = parser.parse_args()
    if why := missing_tools():
        print(why, file=sys.stderr)
        return 2
    start = time.perf_counter()
    suites = [suite for suite in SUITES if suite.name in (args.unit or names)]
    found = [run_unit(suite, -(-args.rows // len(suites)), args.seed) for suite in suites]
    path = write_summary("units", {"seed": args.seed, "units": found}, args.out)
    for one in found:
        print(
            f"{one['unit']}: {one['rows']:,} rows, {one['transfers']:,} transfers in {one['cycles']:,} cycles: "
            f"{one['differing_transfers']} differing transfers, {one['rows_unlike_golden']} rows unlike golden"
        )
    print(f"{sum(one['rows'] for one in found):,} rows, {time.perf_counter() - start:.0f} s; summary: {path}")
    return int(any(one["differing_cases"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
