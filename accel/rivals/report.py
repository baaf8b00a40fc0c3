"""The report of ``accel rivals``: rows, validation, curves; the same input and seed give the same bytes."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accel.arch import Arch
from accel.errors import UserError
from accel.rivals.hook import MEASURES, curve
from accel.rivals.published import PRESET, Book, validation
from accel.rivals.rows import ENGINE, rows
from accel.rivals.store import Store
from accel.rivals.workloads import NAMES, NETWORKS, SEEDED, workload
from accel.session import code_version
from sim.rivals import rival_class, rival_names
from sim.rivals.base import describe

FORMAT = 1
NO_QUALITY = ("roofline",)
"""Machines whose rule leaves everything in and whose numbers are floating point: they have no curve."""
Report = dict[str, Any]
Tell = Callable[[str, float], None]


def rivals_report(
    names: Sequence[str],
    arch: Arch,
    seed: int,
    command: str,
    *,
    workloads: Sequence[str] = (),
    quality: bool = False,
    tell: Tell | None = None,
    folder: Path | None = None,
) -> Report:
    """Everything about some machines; ``workloads`` by name, default all.

    Rows and curves are kept in ``folder`` if there is one, and those that are there are not made again. Networks whose
    weights are not in the local cache are left out with a line in ``skipped``; nothing is downloaded.

    Raises:
        UserError: what a machine cannot do.
    """
    said = tell or (lambda what, share: None)
    works, skipped = [], []
    for name in dict.fromkeys(workloads) or NAMES:
        try:
            works.append(workload(name, seed))
        except UserError as error:
            if name not in NETWORKS:
                raise
            skipped.append(str(error))
    store = Store(folder)
    found = rows(names, works, arch, seed, said, store.rows)
    book = Book(seed, store.rows)
    if arch == book.arch:
        for name in names:
            mine = [row for row in found if _file_of(row["machine"]) == name]
            book.enter(name, [row for row in mine if row["workload"] in SEEDED])
    said("validation", 1.0)
    report: Report = {
        "format": FORMAT,
        "kind": "rivals",
        "command": command,
        "code_version": code_version(),
        "arch": arch.model_dump(),
        "seed": seed,
        "workloads": [{"name": w.name, "tokens": w.tokens, "about": w.about} for w in works],
        "skipped": skipped,
        "machines": {name: machine_report(name) for name in names if name != ENGINE},
        "rows": found,
        "validation_arch": PRESET,
        "validation": validation(list(names), book),
        "curves": [],
    }
    if quality:
        for work in works:
            if work.name in NETWORKS:
                measure = MEASURES[work.name]()
                report["curves"] += [
                    store.curve(name, work, arch, partial(curve, name, measure, arch, said))
                    for name in names
                    if name not in NO_QUALITY
                ]
    return report


def _file_of(machine: str) -> str:
    """The machine that a row's variant belongs to."""
    for name in rival_names():
        if machine == name or machine in rival_class(name).VARIANTS:
            return name
    return machine


def machine_report(name: str) -> Report:
    """Published configurations of a rival, and where each number comes from."""
    rival = rival_class(name)
    return {
        "title": rival.TITLE,
        "variants": {variant: describe(config) for variant, config in rival.VARIANTS.items()},
        "constants": {key: {"source": one.source, "label": one.label} for key, one in rival.CONSTANTS.items()},
    }


def json_text(report: Report) -> str:
    """The bytes of the file."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
