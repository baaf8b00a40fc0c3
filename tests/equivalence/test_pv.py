"""PV array: golden, simulator, RTL and netlist give the same output rows; the last three in the same cycles.

The large set: EQUIVALENCE=large python -m pytest tests/equivalence/test_pv.py
"""

import importlib.util
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from accel.arch import archs, load_arch
from accel.errors import UserError
from accel.numerics.attention import normalise_output
from accel.units.pv import ISSUE_CYCLES, NORMALISE_CYCLES, OUTPUT_SHIFT, SRAM_READ_CYCLES, PvArray, PvUnit
from sim.pv import issue
from sim.pv_schedule import Row, Stalls, Transfer, schedule
from tests.equivalence.harness import missing_tools, repeat_command
from tests.equivalence.pv_cases import SMALL, UNITS, Case, cases
from tests.equivalence.pv_rtl import as_transfers, rtl_run
from tests.equivalence.rtl_view import RtlView, netlist

LARGE = os.environ.get("EQUIVALENCE") == "large"
CASES = list(cases(LARGE))
Output = tuple[list[int], int]  # numbers of one row, sum of their magnitudes


def outputs_by_definition(rows: list[Row]) -> list[Output]:
    """In Python's integers: weighted sum, the earlier tile's beneath it, the reciprocal, nearest number, its ends."""
    outputs, total = [], []
    for row in rows:
        columns = row.values.T.tolist()
        carried = [0] * len(columns) if row.keep_shift is None else [t // 2**row.keep_shift for t in total]
        weights = row.weights.tolist()
        total = [c + sum(w * v for w, v in zip(weights, column)) for c, column in zip(carried, columns)]  # noqa: B905
        step = 2 ** (OUTPUT_SHIFT + row.shift)
        nearest = [(2 * t * row.reciprocal + step) // (2 * step) for t in total[: row.head_dim]]
        numbers = [min(2**15 - 1, max(-(2**15), number)) for number in nearest]
        outputs.append((numbers, sum(abs(number) for number in numbers)))
    return outputs


def outputs_of_transfers(unit: PvArray, rows: list[Row], transfers: list[Transfer]) -> list[Output]:
    """Output items joined into rows; lanes beyond a row's head dimension must be 0."""
    outputs: list[Output] = []
    numbers: list[int] = []
    for transfer in transfers:
        if transfer.port != "outputs":
            continue
        last, magnitude, *item = transfer.content
        numbers += item
        if last:
            head_dim = rows[len(outputs)].head_dim if len(outputs) < len(rows) else 0
            assert not any(numbers[head_dim:])
            assert len(numbers) - head_dim < unit.output_lanes
            outputs.append((numbers[:head_dim], magnitude))
            numbers = []
    return outputs


def expected_runs(case: Case) -> list[list[Transfer]]:
    """Transfers of each run from reset: the interrupted one, if the case has it, and the whole one."""
    whole = schedule(case.unit, case.rows, case.stalls)
    if case.reset_at is None:
        return [whole]
    return [[transfer for transfer in whole if transfer.cycle < case.reset_at], whole]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each view runs its ``cases``."""
    if metafunc.cls and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.cls.cases, ids=lambda case: case.name)


class Contract:
    """What every view must keep. A view overrides ``outputs``."""

    cases: ClassVar = CASES

    @pytest.fixture
    def outputs(self) -> Callable[[Case], list[Output]]:
        """Function of a case: each of its output rows."""
        raise NotImplementedError

    def test_right_output_rows(self, case: Case, outputs: Callable, request: pytest.FixtureRequest) -> None:
        found, expected = outputs(case), outputs_by_definition(case.rows)
        assert len(found) == len(expected), (
            f"pv: expected {len(expected)} rows, got {len(found)}; {repeat_command(request)}"
        )
        for r, (right, answer) in enumerate(zip(expected, found, strict=True)):
            assert answer == right, (
                f"pv, row {r} ({len(case.rows[r].weights)} V rows of {case.rows[r].head_dim}): expected {right}, "
                f"got {answer}; {repeat_command(request)}"
            )


class TestGolden(Contract):
    @pytest.fixture
    def outputs(self) -> Callable:
        def attend(case: Case) -> list[Output]:
            found, total = [], np.zeros(0, np.int64)
            for row in case.rows:  # as accel.numerics.attention.attend_row
                carried = 0 if row.keep_shift is None else total >> min(row.keep_shift, 62)
                total = row.weights @ row.values + carried
                numbers = normalise_output(total[: row.head_dim], row.reciprocal, row.shift)
                found.append((numbers.tolist(), int(np.abs(numbers).sum())))
            return found

        return attend


class TestSim(Contract):
    @pytest.fixture
    def outputs(self) -> Callable:
        return lambda case: outputs_of_transfers(case.unit, case.rows, schedule(case.unit, case.rows, case.stalls))


@pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")
class TestRtl(RtlView, Contract):
    unit_name = "pv"
    expected_runs = staticmethod(expected_runs)
    rtl_run = staticmethod(rtl_run)
    as_transfers = staticmethod(as_transfers)

    @pytest.fixture
    def outputs(self, transfers: Callable) -> Callable:
        return lambda case: outputs_of_transfers(case.unit, case.rows, transfers(case)[-1])


@pytest.mark.skipif(not LARGE, reason="netlist: takes minutes; EQUIVALENCE=large")
@pytest.mark.skipif(not importlib.util.find_spec("pyosys"), reason="netlist: pip install 'accel-codesign[synth]'")
class TestNetlist(TestRtl):
    """The same, on the gates that Yosys makes of the Verilog."""

    cases: ClassVar = [case for case in CASES if case.unit == SMALL]
    writer = staticmethod(netlist)


# ---- the numbers in accel.units, and the engine's simulator, against the schedule that the RTL keeps -----------------


def plain_row(unit: PvArray, head_dim: int, lines: int) -> Row:
    n = lines * unit.rows_per_line(head_dim)
    return Row(head_dim, np.ones(n, np.int64), np.ones((n, head_dim), np.int64), 1 << 16, 0)


@pytest.mark.parametrize("name", archs())
def test_array_of_a_machine_has_its_geometry(name: str) -> None:
    arch = load_arch(name)
    unit = PvArray.of(arch)
    for head_dim in (5, 8, 24, *unit.padded_dims):
        assert unit.rows_per_line(head_dim) == arch.values_per_line(head_dim)
        assert unit.fold(head_dim) == arch.pv_fold(head_dim)
        assert unit.at(head_dim) == PvUnit.of(arch, head_dim)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"multipliers": 48}, "pv: multipliers must be a power of two"),
        ({"max_head_dim": 512}, "pv: max_head_dim must be 8 to 256, got 512"),
        ({"lanes": 0}, "pv: lanes must be 1 to 64, got 0"),
        ({"output_lanes": 2.0}, "pv: output_lanes must be an integer, got 2.0"),
    ],
)
def test_impossible_arrays_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PvArray(**parameters)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("lines", [1, 5])
def test_latency_and_rate_of_a_row_alone(unit: PvArray, lines: int) -> None:
    for dim in unit.padded_dims:
        transfers = schedule(unit, [plain_row(unit, dim, lines)], Stalls())
        line = [t.cycle for t in transfers if t.port == "line"]
        outputs = [t.cycle for t in transfers if t.port == "outputs"]
        assert line == list(range(lines * unit.fold(dim)))
        first = line[-1] + unit.at(dim).latency_cycles - SRAM_READ_CYCLES + NORMALISE_CYCLES
        assert outputs == list(range(first, first + unit.at(dim).drain_cycles(dim)))


@pytest.mark.parametrize("unit", UNITS)
def test_rows_without_end_keep_the_busier_side_busy(unit: PvArray) -> None:
    for dim in unit.padded_dims:
        for lines in (1, 2, 7):
            transfers = schedule(unit, [plain_row(unit, dim, lines)] * 20, Stalls())
            ends = [t.cycle for t in transfers if t.port == "outputs" and t.content[0]]
            busier = max(lines * unit.fold(dim), unit.at(dim).drain_cycles(dim))
            assert set(np.diff(ends[3:]).tolist()) == {busier}


def written_by_the_engine(unit: PvArray, head_dim: int, n_lines: list[int], ready: list[int]) -> list[int]:
    """Cycle of each row's ``written`` in ``sim.pv.issue``: rows of so many lines, each line in V SRAM from ready on."""
    issue_line, start, at = issue.py_func, min(ready), unit.at(head_dim)
    job = SimpleNamespace(
        v_resident=0, keys_per_line=1, values_per_line=1, state_lines=0,
        pv_fold=unit.fold(head_dim), pv_latency=at.latency_cycles, drain=at.drain_cycles(head_dim),
    )  # fmt: skip
    rows, row_times = np.empty(len(n_lines), object), np.empty(len(n_lines), object)
    for r, lines in enumerate(n_lines):
        first = sum(n_lines[:r])
        rows[r] = SimpleNamespace(job=0, select=-1, keys=lines, v_first=first, pv_issues=lines, granules=0, v_lines=0)
        row_times[r] = SimpleNamespace(pass2_start=start - lines - 1, drained=start)
    state = dict.fromkeys(["line", "next_row", "finished", "drain_free", "issues", "busy_cycles", "lines_issued"], 0)
    pv = SimpleNamespace(free=start, write_row=0, **state)
    fetcher = SimpleNamespace(state=[SimpleNamespace(v_used=0, v_passed=0)])
    machine = SimpleNamespace(
        output_rows=len(n_lines), normalise=0, pv_issue=ISSUE_CYCLES, output_cycles=NORMALISE_CYCLES
    )
    times = SimpleNamespace(row=row_times, pv_line=np.empty(0))
    t = start
    while pv.finished < len(n_lines):
        fetcher.state[0].v_passed = np.searchsorted(ready, t, side="right")
        issue_line([pv], fetcher, [SimpleNamespace(granules_used=0)], machine, [job], rows, times, t)
        t += 1
    return [time.written for time in row_times]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("often", [1.0, 0.6, 0.2])
def test_engine_simulator_has_the_same_cycles(unit: PvArray, often: float) -> None:
    """With lines that are there when the schedule accepts them, rows are written when their last item has left."""
    rng = np.random.default_rng(int(10 * often) + unit.multipliers)
    for dim in unit.padded_dims:
        n_lines = [int(n) for n in rng.integers(1, 5, 30)]
        stalls = Stalls((True, *(rng.random(37) < often).tolist()) if unit.fold(dim) == 1 else (True,))
        transfers = schedule(unit, [plain_row(unit, dim, n) for n in n_lines], stalls)
        accepted = [t.cycle for t in transfers if t.port == "line"][:: unit.fold(dim)]
        left = [t.cycle for t in transfers if t.port == "outputs" and t.content[0]]
        ready = [cycle - SRAM_READ_CYCLES - ISSUE_CYCLES for cycle in accepted]
        assert written_by_the_engine(unit, dim, n_lines, ready) == [cycle + 1 for cycle in left]
