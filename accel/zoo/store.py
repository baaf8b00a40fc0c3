"""Rows of the zoo on disk: a JSON file each, named by a hash of all that decides it, so that a run can go on later."""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accel.arch import Arch
from accel.errors import UserError
from accel.runs import check_folder, write_whole
from accel.session import code_version
from accel.zoo.row import FORMAT, run_row
from workloads.systems import Configuration, System

KEY_DIGITS = 12
_ROOT = Path(__file__).parent.parent.parent
_CODE = ("accel/arch.py", "accel/memory.py", "accel/cost", "accel/lower", "accel/numerics", "accel/presets",
         "accel/program.py", "accel/units", "accel/zoo", "sim", "workloads/kernels", "workloads/systems")  # fmt: skip


@functools.cache
def code_digest() -> str:
    """Hash of the sources that a row's numbers come from; a row of other code is not taken up again."""
    found = hashlib.sha256()
    for part in _CODE:
        place = _ROOT / part
        files = [place] if place.is_file() else sorted((*place.rglob("*.py"), *place.rglob("*.yaml")))
        for file in files:
            found.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def row_key(system: System, one: Configuration, arch: Arch) -> str:
    """Short hash of the configuration, what the system says of itself, the machine and the code."""
    own = system.model_dump(mode="json", exclude={"configurations", "kernels"})
    asked = [FORMAT, own, one.model_dump(mode="json"), arch.model_dump(mode="json"), code_digest()]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def row_path(folder: Path, system: System, one: Configuration, arch: Arch) -> Path:
    """Where the row is kept."""
    return folder / "rows" / f"{one.name}-{arch.name}-{row_key(system, one, arch)}.json"


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


def stored_row(path: Path) -> dict[str, Any] | None:
    """The row in a file; None if there is none or it is damaged, so that it is run again."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and row.get("format") == FORMAT else None


def rows(
    chosen: Sequence[tuple[System, Configuration]], arch: Arch, folder: Path
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each row and whether it was there already; a new one is on disk before it is handed out."""
    for system, one in chosen:
        path = row_path(folder, system, one, arch)
        found = stored_row(path)
        if found is not None:
            yield found, True
            continue
        row = run_row(system, one, arch)
        write_whole(path, json_text(row))
        yield row, False


def zoo_report(found: Sequence[dict[str, Any]], arch: Arch, command: str) -> dict[str, Any]:
    """All rows as one report."""
    return {
        "format": FORMAT,
        "kind": "zoo",
        "arch": arch.model_dump(mode="json"),
        "code_version": code_version(),
        "code_digest": code_digest(),
        "command": command,
        "rows": list(found),
    }


def json_text(value: dict[str, Any]) -> str:
    """JSON in a fixed order; no NaN."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
