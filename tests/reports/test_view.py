"""``accel view`` opens a page that is there, and serves only a report's files, only to this computer."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from accel.cli import BAD_INPUT
from accel.commands.view import LOOPBACK, server
from tests.accel.cli_case import accel

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "report"
    (made / "data").mkdir(parents=True)
    (made / "index.html").write_text("<!doctype html>page")
    (made / "data" / "run.json").write_text("{}")
    (made / "key.pem").write_text("not for readers")
    (tmp_path / "other.json").write_text("not in the report")
    (made / "out.json").symlink_to(tmp_path / "other.json")
    return made


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with server(folder, 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving.server_port
        serving.shutdown()


def status(port: int, path: str, host: str = LOOPBACK, method: str = "GET") -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    connection.request(method, path, headers={"Host": f"{host}:{port}"})
    found = connection.getresponse()
    found.read()
    connection.close()
    return found.status


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", 200), ("/index.html", 200), ("/data/run.json", 200), ("/data/", 404), ("/key.pem", 404),
        ("/../other.json", 404), ("/%2e%2e/other.json", 404), ("/out.json", 404), ("/nothing.html", 404),
    ],
)  # fmt: skip
def test_only_the_files_of_the_report(port: int, path: str, expected: int) -> None:
    assert status(port, path) == expected


def test_only_this_computer_and_only_reading(port: int) -> None:
    assert status(port, "/", host="elsewhere.example") == 403
    assert status(port, "/", host="localhost") == 200
    assert status(port, "/", method="POST") == 501


def test_it_opens_the_page(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)  # type: ignore[func-returns-value]
    done = accel(capsys, "view", folder)
    assert done.code == 0
    assert opened == [(folder / "index.html").resolve().as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    done = accel(capsys, "view", folder / "index.html")
    assert "no browser could be started" in done.err
    assert "file://" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("view", "nowhere"), "no page there"),
        (("view", "report/data/run.json"), "not a page"),
        (("view", "report", "--port", "80"), "--port is for --serve"),
        (("view", "report", "--serve", "--port", "70000"), "must be 0 to 65535"),
    ],
)
def test_what_is_not_there(
    folder: Path, words: tuple[str, ...], said: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    done = accel(capsys, *words)
    assert (done.code, done.err.count("\n")) == (BAD_INPUT, 1)
    assert said in done.err
