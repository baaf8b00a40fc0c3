"""What the tests of the command line share: a workload that takes a moment, and a way to call ``accel``."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from accel.cli import main

TRACES = Path(__file__).parents[1] / "data" / "traces"
MACHINE = ("--arch", "tiny", "--seeds", "1")


class Done(NamedTuple):
    """A finished command."""

    code: int
    out: str
    err: str


def tiny_trace(folder: Path, name: str = "tiny.csv") -> Path:
    """tests/data/traces/tiny-pruned.csv with heads of 32, which the machine "tiny" has room for."""
    path = folder / name
    path.write_text((TRACES / "tiny-pruned.csv").read_text().replace(",64.0,", ",32.0,"))
    return path


def accel(capsys: pytest.CaptureFixture[str], *words: object) -> Done:
    """Call the command in this process."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return Done(code, out, err)


def run_tiny(capsys: pytest.CaptureFixture[str], folder: Path, *words: object) -> Done:
    """Run the tiny trace into the store ``folder/runs``."""
    trace = folder / "tiny.csv"
    if not trace.exists():
        tiny_trace(folder)
    done = accel(capsys, "run", "--trace", trace, *MACHINE, "--runs", folder / "runs", *words)
    assert done.code == 0, done.err
    return done


def process(folder: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    """Call the command in a process of its own, in ``folder``."""
    command = [sys.executable, "-m", "accel.cli", *(str(word) for word in words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
