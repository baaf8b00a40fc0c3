"""``accel quality``: what real networks lose on the machine's arithmetic."""

import argparse
import sys
from pathlib import Path

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import check_target, write_whole

HELP = "run networks beside text and softmax on the machine's arithmetic and compare with float"
EXAMPLES = ("accel quality", "accel quality mamba silero", "accel quality g2p --json quality.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="networks, by the package of their weights (default: those at hand)"
    )
    add_machine_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the table")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    arch, _ = machine_of(args)
    if args.json and args.json != "-":
        check_target(Path(args.json))
    from accel.net_quality import NETWORKS, quality_report, quality_row
    from workloads.nets import store
    from workloads.refusal import suggestion

    for name in args.names:
        if name not in NETWORKS:
            raise UserError(f"quality: no network {name}; {suggestion(name, list(NETWORKS), 'there are')}")
        store.locate(name)  # refused now, not after the others
    names = args.names or [stored.name for stored in store.list_models() if stored.folder and stored.name in NETWORKS]
    if not names:
        raise UserError("quality: no weights are here; 'accel models get mamba' gets some, and so on")
    rows = []
    with progress_bar("quality") as tell:
        for at, name in enumerate(dict.fromkeys(names)):
            tell(name, at / len(names))
            rows.append(quality_row(name, arch))
    report = quality_report(rows, arch, command_line(args, ("arch",), ("json",)))
    from accel.zoo.store import json_text

    if args.json == "-":
        sys.stdout.write(json_text(report))
        return
    if args.json:
        write_whole(Path(args.json), json_text(report))
    from reports.page import console, show
    from reports.quality_table import quality_table

    show(console(columns=100), quality_table(report))
