"""A run of the tiny machine and a report with everything in it, made once for all tests of this folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from accel.arch import load_arch
from accel.runs import store
from accel.session import run_trace
from reports.build import Document, document
from reports.sources import Source, file_source, run_source
from tests.accel.cli_case import tiny_trace
from tests.reports import made_up
from workloads.traces import load_trace

Report = dict[str, Any]
ZOO = Path(__file__).parent.parent.parent / "reports" / "published" / "data" / "zoo-spatten.json"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``run.json`` of a trace on ``tiny``."""
    trace = load_trace(tiny_trace(tmp_path_factory.mktemp("trace")))
    report = run_trace(trace, load_arch("tiny"), 1, 1).report
    report |= {"options": {"set": {}, "seeds": 2}, "command": "accel run --trace rows.csv --arch tiny"}
    return store(report, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def a_run(stored: Path) -> Report:
    """Its report."""
    return run_source(stored).data


@pytest.fixture(scope="session")
def timeline() -> Report:
    """Six slices of two heads on two units."""
    names = {1: "QK array", 2: "PV array"}
    meta = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}} for tid, name in names.items()
    ]
    slices = [
        {
            "ph": "X",
            "pid": 1,
            "tid": 1 + at % 2,
            "ts": at * 0.1,
            "dur": 0.08,
            "name": f"L0 H{at // 3} it0 row {at}",
            "args": {},
        }
        for at in range(6)
    ]
    return {
        "traceEvents": [*meta, *slices],
        "otherData": {"workload": "t", "machine": "tiny", "rows": "the first 6 of 9"},
    }


@pytest.fixture(scope="session")
def every_source(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """One source of each kind."""
    folder, run = tmp_path_factory.mktemp("files"), run_source(stored)
    found = [run]
    for kind in ("bench", "rivals", "topk", "crossover", "verify"):
        path = folder / f"{kind}.json"
        path.write_text(json.dumps(getattr(made_up, kind)(run.data)), encoding="utf-8")
        found.append(file_source(path, kind))
    return [*found, file_source(ZOO, "zoo")]


@pytest.fixture(scope="session")
def everything(every_source: list[Source], timeline: Report) -> Document:
    """A report with every section."""
    return document(every_source, "accel report everything -o report", timeline)
