"""``accel run minilm`` and ``smollm2`` on tiny networks: text and options arrive, baselines are the network's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.accel.cli_case import accel as call
from tests.workloads.nets_tiny import write_bert, write_llama

Capture = pytest.CaptureFixture[str]
TEXT = "the cats sat the cat sat"
LONG = " ".join([TEXT] * 8)


def report(capsys: Capture, folder: Path, *words: object) -> dict[str, Any]:
    done = call(capsys, "run", *words, "--weights", folder, "--arch", "tiny", "--no-store", "--json", "-")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    write_bert(tmp_path)
    return tmp_path


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    write_llama(tmp_path)
    return tmp_path


def numbers_moved(counts: dict[str, Any]) -> int:
    """Numbers in Q, K, V and the output that this run used, all of 12 bit."""
    useful = counts["dram_useful_bytes"]
    return sum(useful.values()) * 8 // 12 + counts["output_values"]


@pytest.mark.parametrize(
    "words", [("minilm",), ("smollm2", "--context", 30), ("smollm2", "--context", 30, "--generate", 7)]
)
def test_an_unpruned_network_is_its_own_baseline(words: tuple[object, ...], tmp_path: Path, capsys: Capture) -> None:
    (write_bert if words[0] == "minilm" else write_llama)(tmp_path)
    found = report(capsys, tmp_path, *words, "--text", TEXT if words[0] == "minilm" else LONG)
    assert found["baseline_bytes"]["int8"] == numbers_moved(found["counts"])
    assert found["operations"]["dense"] == found["operations"]["without_second_passes"] == found["operations"]["done"]
    assert found["quality"]["network"] == words[0]


def test_pruning_options_arrive(llama: Path, capsys: Capture) -> None:
    whole = report(capsys, llama, "smollm2", "--context", 40, "--generate", 10, "--text", LONG)
    plan = "--keep-tokens 0.5 --keep-values 0.25 --msb-bits 6 --lsb-bits 4 --value-bits 8 --threshold 0.9"
    pruned = report(capsys, llama, "smollm2", "--context", 40, "--generate", 10, "--text", LONG, *plan.split())
    assert pruned["counts"]["keys"] < whole["counts"]["keys"]
    assert pruned["counts"]["values_used"] < 0.5 * whole["counts"]["values_used"]
    assert pruned["counts"]["lsb_refetch_rows"] > 0
    assert whole["counts"]["lsb_refetch_rows"] == 0
    assert pruned["baseline_bytes"] == whole["baseline_bytes"]
    always = report(
        capsys,
        llama,
        "smollm2",
        "--context",
        40,
        "--text",
        LONG,
        "--lsb-bits",
        4,
        "--msb-bits",
        6,
        "--second-pass",
        "always",
    )
    assert always["counts"]["lsb_refetch_rows"] == always["counts"]["rows"]


def test_texts_and_weights_make_the_run(bert: Path, capsys: Capture, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\n\nsat the cats\n")
    from_file = report(capsys, bert, "minilm", "--text-file", lines)
    given = report(capsys, bert, "minilm", "--text", "the cat", "--text", "sat the cats")
    assert from_file["workload"]["sha256"] == given["workload"]["sha256"]
    assert from_file["cycles"] == given["cycles"]
    assert given["quality"]["texts"] == 2
    other = tmp_path / "other"
    other.mkdir()
    write_bert(other, seed=1)
    changed = report(capsys, other, "minilm", "--text", "the cat", "--text", "sat the cats")
    assert changed["workload"]["weights_sha256"] != given["workload"]["weights_sha256"]


def test_quality_is_printed_and_a_timeline_drawn(llama: Path, capsys: Capture, tmp_path: Path) -> None:
    done = call(
        capsys, "run", "smollm2", "--context", 20, "--generate", 5, "--text", LONG, "--weights", llama,
        "--arch", "tiny", "--runs", tmp_path / "runs", "--timeline", tmp_path / "t.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "dense perplexity" in done.out
    assert "scores are drawn" not in done.out
    names = {event["name"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]}
    assert any(name.startswith("L1 H3 it4") for name in names), "four query heads on two K/V heads"
