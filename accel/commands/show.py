"""``accel show``: print a stored run again."""

import argparse
import sys
from pathlib import Path

from accel.runs import default_folder, find_run, is_row, read_run, report_text

HELP = "print the report of a stored run again"
EXAMPLES = (
    "accel show gpt2-small-wikitext2-spatten",
    "accel show 801f",
    "accel show runs/gpt2-small-wikitext2-spatten-801f9ecef9/run.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help="a run.json, its folder, or the beginning of a run's name or id")
    parser.add_argument("-o", "--runs", metavar="DIR", help="run store (default: $ACCEL_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print the stored JSON instead of the tables")


def run(args: argparse.Namespace) -> None:
    """Print it."""
    from reports.page import console
    from reports.run_table import print_run
    from reports.zoo_row import print_row

    report = read_run(find_run(args.run, Path(args.runs) if args.runs else default_folder()))
    if args.json:
        sys.stdout.write(report_text(report))
    else:
        (print_row if is_row(report) else print_run)(report, console())
