"""``accel zoo``: rows, resuming, refusals; what a row says is consistent with itself."""

import json
from pathlib import Path

import pytest

from accel.zoo import store
from tests.accel.cli_case import accel

FEW = ("rnn-hmm", "hopfield-bits", "mamba", "retnet-1-3b")


def test_rows_table_and_resuming(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    first = accel(capsys, "zoo", *FEW, "-o", tmp_path / "zoo", "--json", tmp_path / "a.json")
    assert first.code == 0, first.err
    assert all(name in first.out for name in ("rnn-hmm-three", "hopfield-bits", "mamba-130m", "retnet-1-3b"))
    report = json.loads((tmp_path / "a.json").read_text())
    for row in report["rows"]:
        assert row["dram_bytes"] == pytest.approx(sum(phase["dram_bytes"] for phase in row["phases"]))
        assert row["cycles"] >= sum(phase["cycles"] for phase in row["phases"]) - 1
        assert row["energy_pJ"]["total"] > 0
        assert row["sources"]
        assert row["confidence"]
        assert row["lowering"]
        assert row["error"]["worst"] < row["error"]["bound"]
        for said in row["techniques"].values():
            assert said["said"]
            if said["mode"] == "none":
                assert said["gain_step"] == 1
                assert not said["measured"]

    def never(*_: object) -> None:
        raise AssertionError("a row that is there was run again")

    monkeypatch.setattr(store, "run_row", never)
    again = accel(capsys, "zoo", *FEW, "-o", tmp_path / "zoo", "--json", tmp_path / "b.json")
    assert again.code == 0
    assert "4 of them from an earlier run" in again.err
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_damaged_row_is_run_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("zoo", "hopfield-bits", "-o", tmp_path, "--json", "-")
    whole = accel(capsys, *words).out
    (row,) = (tmp_path / "rows").iterdir()
    row.write_text(row.read_text()[:100])
    done = accel(capsys, *words)
    assert done.code == 0
    assert done.out == whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vitt",), "did you mean"),
        (("vit", "--all"), "not both"),
        (("--arch", "spaten"), "spatten"),
        (("vit", "--json", "no/such/folder.json"), "there is no folder"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    done = accel(capsys, "zoo", *words)
    assert done.code == 2
    assert not done.out
    assert said in done.err
    assert done.err.count("\n") == 1
