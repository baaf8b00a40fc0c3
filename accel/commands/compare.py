"""``accel compare``: stored runs side by side."""

import argparse
from pathlib import Path

from accel.errors import UserError
from accel.runs import default_folder, find_run, read_run

HELP = "put stored runs side by side, with ratios to the first"
EXAMPLES = (
    "accel compare gpt2-small-wikitext2-spatten-8 gpt2-small-wikitext2-spatten-c",
    "accel compare before/run.json after/run.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", nargs="+", metavar="RUN", help="as for 'accel show'; two or more")
    parser.add_argument("-o", "--runs", metavar="DIR", help="run store (default: $ACCEL_RUNS, else ./runs)")


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    if len(args.run) < 2:
        raise UserError("compare: give two or more runs")
    from reports.compare_table import print_comparison
    from reports.page import console

    folder = Path(args.runs) if args.runs else default_folder()
    print_comparison([read_run(find_run(what, folder)) for what in args.run], console())
