"""``accel run``: a workload on a machine, from its rows or its network to a stored report."""

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.commands import _networks, _systems
from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.commands._progress import progress_bar
from accel.errors import UserError
from accel.runs import check_folder, check_target, default_folder, report_text, store, write_whole

if TYPE_CHECKING:
    from accel.arch import Arch
    from accel.program import Jobs
    from accel.session import Run
    from workloads.row_trace import RowTrace

HELP = "simulate a workload on a machine and store the report"
EXAMPLES = (
    "accel run gpt2-small-wikitext2",
    "accel run gpt2-small-wikitext2 --set topk.lanes=32 --seeds 5 --json report.json",
    "accel run --trace rows.csv --arch spatten-1-8 --timeline timeline.json",
    'accel run minilm --text "A cat sat." --text "A dog ran." --arch edge --keep-tokens 0.5',
    "accel run vir-s16 --arch spatten-1-8 --json vir.json --timeline vir-timeline.json",
    "accel run smollm2 --wikipedia Autism --context 512 --generate 32 --msb-bits 6 --lsb-bits 4 --threshold 0.1",
)
LARGEST_SEED = 65535
WIDTHS = {"key": 12, "value": 12, "lsb": 0, "query": 12}  # what load_trace takes for widths that a trace does not set
TIMELINE_ROWS = 2000
OUTPUTS = ("json", "timeline", "timeline_rows", "runs", "no_store")  # where results go is not part of what was run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("workload", nargs="?", metavar="WORKLOAD", help="a name that 'accel list workloads' shows")
    parser.add_argument("--trace", metavar="FILE", help="a per-row trace (CSV) or a schedule of rows (YAML) instead")
    add_machine_arguments(parser)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help=f"of scores and pivots, 1 to {LARGEST_SEED}")
    out = parser.add_argument_group("results")
    out.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the tables")
    out.add_argument(
        "--timeline", metavar="FILE", help="write a timeline for Perfetto (ui.perfetto.dev) or chrome://tracing"
    )
    out.add_argument("--timeline-rows", type=int, default=TIMELINE_ROWS, metavar="N", help="first rows to draw in it")
    out.add_argument("-o", "--runs", metavar="DIR", help="run store (default: $ACCEL_RUNS, else ./runs)")
    out.add_argument("--no-store", action="store_true", help="leave nothing in the run store")
    trace = parser.add_argument_group("traces")
    trace.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="run N seeds from --seed on, for the spread of the cycles"
    )
    for what, bits in WIDTHS.items():
        trace.add_argument(
            f"--default-{what}-bits", type=int, default=bits, metavar="B",
            help=f"{'second plane of keys' if what == 'lsb' else what} width where the trace sets none",
        )  # fmt: skip
    _networks.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Run, print, store."""
    _check(args)
    arch, changes = machine_of(args)
    command = command_line(args, ("arch", "seed"), OUTPUTS)
    store_folder = Path(args.runs) if args.runs else default_folder()
    if not args.no_store:
        check_folder(store_folder)
    for path in (args.json, args.timeline):
        if path and path != "-":
            check_target(Path(path))
    if _systems.is_system(args.workload):
        _systems.run(args, arch, changes, command, None if args.no_store else store_folder)
        return
    with progress_bar(args.workload or args.trace) as tell:
        if args.workload in _networks.NAMES:
            result, jobs, options = _networks.run_network(args, arch, tell)
        else:
            result, jobs, options = _run_trace(args, arch, tell)
    report = result.report
    report["options"] = {"set": changes, **options}
    report["command"] = command
    if args.timeline:
        from reports.timeline import timeline_text

        write_whole(Path(args.timeline), timeline_text(report, jobs, result.work, result.timing, args.timeline_rows))
    if args.json and args.json != "-":
        write_whole(Path(args.json), report_text(report))
    where = None if args.no_store else store(report, store_folder)
    if args.json == "-":
        sys.stdout.write(report_text(report))
    else:
        from reports.page import console
        from reports.run_table import print_run

        print_run(report, console())
    if args.timeline:
        shown = min(args.timeline_rows, len(result.work.rows))
        print(f"timeline of the first {shown:,} of {len(result.work.rows):,} rows: {args.timeline}", file=sys.stderr)
    if where:
        print(f"stored: {where}", file=sys.stderr)


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be, before anything slow is loaded."""
    if bool(args.workload) == bool(args.trace):
        raise UserError(
            "run: give a workload or --trace FILE" + (", not both" if args.trace else "; see 'accel list workloads'")
        )
    if not 1 <= args.seed <= LARGEST_SEED:
        raise UserError(f"--seed {args.seed}: must be 1 to {LARGEST_SEED}")
    if args.seeds < 1 or args.seed + args.seeds - 1 > LARGEST_SEED:
        raise UserError(f"--seeds {args.seeds}: must be 1 or more, and the last seed at most {LARGEST_SEED}")
    if args.timeline_rows < 1:
        raise UserError(f"--timeline-rows {args.timeline_rows}: must be 1 or more")
    network, system = args.workload in _networks.NAMES, _systems.is_system(args.workload)
    trace_options = ("seeds", *(f"default_{what}_bits" for what in WIDTHS))
    refused = (*(trace_options if network or system else ()), *(() if network else _networks.OPTIONS))
    for option in refused:
        if getattr(args, option) != args.parser.get_default(option):
            right = "a trace or schedule" if option in trace_options else " or ".join(_networks.NAMES)
            raise UserError(f"--{option.replace('_', '-')} is for {right}, not for {args.workload or args.trace}")
    if system:
        _systems.check(args)


def _load(args: argparse.Namespace) -> "RowTrace":
    from workloads.catalog import ZOO, workloads
    from workloads.schedule import load_schedule
    from workloads.traces import load_trace

    defaults = {f"default_{what}_bits": getattr(args, f"default_{what}_bits") for what in WIDTHS}
    if args.trace and not args.trace.endswith((".yaml", ".yml")):
        return load_trace(args.trace, **defaults)
    for option in defaults:
        if defaults[option] != args.parser.get_default(option):
            raise UserError(f"--{option.replace('_', '-')}: a schedule sets all its widths; change it in the file")
    if args.trace:
        return load_schedule(args.trace)
    names = [workload.name for workload in workloads("token_schedule")]
    if args.workload not in names:
        names += [*_networks.NAMES, *_systems.names()]
        near = difflib.get_close_matches(args.workload, names, 1, 0.4)
        hint = f"did you mean {near[0]}?" if near else "'accel list workloads' shows what there is"
        raise UserError(f"no workload is called {args.workload}; {hint}")
    return load_schedule(ZOO / f"{args.workload}.yaml")


def _run_trace(args: argparse.Namespace, arch: "Arch", tell: Any) -> "tuple[Run, Jobs, dict[str, Any]]":
    trace = _load(args)
    from accel.lower.trace import lower_trace
    from accel.program import Opcode
    from accel.session import run_trace

    result = run_trace(trace, arch, args.seed, args.seeds - 1, tell)
    jobs = lower_trace(trace, arch).jobs
    options: dict[str, Any] = {"seeds": args.seeds}
    if args.trace:
        options |= {f"default_{what}_bits": getattr(args, f"default_{what}_bits") for what in WIDTHS}
    return result, jobs[jobs["opcode"] == Opcode.ATTEND], options
