"""``accel synth``: tables, JSON, files; without the tools, which are tested in tests/rtl/test_synth.py."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel-codesign[rtl]'")

from rtl import synth, verilog
from tests.accel.cli_case import accel

COUNTED: dict[str, Any] = {
    "part": synth.PART, "cells": {"LUT4": 1_000, "TRELLIS_FF": 500}, "luts": 1_000, "ram_luts": 0, "flip_flops": 500,
    "multipliers": 7, "block_rams": 3, "yosys_s": 12.0, "problem": "",
}  # fmt: skip
PLACED: dict[str, Any] = {
    "placed": {"TRELLIS_FF": [500, 83_640]}, "nextpnr_s": 90.0, "fmax_MHz": 41.25, "critical_ns": 24.2,
    "critical_from": "pv.tree.sum_FF_Q", "critical_to": "pv.scale.shift_FF_D", "critical_steps": [{}] * 9,
}  # fmt: skip


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Stand-ins for both tools; what they are asked for, and what they answer ("answer")."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "yosys.log").write_text("a log\n")
    asked: dict[str, Any] = {"answer": COUNTED | PLACED}

    def synthesise(verilog: str, top: str, tell: synth.Tell, place: bool) -> dict[str, Any]:
        asked.update(verilog=verilog, top=top, place=place)
        tell("yosys: starting")
        return asked["answer"] | {"logs": str(tmp_path / "logs")}

    monkeypatch.setattr(synth, "missing_tools", lambda: None)
    monkeypatch.setattr(verilog, "engine_verilog", lambda arch, shared: f"// {arch.name}, {arch.max_heads} heads\n")
    monkeypatch.setattr(synth, "synthesise", synthesise)
    return asked


def test_table(tools: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    done = accel(capsys, "synth", "--arch", "tiny", "--set", "max_heads=2")
    assert done.code == 0
    assert (tools["verilog"], tools["top"], tools["place"]) == ("// tiny, 2 heads\n", "engine", True)
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "LUT4 1,000 83,640 1.2 %" in lines
    assert "MULT18X18D 7 156 4.5 %" in lines
    assert "Fmax 41.2 MHz" in lines
    assert "from pv.tree.sum_FF_Q" in lines
    assert "yosys: starting" in done.err


def test_machine_that_does_not_fit(tools: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tools["answer"] = COUNTED | {"problem": synth.shortage({**COUNTED, "luts": 90_000})}
    done = accel(capsys, "synth", "--arch", "tiny", "--count")
    assert done.code == 0
    assert not tools["place"]
    assert "not supported: needs 90,000 LUT4, the part has 83,640" in done.out
    assert "Fmax" not in done.out


def test_json_and_files(tools: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = accel(capsys, "synth", "--arch", "tiny", "--json", "-o", folder)
    result = json.loads(done.out)
    assert (result["machine"], result["target"], result["fmax_MHz"]) == ("tiny", "ecp5", 41.25)
    assert json.loads((folder / "synth.json").read_text()) == result
    assert (folder / "engine.v").read_text() == tools["verilog"]
    assert (folder / "yosys.log").read_text() == "a log\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "ice40"], "ice40"),
        (["--arch", "tinny"], "did you mean tiny"),
        (["-o", "/dev/null/x"], "/dev/null"),
    ],
)
def test_bad_input(tools: dict[str, Any], capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    done = accel(capsys, "synth", *words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert "verilog" not in tools


def test_missing_tools(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "_MODULES", {"no_such_module": "no-such-package"})
    done = accel(capsys, "synth", "--arch", "tiny")
    assert (done.code, done.out) == (2, "")
    assert done.err == "accel: synth: no-such-package not installed; pip install 'accel-codesign[fpga]'\n"
