"""``accel verilog``: the hardware of a machine, or of one of its units, as Verilog."""

import argparse
import dataclasses
import inspect
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.commands._machine import add_machine_arguments, assignments, machine_of
from accel.errors import UserError
from accel.runs import check_folder

if TYPE_CHECKING:
    from accel.arch import Arch

HELP = "write the Verilog of an engine, or of a unit of it"
EXAMPLES = (
    "accel verilog --arch spatten-1-8 -o build/spatten-1-8",
    "accel verilog --arch tiny --set topk.lanes=8 -o build/tiny",
    "accel verilog --unit topk -o build/verilog",
    "accel verilog --unit topk --arch edge --set lanes=8 --set value_bits=32 -o build/verilog --area",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--unit", metavar="NAME", help="only this unit, one that 'accel list units' shows with Verilog")
    add_machine_arguments(
        parser, "change a number of the machine (topk.lanes=32) or, with --unit, a parameter of the unit (lanes=32)"
    )
    parser.add_argument("-o", "--out", default="verilog", metavar="DIR", help="folder to write to")
    parser.add_argument("--area", action="store_true", help="synthesise it too and print cells and area (needs pyosys)")


def run(args: argparse.Namespace) -> None:
    """Write the files and print their names."""
    if args.unit:
        _write_unit(args)
    else:
        _write_engine(args)


def _write_engine(args: argparse.Namespace) -> None:
    from accel.units.engine import EngineUnit

    if args.area:
        raise UserError("verilog: --area is of one unit; add --unit NAME, or use 'accel synth' for the engine")
    arch, _ = machine_of(args)
    EngineUnit.of(arch)  # what the hardware cannot be is told first
    folder = Path(args.out)
    check_folder(folder)
    import amaranth  # noqa: F401  (before anything is told)

    from rtl.package import TOP, write_package

    start = time.perf_counter()
    print(f"{arch.name}: writing Verilog; the full-size machine takes about a minute", file=sys.stderr)
    package = write_package(arch, folder)
    for name, text in package.texts.items():
        print(f"{folder / name}  ({len(text.encode()):,} bytes)")
    axi = arch.memory_spec.channels + 2
    print(
        f"module {TOP}: {len(package.ports)} ports (clk, rst, irq, AXI4-Lite registers, {axi} AXI4 masters), "
        f"{time.perf_counter() - start:.0f} s"
    )


def _write_unit(args: argparse.Namespace) -> None:
    from accel.arch import load_arch
    from rtl.verilog import unit_parameters, write_unit

    given = assignments(args.set)
    unit_parameters(args.unit)  # an unknown unit is told first
    arch = load_arch(args.arch, {key: value for key, value in given.items() if "." in key})
    parameters = parameters_of(args.unit, arch) | {key: value for key, value in given.items() if "." not in key}
    unit_parameters(args.unit, **parameters)
    if args.area:
        import pyosys  # noqa: F401  (before anything is written)
    folder = Path(args.out)
    check_folder(folder)
    try:
        path = write_unit(args.unit, parameters, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    said = ", ".join(f"{key} = {value}" for key, value in parameters.items())
    print(f"{path}  ({os.path.getsize(path):,} bytes; {said})")
    if args.area:
        from reports.page import console, fields, show
        from rtl.area import unit_area

        show(console(), fields(_area_lines(unit_area(args.unit, **parameters))))


def parameters_of(unit: str, arch: "Arch") -> dict[str, Any]:
    """The unit's parameters in that machine, by name.

    A unit that several parts of the machine use in different widths is written as for the attention probabilities.
    """
    from accel.units.softmax import WEIGHT_BITS
    from rtl.verilog import unit_parameters

    kind = type(unit_parameters(unit))
    if not hasattr(kind, "of"):
        return {}
    wanted = inspect.signature(kind.of).parameters
    known = {"arch": arch, "value_bits": WEIGHT_BITS, "head_dim": arch.max_head_dim}
    made = kind.of(**{name: known[name] for name in wanted})
    return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}


def _area_lines(result: dict[str, Any]) -> dict[str, Any]:
    lines: dict[str, Any] = {
        "library": "NanGate 45 nm open cell"
        if result["library"] == "NanGate45"
        else "generic gates of Yosys (no area)",
        "cells": f"{result['cells']:,}, of which {result['flip_flops']:,} flip-flops",
        "memories": f"{result['memory_bits']:,} bit, not in the cells",
    }
    if "area_um2" in result:
        lines["area"] = (
            f"{result['area_um2']:,.0f} um2 without memories, {result['flip_flop_area_um2']:,.0f} of it flip-flops"
        )
    if result.get("critical_path_ps"):
        lines["longest path"] = (
            f"{result['critical_path_ps']:,.0f} ps between registers, before wires (estimate of ABC)"
        )
    return lines
