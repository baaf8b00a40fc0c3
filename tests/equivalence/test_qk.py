"""QK array: golden, simulator, RTL and netlist give the same scores; the last three in the same cycles.

The large set, about three minutes: EQUIVALENCE=large python -m pytest tests/equivalence/test_qk.py
"""

import importlib.util
import os
from collections.abc import Callable
from typing import ClassVar

import pytest

from accel.numerics.attention import dot
from accel.numerics.softmax import scale_scores
from sim.qk_schedule import Row, Transfer, schedule
from tests.equivalence.harness import missing_tools, repeat_command
from tests.equivalence.qk_cases import LEAST, Case, cases
from tests.equivalence.qk_rtl import as_transfers, rtl_run
from tests.equivalence.rtl_view import RtlView, netlist

LARGE = os.environ.get("EQUIVALENCE") == "large"
CASES = list(cases(LARGE))
Scores = list[int]  # of one row


def scores_by_definition(row: Row) -> Scores:
    """Python integers: product by product, floor of score + 1/2, clipped to 22 bits."""
    query, keys = row.query.tolist(), row.keys.tolist()
    raw = [sum(q * k for q, k in zip(query, key, strict=True)) for key in keys]
    rounded = [(2 * score * row.mantissa + 2**row.shift) // 2 ** (row.shift + 1) for score in raw]
    return [max(-(2**21), min(2**21 - 1, score)) for score in rounded]


def rows_of(transfers: list[Transfer]) -> list[Scores]:
    """Transfers of scores joined into rows."""
    rows: list[Scores] = [[]]
    for transfer in transfers:
        if transfer.port == "scores":
            last, *scores = transfer.content
            rows[-1] += scores
            if last:
                rows.append([])
    return rows[:-1]


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
    """What every view must keep. A view overrides ``scored``."""

    cases: ClassVar = CASES

    @pytest.fixture
    def scored(self) -> Callable[[Case], list[Scores]]:
        """Function of a case: scores of each of its rows."""
        raise NotImplementedError

    def test_gives_the_right_scores(self, case: Case, scored: Callable, request: pytest.FixtureRequest) -> None:
        found = scored(case)
        assert len(found) == len(case.rows), (
            f"qk: expected {len(case.rows)} rows, got {len(found)}; {repeat_command(request)}"
        )
        for r, (row, answer) in enumerate(zip(case.rows, found, strict=True)):
            right = scores_by_definition(row)
            assert answer == right, (
                f"qk, row {r} (head_dim={len(row.query)}, keys={len(row.keys)}, mantissa={row.mantissa}, "
                f"shift={row.shift}): expected {right}, got {answer}; {repeat_command(request)}"
            )


class TestGolden(Contract):
    @pytest.fixture
    def scored(self) -> Callable:
        def score(row: Row) -> Scores:
            return scale_scores(dot(row.query, row.keys), row.mantissa, row.shift).tolist()

        return lambda case: [score(row) for row in case.rows]


class TestSim(Contract):
    @pytest.fixture
    def scored(self) -> Callable:
        return lambda case: rows_of(schedule(case.unit, case.rows, case.stalls))


@pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")
class TestRtl(RtlView, Contract):
    unit_name = "qk"
    expected_runs = staticmethod(expected_runs)
    rtl_run = staticmethod(rtl_run)
    as_transfers = staticmethod(as_transfers)

    @pytest.fixture
    def scored(self, transfers: Callable) -> Callable:
        return lambda case: rows_of(transfers(case)[-1])


@pytest.mark.skipif(not importlib.util.find_spec("pyosys"), reason="netlist: pip install 'accel-codesign[synth]'")
class TestNetlist(TestRtl):
    """The same, on the gates that Yosys makes of the Verilog. In the large set only: it is slow to build."""

    cases: ClassVar = [case for case in CASES if case.unit == LEAST]
    writer = staticmethod(netlist)
