"""Random rows for the unit campaign: one source of cases per unit, in the kinds and stall patterns of its tests."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sim.pv_schedule import schedule as pv_schedule
from sim.qk_schedule import schedule as qk_schedule
from sim.softmax_schedule import schedule as softmax_schedule
from sim.topk_schedule import schedule as topk_schedule
from tests.equivalence import pv_cases, pv_rtl, qk_cases, qk_rtl, softmax_cases, softmax_rtl, topk_cases, topk_rtl
from tests.equivalence.test_pv import outputs_by_definition, outputs_of_transfers
from tests.equivalence.test_qk import rows_of as qk_rows_of
from tests.equivalence.test_qk import scores_by_definition
from tests.equivalence.test_softmax import answers_of, golden
from tests.equivalence.test_topk import kept_by_definition
from tests.equivalence.test_topk import rows_of as topk_rows_of

ROWS = 50  # of a case
Rows = list[Any]


class Suite(NamedTuple):
    """A unit's part of the campaign. instances: the sizes of its tests; rows: of an instance and kind, seeded; right:
    golden's answer to each row of a case; found: the rows in a list of transfers.
    """

    name: str
    instances: list[Any]
    kinds: tuple[str, ...]
    profiles: tuple[str, ...]
    rows: Callable[[Any, str, np.random.Generator], Rows]
    cases: Any  # module with Case and stall patterns
    schedule: Callable[..., list[Any]]
    rtl: Any  # module with rtl_run and as_transfers
    right: Callable[[Any], list[Any]]
    found: Callable[[Any, list[Any]], list[Any]]


def random_cases(suite: Suite, instance: Any, seed: int, first: int, count: int) -> Iterator[Any]:
    """Cases number ``first`` to ``first + count - 1`` of an instance; each is the same whatever came before."""
    for number in range(first, first + count):
        name = f"campaign {suite.name} {suite.instances.index(instance)} {seed} {number}"
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        kind, profile = str(rng.choice(suite.kinds)), str(rng.choice(suite.profiles))
        rows = suite.rows(instance, kind, rng)
        yield suite.cases.Case(name, instance, rows, suite.cases._stalls(profile, rng))


def _topk_rows(unit: Any, kind: str, rng: np.random.Generator) -> Rows:
    if kind == "any":
        return topk_cases._random_rows(unit, ROWS, rng)
    return topk_cases._edge_rows(kind, unit, ROWS, rng)


def _qk_rows(unit: Any, kind: str, rng: np.random.Generator) -> Rows:
    return qk_cases._short_rows(unit, ROWS // 2, rng) if kind == "short" else qk_cases._rows(unit, kind, ROWS, rng)


def _softmax_rows(unit: Any, kind: str, rng: np.random.Generator) -> Rows:
    if kind == "tiles":
        return softmax_cases._tiles(unit, ROWS, rng)
    if kind == "powers of two":
        return softmax_cases._power_rows(unit, ROWS, rng)
    return softmax_cases._edge_rows(kind, unit, ROWS, rng)


SUITES = [
    Suite(
        "topk", topk_cases.UNITS + topk_cases.MORE_UNITS, (*topk_cases.KINDS, "any", "any"), topk_cases.PROFILES,
        _topk_rows, topk_cases, topk_schedule, topk_rtl,
        lambda case: [kept_by_definition(row) for row in case.rows], lambda case, transfers: topk_rows_of(transfers),
    ),
    Suite(
        "qk", qk_cases.UNITS + qk_cases.MORE_UNITS, (*qk_cases.KINDS, "any", "short"), qk_cases.PROFILES,
        _qk_rows, qk_cases, qk_schedule, qk_rtl,
        lambda case: [scores_by_definition(row) for row in case.rows], lambda case, transfers: qk_rows_of(transfers),
    ),
    Suite(
        "softmax", softmax_cases.UNITS + softmax_cases.MORE_UNITS, (*softmax_cases.KINDS, "tiles", "powers of two"),
        softmax_cases.PROFILES, _softmax_rows, softmax_cases, softmax_schedule, softmax_rtl,
        lambda case: [golden(row) for row in case.rows], lambda case, transfers: answers_of(transfers),
    ),
    Suite(
        "pv", pv_cases.UNITS + pv_cases.MORE_UNITS, pv_cases.KINDS, pv_cases.PROFILES,
        lambda unit, kind, rng: pv_cases._rows(kind, unit, ROWS, rng), pv_cases, pv_schedule, pv_rtl,
        lambda case: outputs_by_definition(case.rows),
        lambda case, transfers: outputs_of_transfers(case.unit, case.rows, transfers),
    ),
]  # fmt: skip
