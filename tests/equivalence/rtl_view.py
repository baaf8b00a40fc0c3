"""The RTL's side of every equivalence test: one simulation per instance, and the comparison of each transfer.

A unit's ``TestRtl`` is ``class TestRtl(RtlView, Contract)`` with the unit's name, its cases, the transfers that the
simulator expects of a case, and how its transfers go to and from the bench (``NAME_rtl.py``).
"""

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import pytest

from tests.equivalence.harness import Handshake, Run, repeat_command, simulate

MARGIN_CYCLES = 40  # simulated beyond the last expected transfer, in which nothing more may come
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
    """Override ``unit_name``, ``expected_runs``, ``rtl_run`` and ``as_transfers``."""

    unit_name: ClassVar[str]
    cases: ClassVar[list[Any]]
    expected_runs: ClassVar[Callable[[Any], Runs]]
    rtl_run: ClassVar[Callable[[Any, int], Run]]
    as_transfers: ClassVar[Callable[[Any, list[Handshake]], list[Any]]]
    writer: ClassVar[Callable[[], Callable[..., str]]] = staticmethod(verilog)

    @classmethod
    @functools.cache
    def simulated(cls, unit: Any) -> dict[str, Runs] | str:
        """Runs of all cases of one instance, in one simulation; or why there are none, so as not to try again."""
        try:
            return cls._simulate([case for case in cls.cases if case.unit == unit])
        except RuntimeError as error:
            return str(error)

    @classmethod
    def _simulate(cls, cases: list[Any]) -> dict[str, Runs]:
        """Transfers of each run of each case, by the case's name; all cases are of the same unit."""
        runs, owners = [], []
        for case in cases:
            whole = cls.expected_runs(case)[-1][-1].cycle + MARGIN_CYCLES
            for cycles in (whole,) if case.reset_at is None else (case.reset_at, whole):
                runs.append(cls.rtl_run(case, cycles))
                owners.append(case)
        found = defaultdict(list)
        simulated = simulate(cls.writer()(cls.unit_name, **asdict(cases[0].unit)), cls.unit_name, runs)
        for case, handshakes in zip(owners, simulated, strict=True):
            found[case.name].append(cls.as_transfers(case, handshakes))
        return found

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
