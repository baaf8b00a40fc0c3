"""docs/counters.md names every key of a report, and nothing that no report has."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accel.cost.energy import PARTS
from accel.runs import read_run
from tests.accel.cli_case import run_tiny

DOC = Path(__file__).parents[2] / "docs" / "counters.md"
NETWORKS_ONLY = ("workload.texts", "workload.weights_sha256", "quality.")


def documented() -> set[str]:
    """First cells of the tables, braces multiplied out."""
    keys = set()
    for cell in re.findall(r"^\| `([^`]+)` \|", DOC.read_text(encoding="utf-8"), re.MULTILINE):
        parts = [part.split(",") for part in re.split(r"[{}]", cell)]
        keys |= {"".join(choice) for choice in itertools.product(*parts)}
    return keys


def keys_of(value: Any, at: str = "") -> Iterator[str]:
    if at in ("arch", "options"):
        yield at
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from keys_of(inner, f"{at}.{name}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from keys_of(value[0], f"{at}[]")
    else:
        yield at


def test_every_key_is_documented_and_every_documented_key_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tiny(capsys, tmp_path)
    (path,) = (tmp_path / "runs").glob("*/run.json")
    found = set(keys_of(read_run(path))) | {"content_sha256"}
    assert found - documented() == set(), "add these to docs/counters.md"
    parts = {f"energy_pJ.{part}" for part in PARTS}
    gone = {key for key in documented() - found - parts if not key.startswith(NETWORKS_ONLY)}
    assert gone == set(), "docs/counters.md names what no report has"
