"""Softmax: golden, simulator, RTL and netlist give the same bits; the last three in the same cycles.

The large set: EQUIVALENCE=large python -m pytest tests/equivalence/test_softmax.py
"""

import functools
import importlib.util
import os
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

from accel.numerics.softmax import NO_MAXIMUM, RowSum, exponent, is_flat, softmax_row
from accel.units.softmax import EXPONENT_BITS, PROBABILITY_BITS, SCORE_FRACTION_BITS, WEIGHT_BITS
from sim.softmax_schedule import Row, Transfer, schedule
from tests.equivalence.harness import missing_tools, repeat_command
from tests.equivalence.rtl_view import RtlView, netlist
from tests.equivalence.softmax_cases import ONE_LANE, Case, cases
from tests.equivalence.softmax_rtl import as_transfers, rtl_run

LARGE = os.environ.get("EQUIVALENCE") == "large"
CASES = list(cases(LARGE))


class Answer(NamedTuple):
    """One row: what is stored of each line (maximum, exponents), its sum, and what the second pass makes of it."""

    lines: list[tuple[int, ...]]
    maximum: int
    total: int
    largest: int
    flat: bool
    reciprocal: int
    shift: int
    weights: list[int]
    probabilities: list[int]


def golden(row: Row) -> Answer:
    """The row by ``accel.numerics.softmax``; the stored lines by its exponent, under a maximum found anew each time."""
    done = softmax_row(row.scores, row.keys_per_line, RowSum(row.maximum, row.total))
    lines = []
    for first in range(0, len(row.scores), row.keys_per_line):
        end = first + row.keys_per_line
        maximum = max(row.maximum, *(-(-int(score) // (1 << SCORE_FRACTION_BITS)) for score in row.scores[:end]))
        lines.append((maximum, *exponent(row.scores[first:end], maximum).tolist()))
    return Answer(
        lines, done.state.maximum, done.state.total, done.largest, is_flat(done, row.threshold),
        done.reciprocal, done.shift, done.weights.tolist(), done.probabilities.tolist(),
    )  # fmt: skip


def answers_of(transfers: list[Transfer]) -> list[Answer]:
    """Contents of the outputs joined into rows."""
    items = defaultdict(list)
    for transfer in transfers:
        items[transfer.port].append(transfer.content)
    lines, weights = iter(items["exponents"]), iter(items["weights"])
    answers = []
    for (maximum, total, largest, flat), (_, reciprocal, shift) in zip(
        items["sums"], items["reciprocals"], strict=True
    ):
        stored, pairs, last = [], [], 0
        while not last:
            last, *line = next(lines)
            last_too, *of_line = next(weights)
            assert last == last_too, "the passes disagree on where a row ends"
            stored.append(tuple(line))
            pairs += of_line
        answers.append(Answer(stored, maximum, total, largest, bool(flat), reciprocal, shift, pairs[::2], pairs[1::2]))
    return answers


@functools.cache
def expected_runs(name: str) -> list[list[Transfer]]:
    """Transfers of each run from reset: the interrupted one, if the case has it, and the whole one."""
    case = next(case for case in CASES if case.name == name)
    whole = schedule(case.unit, case.rows, case.stalls)
    if case.reset_at is None:
        return [whole]
    return [[transfer for transfer in whole if transfer.cycle < case.reset_at], whole]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each view runs its ``cases``."""
    if metafunc.cls and "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.cls.cases, ids=lambda case: case.name)


class Contract:
    """What every view must keep. A view overrides ``answers``."""

    cases: ClassVar = CASES

    @pytest.fixture
    def answers(self) -> Callable[[Case], list[Answer]]:
        """Function of a case: the answer to each of its rows."""
        raise NotImplementedError

    def test_bits(self, case: Case, answers: Callable, request: pytest.FixtureRequest) -> None:
        found = answers(case)
        assert len(found) == len(case.rows), (
            f"softmax: expected {len(case.rows)} rows, got {len(found)}; {repeat_command(request)}"
        )
        for r, (row, answer) in enumerate(zip(case.rows, found, strict=True)):
            for name, right, got in zip(Answer._fields, golden(row), answer, strict=True):
                assert got == right, (
                    f"softmax, row {r} of {len(row.scores)} scores: {name} should be {right}, got {got}; "
                    f"{repeat_command(request)}"
                )

    def test_it_is_a_softmax(self, case: Case, answers: Callable, request: pytest.FixtureRequest) -> None:
        """Against float64: errors of half a unit of the last place, of the straight pieces, and of every exponent's
        rounding in the sum.
        """
        for r, (row, answer) in enumerate(zip(case.rows, answers(case), strict=True)):
            below = row.scores / 2.0**SCORE_FRACTION_BITS - answer.maximum
            before = 0.0 if row.maximum == NO_MAXIMUM else row.total * 2.0 ** (row.maximum - answer.maximum)
            exact = np.exp2(below)
            total = exact.sum() + before / 2.0**EXPONENT_BITS
            for name, found, right, bits in (
                ("weight", answer.weights, exact, WEIGHT_BITS),
                ("probability", answer.probabilities, exact / total, PROBABILITY_BITS),
            ):
                error = np.abs(np.array(found) / 2.0**bits - right).max()
                allowed = 2.0**-12 + len(row.scores) * 2.0**-21
                assert error <= allowed, (
                    f"softmax, row {r}: a {name} is off by {error:.2e}, allowed {allowed:.2e}; "
                    f"{repeat_command(request)}"
                )


class TestGolden(Contract):
    @pytest.fixture
    def answers(self) -> Callable:
        return lambda case: [golden(row) for row in case.rows]


class TestSim(Contract):
    @pytest.fixture
    def answers(self) -> Callable:
        return lambda case: answers_of(expected_runs(case.name)[-1])


@pytest.mark.skipif(missing_tools() is not None, reason=f"RTL: {missing_tools()}")
class TestRtl(RtlView, Contract):
    unit_name = "softmax"
    expected_runs = staticmethod(lambda case: expected_runs(case.name))
    rtl_run = staticmethod(rtl_run)
    as_transfers = staticmethod(as_transfers)

    @pytest.fixture
    def answers(self, transfers: Callable) -> Callable:
        return lambda case: answers_of(transfers(case)[-1])


@pytest.mark.skipif(not LARGE, reason="netlist: over a minute to build; EQUIVALENCE=large runs it")
@pytest.mark.skipif(not importlib.util.find_spec("pyosys"), reason="netlist: pip install 'accel-codesign[synth]'")
class TestNetlist(TestRtl):
    """The same, on the gates that Yosys makes of the Verilog."""

    cases: ClassVar = [case for case in CASES if case.unit == ONE_LANE]
    writer = staticmethod(netlist)
