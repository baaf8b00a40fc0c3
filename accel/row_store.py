"""Rows of a long table on disk: a JSON file each, named by a hash of all that decides it, so a run can go on later."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accel.errors import UserError
from accel.runs import check_folder, write_whole

KEY_DIGITS = 12
_ROOT = Path(__file__).parent.parent


@functools.cache
def code_digest(parts: tuple[str, ...]) -> str:
    """Hash of sources and data files, by path below the project; a row of other code is not taken up again."""
    found = hashlib.sha256()
    for part in parts:
        place = _ROOT / part
        files = [place] if place.is_file() else sorted((*place.rglob("*.py"), *place.rglob("*.yaml")))
        for file in files:
            found.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def key_of(asked: Sequence[Any]) -> str:
    """Short hash of what decides a row."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def prepare(folder: Path) -> None:
    """Make the folder.

    Raises:
        UserError: it cannot be.
    """
    check_folder(folder)
    try:
        (folder / "rows").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror or error})") from error


def stored_row(path: Path, form: int) -> dict[str, Any] | None:
    """The row in a file; None if there is none or it is damaged or of another format, so that it is run again."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and row.get("format") == form else None


def kept(path: Path, form: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row in a file, made and stored first where it is not there; the same either way, as JSON gives it back."""
    row = stored_row(path, form)
    if row is None:
        text = json_text({"format": form} | make())
        write_whole(path, text)
        row = json.loads(text)
    return row


def json_text(value: Mapping[str, Any]) -> str:
    """JSON in a fixed order; no NaN."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
