"""Is a mutant none at all? Yosys' proof that its module's outputs, and what its registers, memories and children get,
are the same for all inputs and all that registers, memories and children give: in every state, reachable or not.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.campaign.mutation_sites import TOP, Site, broken, modules_of

TIMEOUT_S = 60
_RUN = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""


def _module(text: str, name: str) -> str:
    """The module's text, and its children as boxes with inputs and outputs only."""
    lines = text.split("\n")
    modules = modules_of(lines)
    start, end = modules[name]
    body = lines[start : end + 1]
    out = body
    children = {line.split()[0].lstrip("\\") for line in body if line.startswith("  ") and line.rstrip().endswith("(")}
    for child in sorted(children & set(modules)):
        first, last = modules[child]
        ports = [line for line in lines[first + 1 : last] if re.match(r"  (input|output) ", line)]
        out = [*out, "(* blackbox *)", lines[first], *ports, "endmodule"]
    return "\n".join(out) + "\n"


def is_equivalent(text: str, site: Site) -> bool:
    """Whether the module with this change is proved the same; False also if the proof is not found in time."""
    name = site.module
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "right.v").write_text(_module(text, name))
        (folder / "wrong.v").write_text(_module(broken(text, site), name))
        commands = []
        for side in ("right", "wrong"):
            commands += [
                f"read_verilog {side}.v", f"rename \\{name} same", "proc", "opt_clean", "memory_collect", "opt_clean",
                "expose -evert-dff same", f"expose -evert same/t:$mem* same/t:{TOP}.*", f"design -stash {side}",
            ]  # fmt: skip
        commands += [
            *(f"design -copy-from {side} -as {side} same" for side in ("right", "wrong")),
            "miter -equiv -flatten right wrong both", "hierarchy -top both",
            f"sat -timeout {TIMEOUT_S} -verify -prove trigger 0 both",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, "-c", _RUN], input="\n".join(commands), cwd=folder, capture_output=True, text=True,
                timeout=2 * TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0
