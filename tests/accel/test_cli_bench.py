"""``accel bench``: rows, resuming, techniques off, refusals, interruption; no blank in the reproduction table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from accel.arch import load_arch
from accel.bench import beside, runner
from accel.bench.figure import UNEXPLAINED, Results, figure
from accel.bench.report import averages, figures
from accel.bench.sets import EVERY, MAIN, SETS, asked_of
from reports.bench_table import bench_markdown
from tests.accel.cli_case import accel
from workloads.benchmarks import LABELS, load_benchmarks

SHORT = ("bert-base-cola", "bert-base-sst-2")


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_rows_tables_and_resuming(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("bench", *SHORT, "--processes", "1", "-o", tmp_path / "out")
    first = accel(capsys, *words, "--json", tmp_path / "a.json")
    assert first.code == 0, first.err
    assert all(name in first.out for name in SHORT)
    assert "2 benchmarks, 2 runs" in first.err
    assert "no reproduction table" in first.err
    for row in rows_of(tmp_path / "a.json").values():
        moved = row["dram_bytes"]
        assert moved["moved"] == sum(moved[name] for name in ("q", "k_msb", "k_lsb", "v", "weights", "output"))
        assert row["power_W"]["total"] == pytest.approx(row["energy_pJ"]["total"] * 1e-12 / row["latency_s"])
        assert row["ratio"]["fp32"] == pytest.approx(4 * row["ratio"]["int8"])
        assert row["inputs"]["length"]["label"] == "memory"
    assert (tmp_path / "out" / "bench-spatten.md").read_text().startswith("# The published benchmarks")

    def never(*_: object) -> None:
        raise AssertionError("a row that is there was run again")

    monkeypatch.setattr(runner, "measure", never)
    again = accel(capsys, *words, "--json", tmp_path / "b.json")
    assert again.code == 0, again.err
    assert "2 benchmarks, 0 runs" in again.err
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_two_processes_give_the_same_bytes_and_a_damaged_row_is_run_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("bench", *SHORT, "--json", "-", "--processes")
    alone = accel(capsys, *words, "1", "-o", tmp_path / "one")
    both = accel(capsys, *words, "2", "-o", tmp_path / "two")
    assert alone.code == both.code == 0, both.err
    assert alone.out == both.out
    damaged = sorted((tmp_path / "one" / "rows").iterdir())[0]
    damaged.write_text(damaged.read_text()[:100])
    again = accel(capsys, *words, "1", "-o", tmp_path / "one")
    assert "1 runs" in again.err
    assert again.out == alone.out


def test_techniques_off_show_in_the_row(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = {}
    for technique in ("", "token-pruning", "head-pruning", "quantisation", "query-pruning"):
        words = ("--without", technique) if technique else ()
        done = accel(
            capsys, "bench", "bert-base-mrpc", *words, "-o", tmp_path, "--processes", "1", "--json", tmp_path / "x.json"
        )
        assert done.code == 0, done.err
        found[technique] = rows_of(tmp_path / "x.json")["bert-base-mrpc"]
        assert found[technique]["without"] == [*words[1:]]
    main = found[""]
    assert found["token-pruning"]["kept"]["tokens"] == 1
    assert found["head-pruning"]["kept"]["heads"] == 1
    assert main["kept"]["heads"] < 1
    assert main["kept"]["tokens"] < 1
    moved = {name: row["dram_bytes"]["moved"] for name, row in found.items()}
    assert all(moved[name] > 1.05 * moved[""] for name in ("token-pruning", "head-pruning", "quantisation"))
    # Queries that stay cost work and their own bytes, but no keys.
    assert found["query-pruning"]["dram_bytes"]["k_msb"] == main["dram_bytes"]["k_msb"]
    assert found["query-pruning"]["operations"]["done"] > 1.2 * main["operations"]["done"]
    assert found["query-pruning"]["operations"]["dense"] == main["operations"]["dense"]


def test_a_serial_top_k_engine_is_slower(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cycles = []
    for words in ((), ("--without", "parallel-topk")):
        done = accel(
            capsys, "bench", "bert-base-rte", *words, "-o", tmp_path, "--processes", "1", "--json", tmp_path / "x.json"
        )
        assert done.code == 0, done.err
        cycles.append(rows_of(tmp_path / "x.json")["bert-base-rte"]["cycles"])
    assert cycles[1] > cycles[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bert-base-colla",), "did you mean bert-base-cola?"),
        (("--without", "pruning"), "no such technique"),
        (("bert-base", "--seed", "0"), "must be 1 to 65535"),
        (("bert-base", "--processes", "0"), "must be 1 to 64"),
        (("bert-base", "--arch", "spaten"), "did you mean spatten"),
        (("bert-base", "--set", "topk.lane=32"), "did you mean topk.lanes"),
        (("bert-base", "--json", "no/such/folder.json"), "there is no folder"),
        (("bert-base-cola", "--arch", "tiny", "--processes", "1"), "benchmark bert-base-cola: head_dim = 64"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = accel(capsys, "bench", *words, "-o", tmp_path / "out")
    assert done.code == 2
    assert not done.out
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("wait_s", [0.1, 1.5])
def test_an_interrupt_leaves_whole_rows_and_no_processes(tmp_path: Path, wait_s: float) -> None:
    command = [sys.executable, "-m", "accel.cli", "bench", "gpt2-small", "-o", str(tmp_path)]
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored where tests run behind nohup
    )  # fmt: skip
    for _ in range(200):
        if (tmp_path / "rows").is_dir():
            break
        time.sleep(0.05)
    time.sleep(wait_s)  # while the pool starts, and while it runs
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert not out
    assert err == "accel: interrupted\n"
    for row in (tmp_path / "rows").iterdir():
        json.loads(row.read_text())
    assert not living(started.pid), "processes of the pool outlive the command"


def living(session: int) -> list[str]:
    """Command lines of processes of a session, after they have had a moment to end."""
    for _ in range(50):
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, of = (place / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state != "Z":
                    found.append((place / "cmdline").read_text())
            except (OSError, ValueError):
                continue
        if not found:
            return []
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def every_row(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One short run in the place of all, with the families and inputs of each."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "rows").mkdir()
    arch = load_arch("spatten")
    sets: dict[str, list[dict[str, Any]]] = {}
    asked = {name: asked_of(name, load_benchmarks(), arch, {}, 1) for name in SETS}
    (one,), _ = runner.run_rows(asked[MAIN][:1], folder, 1, lambda what, share: None)
    for name, found in asked.items():
        sets[name] = [
            {
                **one,
                "name": run.benchmark.name,
                "family": run.benchmark.family,
                "arch": run.arch.name,
                "set": dict(run.changes),
                "without": list(run.variant.without),
                "inputs": {key: value.model_dump() for key, value in run.benchmark.inputs.labelled().items()},
            }
            for run in found
        ]
    fc = {
        bits: {"latency_s": 0.02, "cycles": 2e7, "jobs": 10, "job_bytes": 16384, "bandwidth_share": 0.5}
        for bits in (8, 12)
    }
    rivals = beside.rivals(1, folder)
    assert beside.rivals(1, folder) == rivals
    return Results(arch, sets, fc, "accel bench --arch spatten --seed 1", rivals, beside.topk(arch, 1))


def test_every_published_figure_has_a_row_and_none_is_blank_without_a_cause(every_row: Results) -> None:
    found = figures(every_row)
    assert {row["where"] for row in found} >= {"3.1", "3.2", "3.3", "3.4", "3.5", "1.7", "1.8"}
    published = [row["published"] for row in found]
    for figure_of_the_paper in (
        1.9, 3.8, 1.1, 5.1, 10.0, 2.1, 1.61, 0.43, 162, 347, 1095, 5071, 1193, 4059, 406, 1910, 22.1, 3.0, 2.8, 360,
        382, 238, 1.55, 221, 269, 106, 120, 25.75, 2.13, 35, 122, 24, 83, 18.71, 8.30, 5.71, 1.36, 1.24, 1.4, 3.5,
        5.9, 19.3,
    ):  # fmt: skip
        assert figure_of_the_paper in published
    assert len({(row["where"], row["figure"]) for row in found}) == len(found)
    for row in found:
        assert row["label"] in LABELS
        if row["ours"] is None:
            assert row["ratio"] is None
        else:
            assert row["ratio"] == pytest.approx(row["ours"] / row["published"])
            assert row["command"]
        if row["ratio"] is None or not 0.9 <= row["ratio"] <= 1.1:
            assert row["cause"]
    without = {(row["where"], row["figure"]) for row in found if row["ours"] is None}
    assert {place for place in without if place[0] in ("1.7", "3.3")} == {("3.3", "A3, area")}
    assert {where for where, _ in without} == {"3.2", "3.3", "3.5"}  # other platforms, one area
    ours = {row["figure"]: row for row in found}
    assert ours["A3, throughput"]["ours"] / ours["MNNFast, throughput"]["ours"] == pytest.approx(
        ours["throughput over MNNFast"]["ours"] / ours["throughput over A3"]["ours"]
    )
    assert ours["throughput over A3"]["ratio"] == pytest.approx(1, abs=0.1)
    assert not ours["MNNFast, throughput"]["evidence"]
    counted = [row for row in found if row["figure"].endswith("counted")]
    assert [row["published"] for row in counted] == [1.9, 3.8, 1.1, 5.1, 10.0]
    traffic = [row for row in found if row["figure"].startswith("DRAM, ")]
    assert len(traffic) == 11
    assert not any(row["evidence"] for row in traffic)
    assert all("no evidence" in row["cause"] for row in traffic)
    report = {
        "arch": {"name": "spatten"}, "command": "accel bench", "code_version": "0", "rows": every_row.rows(MAIN),
        "averages": averages(every_row.rows(MAIN)), "figures": found,
    }  # fmt: skip
    text = bench_markdown(report)
    assert all(row["figure"] in text for row in found)
    assert {one["group"] for one in averages(every_row.rows(MAIN))} >= {*EVERY, "all BERT", "all GPT-2", "all"}


def test_a_ratio_far_from_one_is_never_without_a_cause() -> None:
    assert figure("3.1", "traffic", "x", 10.0, 5.0, "derived", "accel bench")["cause"] == UNEXPLAINED
    assert figure("3.1", "traffic", "x", 10.0, None, "derived", "accel bench")["cause"] == UNEXPLAINED
    close = figure("3.1", "traffic", "x", 10.0, 9.5, "derived", "accel bench")
    assert close["ratio"] == pytest.approx(0.95)
    assert not close["cause"]


def test_averages_by_hand(every_row: Results) -> None:
    rows = [dict(row) for row in every_row.rows(MAIN)[:2]]
    rows[0]["ratio"], rows[1]["ratio"] = (
        {"fp32": 2.0, "fp16": 1.0, "int8": 0.5},
        {"fp32": 8.0, "fp16": 4.0, "int8": 2.0},
    )
    rows[0]["latency_s"], rows[1]["latency_s"] = 1.0, 3.0
    (found,) = averages(rows)
    assert found["group"] == "bert-base"
    assert found["ratio_fp32"] == pytest.approx(4.0)
    assert found["latency_s"] == pytest.approx(2.0)


def test_sets_cover_what_the_table_compares(every_row: Results) -> None:
    assert len(every_row.sets[MAIN]) == 30
    assert every_row.options("no heads") == "accel bench --arch spatten --seed 1 --without head-pruning"
    half = "accel bench gpt2-medium gpt2-small --arch spatten --seed 1 --set memory.channels=8"
    assert every_row.options("half memory") == half
    assert "--arch spatten-1-8" in every_row.options("eighth")
