"""A run as a timeline: Chrome trace JSON for ui.perfetto.dev or chrome://tracing. One track per unit, a slice per row.

Times are those of the machine, in microseconds, rounded to whole nanoseconds (what the viewers keep). A slice covers
the cycles in which the unit belonged to the row, also those in which it waited for data.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.program import Jobs
from sim.engine import Timing
from sim.work import NEVER, Work

TRACKS = (
    "fetcher: K",
    "fetcher: V",
    "QK array",
    "softmax second pass",
    "top-k selection",
    "top-k filter",
    "PV array",
    "output scaler",
)
"""Tracks from top to bottom; the number of a track, from 1, is its thread number."""


class Slice(NamedTuple):
    """Cycles ``start`` (included) to ``end`` (not included) of one track."""

    track: str
    start: int
    end: int
    name: str
    args: dict[str, Any]


def slices(jobs: Jobs, work: Work, timing: Timing, rows: int) -> list[Slice]:
    """Slices of the first ``rows`` rows, by start, then track. ``jobs``: the attend jobs that ``work`` was made of."""
    found = [*_fetches(jobs, work, timing, rows), *_row_slices(jobs, work, timing, rows)]
    return sorted(found, key=lambda one: (one.start, TRACKS.index(one.track)))


def timeline_text(report: dict[str, Any], jobs: Jobs, work: Work, timing: Timing, rows: int) -> str:
    """The JSON file, one event per line. ``otherData`` says what ran and how much of it is drawn."""
    total = len(work.rows)
    shown = min(rows, total)
    clock_MHz = report["arch"]["clock_MHz"]
    about = {
        "workload": report["workload"]["name"],
        "machine": report["arch"]["name"],
        "seed": report["seed"],
        "code_version": report["code_version"],
        "rows": f"{'all' if shown == total else 'the first'} {shown} of {total}",
    }
    events: list[dict[str, Any]] = [
        _meta("process_name", 0, name=f"{about['workload']} on {about['machine']} ({about['rows']} rows)")
    ]
    for number, track in enumerate(TRACKS, 1):
        events += [_meta("thread_name", number, name=track), _meta("thread_sort_index", number, sort_index=number)]
    for one in slices(jobs, work, timing, rows):
        start_ns, end_ns = (round(cycle * 1000 / clock_MHz) for cycle in (one.start, one.end))
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": TRACKS.index(one.track) + 1,
                "ts": start_ns / 1000,
                "dur": (end_ns - start_ns) / 1000,
                "name": one.name,
                "args": {**one.args, "cycles": one.end - one.start},
            }
        )
    lines = ",\n".join(json.dumps(event, ensure_ascii=False, allow_nan=False) for event in events)
    return f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about)},"traceEvents":[\n{lines}\n]}}\n'


def _meta(kind: str, thread: int, **args: object) -> dict[str, Any]:
    return {"ph": "M", "pid": 1, "tid": thread, "name": kind, "args": args}


def _place(jobs: Jobs, work: Work, row: int) -> tuple[str, str]:
    """Where a row stands ("L3 H5 it2") and its name there ("row 77")."""
    at = int(work.rows["job"][row])
    job = jobs[at]
    rank = (row - int(work.jobs["first_row"][at])) // int(work.jobs["records"][at])
    group = max(1, int(job["group"]))
    head = int(job["head"]) * group + rank % group
    query = f" q{rank // group}" if int(job["queries"]) > 1 else ""
    return f"L{job['layer']} H{head} it{job['iteration']}{query}", f"row {row}"


def _happened(*times: int) -> bool:
    return all(time < NEVER for time in times)


def _fetches(jobs: Jobs, work: Work, timing: Timing, rows: int) -> Iterator[Slice]:
    """Address generation, which begins in the cycle after the fetcher chose the job."""
    first_rows: NDArray[np.int64] = work.jobs["first_row"]
    for at in range(len(work.ksets)):
        kset = work.ksets[at]
        lead = int(kset["first_job"])
        start, end = (int(time) for time in timing.times.kset[at])
        if first_rows[lead] < rows and _happened(start, end):
            yield Slice("fetcher: K", start + 1, end + 1, f"K {_job_name(jobs, lead)}", {"keys": int(kset["keys"])})
    for at in range(len(work.jobs)):
        start, end = (int(time) for time in timing.times.job[at])
        if first_rows[at] < rows and _happened(start, end):
            yield Slice(
                "fetcher: V", start + 1, end + 1, f"V {_job_name(jobs, at)}", {"keys": int(work.jobs["keys"][at])}
            )
    for row in range(min(rows, len(work.rows))):
        start, end = int(timing.times.row["v_fetch"][row]), int(timing.times.row["v_fetched"][row])
        if _happened(start, end):
            name = " ".join(("V", *_place(jobs, work, row)))
            yield Slice("fetcher: V", start + 1, end + 1, name, {"kept": int(work.rows["kept"][row])})


def _job_name(jobs: Jobs, at: int) -> str:
    job = jobs[at]
    return f"L{job['layer']} H{int(job['head']) * max(1, int(job['group']))} it{job['iteration']}"


def _row_slices(jobs: Jobs, work: Work, timing: Timing, rows: int) -> Iterator[Slice]:
    for row in range(min(rows, len(work.rows))):
        place, number = _place(jobs, work, row)
        args = {"keys": int(work.rows["keys"][row]), "kept": int(work.rows["kept"][row])}
        time = {name: int(timing.times.row[name][row]) for name in timing.times.row.dtype.names or ()}
        job = work.jobs[work.rows["job"][row]]
        if job["state_lines"]:
            if not _happened(time["pv_start"]):
                continue  # a record that is not its token's query
            time["qk_start"], time["qk_end"] = time["pv_start"], time["pv_end"]  # lines pass through both arrays
            args = {"rows": int(job["keys"])}
        drain = int(work.jobs["drain"][work.rows["job"][row]])
        for track, start, end, what in (
            ("QK array", time["qk_start"], time["qk_end"] + 1, ""),
            ("QK array", time["lsb_start"], time["lsb_end"] + 1, " LSB"),
            ("softmax second pass", time["pass2_start"], time["pass2_end"] + 1, ""),
            ("top-k selection", time["take"], time["handoff"] + 1, ""),
            ("top-k filter", time["handoff"] + 1, time["emitted"], ""),
            ("PV array", time["pv_start"], time["pv_end"] + 1, ""),
            ("output scaler", time["drained"] - drain, time["drained"], ""),
        ):
            if _happened(start, end - 1):
                yield Slice(track, start, end, f"{place} {number}{what}", args)
