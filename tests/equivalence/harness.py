"""Runs any unit's Verilog under cocotb and returns its transfers; see accel/verify/harness.py for what it needs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from accel.verify.harness import missing_tools, run_bench

__all__ = ["Handshake", "Run", "missing_tools", "repeat_command", "simulate"]

BUILDS = Path(__file__).parents[2] / "build" / "equivalence"


class Run(NamedTuple):
    """One run from reset. sources: port -> (payloads, offer pattern); sinks: port -> ready pattern; patterns per cycle,
    repeated; cycles: how long. Every payload is the whole stream payload as one integer."""

    sources: Mapping[str, tuple[Sequence[int], Sequence[bool]]]
    sinks: Mapping[str, Sequence[bool]]
    cycles: int


class Handshake(NamedTuple):
    """port, cycle since reset, payload as one integer."""

    port: str
    cycle: int
    payload: int


def repeat_command(request: pytest.FixtureRequest) -> str:
    """The command that repeats the running test alone."""
    large = "EQUIVALENCE=large " if os.environ.get("EQUIVALENCE") == "large" else ""
    return f"repeat: {large}python -m pytest '{request.node.nodeid}'"


def simulate(verilog: str, name: str, runs: Sequence[Run], seed: int = 1) -> list[list[Handshake]]:
    """Handshakes of every run, in order of cycle, on the module ``name`` of the text ``verilog``.

    The executable is kept under build/equivalence by the text's hash, so only a changed unit is built again.
    Raises RuntimeError, with the log's place, if the build or the simulator itself fails.
    """
    work = [run._asdict() for run in runs]
    record = run_bench(verilog, name, "stream_bench", work, seed, BUILDS, Path(__file__).parent)
    return [[Handshake(*item) for item in run] for run in record]
