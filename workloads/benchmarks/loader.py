"""Benchmark files: one YAML per network, its tasks in it; ``calibrated.yaml`` has the calibrated values."""

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accel.errors import UserError
from workloads.benchmarks.model import FAMILIES, LABELS, Benchmark
from workloads.catalog import read_yaml
from workloads.refusal import one_line, suggestion

FOLDER = Path(__file__).parent
CALIBRATED = "calibrated.yaml"
_KEYS = {"kind", "family", "about", "stage", "sources", "notes", "inputs", "tasks"}


def load_family(path: Path, calibrated: dict[str, Any]) -> list[Benchmark]:
    """The benchmarks in a file.

    Args:
        calibrated: values that ``{calibrated: NAME}`` stands for, as :func:`load_calibrated` returns them.

    Raises:
        UserError: one line, for anything that is not such a file.
    """
    data = read_yaml(path)
    if stray := sorted(set(data) - _KEYS):
        raise UserError(f"{path}: unknown key {stray[0]}; {suggestion(stray[0], sorted(_KEYS), 'known here')}")
    for key in sorted(_KEYS - {"notes"}):
        if not data.get(key):
            raise UserError(f"{path}: {key} is missing")
    if data["kind"] != "benchmarks":
        raise UserError(f"{path}: kind is {data['kind']!r}; a file of benchmarks is of kind benchmarks")
    for key in ("sources", "inputs", "tasks"):
        if not isinstance(data[key], dict):
            raise UserError(f"{path}: {key} must be a mapping")
    found = []
    for task, own in data["tasks"].items():
        if not isinstance(own, dict):
            raise UserError(f"{path}: tasks.{task} must be a mapping of inputs, at least with a title")
        own = dict(own)
        title, notes = own.pop("title", None), own.pop("notes", ())
        said = {
            "name": f"{data['family']}-{task}",
            "title": title,
            "family": data["family"],
            "task": task,
            "stage": data["stage"],
            "inputs": {
                name: _given(path, f"{task}.{name}", value, data["sources"], calibrated)
                for name, value in {**data["inputs"], **own}.items()
            },
            "notes": (*data.get("notes", ()), *notes),
        }
        try:
            found.append(Benchmark.model_validate(said))
        except ValidationError as error:
            raise UserError(f"{path}: {task}: {one_line(error, Benchmark)}") from None
    return found


def _given(path: Path, place: str, said: Any, sources: dict[str, str], calibrated: dict[str, Any]) -> dict[str, Any]:
    """An input with its source spelled out; {calibrated: NAME} looked up."""
    if not isinstance(said, dict):
        raise UserError(f"{path}: {place} = {said!r}: write it as {{value, label, source}} or {{calibrated: NAME}}")
    if "calibrated" in said:
        name = said["calibrated"]
        if set(said) != {"calibrated"} or name not in calibrated:
            raise UserError(
                f"{path}: {place}: nothing is calibrated as {name!r}; {CALIBRATED} has {sorted(calibrated)}"
            )
        return calibrated[name]
    said = dict(said)
    for key in ("value", "label", "source"):
        if key not in said:
            raise UserError(f"{path}: {place}: {key} is missing")
    if said["label"] == "calibrated":
        raise UserError(f"{path}: {place}: a calibrated value stands in {CALIBRATED}; refer to it by name")
    if said["label"] not in LABELS:
        raise UserError(f"{path}: {place}: label {said['label']!r} is none of {', '.join(LABELS)}")
    keys = str(said["source"]).split()
    if not all(key in sources for key in keys):
        raise UserError(f"{path}: {place}: source {said['source']!r} is not in sources; there are {', '.join(sources)}")
    return {**said, "source": " / ".join(" ".join(str(sources[key]).split()) for key in keys)}


def load_calibrated(path: Path = FOLDER / CALIBRATED) -> dict[str, Any]:
    """Calibrated values by name, as inputs. Raises UserError for a file that the calibration did not write."""
    data = read_yaml(path)
    values = data.get("values")
    if data.get("kind") != "calibrated" or not isinstance(values, dict):
        raise UserError(f"{path}: not a file of calibrated values; python -m workloads.benchmarks.calibrate writes it")
    return {
        name: {"value": one["value"], "label": "calibrated", "source": f"{data['command']}: {one['so_that']}"}
        for name, one in values.items()
    }


@functools.cache
def load_benchmarks() -> tuple[Benchmark, ...]:
    """All of them, in the order of the families and of their files."""
    calibrated = load_calibrated()
    return tuple(one for family in FAMILIES for one in load_family(FOLDER / f"{family}.yaml", calibrated))


def benchmark_names() -> list[str]:
    """Names of all benchmarks."""
    return [one.name for one in load_benchmarks()]


def find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """Benchmarks by name or family, each once, in the order of the files; all of them without a name.

    Raises:
        UserError: no benchmark and no family is called so.
    """
    every = load_benchmarks()
    known = [*FAMILIES, *(one.name for one in every)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"families: {', '.join(FAMILIES)}"
            raise UserError(f"no benchmark is called {name}; {hint}")
    return [one for one in every if not names or one.name in names or one.family in names]
