"""``accel topk``: the top-k engines beside each other: cycles, energy, cells."""

import argparse
import sys
from pathlib import Path
from typing import Any

from accel.commands._command import command_line
from accel.commands._machine import add_machine_arguments, machine_of
from accel.errors import UserError
from accel.runs import check_target, write_whole

HELP = "compare the top-k engines: cycles, energy and, with --synth, cells"
EXAMPLES = (
    "accel topk",
    "accel topk --lanes 16 --keys 1024 --rows 2000 --json -",
    "accel topk --synth --json topk.json",
)
ENGINES = ("quickselect", "histogram", "sorter")
SHARES = (2, 4)  # of the keys are kept: every second, every fourth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--lanes", type=int, nargs="+", default=[16, 32], metavar="P", help="values per cycle")
    parser.add_argument(
        "--keys",
        type=int,
        nargs="+",
        default=[64, 128, 256, 512, 1024, 2048, 4096],
        metavar="N",
        help="values of a row",
    )
    parser.add_argument("--rows", type=int, default=1000, help="random rows of each length")
    parser.add_argument("--seed", type=int, default=1, help="of the rows")
    parser.add_argument("--synth", action="store_true", help="also count cells with Yosys; some minutes")
    add_machine_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the report here; - prints it instead of the tables")


def run(args: argparse.Namespace) -> None:
    """Measure, print, store."""
    for name in ("rows", "seed"):
        if getattr(args, name) < (1 if name == "rows" else 0):
            raise UserError(f"--{name} {getattr(args, name)}: must be {1 if name == 'rows' else 0} or more")
    if least := [n for n in args.keys if n < max(SHARES)]:
        raise UserError(f"--keys {least[0]}: must be {max(SHARES)} or more, so that something can be kept")
    arch, _ = machine_of(args)
    command = command_line(args, ("lanes", "keys", "rows", "seed", "arch"), ("json",))
    if args.json and args.json != "-":
        check_target(Path(args.json))
    from accel.commands._progress import progress_bar
    from accel.row_store import json_text
    from accel.session import code_version
    from accel.topk_figures import published_figures

    rows: list[dict[str, Any]] = []
    synthesis: list[dict[str, Any]] = []
    pairs = [(engine, lanes) for lanes in args.lanes for engine in ENGINES]
    with progress_bar("topk") as tell:
        for done, (engine, lanes) in enumerate(pairs):
            tell(f"{engine}, {lanes} lanes", done / len(pairs) / (2 if args.synth else 1))
            rows += _rows(engine, lanes, args, arch.technology_nm)
        figures = published_figures(args.rows, args.seed, arch.technology_nm, command)
        for done, (engine, lanes) in enumerate(pairs if args.synth else []):
            tell(f"cells of {engine}, {lanes} lanes", 0.5 + done / len(pairs) / 2)
            synthesis.append(_cells(engine, lanes, arch.max_context, arch.technology_nm))
    report = {
        "format": 1,
        "kind": "topk",
        "command": command,
        "code_version": code_version(),
        "arch": arch.model_dump(mode="json"),
        "seed": args.seed,
        "values": f"{args.rows} rows of each kind, 12-bit values, all equally likely",
        "rows": rows,
        "synthesis": synthesis,
        "figures": figures,
    }
    text = json_text(report)
    if args.json == "-":
        sys.stdout.write(text)
        return
    from reports.page import console, show
    from reports.topk_table import LEGEND, topk_table

    if args.json:
        write_whole(Path(args.json), text)
    show(console(columns=110), topk_table(report))
    print(f"\n{LEGEND}")


def _rows(engine: str, lanes: int, args: argparse.Namespace, technology_nm: int) -> list[dict[str, Any]]:
    from accel.topk_figures import surveyed

    rows = []
    for keys in args.keys:
        for share in SHARES:
            one = surveyed(engine, lanes, keys, keys // share, args.rows, args.seed, technology_nm)
            found = one.found
            ordered = sorted(found.latency.tolist())
            rows.append(
                {
                    "engine": engine, "lanes": lanes, "keys": keys, "kept": keys // share,
                    "cycles_mean": float(found.latency.mean()),
                    "cycles_p99": ordered[-(-99 * len(ordered) // 100) - 1],
                    "cycles_worst": ordered[-1],
                    "interval_cycles": found.interval_cycles,
                    "events": found.events,
                    "energy_pJ": one.energy_pJ,
                }
            )  # fmt: skip
    return rows


def _cells(engine: str, lanes: int, max_n: int, technology_nm: int) -> dict[str, Any]:
    from accel.cost.factors import load_technology
    from accel.units import implementation
    from accel.units.topk import TopKUnit
    from rtl.area import unit_area

    unit = TopKUnit(lanes, max_n=max(max_n, 2 * lanes), engine=engine)
    found = unit_area("topk", lanes=lanes, max_n=unit.max_n, engine=engine)
    technology = load_technology(technology_nm)
    parts = {"topk_element": lanes}  # the filter
    for operation, count in implementation("accel.units.topk", engine).operations(unit).items():
        parts[operation] = parts.get(operation, 0) + count
    model_um2 = sum(count * technology.operation_um2(operation)[0] for operation, count in parts.items())
    kept = ("library", "cells", "flip_flops", "memory_bits", "area_um2", "critical_path_ps")
    return {
        "engine": engine, "lanes": lanes, "value_bits": unit.value_bits, "max_n": unit.max_n,
        **{name: found[name] for name in kept if name in found}, "model_area_um2": model_um2,
    }  # fmt: skip
