"""Proofs about hardware: Yosys makes an and-inverter graph of a harness, ABC proves its assertions or breaks them.

Both come in the ``pyosys`` wheel. A harness is a component whose input ports are free in every cycle, the reset too: so
everything is proved for resets at any moment, and for whatever registers without a reset hold afterwards. Asserted is
what holds unless reset is on (:func:`always`), assumed what the surroundings promise (:func:`promise`).

Three questions: :func:`assert_proved`, for any number of cycles (property-directed reachability, ABC's ``pdr``);
:func:`assert_bounded`, for so many cycles from power-on (bounded model checking, ``bmc3``); and :func:`counterexample`,
for harnesses around a unit that was broken on purpose (:func:`broken`): a property that cannot fail proves nothing.
"""

import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pyosys
from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Module, ResetSignal, Value
from amaranth.lib import wiring

__all__ = ["DEEP", "always", "assert_bounded", "assert_proved", "broken", "counterexample", "never_reset", "promise"]

#: Deeper bounds and larger instances, by ``FORMAL=deep python -m pytest tests/formal``.
DEEP = os.environ.get("FORMAL") == "deep"
SECONDS = 900 if DEEP else 60  # that one question may take before it counts as not answered

_PASSES = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.stdin.read().splitlines():
    libyosys.run_pass(command, design)
"""


def always(m: Module, condition: Value) -> None:
    """``condition`` holds in every cycle in which reset is not on."""
    m.d.comb += Assert(condition | ResetSignal())


def never_reset(m: Module) -> None:
    """Only the reset at power-on: for what is looked at from there for some cycles."""
    m.d.comb += Assume(~ResetSignal())


def promise(m: Module, condition: Value) -> None:
    """The surroundings see to ``condition`` in every cycle in which reset is not on."""
    m.d.comb += Assume(condition | ResetSignal())


def _graph(harness: wiring.Component, folder: Path, free_products: bool = False) -> Path:
    """The harness as an and-inverter graph. Registers and memories start at their initial values."""
    (folder / "harness.il").write_text(rtlil.convert(harness, name="harness", emit_src=False))
    commands = [
        "read_rtlil harness.il",
        "hierarchy -top harness",
        "proc",
        "flatten",
        "opt_clean",
        *(["cutpoint t:$mul"] if free_products else []),
        "opt_clean",
        "memory -nomap",
        "memory_map -formal",
        "async2sync",
        "chformal -lower",
        "formalff -clk2ff -ff2anyinit",
        "setundef -undriven -anyseq",
        "dffunmap",
        "opt_expr; opt_merge; opt_clean",
        "simplemap; techmap",  # the first is quicker for what it knows
        "opt_clean",
        "aigmap",
        "write_aiger -I -B -zinit -no-startoffset -map harness.map harness.aig",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _PASSES], input="\n".join(commands), cwd=folder, capture_output=True, text=True
    )
    graph = folder / "harness.aig"
    assert graph.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return graph


def _ask(harness: wiring.Component, folder: Path, question: str, free_products: bool = False) -> str:
    _graph(harness, folder, free_products)
    abc = Path(pyosys.__file__).parent / "yosys-abc"
    script = f"read_aiger harness.aig; fold; strash; scleanup; print_stats; {question}"
    done = subprocess.run([abc, "-c", script], cwd=folder, capture_output=True, text=True)
    return (done.stdout + done.stderr)[-500:]


def assert_proved(harness: wiring.Component, folder: Path, free_products: bool = False) -> None:
    """No assertion of ``harness`` can fail, ever. With ``free_products`` not even if multipliers give anything, for
    what has nothing to do with their results: they make a graph large.
    """
    said = _ask(harness, folder, f"pdr -T {SECONDS}", free_products)
    assert "Property proved" in said, said


def assert_bounded(harness: wiring.Component, cycles: int, folder: Path) -> None:
    """No assertion of ``harness`` can fail within so many cycles from power-on."""
    said = _ask(harness, folder, f"bmc3 -F {cycles} -T {SECONDS}")
    assert re.search(rf"No output .*asserted in {cycles} frames", said), said


def counterexample(harness: wiring.Component, cycles: int | None, folder: Path) -> int | None:
    """The first cycle in which an assertion can fail, if one can within so many, or None. Without ``cycles``: some
    cycle in which one can fail; for failures that take long.
    """
    question = f"pdr -T {SECONDS}" if cycles is None else f"bmc3 -F {cycles} -T {SECONDS}"
    said = _ask(harness, folder, question)
    failed = re.search(r"asserted in frame (\d+)", said)
    assert failed or "Property proved" in said or re.search(rf"No output .*asserted in {cycles} frames", said), said
    return int(failed[1]) if failed else None


def broken(module: str, right: str = "", wrong: str = "", **names: object) -> types.ModuleType:
    """The module ``module`` with the one place ``right`` of its source changed to ``wrong``, and ``names`` in it
    replaced; not the one that others import. Without a change: with a part of it replaced by a freer one.
    """
    original = importlib.import_module(module)
    source = inspect.getsource(original)
    places = source.count(right) if right else 1
    assert places == 1, f"{module}: {places} times {right!r}; the mutation needs another place"
    changed = types.ModuleType(module)
    changed.__file__ = original.__file__
    source = source.replace(right, wrong) if right else source
    exec(compile(source, f"<broken {module}>", "exec"), changed.__dict__)
    changed.__dict__.update(names)
    return changed
