"""The run store: whole files or none, the same name for the same question, and no trust in what was damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from accel.runs import (
    FILE_NAME,
    find_run,
    read_run,
    report_text,
    run_id,
    run_name,
    store,
    stored_runs,
    write_whole,
)


def a_report(**changes: Any) -> dict[str, Any]:
    report: dict[str, Any] = {
        "format": 1,
        "workload": {"name": "w", "kind": "trace", "source": "w.csv", "sha256": "ab", "program_sha256": "cd"},
        "arch": {"name": "m", "topk": {"lanes": 16}},
        "seed": 1,
        "code_version": "0",
        "cycles": 10,
        "options": {"seeds": 1},
    }
    return report | changes


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_stored_is_read(tmp_path: Path) -> None:
    path = store(a_report(), tmp_path / "runs")
    assert path == tmp_path / "runs" / run_name(a_report()) / FILE_NAME
    assert read_run(path) == a_report()
    assert list(path.parent.iterdir()) == [path]
    before = path.read_bytes()
    assert store(a_report(), tmp_path / "runs") == path
    assert path.read_bytes() == before
    assert stored_runs(tmp_path / "runs") == [path]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"seed": 2}, False),
        ({"arch": {"name": "m", "topk": {"lanes": 32}}}, False),
        ({"options": {"seeds": 2}}, False),
        ({"workload": {"name": "w", "kind": "trace", "sha256": "ba"}}, False),
        ({"workload": {"name": "w", "kind": "trace", "source": "/else/w.csv", "sha256": "ab"}}, True),
        ({"cycles": 11, "code_version": "1"}, True),
    ],
)
def test_the_id_is_of_the_question_not_of_the_answer(changes: dict[str, Any], same: bool) -> None:
    assert (run_id(a_report(**changes)) == run_id(a_report())) == same


@pytest.mark.parametrize("name", ["../../up", "a/b", "", ".", "..", "with space", "x" * 300, "ü\n\0"])
def test_any_name_gives_one_folder(name: str, tmp_path: Path) -> None:
    report = a_report(workload={"name": name}, arch={"name": name})
    path = store(report, tmp_path / "runs")
    assert path.parent.parent == tmp_path / "runs"
    assert path.resolve().is_relative_to((tmp_path / "runs").resolve())
    assert read_run(path) == report


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_damaged_byte_is_noticed(at: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = bytearray(report_text(a_report()).encode())
    raw[at % len(raw)] ^= flip
    path = tmp_path_factory.mktemp("damaged") / FILE_NAME
    path.write_bytes(bytes(raw))
    try:
        found = read_run(path)
    except UserError:
        return
    assert found == a_report(), "only blanks between the values may change"


@given(cut=st.integers(0, 10_000))
def test_a_cut_off_file_is_noticed(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = report_text(a_report())
    path = tmp_path_factory.mktemp("cut") / FILE_NAME
    path.write_text(text[: cut % (len(text) - 2)])
    assert "not a stored run" in refusal(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a stored run"),
        ("[1, 2]", "not a stored run"),
        ("{}", "not a stored run"),
        ("[" * 100_000, "not a stored run"),
        (json.dumps(a_report()), "not a stored run"),
        (json.dumps({**a_report(), "format": 99, "content_sha256": "0"}), "reads format 1"),
        (json.dumps({**a_report(), "content_sha256": "0"}), "does not fit"),
        (json.dumps({**a_report(), "cycles": float("nan"), "content_sha256": "0"}), "does not fit"),
        (report_text(a_report()).replace('"cycles": 10', '"cycles": 11'), "does not fit"),
    ],
)
def test_what_is_not_a_stored_run(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    assert said in refusal(path)


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    assert "not a stored run" in refusal(tmp_path / FILE_NAME)
    assert "cannot be read" in refusal(tmp_path / "none.json")
    assert "cannot be read" in refusal(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_whole(path, "old")

    def fails(*unused: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(UserError, match="Input/output error"):
        write_whole(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert path.read_text() == "old"


def test_finding_a_run(tmp_path: Path) -> None:
    first, second = store(a_report(), tmp_path), store(a_report(seed=2), tmp_path)
    name = first.parent.name
    for what in (str(first), str(first.parent), name, name[:-3], name.rsplit("-", 1)[1]):
        assert find_run(what, tmp_path) == first
    with pytest.raises(UserError, match="2 runs in"):
        find_run("w-m", tmp_path)
    with pytest.raises(UserError, match="did you mean"):
        find_run(second.parent.name[:-1] + "zz", tmp_path)
    with pytest.raises(UserError, match="no runs in"):
        find_run("w", tmp_path / "none")
    for nothing in ("", "."):
        with pytest.raises(UserError):
            find_run(nothing, tmp_path)
