"""Random engine programs on golden, simulator and Verilog: 0 differing bits, 0 differing cycles.

    python -m tests.campaign.engine --arch tiny --programs 200 --seed 1

Several --arch share the programs evenly. Programs are those of accel.verify.cases, one per seed from --seed on (seeds
whose program the hardware refuses are passed over). Each runs from reset with the simulator's DRAM behind the ports.
Compared are every output bit, the cycle, address and bytes of every write, and all counters, cycles among them.
Exit code 0 if nothing differs. The first build of a machine takes a minute (tiny) to a quarter of an hour (spatten).
"""

import argparse
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from accel.arch import archs, load_arch
from accel.verify.cases import EngineCase, random_cases
from accel.verify.compare import predict
from accel.verify.engine import Case, run_engine
from accel.verify.harness import build, missing_tools
from rtl.verilog import engine_verilog
from tests.campaign.measure import Verdict, judge, predictions, simulator_speed
from tests.campaign.summary import write_summary

AT_ONCE = 20  # programs per simulation: how often progress is told


def run_arch(name: str, programs: int, seed: int, verilog: Path | None) -> dict[str, Any]:
    """All programs of one machine."""
    arch = load_arch(name)
    start = time.perf_counter()
    text = verilog.read_text() if verilog else engine_verilog(arch)
    written = time.perf_counter()
    build(text, "engine")
    built = time.perf_counter()
    print(f"{name}: Verilog of {text.count(chr(10)):,} lines in {written - start:.0f} s, "
          f"Verilator build in {built - written:.0f} s", flush=True)  # fmt: skip
    waiting = iter(random_cases(arch, programs, seed))
    verdicts: list[Verdict] = []
    rtl_s = timing_s = values_s = 0.0
    while cases := list(islice(waiting, AT_ONCE)):
        expected = predictions(cases)
        runs = run_engine(arch, text, [Case(case.program, case.tensors) for case in cases])
        rtl_s += sum(run.seconds for run in runs)
        for prediction, run in zip(expected, runs, strict=True):
            verdicts.append(judge(prediction, run, repeat(prediction.case)))
            speed = simulator_speed(prediction.case)
            timing_s, values_s = timing_s + speed.timing_s, values_s + speed.values_s
            for line in verdicts[-1].mismatches:
                print(f"  {line}\n    {prediction.case.about}", flush=True)
        wrong = sum(bool(verdict.mismatches) for verdict in verdicts)
        print(f"  {len(verdicts)} programs, {wrong} differ, {time.perf_counter() - built:.0f} s", flush=True)
    cycles = sum(verdict.cycles for verdict in verdicts)
    return {
        "arch": name,
        "first_seed": seed,
        "programs": len(verdicts),
        "rows": sum(verdict.rows for verdict in verdicts),
        "cycles": cycles,
        "differing_bits": sum(verdict.differing_bits for verdict in verdicts),
        "differing_cycles": sum(verdict.differing_cycles for verdict in verdicts),
        "differing_programs": [verdict.as_dict() for verdict in verdicts if verdict.mismatches],
        "build_s": round(built - written, 1),
        "verilator_cycles_per_s": round(cycles / rtl_s),
        "simulator_timing_only_cycles_per_s": round(cycles / timing_s),
        "simulator_with_values_cycles_per_s": round(cycles / values_s),
    }


def repeat(case: EngineCase) -> str:
    """The command that runs this program alone."""
    arch, seed = case.name.rsplit("-", 1)
    return f"python -m tests.campaign.engine --arch {arch} --programs 1 --seed {seed}"


def main() -> int:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaign.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--arch", action="append", choices=archs(), help="machine, more than once for several")
    parser.add_argument("--programs", type=int, default=200, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first program")
    parser.add_argument("--verilog", type=Path, help="the engine's Verilog of the one --arch, if it was written before")
    parser.add_argument("-o", "--out", type=Path, help="JSON summary (default build/campaign/engine-ARCH.json)")
    args = parser.parse_args()
    if why := missing_tools():
        print(why, file=sys.stderr)
        return 2
    names = args.arch or ["tiny"]
    predict(next(iter(random_cases(load_arch("tiny"), 1))))  # compiles the simulator before anything is timed
    found = []
    for number, name in enumerate(names):
        share = args.programs // len(names) + (number < args.programs % len(names))
        found.append(run_arch(name, share, args.seed, args.verilog))
    path = write_summary(f"engine-{'-'.join(names)}", {"machines": found}, args.out)
    for one in found:
        per_s, timing = one["verilator_cycles_per_s"], one["simulator_timing_only_cycles_per_s"]
        values = one["simulator_with_values_cycles_per_s"]
        print(
            f"{one['arch']}: {one['programs']} programs, {one['rows']:,} rows, {one['cycles']:,} cycles: "
            f"{one['differing_bits']} differing bits, {one['differing_cycles']} differing cycles, "
            f"{len(one['differing_programs'])} differing programs; Verilator {per_s:,} cycles/s, simulator "
            f"{timing:,} ({timing / per_s:.0f}x), with values {values:,} ({values / per_s:.0f}x)"
        )
    print(f"summary: {path}")
    return int(any(one["differing_programs"] or one["differing_bits"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
