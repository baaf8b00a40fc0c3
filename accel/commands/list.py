"""``accel list``: what there is to run, to run it on, and what was run."""

import argparse
import inspect
import pkgutil
from pathlib import Path

from rich.table import Table

from accel.commands._networks import NAMES
from accel.errors import UserError
from accel.runs import default_folder, read_run, stored_runs
from reports.page import add, console, quantity, show, table

HELP = "list workloads, machines, units, memories or stored runs"
EXAMPLES = ("accel list", "accel list archs", "accel list runs --runs results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "what", nargs="?", choices=sorted(LISTS), metavar="WHAT", help=f"{', '.join(LISTS)}; all if not given"
    )
    parser.add_argument("-o", "--runs", metavar="DIR", help="run store (default: $ACCEL_RUNS, else ./runs)")


def run(args: argparse.Namespace) -> None:
    """Print the tables."""
    out = console()
    for at, what in enumerate([args.what] if args.what else LISTS):
        if at:
            out.print()
        show(out, LISTS[what](Path(args.runs) if args.runs else default_folder()))


def _workloads(_: Path) -> Table:
    from workloads.catalog import workloads
    from workloads.nets.store import list_models
    from workloads.systems import load_system

    made = table("workload", "kind", "about", left=3)
    for workload in workloads():
        if workload.kind != "system":
            add(made, workload.name, workload.kind.replace("_", " "), workload.about)
            continue
        for one in load_system(workload.name).configurations:
            add(made, one.name, "system", f"{workload.about} Unit: {one.unit}.")
    for stored in list_models():
        if stored.name in NAMES:
            here = "weights are here" if stored.folder else f"get its weights with 'accel models get {stored.name}'"
            add(made, stored.name, f"network, {stored.entry.kind}", f"{stored.entry.title}; {here}")
    add(made, "--trace FILE", "trace, schedule", "your own rows: the CSV of the SpAtten release, or a YAML schedule")
    return made


def _archs(_: Path) -> Table:
    from accel.arch import archs, load_arch

    made = table("machine", "about", "clock", "mult.", "bandwidth", "SRAM", left=2)
    for name in archs():
        arch = load_arch(name)
        bandwidth = arch.peak_read_bytes_per_cycle * arch.clock_MHz * 1e6
        add(
            made,
            name,
            arch.about,
            f"{arch.clock_MHz} MHz",
            arch.qk.multipliers + arch.pv.multipliers,
            quantity(bandwidth, "B/s", 0 if bandwidth >= 1e9 else 1),
            f"{(arch.sram.k_bytes + arch.sram.v_bytes) / 1024:,.0f} KiB",
        )
    return made


def _units(_: Path) -> Table:
    import accel.units
    import sim

    try:
        from rtl.verilog import unit_names

        hardware = set(unit_names())
        verilog = {True: "yes", False: "-"}
    except UserError:
        hardware, verilog = set(), {True: "?", False: "?"}
    simulated = {module.name for module in pkgutil.iter_modules(sim.__path__)}
    names = sorted({module.name for module in pkgutil.iter_modules(accel.units.__path__)} | hardware)
    made = table("unit", "simulator", "Verilog", "about", left=4)
    for name in names:
        about = inspect.getdoc(__import__(f"accel.units.{name}", fromlist=["_"])) or ""
        add(
            made,
            name,
            "yes" if name in simulated else "-",
            verilog[name in hardware],
            " ".join(about.split("\n\n")[0].split()),
        )
    return made


def _memories(_: Path) -> Table:
    from accel.cost.factors import memories
    from accel.memory import load_memory, memory_names

    made = table("memory", "standard", "clock", "access", "per channel", "energy", left=2)
    for name in memory_names():
        spec = load_memory(name)
        add(
            made,
            name,
            spec.standard,
            f"{1e6 / spec.tCK_ps:,.0f} MHz",
            f"{spec.access_bytes} B",
            quantity(spec.peak_bytes_per_channel_per_s, "B/s", 1),
            f"{memories()[name].read.value:g} pJ/bit" if name in memories() else "no source",
        )
    return made


def _runs(folder: Path) -> Table:
    made = table("run", "cycles", "seed", "code", left=1)
    made.columns[0].no_wrap = True
    made.columns[-1].justify = "left"
    for path in stored_runs(folder):
        try:
            report = read_run(path)
            add(
                made,
                path.parent.name,
                f"{report['cycles']:,}",
                report["seed"],
                str(report["code_version"]).partition("+")[2] or "-",
            )
        except UserError:
            add(made, path.parent.name, "-", "-", "cannot be read, see 'accel show'")
    if not made.rows:
        add(made, f"none in {folder}", "", "", "")
    return made


LISTS = {"workloads": _workloads, "archs": _archs, "units": _units, "memories": _memories, "runs": _runs}
