"""``accel run`` of a row of the zoo, and what the other commands make of it."""

import itertools
import json
from pathlib import Path

import pytest

from tests.accel.cli_case import accel, run_tiny

ROW = "sasrec-ml-1m"


def test_a_row_runs_alone_is_stored_shown_and_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store, out, line = tmp_path / "runs", tmp_path / "row.json", tmp_path / "timeline.json"
    first = accel(capsys, "run", "sasrec", "--json", out, "--timeline", line, "--timeline-rows", 5, "-o", store)
    assert first.code == 0, first.err
    report = json.loads(out.read_text())
    row = report["row"]
    assert report["workload"]["name"] == ROW
    for said in (ROW, "confidence", "Lowering", "DRAM stream", "Energy", "Error against float64", "Technique",
                 "together", "fp32", "fp16", "int8", "ceiling", "What limits this row", "simulated"):  # fmt: skip
        assert said in first.out, said
    for source in row["sources"].values():
        assert source.split()[0] in first.out
    events = json.loads(line.read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X" and (event["pid"], event["tid"]) == (1, 1)]
    assert len(slices) == sum(part["cycles"] > 0 for part in row["phases"])
    assert sum(one["args"]["cycles"] for one in slices) == pytest.approx(row["cycles"], abs=len(slices))
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-3 for a, b in itertools.pairwise(slices))
    assert any(event["ph"] == "X" and event["pid"] == 2 for event in events)

    again = accel(capsys, "show", ROW, "-o", store)
    assert again.code == 0
    assert again.out == first.out
    assert ROW in accel(capsys, "list", "runs", "-o", store).out
    other = accel(capsys, "run", ROW, "--set", "memory.channels=8", "-o", store)
    assert other.code == 0, other.err
    names = sorted(place.name for place in store.iterdir())
    assert len(names) == 2
    compared = accel(capsys, "compare", *names, "-o", store)
    assert compared.code == 0, compared.err
    assert "memory.channels" in compared.out
    run_tiny(capsys, tmp_path)
    trace = next(place.name for place in store.iterdir() if place.name not in names)
    mixed = accel(capsys, "compare", trace, names[0], "-o", store)
    assert mixed.code == 2
    assert mixed.err.count("\n") == 1
    assert "one kind" in mixed.err


def test_the_same_row_gives_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "hopfield-bits", "--no-store", "--json", "-")
    assert accel(capsys, *words).out == accel(capsys, *words).out


def test_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = accel(capsys, "list", "workloads").out
    for name in ("vir-s16", "retnet-1-3b", "mamba-130m"):
        assert name in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vir-s17",), "did you mean vir-s16?"),
        (("vir-s16", "--seed", 3), "--seed 3"),
        (("vir-s16", "--seeds", 2), "--seeds is for a trace or schedule, not for vir-s16"),
        (("vir-s16", "--context", 5), "--context is for"),
        (("vir-s16", "--default-key-bits", 8), "--default-key-bits is for a trace"),
        (("vir-s16", "--timeline-rows", 0), "--timeline-rows 0"),
        (("vir-s16", "--trace", "x.csv"), "not both"),
        (("vir-s16", "--json", "no/such/folder.json"), "there is no folder"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[object, ...], said: str) -> None:
    done = accel(capsys, "run", *words)
    assert done.code == 2
    assert not done.out
    assert said in done.err
    assert done.err.count("\n") == 1
