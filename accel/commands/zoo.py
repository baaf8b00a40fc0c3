"""``accel zoo``: all systems on a machine, one table."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import check_target, default_folder, write_whole

if TYPE_CHECKING:
    from accel.arch import Arch
    from workloads.systems import Configuration, System

HELP = "run every system of the zoo on a machine and print one table"
EXAMPLES = (
    "accel zoo",
    "accel zoo vir-s16 retnet llama-3-8b-4k",
    "accel zoo --crossover -o results",
    "accel zoo --all --arch spatten-1-8 --json zoo.json -o results",
)

WIDE = 215
"""Columns of the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="systems or configurations (default: the first configuration of each system)",
    )
    parser.add_argument("--all", action="store_true", help="all configurations, not only the first of each system")
    parser.add_argument(
        "--crossover",
        action="store_true",
        help="instead: attention and retention at growing length, as numbers and as a figure (SVG)",
    )
    add_machine_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the table")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="where rows and table are kept (default: zoo in $ACCEL_RUNS or ./runs)"
    )


def run(args: argparse.Namespace) -> None:
    """Run what is not there yet, print, store."""
    if args.names and args.all:
        raise UserError("zoo: give names or --all, not both")
    if args.crossover and (args.names or args.all):
        raise UserError("zoo: --crossover has rows of its own; give neither names nor --all")
    arch, _ = machine_of(args)
    folder = Path(args.out) if args.out else default_folder() / "zoo"
    if args.json and args.json != "-":
        check_target(Path(args.json))
    if args.crossover:
        _crossover(args, arch, folder)
        return
    chosen = _chosen(args)
    from accel.zoo.store import json_text, prepare, rows, zoo_report
    from reports.zoo_table import LEGEND, zoo_markdown, zoo_table

    prepare(folder)
    done, taken = [], 0
    with progress_bar("zoo") as tell:
        tell(chosen[0][1].name, 0.0)
        for row, was_there in rows(chosen, arch, folder):
            done.append(row)
            taken += was_there
            after = chosen[len(done)][1].name if len(done) < len(chosen) else "done"
            tell(f"{len(done)} of {len(chosen)}, {after}", len(done) / len(chosen))
    report = zoo_report(done, arch, command_line(args, ("arch",), ("json", "out")))
    text = json_text(report)
    write_whole(folder / f"zoo-{arch.name}.json", text)
    write_whole(folder / f"zoo-{arch.name}.md", zoo_markdown(report))
    if args.json == "-":
        sys.stdout.write(text)
    else:
        from reports.page import console, show

        if args.json:
            write_whole(Path(args.json), text)
        show(console(columns=WIDE), zoo_table(report))
        print(f"\n{LEGEND}")
    again = f", {taken} of them from an earlier run" if taken else ""
    print(f"{len(done)} rows{again}: {folder / f'zoo-{arch.name}.md'}, .json", file=sys.stderr)


def _crossover(args: argparse.Namespace, arch: "Arch", folder: Path) -> None:
    from accel.zoo.crossover import crossover_report
    from accel.zoo.store import json_text, prepare
    from reports.crossover_table import crossover_markdown, crossover_table
    from reports.figures.canvas import standalone  # matplotlib is missed now, not after the simulation
    from reports.figures.crossover import crossover

    prepare(folder)
    with progress_bar("crossover") as tell:
        report = crossover_report(arch, command_line(args, ("arch",), ("json", "out")), tell=tell)
    text, stem = json_text(report), f"crossover-{arch.name}"
    write_whole(folder / f"{stem}.svg", standalone(crossover(report)))
    write_whole(folder / f"{stem}.json", text)
    write_whole(folder / f"{stem}.md", crossover_markdown(report))
    if args.json == "-":
        sys.stdout.write(text)
    else:
        from reports.page import console, show

        if args.json:
            write_whole(Path(args.json), text)
        show(console(columns=100), crossover_table(report))
    print(f"figure and numbers: {folder / stem}.svg, .md, .json", file=sys.stderr)


def _chosen(args: argparse.Namespace) -> "list[tuple[System, Configuration]]":
    from workloads.systems import find_run, load_zoo

    if args.names:
        found = [find_run(name) for name in args.names]
        names = [one.name for _, one in found]
        return [pair for at, pair in enumerate(found) if pair[1].name not in names[:at]]
    return [
        (system, one)
        for system in load_zoo()
        for one in (system.configurations if args.all else system.configurations[:1])
    ]
