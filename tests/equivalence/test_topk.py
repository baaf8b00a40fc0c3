"""Top-k: golden, simulator, RTL and netlist keep the same values; the last three in the same cycles.

The large set: EQUIVALENCE=large python -m pytest tests/equivalence/test_topk.py
"""

import importlib.util
import os
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest

from accel.numerics.topk import top_k
from sim.topk_schedule import Row, Transfer, schedule
from tests.equivalence.harness import missing_tools, repeat_command
from tests.equivalence.rtl_view import RtlView, netlist
from tests.equivalence.topk_cases import OTHER_ENGINES, SMALL, Case, cases
from tests.equivalence.topk_rtl import as_transfers, rtl_run

LARGE = os.environ.get("EQUIVALENCE") == "large"
CASES = list(cases(LARGE))
Kept = list[tuple[int, int]]  # (position, value) of one row


def kept_by_definition(row: Row) -> Kept:
    """Fewer than k values are larger, or equal and further forward: counted, neither sorted nor partitioned."""
    values = np.asarray(row.values, np.int64)
    at = np.arange(values.size)
    ahead = (values[None, :] > values[:, None]) | ((values[None, :] == values[:, None]) & (at[None, :] < at[:, None]))
    return [(int(i), int(values[i])) for i in np.flatnonzero(ahead.sum(1) < row.k)]


def rows_of(transfers: list[Transfer]) -> list[Kept]:
    """Output words joined into rows."""
    rows: list[Kept] = [[]]
    for transfer in transfers:
        if transfer.port == "output":
            last, *pairs = transfer.content
            rows[-1] += zip(pairs[::2], pairs[1::2], strict=True)
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
    """What every view must keep. A view overrides ``kept``."""

    cases: ClassVar = CASES

    @pytest.fixture
    def kept(self) -> Callable[[Case], list[Kept]]:
        """Function of a case: kept values of each of its rows."""
        raise NotImplementedError

    def test_keeps_the_right_values(self, case: Case, kept: Callable, request: pytest.FixtureRequest) -> None:
        found = kept(case)
        assert len(found) == len(case.rows), (
            f"topk: expected {len(case.rows)} rows, got {len(found)}; {repeat_command(request)}"
        )
        for r, (row, answer) in enumerate(zip(case.rows, found, strict=True)):
            right = kept_by_definition(row)
            assert answer == right, (
                f"topk, row {r} (n={len(row.values)}, k={row.k}): expected {right}, got {answer}; "
                f"{repeat_command(request)}"
            )


class TestGolden(Contract):
    @pytest.fixture
    def kept(self) -> Callable:
        def keep(row: Row) -> Kept:
            return [(int(i), int(row.values[i])) for i in top_k(row.values, row.k).positions]

        return lambda case: [keep(row) for row in case.rows]


class TestSim(Contract):
    @pytest.fixture
    def kept(self) -> Callable:
        return lambda case: rows_of(schedule(case.unit, case.rows, case.stalls))


@pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")
class TestRtl(RtlView, Contract):
    unit_name = "topk"
    expected_runs = staticmethod(expected_runs)
    rtl_run = staticmethod(rtl_run)
    as_transfers = staticmethod(as_transfers)

    @pytest.fixture
    def kept(self, transfers: Callable) -> Callable:
        return lambda case: rows_of(transfers(case)[-1])


@pytest.mark.skipif(not importlib.util.find_spec("pyosys"), reason="netlist: pip install 'accel-codesign[synth]'")
class TestNetlist(TestRtl):
    """The same, on the gates that Yosys makes of the Verilog."""

    cases: ClassVar = [case for case in CASES if case.unit in (SMALL, *(OTHER_ENGINES if LARGE else ()))]
    writer = staticmethod(netlist)
