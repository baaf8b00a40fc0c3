"""``accel verify``: golden machine, simulator and RTL on the same programs, compared in every bit and every cycle."""

import argparse
import dataclasses
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.errors import UserError
from accel.runs import check_folder, check_target, write_whole

if TYPE_CHECKING:
    from accel.arch import Arch
    from accel.verify.cases import EngineCase
    from accel.verify.session import Report

HELP = "run programs on the RTL and compare every bit and cycle with the simulator"
EXAMPLES = (
    "accel verify --arch tiny",
    "accel verify --arch edge --random --programs 10 --seed 7",
    "accel verify --arch tiny --program 'lsb on some rows' --waves build/waves",
)
DIFFERENT = 1  # exit code
MISMATCHES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_machine_arguments(parser)
    which = parser.add_argument_group("programs", "the directed ones and some random ones, unless told otherwise")
    which.add_argument("--directed", action="store_true", help="only the directed programs, one per corner")
    which.add_argument("--random", action="store_true", help="only random programs")
    which.add_argument("--programs", type=int, default=60, metavar="N", help="random programs")
    which.add_argument("--modes", type=int, default=0, metavar="N", help="and random programs of decay and linear")
    which.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the first random program")
    which.add_argument("--program", metavar="NAME", help="only this program, as a mismatch names it")
    parser.add_argument(
        "--memory", choices=("dram", "random"), default="dram",
        help="behind the ports: the simulator's memory, or latencies at random (then only values are compared)",
    )  # fmt: skip
    parser.add_argument(
        "--waves", metavar="DIR", help="folder for a waveform (VCD) of the first program that differs, or of the first"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report to a file, or to stdout with -")


def run(args: argparse.Namespace) -> int:
    """Run, print, and say by the exit code whether all is equal."""
    if args.programs < 1:
        raise UserError(f"--programs {args.programs}: must be 1 or more")
    if args.modes < 0:
        raise UserError(f"--modes {args.modes}: must be 0 or more")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more")
    if args.directed and args.random:
        raise UserError("give --directed or --random, not both; neither runs both kinds")
    arch, changes = machine_of(args)
    from accel.units.engine import EngineUnit
    from accel.verify.harness import missing_tools

    EngineUnit.of(arch)  # what cannot be built is told first
    if reason := missing_tools():
        raise UserError(f"verify: {reason}")
    if args.waves:
        check_folder(Path(args.waves))
    if args.json and args.json != "-":
        check_target(Path(args.json))
    from accel.commands._progress import progress_bar
    from accel.verify.session import verify, write_waves

    cases = _cases(args, arch)

    def command(case: "EngineCase") -> str:
        words = ["accel", "verify", "--arch", args.arch, "--program", case.name]
        for key, value in changes.items():
            words += ["--set", f"{key}={value}"]
        return shlex.join(words + (["--memory", "random"] if args.memory == "random" else []))

    start = time.perf_counter()
    with progress_bar("accel verify") as tell:
        try:
            report = verify(arch, cases, mode=args.memory, seed=args.seed + 1, command=command, tell=tell)
            wave = None
            if args.waves:
                tell("waves", 0.9)
                names = {mismatch.case for mismatch in report.mismatches}
                chosen = next((case for case in cases if case.name in names), cases[0])
                wave = write_waves(chosen, Path(args.waves), mode=args.memory, seed=args.seed + 1)
        except RuntimeError as error:
            raise UserError(f"verify: {error}") from error
    taken = time.perf_counter() - start
    if args.json:
        _write_json(args, arch, report, taken)
    if args.json != "-":
        _print(args, arch, changes, report, taken)
        if wave:
            print(f"\n{wave}: probes.* beside expected.*, which are shown a cycle after they happen")
    return DIFFERENT if report.mismatches else 0


def _cases(args: argparse.Namespace, arch: "Arch") -> "list[EngineCase]":
    """The programs asked for. Raises UserError for a name that there is not."""
    import difflib

    from accel.verify.cases import directed_cases, random_case, random_cases, random_mode, unsupported

    if args.program:
        directed = {case.name: case for case in directed_cases(arch)}
        machine, _, number = args.program.rpartition("-")
        drawn = {arch.name: random_case, f"{arch.name}-mode": random_mode}
        if machine in drawn and number.isdigit():
            case = drawn[machine](arch, int(number))
            if reason := unsupported(case):
                raise UserError(f"--program {args.program}: {reason}")
            return [case]
        if args.program not in directed:
            near = difflib.get_close_matches(args.program, directed, 1, 0.5)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"known: {arch.name}-NUMBER, {arch.name}-mode-NUMBER, {', '.join(directed)}"
            )
            raise UserError(f"--program {args.program}: there is no such program; {hint}")
        return [directed[args.program]]
    found = [] if args.random else directed_cases(arch)
    if args.directed:
        return found
    modes = [random_mode(arch, seed) for seed in range(args.seed, args.seed + args.modes)]
    return [*found, *random_cases(arch, args.programs, args.seed), *modes]


