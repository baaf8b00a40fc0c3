"""What is committed in ``reports/published`` is what the code gives, and the check sees it when it is not."""

import copy
import json
import re
from pathlib import Path

import pytest

from reports import publish
from reports.publish import ENTRIES, FOLDER, differences

SPREAD = ("spread.cycles.median", "spread.cycles.most")  # of three seeds, beside the first
QUICK_RUN, QUICK_ROWS = "gpt2-small-wikitext2-spatten", ("npa-100", "titans-mac-small")


def entry(name: str) -> publish.Entry:
    return next(one for one in ENTRIES if one.name == name)


def test_a_published_run_is_reproduced() -> None:
    """If a change of the simulator was meant, publish anew: python -m reports.publish. One seed of the three here."""
    one = entry(QUICK_RUN)
    found = list(differences(json.loads(one.path.read_text()), publish.make(one, ("--seeds", "1"))))
    assert [line.split(":")[0] for line in found] == ["spread.seeds", *SPREAD, "options.seeds", "command"]


def test_rows_of_the_published_zoo_are_reproduced() -> None:
    assert not publish.check(entry("zoo-spatten"), QUICK_ROWS)


def test_every_result_that_is_not_slow_is_there_and_its_page_is_of_today() -> None:
    assert all(one.path.is_file() for one in ENTRIES if not one.by_name)
    assert (FOLDER / publish.PAGE).read_text(encoding="utf-8") == publish.readme()
    for source in publish.sources():
        assert source.command.startswith("accel ")


def test_the_figure_of_the_readme_says_what_is_published() -> None:
    """Not its bytes: these depend on the version of matplotlib."""
    drawn = publish.FIGURE.read_text(encoding="utf-8")
    about = [re.search(r"<desc[^>]*>(.*?)</desc>", text) for text in (drawn, publish.figure())]
    assert about[0]
    assert about[1]
    assert about[0][1] == about[1][1]
    assert len(drawn.encode()) < 100_000
    assert f"docs/figures/{publish.FIGURE.name}" in (publish.FIGURE.parents[2] / "README.md").read_text()


def test_the_check_sees_what_changed() -> None:
    was = json.loads(entry(QUICK_RUN).path.read_text())
    now = copy.deepcopy(was)
    assert not list(differences(was, now))
    now["code_version"] = "another"
    now["energy_pJ"]["total"] *= 1 + 1e-9
    assert not list(differences(was, now)), "the code's name and the last bits of a sum are no results"
    now["counts"]["keys"] += 1
    del now["cycles"]
    now["energy_pJ"]["qk_array"] *= 1.001
    found = list(differences(was, now))
    assert [line.split(":")[0] for line in found] == ["cycles", "counts.keys", "energy_pJ.qk_array"]
    assert list(differences([1, 2], [1]))
    assert list(differences({"rows": [{"name": "a", "n": 1}]}, {"rows": [{"name": "a", "n": 2}]})) == [
        "rows[a].n: published 1, now 2"
    ]


def test_a_file_made_before_is_taken_if_the_same_command_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publish, "FOLDER", tmp_path / "published")
    (tmp_path / "published").mkdir()
    file, one = tmp_path / "bench.json", entry("bench-spatten")
    rows = [{"name": "a", "inputs": {"length": 1}, "cycles": 3}]
    data = {"format": 1, "kind": "bench", "command": "accel bench --arch spatten --seed 1", "rows": rows, "sets": {}}
    for said, wanted in (("accel bench --arch spatten --seed 2", 2), (data["command"], 0)):
        file.write_text(json.dumps({**data, "command": said}))
        if not wanted:
            monkeypatch.setattr(publish, "readme", lambda: "")
            monkeypatch.setattr(publish, "FIGURE", tmp_path / "figure.svg")
            monkeypatch.setattr(publish, "figure", lambda: "")
        assert publish.main(["bench-spatten", "--from", str(file)]) == wanted
        assert one.path.is_file() == (not wanted)
    assert "made by 'accel bench --arch spatten --seed 2'" in capsys.readouterr().err
    assert json.loads(one.path.read_text()) == {
        **{key: value for key, value in data.items() if key != "sets"}, "rows": [{"name": "a", "cycles": 3}]
    }  # fmt: skip
    assert publish.main(["--from", str(file)]) == 2


def test_names_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert publish.main(["nothing", "--check"]) == 2
    assert "there are: gpt2-small" in capsys.readouterr().err
