"""The RTL's side of every equivalence test: one simulation per instance, and the comparison of each transfer.

A unit's ``TestRtl`` is ``class TestRtl(RtlView, Contract)`` with the unit's name, its cases, the transfers that the
simulator expects of a case, and how its transfers go to and from the bench (``run_cases`` of ``NAME_rtl.py``).
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from tests.equivalence.harness import repeat_command

Runs = list[list[Any]]  # transfers of each run from reset


def verilog() -> Callable[..., str]:
    """The unit as it is generated."""
    from rtl.verilog import unit_verilog

    return unit_verilog


def netlist() -> Callable[..., str]:
    """The gates that Yosys makes of it."""
    from rtl.area import unit_netlist

    return unit_netlist


class RtlView:
    """Override ``unit_name``, ``expected_runs(case)`` and ``run_cases(cases, expected_runs, writer)``."""

    unit_name: ClassVar[str]
    cases: ClassVar[list[Any]]
    expected_runs: ClassVar[Callable[[Any], Runs]]
    run_cases: ClassVar[Callable[..., dict[str, Runs]]]
    writer: ClassVar[Callable[[], Callable[..., str]]] = staticmethod(verilog)

    @classmethod
    @functools.cache
    def simulated(cls, unit: Any) -> dict[str, Runs] | str:
        """Runs of all cases of one instance, in one simulation; or why there are none, so as not to try again."""
        try:
            return cls.run_cases([case for case in cls.cases if case.unit == unit], cls.expected_runs, cls.writer())
        except RuntimeError as error:
            return str(error)

    @pytest.fixture
    def transfers(self) -> Callable[[Any], Runs]:
        """Function of a case: its runs on the Verilog."""

        def transfers_of(case: Any) -> Runs:
            found = self.simulated(case.unit)
            return pytest.fail(f"{self.unit_name}: {found}") if isinstance(found, str) else found[case.name]

        return transfers_of

    def test_every_transfer_in_its_cycle(self, case: Any, transfers: Callable, request: pytest.FixtureRequest) -> None:
        for run, (expected, actual) in enumerate(zip(self.expected_runs(case), transfers(case), strict=True)):
            where = f"{self.unit_name}, run {run}"
            for i, (right, found) in enumerate(zip(expected, actual, strict=False)):
                assert found == right, (
                    f"{where}, transfer {i}, cycle {right.cycle}: simulator {right}, RTL {found}; "
                    f"{repeat_command(request)}"
                )
            assert len(actual) == len(expected), (
                f"{where}: simulator has {len(expected)} transfers, RTL {len(actual)}, equal so far; "
                f"{repeat_command(request)}"
            )
