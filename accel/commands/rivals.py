"""``accel rivals``: rival machines and the engine on the same tensors, one table."""

import argparse
import sys
from pathlib import Path

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import check_target, default_folder, write_whole

HELP = "compare the engine with rival machines on the same tensors"
EXAMPLES = (
    "accel rivals",
    "accel rivals a3 elsa spatten --json rivals.json",
    "accel rivals --quality -o results",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="machines (default: all); spatten is the engine")
    add_machine_arguments(parser)
    parser.set_defaults(arch="spatten-1-8")
    parser.add_argument(
        "--workload", action="append", default=[], metavar="W",
        help="only these tensors: seeded-320, seeded-512, minilm, smollm2; may be repeated",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the drawn tensors, 1 to 65535")
    parser.add_argument(
        "--quality", action="store_true",
        help="also quality against DRAM bytes in MiniLM and SmolLM2 (about five minutes more on a free core)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the table")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="where the report is kept (default: rivals in $ACCEL_RUNS or ./runs)"
    )


def run(args: argparse.Namespace) -> None:
    """Compare, print, store."""
    if not 1 <= args.seed <= 65535:
        raise UserError(f"--seed {args.seed}: must be 1 to 65535")
    arch, _ = machine_of(args)
    command = command_line(args, ("arch",), ("json", "out"))
    from accel.rivals.rows import check_machine, machine_names
    from accel.rivals.workloads import check_workloads

    names = list(dict.fromkeys(args.names)) or machine_names()
    for name in names:
        check_machine(name)
    check_workloads(args.workload)
    folder = Path(args.out) if args.out else default_folder() / "rivals"
    if args.json and args.json != "-":
        check_target(Path(args.json))
    from accel.rivals.report import json_text, rivals_report
    from accel.row_store import prepare
    from reports.rivals_table import LEGEND, rivals_markdown, rivals_table

    prepare(folder)
    with progress_bar("rivals") as tell:
        report = rivals_report(
            names, arch, args.seed, command, workloads=args.workload, quality=args.quality, tell=tell,
            folder=folder,
        )  # fmt: skip
    text = json_text(report)
    write_whole(folder / f"rivals-{arch.name}.json", text)
    write_whole(folder / f"rivals-{arch.name}.md", rivals_markdown(report))
    if args.json == "-":
        sys.stdout.write(text)
    else:
        from reports.page import console, show

        if args.json:
            write_whole(Path(args.json), text)
        show(console(columns=150), rivals_table(report))
        print(f"\n{LEGEND}")
    print(f"{len(report['rows'])} rows: {folder / f'rivals-{arch.name}.md'}, .json", file=sys.stderr)
