"""``accel run vir-s16``: one configuration of the zoo, alone."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import report_text, store, write_whole

if TYPE_CHECKING:
    from accel.arch import Arch


def names() -> tuple[str, ...]:
    """Every system and configuration."""
    from workloads.systems import run_names

    return run_names()


def is_system(name: str | None) -> bool:
    """Whether a workload is a system of the zoo or one of its configurations."""
    from workloads.systems import known_run

    return bool(name) and known_run(str(name)) is not None


def check(args: argparse.Namespace) -> None:
    """Refuse the options of traces and networks."""
    if args.seed != args.parser.get_default("seed"):
        raise UserError(
            f"--seed {args.seed}: {args.workload} is measured on the zoo's own seeded tensors; leave --seed out"
        )


def run(args: argparse.Namespace, arch: "Arch", changes: dict[str, Any], command: str, folder: Path | None) -> None:
    """Run, write, print, store (in ``folder``, if any)."""
    from accel.zoo.report import row_report
    from workloads.systems import find_run

    system, one = find_run(args.workload)
    with progress_bar(one.name) as tell:
        report = row_report(system, one, arch, tell)
    report |= {"options": {"set": changes}, "command": command}
    if args.timeline:
        from accel.zoo.inner import inner_runs
        from reports.zoo_timeline import zoo_timeline_text

        text = zoo_timeline_text(report, inner_runs(one, arch), args.timeline_rows)
        write_whole(Path(args.timeline), text)
    if args.json and args.json != "-":
        write_whole(Path(args.json), report_text(report))
    where = store(report, folder) if folder else None
    if args.json == "-":
        sys.stdout.write(report_text(report))
    else:
        from reports.page import console
        from reports.zoo_row import print_row

        print_row(report, console())
    if args.timeline:
        print(f"timeline of {len(report['row']['phases'])} phases: {args.timeline}", file=sys.stderr)
    if where:
        print(f"stored: {where}", file=sys.stderr)
