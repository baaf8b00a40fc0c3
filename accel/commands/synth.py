"""``accel synth``: what the engine takes of an FPGA, and how fast it runs there."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from accel.commands._machine import add_machine_arguments, machine_of
from accel.errors import UserError
from accel.runs import check_folder, write_whole

HELP = "synthesise a machine's engine for an FPGA: cells, clock, critical path"
EXAMPLES = (
    "accel synth --arch tiny --target ecp5 -o build/synth",
    "accel synth --arch edge --count --json",
)
TARGETS = ("ecp5",)
EVERY_S = 20  # between progress lines
LONGEST_PATH_LINES = 12
KEPT = ("yosys.log", "nextpnr.log", "cells.json", "report.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_machine_arguments(parser)
    parser.add_argument("--target", default="ecp5", choices=TARGETS, help="FPGA family; the largest part of it")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="also write the result, the Verilog and the tools' logs here"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of the tables")
    parser.add_argument("--count", action="store_true", help="count cells only, do not place and route")


def run(args: argparse.Namespace) -> None:
    """Print the tables."""
    arch, _ = machine_of(args)
    if args.out:
        check_folder(Path(args.out))
    from rtl.synth import missing_tools, synthesise
    from rtl.verilog import engine_verilog

    if missing := missing_tools():
        raise UserError(f"synth: {missing}")
    tell = _Progress()
    tell("writing Verilog")
    text = engine_verilog(arch, shared=False)  # a memory of each instance, to be marked for block RAM
    result = {"machine": arch.name, "target": args.target} | synthesise(text, "engine", tell, not args.count)
    if args.out:
        try:
            _write(Path(args.out), text, result)
        except OSError as error:
            raise UserError(f"{args.out}: cannot be written ({error.strerror or error})") from error
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        _print(result)


class _Progress:
    """Lines on stderr, with the time: the first of each tool, then one now and then."""

    def __init__(self) -> None:
        self._start, self._last, self._tool = time.monotonic(), 0.0, ""

    def __call__(self, text: str) -> None:
        now, tool = time.monotonic(), text.split(":")[0]
        if tool != self._tool or now - self._last >= EVERY_S:
            self._last, self._tool = now, tool
            print(f"{now - self._start:6.0f} s  {text}", file=sys.stderr, flush=True)


def _write(folder: Path, text: str, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "engine.v", text)
    write_whole(folder / "synth.json", json.dumps(result, indent=1) + "\n")
    for name in KEPT:
        if (source := Path(result["logs"], name)).exists():
            shutil.copyfile(source, folder / name)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Group
    from rich.text import Text

    from reports.page import add, console, fields, share, show, table
    from rtl.synth import AVAILABLE, RESOURCES, SMALLEST_BLOCK_RAM_BITS

    counts = table(f"{result['machine']} on {result['part']}", "used", "there", "share")
    for name, most in AVAILABLE.items():
        add(counts, RESOURCES[name], f"{result[name]:,}", f"{most:,}", share(result[name], most))
    add(counts, "  of the LUT4, memories", f"{result['ram_luts']:,}", "", "")
    lines: dict[str, Any] = {
        "cells": ", ".join(f"{kind} {n:,}" for kind, n in result["cells"].items()),
        "block RAM": f"memories of {SMALLEST_BLOCK_RAM_BITS:,} bit or more",
        "Yosys": f"{result['yosys_s']:,.0f} s",
    }
    if result["problem"]:
        lines["placing"] = result["problem"]
    if "fmax_MHz" in result:
        lines |= {
            "nextpnr": f"{result['nextpnr_s']:,.0f} s, out of context: paths from and to ports are not timed",
            "Fmax": f"{result['fmax_MHz']:.1f} MHz",
            "critical path": f"{result['critical_ns']:.1f} ns, {len(result['critical_steps'])} steps",
            "  from": result["critical_from"],
            "  to": result["critical_to"],
        }
    show(console(), Group(counts, Text(), fields(lines)))
