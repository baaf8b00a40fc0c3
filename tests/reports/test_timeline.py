"""The timeline is a trace that viewers accept, and its slices are the simulator's times."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel.arch import load_arch
from accel.lower.state import lower_state
from accel.lower.trace import lower_trace
from accel.program import Jobs, Opcode
from accel.session import Run, run_trace
from accel.zoo.attention_time import FlatScores, timed
from reports.timeline import TRACKS, slices, timeline_text
from sim.work import NEVER
from tests.accel.cli_case import tiny_trace
from workloads.kernels import StateUpdate
from workloads.traces import load_trace

ROWS = 12


@pytest.fixture(scope="module", params=[1000, 750, 3000])
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Jobs]:
    trace = load_trace(tiny_trace(tmp_path_factory.mktemp("trace")))
    arch = load_arch("tiny", {"clock_MHz": request.param})
    jobs = lower_trace(trace, arch).jobs
    return run_trace(trace, arch), jobs[jobs["opcode"] == Opcode.ATTEND]


def events(drawn: tuple[Run, Jobs], rows: int = ROWS) -> dict[str, Any]:
    run, jobs = drawn
    return json.loads(timeline_text(run.report, jobs, run.work, run.timing, rows))


def test_slices_of_a_track_do_not_overlap_and_are_sorted(drawn: tuple[Run, Jobs]) -> None:
    trace = events(drawn)
    end: dict[int, int] = defaultdict(int)
    before = 0
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            start_ns, length_ns = round(event["ts"] * 1000), round(event["dur"] * 1000)
            assert start_ns >= before, "sorted"
            assert length_ns >= 0
            assert start_ns >= end[event["tid"]], f"{event['name']} overlaps the slice before it"
            end[event["tid"]], before = start_ns + length_ns, start_ns
    run = drawn[0]
    assert max(end.values()) / 1e9 <= run.report["latency_s"] + 1e-9


def test_every_unit_works_on_every_row_that_passes_it(drawn: tuple[Run, Jobs]) -> None:
    run, _ = drawn
    trace = events(drawn)
    names = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert list(names.values()) == list(TRACKS)
    seen: dict[str, list[str]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            seen[names[event["tid"]]].append(event["name"])
    second = int(run.work.rows["lsb"].sum())
    assert second > 0
    assert len(seen["QK array"]) == ROWS + second
    assert len([name for name in seen["QK array"] if name.endswith(" LSB")]) == second
    for track in ("softmax second pass", "PV array", "output scaler"):
        assert len(seen[track]) == ROWS
    for track in ("top-k selection", "top-k filter"):
        assert len(seen[track]) == int((run.work.rows["select"] >= 0).sum())
    assert len(seen["fetcher: K"]) == len(run.work.ksets)
    assert "L1 H2 it1 row 11" in seen["PV array"], "2 tokens, 2 layers, 3 heads; row 11 is the last of each"


def test_a_slice_says_what_the_simulator_says(drawn: tuple[Run, Jobs]) -> None:
    run, jobs = drawn
    found = {(one.track, one.name): one for one in slices(jobs, run.work, run.timing, ROWS)}
    for row in (0, 7):
        time = run.timing.times.row[row]
        one = found["QK array", f"L{row // 3 % 2} H{row % 3} it{row // 6} row {row}"]
        assert (one.start, one.end) == (time["qk_start"], time["qk_end"] + 1)
        assert one.args == {"keys": run.work.rows["keys"][row], "kept": run.work.rows["kept"][row]}


def test_what_did_not_happen_is_not_drawn(drawn: tuple[Run, Jobs]) -> None:
    run, jobs = drawn
    starts = np.array([one.start for one in slices(jobs, run.work, run.timing, ROWS)])
    ends = np.array([one.end for one in slices(jobs, run.work, run.timing, ROWS)])
    assert (run.timing.times.row["lsb_start"] == NEVER).any()
    assert ends.max() <= run.timing.cycles
    assert starts.min() >= 0


def test_a_token_of_a_state_is_drawn_once_and_in_both_arrays() -> None:
    arch = load_arch("tiny")
    kernel = StateUpdate(1, 1, 16, 16, 5, decay="constant")
    program = lower_state(kernel, arch)
    _, timing, work = timed(program, arch, FlatScores(), 1)
    found = slices(program.jobs, work, timing, len(work.rows))
    for track in ("QK array", "PV array", "output scaler"):
        assert [one.name for one in found if one.track == track] == [
            f"L0 H0 it0 q{t} row {3 * t + 2}" for t in range(5)
        ]
    assert {one.args["rows"] for one in found if one.track == "PV array"} == {16}


def test_only_the_first_rows(drawn: tuple[Run, Jobs]) -> None:
    trace = events(drawn, 3)
    assert trace["otherData"]["rows"] == "the first 3 of 12"
    rows = {event["name"].split("row ")[-1].split()[0] for event in trace["traceEvents"] if "row " in event["name"]} - {
        "accel"
    }
    assert rows & {str(n) for n in range(3, 12)} == set()
    assert events(drawn)["otherData"]["rows"] == "all 12 of 12"


def test_a_user_name_is_no_json(drawn: tuple[Run, Jobs], tmp_path: Path) -> None:
    run, jobs = drawn
    report = {**run.report, "workload": {**run.report["workload"], "name": 'quote " and \\ and ü'}}
    text = timeline_text(report, jobs, run.work, run.timing, 2)
    assert json.loads(text)["otherData"]["workload"] == 'quote " and \\ and ü'
