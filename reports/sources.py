"""What a report is made of: files of runs, benchmarks, zoo, rivals, top-k engines, verifications, and their origin."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import UserError
from accel.runs import read_run, run_id

Data = dict[str, Any]

KINDS = {
    "bench": "accel bench",
    "zoo": "accel zoo",
    "crossover": "accel zoo --crossover",
    "rivals": "accel rivals",
    "topk": "accel topk",
    "verify": "accel verify",
}
"""Kind of a file with many rows -> the command that writes it with ``--json FILE``."""
LABELS = {
    "bench": "benchmarks",
    "zoo": "zoo",
    "crossover": "attention and retention",
    "rivals": "rivals and engine",
    "topk": "top-k engines",
    "verify": "simulator and RTL",
}
"""Kind -> what it is called in front of a machine's name."""
OPTIONS = ", ".join(f"--{kind}" for kind in KINDS)
"""Of ``accel report``."""
_HASH_DIGITS = 10


class Source(NamedTuple):
    """One file that numbers came from.

    ``name`` is its anchor in the page and its file name beside it; ``label`` what a reader calls it; ``hash`` is the
    run's id (hash of the question) or, of the other kinds, the hash of machine, seed and command.
    """

    kind: str
    name: str
    label: str
    hash: str
    data: Data

    @property
    def command(self) -> str:
        """The command that makes the file again; empty if it does not say."""
        return str(self.data.get("command", ""))

    @property
    def code_version(self) -> str:
        """Version and commit of the code that made it."""
        return str(self.data.get("code_version", self.data.get("version", "unknown")))


def run_source(path: Path) -> Source:
    """A stored run.

    Raises:
        UserError: as :func:`accel.runs.read_run`.
    """
    report = read_run(path)
    changed = "".join(f", {key} = {value}" for key, value in report.get("options", {}).get("set", {}).items())
    try:
        label = f"{report['workload']['name']} on {report['arch']['name']}{changed}"
        found = run_id(report)
        return Source(
            "run", _safe(f"{report['workload']['name']}-{report['arch']['name']}-{found}"), label, found, report
        )
    except (KeyError, TypeError):
        raise UserError(f"{path}: a stored run that lacks what every run has; run it again") from None


def file_source(path: Path, kind: str) -> Source:
    """A file of one of ``KINDS``.

    Raises:
        UserError: unreadable, no JSON, another kind or format.
    """
    data = read_json(path)
    said = data.get("kind", "unknown")
    if said != kind:
        raise UserError(f"{path}: its kind is {said}, not {kind}; '{KINDS[kind]} --json FILE' writes one")
    if data.get("format") != 1:
        raise UserError(f"{path}: format {data.get('format')!r}; this version reads format 1")
    if kind != "verify" and not _is_rows(data.get("rows")):
        raise UserError(f"{path}: no list of rows in it; '{KINDS[kind]} --json FILE' writes one")
    machine = data.get("arch", {}).get("name", "") if isinstance(data.get("arch"), dict) else ""
    asked = json.dumps([data.get("arch"), data.get("seed"), data.get("command")], sort_keys=True)
    found = hashlib.sha256(asked.encode()).hexdigest()[:_HASH_DIGITS]
    label = LABELS[kind] + (f" on {machine}" if machine else "")
    return Source(kind, _safe(f"{kind}-{machine}-{found}" if machine else f"{kind}-{found}"), label, found, data)


def timeline_data(path: Path) -> Data:
    """What ``accel run --timeline`` wrote.

    Raises:
        UserError: unreadable or something else.
    """
    data = read_json(path)
    events = data.get("traceEvents")
    if not isinstance(events, list) or not any(isinstance(one, dict) and one.get("ph") == "X" for one in events):
        raise UserError(f"{path}: no timeline; 'accel run ... --timeline FILE' writes one")
    return data


def read_json(path: Path) -> Data:
    """A JSON file that holds an object.

    Raises:
        UserError: it does not.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: no JSON, or cut off") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: JSON, but not a report")
    return data


def distinct(sources: Sequence[Source]) -> list[Source]:
    """Without a file given twice; two that only share their name are told apart by a number."""
    found: list[Source] = []
    for source in sources:
        if source in found:
            continue
        same = sum(one.hash == source.hash and one.kind == source.kind for one in found)
        found.append(source._replace(name=f"{source.name}-{same + 1}") if same else source)
    return found


def _is_rows(rows: object) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)
