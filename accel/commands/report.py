"""``accel report``: stored results as a page, as Markdown, and as single figures."""

import argparse
import shlex
import sys
from pathlib import Path

from accel.commands._command import command_line
from accel.errors import UserError
from accel.runs import check_folder, default_folder, find_run
from reports.sources import KINDS, OPTIONS, file_source, run_source, timeline_data

HELP = "write results as a page, as Markdown, and as single figures"
EXAMPLES = (
    "accel report gpt2-small-wikitext2-spatten -o report",
    "accel report --zoo runs/zoo/zoo-spatten.json --verify verify.json -o report",
    "accel report 7f1d --timeline timeline.json -o -",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", nargs="*", metavar="RUN", help="as for 'accel show'")
    for kind, command in KINDS.items():
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar="FILE",
            help=f"JSON of '{command}'; may be repeated",
        )  # fmt: skip
    parser.add_argument("--timeline", metavar="FILE", help="timeline of 'accel run --timeline', drawn as a figure")
    parser.add_argument("--title", default="", metavar="TEXT", help="title of the page (default: names the machines)")
    parser.add_argument("--runs", metavar="DIR", help="run store (default: $ACCEL_RUNS, else ./runs)")
    parser.add_argument(
        "-o", "--out", default="report", metavar="DIR", help="folder to write; - prints the Markdown and writes nothing"
    )


def run(args: argparse.Namespace) -> None:
    """Read, build, write."""
    if args.out != "-":
        check_folder(Path(args.out))
    if not (args.run or args.timeline or any(getattr(args, kind) for kind in KINDS)):
        raise UserError(f"report: name runs ('accel list runs' shows them), or give {OPTIONS} FILE")
    store = Path(args.runs) if args.runs else default_folder()
    sources = [run_source(find_run(what, store)) for what in args.run]
    for kind in KINDS:
        sources += [file_source(Path(file), kind) for file in getattr(args, kind)]
    timeline = timeline_data(Path(args.timeline)) if args.timeline else None
    from reports.build import PAGE, document, write_report

    made = document(sources, command_line(args, ("out",), ()), timeline, args.title)
    if args.out == "-":
        from reports.markdown import markdown

        sys.stdout.write(markdown(made))
        return
    paths = write_report(made, Path(args.out))
    page = Path(args.out) / PAGE
    figures = sum(path.suffix == ".svg" for path in paths)
    print(f"{page}  ({page.stat().st_size:,} bytes), report.md, {figures} figures, {len(made.sources)} files of data")
    print(f"'accel view {shlex.quote(args.out)}' opens it")
