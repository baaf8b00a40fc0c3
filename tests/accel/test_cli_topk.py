"""``accel topk``: its rows are the simulator's, the report is the same each time, bad options are refused."""

import json
from pathlib import Path

import pytest

from accel.units.topk import TopKUnit, histogram, sorter
from tests.accel.cli_case import accel

SMALL = ("topk", "--lanes", 16, "--keys", 64, 993, "--rows", 20)


def test_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = accel(capsys, *SMALL, "--json", tmp_path / "a.json")
    assert shown.code == 0, shown.err
    text = (tmp_path / "a.json").read_text()
    assert accel(capsys, *SMALL, "--json", "-").out == text
    report = json.loads(text)
    assert (report["format"], report["kind"], report["seed"]) == (1, "topk", 1)
    by = {(row["engine"], row["keys"], row["kept"]): row for row in report["rows"]}
    assert set(by) == {
        (e, n, n // s) for e in ("quickselect", "histogram", "sorter") for n in (64, 993) for s in (2, 4)
    }
    unit = TopKUnit()
    for (engine, keys, kept), row in by.items():
        assert row["cycles_mean"] <= row["cycles_p99"] <= row["cycles_worst"]
        assert row["energy_pJ"] > 0
        if engine != "quickselect":
            assert row["cycles_p99"] == row["cycles_worst"]
            words = unit.words(keys)
            cycles = (
                histogram.select_cycles(unit, words)
                if engine == "histogram"
                else sorter.select_cycles(unit, words, unit.words(kept))
            )
            fixed = unit.take_cycles + unit.handoff_cycles + unit.filter_cycles
            assert 0 <= row["cycles_worst"] - fixed - cycles <= words
    assert by["histogram", 993, 496]["cycles_worst"] < by["quickselect", 993, 496]["cycles_mean"]
    assert [figure["published"] for figure in report["figures"]] == [1.4, 3.5]
    assert all(figure["ratio"] == figure["ours"] / figure["published"] for figure in report["figures"])
    assert "histogram" in shown.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rows", 0), "--rows 0: must be 1 or more"),
        (("--keys", 3), "--keys 3: must be 4 or more"),
        (("--lanes", 12), "lanes must be a power of two"),
    ],
)
def test_bad_options(words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = accel(capsys, "topk", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