def _rates(report: "Report") -> dict[str, float]:
    """Cycles per second: RTL under Verilator and cocotb; simulator, timing alone and with values."""
    return {
        "rtl": report.cycles / report.rtl_s,
        "simulator_timing": report.cycles / report.timing_s,
        "simulator": report.cycles / report.values_s,
    }


def _write_json(args: argparse.Namespace, arch: "Arch", report: "Report", taken_s: float) -> None:
    import sys

    from accel.session import code_version

    made: dict[str, Any] = {
        "format": 1,
        "kind": "verify",
        "command": command_line(args, ("arch",), ("json", "waves")),
        "code_version": code_version(),
        "arch": arch.model_dump(mode="json"),
        "set": args.set,
        "seed": args.seed,
        "memory": args.memory,
        "programs": report.programs,
        "cycles": report.cycles,
        "transfers": report.transfers,
        "boundaries": {name: dataclasses.asdict(tally) for name, tally in report.boundaries.items()},
        "mismatches": [
            {**dataclasses.asdict(m), "expected": str(m.expected), "actual": str(m.actual)} for m in report.mismatches
        ],
        "seconds": {
            "verilog": report.verilog_s, "build": report.build_s, "rtl": report.rtl_s, "all": taken_s,
            "simulator_timing": report.timing_s, "simulator": report.values_s,
        },
        "cycles_per_second": _rates(report),
    }  # fmt: skip
    text = json.dumps(made, indent=1) + "\n"
    if args.json == "-":
        sys.stdout.write(text)
        return
    write_whole(Path(args.json), text)


def _print(args: argparse.Namespace, arch: "Arch", changes: dict, report: "Report", taken_s: float) -> None:
    from reports.page import add, console, fields, show, table

    out = console()
    said = "".join(f", {key} = {value}" for key, value in changes.items())
    if report.boundaries:
        made = table("boundary", "transfers", "differing values", "differing cycles")
        for name, tally in report.boundaries.items():
            style = "bold red" if tally.values or tally.cycles else ""
            add(made, name, f"{tally.transfers:,}", f"{tally.values:,}", f"{tally.cycles:,}", style=style)
        values, cycles = (sum(getattr(t, which) for t in report.boundaries.values()) for which in ("values", "cycles"))
        add(made, "all", f"{report.transfers:,}", f"{values:,}", f"{cycles:,}")
        show(out, made)
        out.print()
    rates = _rates(report)
    ratios = {name: rate / rates["rtl"] for name, rate in rates.items()}
    lines: dict[str, Any] = {
        "machine": f"{arch.name}{said}",
        "programs": f"{report.programs}, seed {args.seed}, {report.cycles:,} cycles",
        "memory": "the simulator's" if args.memory == "dram" else "latencies at random: only values are compared",
        "RTL": f"{report.rtl_s:.1f} s, {rates['rtl']:,.0f} cycles/s under Verilator and cocotb",
        "simulator": (
            f"{report.timing_s:.2f} s, {rates['simulator_timing']:,.0f} cycles/s, {ratios['simulator_timing']:,.0f} "
            f"times the RTL; with values {report.values_s:.2f} s, {ratios['simulator']:,.0f} times"
        ),
        "all": f"{taken_s:.0f} s, of which Verilog {report.verilog_s:.0f} s, build {report.build_s:.0f} s",
    }
    show(out, fields(lines))
    if not report.mismatches:
        what = "outputs, writes, counters and transfers" if report.boundaries else "outputs"
        print(f"\nGolden, simulator and RTL agree: {what} of {report.programs} programs are equal.")
        return
    print(f"\nDIFFERENT: {len(report.mismatches)} places")
    for mismatch in report.mismatches[:MISMATCHES_SHOWN]:
        print(mismatch)
