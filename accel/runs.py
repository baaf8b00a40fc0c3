"""The run store: each report in ``FOLDER/<workload>-<machine>-<id>/run.json``, written whole or not at all.

A stored report ends in ``content_sha256``, the hash of all that stands before it, so that a
damaged or edited file is noticed. Nothing in a report depends on the clock on the wall: the same input, seed and code
give the same bytes.
"""

import difflib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from accel.errors import UserError

Report = dict[str, Any]
FORMAT = 1  # of reports, as in accel.session
FILE_NAME = "run.json"
ROW_KIND = "zoo row"  # "kind" of a report that is a row of the zoo; runs of attention have none
ID_DIGITS = 10
_LONGEST_NAME = 60
# Where the input lay and what it was lowered to do not make it another run; its content hash and name are in the rest.
_NOT_IDENTITY = ("source", "program_sha256")


def default_folder() -> Path:
    """``$ACCEL_RUNS``, else ``runs`` in the current folder."""
    return Path(os.environ.get("ACCEL_RUNS") or "runs")


def check_target(path: Path) -> None:
    """Refuse, before work is done for it, a file that could not be written.

    Raises:
        UserError: it is a folder, or there is no such folder, or no right to write there.
    """
    if path.is_dir():
        raise UserError(f"{path}: this is a folder; name a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"{path}: cannot be written (no permission)")


def check_folder(folder: Path) -> None:
    """Refuse, before work is done for it, a store that could not be made.

    Raises:
        UserError: something on the way is no folder, or may not be written to.
    """
    at = folder.absolute()
    while not at.exists() and at.parent != at:
        at = at.parent
    if not at.is_dir():
        raise UserError(f"{folder}: cannot be a folder of runs, {at} is a file")
    if not os.access(at, os.W_OK):
        raise UserError(f"{folder}: cannot be written (no permission for {at})")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, also when interrupted.

    Raises:
        UserError: it cannot be written.
    """
    draft = ""
    try:
        handle, draft = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except OSError as error:
        _discard(draft)
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    except BaseException:
        _discard(draft)
        raise


def _discard(draft: str) -> None:
    if draft:
        Path(draft).unlink(missing_ok=True)


def _json(value: Any, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def _digest(report: Report) -> str:
    return hashlib.sha256(_json(report, indent=None).encode()).hexdigest()


def run_id(report: Report) -> str:
    """Short hash of what was asked for: workload, resolved machine, seed, options. Not of the code or the results."""
    workload = {name: value for name, value in report["workload"].items() if name not in _NOT_IDENTITY}
    asked = [workload, report["arch"], report["seed"], report.get("options", {})]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]


def run_name(report: Report) -> str:
    """Name of the run's folder: workload, machine and id; characters that a file system may not like become ``_``."""
    words = (report["workload"]["name"], report["arch"]["name"])
    safe = [re.sub(r"[^A-Za-z0-9._-]+", "_", str(word)).strip(".")[:_LONGEST_NAME] or "_" for word in words]
    return "-".join([*safe, run_id(report)])


def is_row(report: Report) -> bool:
    """Whether a stored run is a row of the zoo."""
    return report.get("kind") == ROW_KIND


def report_text(report: Report) -> str:
    """The bytes of a stored report: JSON in the order of ``docs/counters.md``, its hash last."""
    content = {key: value for key, value in report.items() if key != "content_sha256"}
    return _json({**content, "content_sha256": _digest(content)}) + "\n"


def store(report: Report, folder: Path) -> Path:
    """Write ``run.json`` and return its path. The same run stored again replaces itself.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    place = folder / run_name(report)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place}: cannot be made ({error.strerror or error})") from error
    path = place / FILE_NAME
    try:
        write_whole(path, report_text(report))
    except BaseException:
        if not any(place.iterdir()):
            place.rmdir()
        raise
    return path


def read_run(path: Path) -> Report:
    """A stored report.

    Raises:
        UserError: unreadable, cut off, not a report, of another format, or not what was written.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a stored run: damaged, cut off or no JSON; run it again") from None
    if not isinstance(report, dict) or "format" not in report or "content_sha256" not in report:
        raise UserError(f"{path}: JSON, but not a stored run; expected what 'accel run' writes")
    if report["format"] != FORMAT:
        raise UserError(f"{path}: format {report['format']!r}; this version reads format {FORMAT}")
    said = report.pop("content_sha256")
    try:
        same = _digest(report) == said
    except ValueError:  # a NaN, which no report holds
        same = False
    if not same:
        raise UserError(
            f"{path}: not what was written (its content_sha256 does not fit); damaged or edited, run it again"
        )
    return report


def stored_runs(folder: Path) -> list[Path]:
    """``run.json`` of every run in a store, by name; none for a folder that is not there."""
    return sorted(folder.glob(f"*/{FILE_NAME}"))


def find_run(what: str, folder: Path) -> Path:
    """The ``run.json`` meant by a path, a run's folder, or the beginning of a name or id in the store.

    Raises:
        UserError: nothing or more than one thing fits.
    """
    path = Path(what)
    if path.is_file():
        return path
    if path.is_dir() and what not in ("", ".", "..") and (path / FILE_NAME).is_file():
        return path / FILE_NAME
    names = {run.parent.name: run for run in stored_runs(folder)}
    fits = [name for name in names if what and (name.startswith(what) or name.rsplit("-", 1)[-1].startswith(what))]
    if what in names:
        fits = [what]
    if len(fits) == 1:
        return names[fits[0]]
    if fits:
        raise UserError(f"run {what}: {len(fits)} runs in {folder} begin so: {', '.join(fits)}")
    if not names:
        raise UserError(
            f"run {what}: no such file, and no runs in {folder}; 'accel run' makes one (--runs names another folder)"
        )
    near = difflib.get_close_matches(what, names, 1, 0.3)
    hint = f"did you mean {near[0]}?" if near else f"there are {len(names)}, see 'accel list runs'"
    raise UserError(f"run {what}: no such file, and no such run in {folder}; {hint}")
