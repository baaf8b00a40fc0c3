"""Verilog of every preset: how long it takes to write, and whether Verilator's lint and Yosys' checks find anything.

    python -m tests.campaign.verilog [--arch NAME ...]

Verilator: ``--lint-only -Wall`` with the waivers of tests/rtl/lint.py. Yosys: ``check -assert`` (loops, drivers) per
module and flattened, no latches. Exit code 0 if all are clean.
"""

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from accel.arch import archs, load_arch
from rtl.verilog import engine_verilog
from tests.campaign.summary import write_summary
from tests.rtl.lint import missing_lint, verilator_warnings, yosys_problems


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Of one preset."""
    path = folder / f"{name}.v"
    times = [time.perf_counter()]
    path.write_text(engine_verilog(load_arch(name)))
    times.append(time.perf_counter())
    warnings = verilator_warnings(path, "engine")
    times.append(time.perf_counter())
    problems = yosys_problems(path, "engine")
    times.append(time.perf_counter())
    write_s, lint_s, check_s = (round(b - a, 1) for a, b in pairwise(times))
    return {
        "arch": name, "bytes": path.stat().st_size, "write_s": write_s, "lint_s": lint_s, "check_s": check_s,
        "verilator": warnings, "yosys": problems,
    }  # fmt: skip


def main() -> int:
    """Exit code 1 if anything is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.verilog", description=__doc__.split("\n")[0])
    parser.add_argument("--arch", nargs="+", default=archs(), choices=archs())
    args = parser.parse_args()
    if why := missing_lint():
        print(why, file=sys.stderr)
        return 2
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.arch:
            one = measured(name, Path(folder))
            found.append(one)
            for tool in ("verilator", "yosys"):
                if one[tool]:
                    print(f"{name}: {tool}: {one[tool]}")
            clean = "clean" if not one["verilator"] + one["yosys"] else "NOT CLEAN"
            print(f"{name}: {one['bytes']:,} bytes in {one['write_s']} s; Verilator's lint {one['lint_s']} s, Yosys' "
                  f"checks {one['check_s']} s: {clean}", flush=True)  # fmt: skip
    print(f"summary: {write_summary('verilog', {'presets': found})}")
    return int(any(one["verilator"] or one["yosys"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
