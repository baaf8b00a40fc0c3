"""Rows of the zoo on disk (:mod:`accel.row_store`), and the report of all of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accel import row_store
from accel.arch import Arch
from accel.row_store import json_text, prepare
from accel.runs import write_whole
from accel.session import code_version
from accel.zoo.row import FORMAT, run_row
from workloads.systems import Configuration, System

__all__ = ["code_digest", "json_text", "prepare", "row_key", "row_path", "rows", "stored_row", "zoo_report"]

_CODE = ("accel/arch.py", "accel/memory.py", "accel/cost", "accel/lower", "accel/numerics", "accel/presets",
         "accel/program.py", "accel/units", "accel/zoo", "sim", "workloads/cascade.py", "workloads/kernels",
         "workloads/systems")  # fmt: skip


def code_digest() -> str:
    """Hash of the sources that a row's numbers come from."""
    return row_store.code_digest(_CODE)


def row_key(system: System, one: Configuration, arch: Arch) -> str:
    """Short hash of the configuration, what the system says of itself, the machine and the code."""
    own = system.model_dump(mode="json", exclude={"configurations", "kernels"})
    return row_store.key_of([FORMAT, own, one.model_dump(mode="json"), arch.model_dump(mode="json"), code_digest()])


def row_path(folder: Path, system: System, one: Configuration, arch: Arch) -> Path:
    """Where the row is kept."""
    return folder / "rows" / f"{one.name}-{arch.name}-{row_key(system, one, arch)}.json"


def stored_row(path: Path) -> dict[str, Any] | None:
    """The row in a file; None if there is none or it is damaged, so that it is run again."""
    return row_store.stored_row(path, FORMAT)


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
