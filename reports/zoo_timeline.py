"""A row of the zoo as a timeline: Chrome trace JSON, phases after each other, and inside of each what its rows do.

One process shows the phases: as long as they take, and beside that what arrays and memory would take alone. The other
shows the engine's units at the beginning of each simulated phase (`accel.zoo.inner`), where the phase stands.
"""

import json
from collections.abc import Sequence
from typing import Any

from accel.zoo.inner import Inner
from reports.timeline import TRACKS, slices

PHASES, ENGINE = 1, 2
OWN_TRACKS = ("phase", "arrays alone", "memory alone", "host (no time)")


def zoo_timeline_text(report: dict[str, Any], inner: Sequence[Inner | None], rows: int) -> str:
    """The JSON file, one event per line; ``rows``: of each phase's inner run at most."""
    row, clock_MHz = report["row"], report["arch"]["clock_MHz"]
    about = {
        "workload": row["name"],
        "machine": report["arch"]["name"],
        "unit": row["unit"],
        "code_version": report["code_version"],
        "time": row["time"],
        "phases": "one after the other, all repeats of one kernel together; inside, the beginning of one repeat",
    }
    events = [_meta("process_name", PHASES, 0, name=f"{row['name']} on {about['machine']}: phases")]
    events.append(_meta("process_name", ENGINE, 0, name="engine, beginning of each simulated phase"))
    for pid, tracks in ((PHASES, OWN_TRACKS), (ENGINE, TRACKS)):
        for number, track in enumerate(tracks, 1):
            events.append(_meta("thread_name", pid, number, name=track))
            events.append(_meta("thread_sort_index", pid, number, sort_index=number))

    def event(pid: int, track: int, start: float, cycles: float, name: str, args: dict[str, Any]) -> None:
        begin, end = (round(cycle * 1000 / clock_MHz) for cycle in (start, start + cycles))
        times = {"ph": "X", "pid": pid, "tid": track, "ts": begin / 1000, "dur": (end - begin) / 1000}
        events.append({**times, "name": name, "args": args})

    at = 0.0
    for part, within in zip(row["phases"], inner, strict=True):
        told = {key: part[key] for key in ("mode", "time", "sample", "repeats", "decision", "limit")}
        told["dram_MB"] = round(part["dram_bytes"] / 1e6, 3)
        cycles = part["cycles"]
        if not cycles:
            event(PHASES, 4, at, 0, part["name"], told)
            continue
        event(PHASES, 1, at, cycles, f"{part['name']} ({part['time']})", told | {"cycles": round(cycles)})
        for own, key in ((2, "array_cycles"), (3, "memory_cycles")):
            if part[key]:
                event(PHASES, own, at, min(part[key], cycles), part["name"], {"cycles": round(part[key])})
        if within is not None:
            for one in slices(within.jobs, within.work, within.timing, rows):
                if one.end <= cycles:  # a phase may be shorter than the beginning that stands for it
                    unit = TRACKS.index(one.track) + 1
                    event(ENGINE, unit, at + one.start, one.end - one.start, one.name, {**one.args, "of": within.said})
        at += cycles
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, allow_nan=False) for one in events)
    return f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about)},"traceEvents":[\n{lines}\n]}}\n'


def _meta(kind: str, process: int, thread: int, **args: object) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": thread, "name": kind, "args": args}
