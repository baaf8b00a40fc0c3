"""PV array: golden, simulator, RTL and netlist give the same output rows; the last three in the same cycles.

The large set: EQUIVALENCE=large python -m pytest tests/equivalence/test_pv.py
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest

from accel.numerics.attention import normalise_output
from accel.units.pv import OUTPUT_SHIFT, PvArray
from sim.pv_schedule import Row, Transfer, schedule
from tests.equivalence.harness import missing_tools, repeat_command
from tests.equivalence.pv_cases import SMALL, Case, cases
from tests.equivalence.pv_rtl import run_cases

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
class TestRtl(Contract):
    @classmethod
    @functools.cache
    def simulated(cls, unit: PvArray) -> dict[str, list[list[Transfer]]] | str:
        """Runs of all cases of one instance, in one simulation; or why there are none, so as not to try again."""
        try:
            return run_cases([case for case in cls.cases if case.unit == unit], expected_runs, cls.writer())
        except RuntimeError as error:
            return str(error)

    @staticmethod
    def writer() -> Callable[..., str]:
        from rtl.verilog import unit_verilog

        return unit_verilog

    @pytest.fixture
    def transfers(self) -> Callable[[Case], list[list[Transfer]]]:
        """Function of a case: its runs on the Verilog."""

        def transfers_of(case: Case) -> list[list[Transfer]]:
            found = self.simulated(case.unit)
            return pytest.fail(f"pv: {found}") if isinstance(found, str) else found[case.name]

        return transfers_of

    @pytest.fixture
    def outputs(self, transfers: Callable) -> Callable:
        return lambda case: outputs_of_transfers(case.unit, case.rows, transfers(case)[-1])

    def test_every_transfer_in_its_cycle(self, case: Case, transfers: Callable, request: pytest.FixtureRequest) -> None:
        for run, (expected, actual) in enumerate(zip(expected_runs(case), transfers(case), strict=True)):
            for i, (right, found) in enumerate(zip(expected, actual, strict=False)):
                assert found == right, (
                    f"pv, run {run}, transfer {i}, cycle {right.cycle}: simulator {right}, RTL {found}; "
                    f"{repeat_command(request)}"
                )
            assert len(actual) == len(expected), (
                f"pv, run {run}: simulator has {len(expected)} transfers, RTL {len(actual)}, equal so far; "
                f"{repeat_command(request)}"
            )


@pytest.mark.skipif(not LARGE, reason="netlist: takes minutes; EQUIVALENCE=large")
@pytest.mark.skipif(not importlib.util.find_spec("pyosys"), reason="netlist: pip install 'accel-codesign[synth]'")
class TestNetlist(TestRtl):
    """The same, on the gates that Yosys makes of the Verilog."""

    cases: ClassVar = [case for case in CASES if case.unit == SMALL]

    @staticmethod
    def writer() -> Callable[..., str]:
        from rtl.area import unit_netlist

        return unit_netlist
