"""``accel bench``: the 30 published benchmarks on a machine, and the published figures beside ours."""

import argparse
import sys
from pathlib import Path

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import check_target, default_folder, write_whole

HELP = "run the published benchmarks and set the published figures beside ours"
EXAMPLES = (
    "accel bench",
    "accel bench bert-base gpt2-small-wikitext-2",
    "accel bench gpt2-medium --without head-pruning --without parallel-topk",
    "accel bench --set topk.lanes=32 --json bench.json -o results",
)
LARGEST_SEED = 65535
MOST_PROCESSES = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks or families (default: all 30, and the reproduction table)"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="TECHNIQUE",
        help="turn a technique off: token-pruning, value-pruning, head-pruning, quantisation, query-pruning, "
        "parallel-topk; may be repeated",
    )  # fmt: skip
    add_machine_arguments(parser)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help=f"of scores and pivots, 1 to {LARGEST_SEED}")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="runs at a time")
    parser.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the tables")
    parser.add_argument(
        "-o", "--out", metavar="DIR", help="where rows and tables are kept (default: bench in $ACCEL_RUNS or ./runs)"
    )


def run(args: argparse.Namespace) -> None:
    """Run what is not there yet, print, store."""
    if not 1 <= args.seed <= LARGEST_SEED:
        raise UserError(f"--seed {args.seed}: must be 1 to {LARGEST_SEED}")
    if not 1 <= args.processes <= MOST_PROCESSES:
        raise UserError(f"--processes {args.processes}: must be 1 to {MOST_PROCESSES}")
    from workloads.benchmarks import Variant, find_benchmarks

    variant, chosen = Variant.of(args.without), find_benchmarks(args.names)
    arch, changes = machine_of(args)
    command = command_line(args, ("arch", "seed"), ("processes", "json", "out"))
    folder = Path(args.out) if args.out else default_folder() / "bench"
    if args.json and args.json != "-":
        check_target(Path(args.json))
    from accel.bench.report import PUBLISHED_MACHINE, bench
    from accel.row_store import json_text, prepare
    from reports.bench_table import bench_markdown, bench_page

    prepare(folder)
    with progress_bar("bench") as tell:
        report, ran = bench(
            chosen, variant, arch, changes, args.seed, folder, args.processes, tell, command
        )  # fmt: skip
    text = json_text(report)
    write_whole(folder / f"bench-{arch.name}.json", text)
    write_whole(folder / f"bench-{arch.name}.md", bench_markdown(report))
    if args.json == "-":
        sys.stdout.write(text)
    else:
        from reports.page import console, show

        if args.json:
            write_whole(Path(args.json), text)
        show(console(columns=170), bench_page(report))
    if "figures" not in report:
        print(f"no reproduction table: it needs all 30, all techniques, machine {PUBLISHED_MACHINE}", file=sys.stderr)
    print(f"{len(chosen)} benchmarks, {ran} runs: {folder / f'bench-{arch.name}.md'}, .json", file=sys.stderr)
