"""Base-2 softmax as a unit: what passes each of its ports, and in which cycle.

Timing rules (``u`` is a ``SoftmaxUnit``). Three parts stand side by side and never stall one another: exponent
(``scores`` to ``exponents`` and ``sums``), reciprocal (``finals`` to ``reciprocals``), normalise (``stored`` and
``rows`` to ``weights``). Each is one pipeline that freezes as a whole: all its stages move in a *step*, or none.

* Step k takes place in ``step[k] = max(step[k-1] + 1, accepted)``, where ``accepted`` is the latest acceptance of the
  items that step k-1 put on offer, each at the first ready cycle of its port from ``step[k-1] + 1`` on.
* An item is accepted at ``max(offered, entered of the item before + 1)``: the inlet holds one.
* It enters in the first step from then on that lies behind the step of the item before: ``entered`` is its cycle.
* Entering in step k, it is put on offer by step k + d - 1 for a latency of d: d = ``u.exponent_cycles`` to
  ``exponents`` (and ``u.test_cycles`` more to ``sums`` for a row's last line), ``u.reciprocal_cycles`` to
  ``reciprocals``, ``u.normalise_cycles - NORMALISE_READ_CYCLES`` to ``weights``.
* A line of ``stored`` enters no earlier than in the cycle after its row's item was accepted on ``rows``. That item is
  accepted at the cycle it is offered in or, if later, in the one after the last line of the row ``u.row_queue_depth``
  before has entered.

Unstalled, then, a line is offered exactly its latency after it was accepted, one line per cycle.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.errors import UserError
from accel.numerics.softmax import NO_MAXIMUM
from accel.units.softmax import (
    EXPONENT_BITS,
    MAXIMUM_BITS,
    NORMALISE_READ_CYCLES,
    SCORE_BITS,
    SCORE_FRACTION_BITS,
    THRESHOLD_BITS,
    SoftmaxUnit,
)
from sim.softmax import base2

Pattern = tuple[bool, ...]


class Row(NamedTuple):
    """One row, or one tile of a row.

    ``scores``: int64 (n,), n >= 1, log2 units. ``keys_per_line``: of the lanes, how many a full line uses.
    ``maximum`` and ``total``: the sum so far, of earlier tiles. ``threshold``: of the maximum test, ``THRESHOLD_BITS``
    fraction bits.
    """

    scores: NDArray[np.int64]
    keys_per_line: int
    maximum: int = NO_MAXIMUM
    total: int = 0
    threshold: int = 0


class Stalls(NamedTuple):
    """What the neighbours do, per cycle, as booleans repeated cyclically from cycle 0 (the first one out of reset).

    ``scores``, ``finals``, ``stored``, ``rows``: cycles in which the source may begin to offer its next item; once
    offered it stays until accepted. The others: cycles in which the sink is ready. Each needs at least one True.
    """

    scores: Pattern = (True,)
    finals: Pattern = (True,)
    stored: Pattern = (True,)
    rows: Pattern = (True,)
    exponents: Pattern = (True,)
    sums: Pattern = (True,)
    reciprocals: Pattern = (True,)
    weights: Pattern = (True,)


class Transfer(NamedTuple):
    """One handshake: the port, the cycle and the content.

    ``content`` is, on ``scores``, (last, maximum, total, threshold, score, ...) on a row's first line and
    (last, score, ...) on others; on ``exponents`` and ``stored`` (last, maximum, exponent, ...); on ``sums``
    (maximum, total, largest, flat); on ``finals`` (maximum, total); on ``reciprocals`` and ``rows`` (maximum,
    reciprocal, shift); on ``weights`` (last, weight, probability, weight, probability, ...).
    """

    port: str
    cycle: int
    content: tuple[int, ...]


Items = dict[str, list[tuple[int, ...]]]  # contents on each port, in order


@njit(cache=True)
def stored_lines(scores: NDArray, keys_per_line: int, maximum: int) -> tuple[NDArray, NDArray]:
    """What the score buffer holds of a row that starts from ``maximum``: the exponent of each score, and the running
    maximum it refers to; int64 (n,) twice.
    """
    n = scores.shape[0]
    stored, at = np.empty(n, np.int64), np.empty(n, np.int64)
    for first in range(0, n, keys_per_line):
        end = min(first + keys_per_line, n)
        top = scores[first:end].max()
        maximum = max(maximum, (top + (1 << SCORE_FRACTION_BITS) - 1) >> SCORE_FRACTION_BITS)
        for j in range(first, end):
            stored[j] = base2.exponent(scores[j], maximum)
            at[j] = maximum
    return stored, at


def check_row(unit: SoftmaxUnit, row: Row, r: int) -> None:
    """Raises UserError for a row the unit cannot take."""
    top = 1 << (SCORE_BITS - 1)
    if not len(row.scores) or not -top <= min(row.scores) <= max(row.scores) < top:
        raise UserError(f"softmax schedule: row {r} must have one score or more, each of {-top} to {top - 1}")
    if not 1 <= row.keys_per_line <= unit.lanes:
        raise UserError(f"softmax schedule: row {r} must use 1 to {unit.lanes} keys per line, got {row.keys_per_line}")
    if not 0 <= row.threshold < 1 << THRESHOLD_BITS:
        raise UserError(f"softmax schedule: threshold of row {r} must have {THRESHOLD_BITS} bits, got {row.threshold}")
    fresh = (row.maximum, row.total) == (NO_MAXIMUM, 0)
    room = (1 << unit.total_bits) - (len(row.scores) << EXPONENT_BITS)
    furthest = 1 << (MAXIMUM_BITS - 2)
    if not fresh and not (abs(row.maximum) <= furthest and 1 << (EXPONENT_BITS - 1) <= row.total <= room):
        raise UserError(
            f"softmax schedule: row {r} starts from maximum {row.maximum}, sum {row.total}: no row leaves that"
        )
    if room < 0:
        raise UserError(f"softmax schedule: row {r} of {len(row.scores)} scores; max_keys is {unit.max_keys}")


def contents(unit: SoftmaxUnit, rows: list[Row]) -> Items:
    """What passes each port, with the work of reciprocal and normalise being what exponent and reciprocal made.

    Raises UserError for a row the unit cannot take.
    """
    items: Items = {port: [] for port in Stalls._fields}
    for r, row in enumerate(rows):
        check_row(unit, row, r)
        n, step = len(row.scores), row.keys_per_line
        start = np.array([row.maximum]), np.array([row.total])
        done = base2.rows(row.scores[None, :], np.array([n]), step, *start)
        flat = base2.is_flat(done.largest, done.total, row.threshold)
        stored, at = stored_lines(row.scores, step, row.maximum)
        maximum, total = int(done.maximum[0]), int(done.total[0])
        of_row = (maximum, int(done.reciprocal[0]), int(done.shift[0]))
        for first in range(0, n, step):
            part = slice(first, min(first + step, n))
            last = int(part.stop == n)
            state = (row.maximum, row.total, row.threshold) if first == 0 else ()
            items["scores"].append((last, *state, *row.scores[part].tolist()))
            items["exponents"].append((last, int(at[first]), *stored[part].tolist()))
            pairs = np.stack([done.weights[0, part], done.probabilities[0, part]], 1)
            items["weights"].append((last, *pairs.ravel().tolist()))
        items["sums"].append((maximum, total, int(done.largest[0]), int(flat[0])))
        items["finals"].append((maximum, total))
        items["reciprocals"].append(of_row)
    items["stored"], items["rows"] = items["exponents"], items["reciprocals"]
    return items


def _next(pattern: Pattern, cycle: int) -> int:
    """First cycle from ``cycle`` on in which the pattern is True."""
    while not pattern[cycle % len(pattern)]:
        cycle += 1
    return cycle


class _Pipe:
    """A pipeline that freezes as a whole, behind its inlet."""

    def __init__(self, stalls: Stalls, transfers: list[Transfer]):
        self.stalls, self.transfers = stalls, transfers
        self.step, self.next_cycle = 0, 0  # number of the next step, and the first cycle it can have
        self.pending: dict[int, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)  # what each step puts on offer
        self.offered, self.entered = -1, -1

    def _take_step(self, cycle: int) -> None:
        self.next_cycle = cycle + 1
        for port, content in self.pending.pop(self.step, []):
            accepted = _next(getattr(self.stalls, port), cycle + 1)
            self.transfers.append(Transfer(port, accepted, content))
            self.next_cycle = max(self.next_cycle, accepted)
        self.step += 1

    def pass_through(
        self, port: str, content: tuple[int, ...], results: list[tuple[int, str, tuple[int, ...]]], not_before: int = 0
    ) -> int:
        """The next item of ``port``; returns the cycle in which it enters. results: latency, port, content of each."""
        accepted = max(_next(getattr(self.stalls, port), self.offered + 1), self.entered + 1)
        self.transfers.append(Transfer(port, accepted, content))
        self.offered = accepted
        earliest = max(accepted, not_before)
        while self.pending and self.next_cycle < earliest:
            self._take_step(self.next_cycle)
        self.entered = max(self.next_cycle, earliest)
        for latency, out, result in results:
            self.pending[self.step + latency - 1].append((out, result))
        self._take_step(self.entered)
        return self.entered

    def drain(self) -> None:
        """No more items."""
        while self.pending:
            self._take_step(self.next_cycle)


def schedule(unit: SoftmaxUnit, rows: list[Row], stalls: Stalls) -> list[Transfer]:
    """Every transfer of the unit from reset until the last row has left each part, in order of cycle, then port.

    A max-plus recursion over the steps of each pipeline; cycles in which nothing moves are not stepped. Raises
    UserError for a row the unit cannot take or a pattern that is never True.
    """
    for name, pattern in stalls._asdict().items():
        if not any(pattern):
            raise UserError(f"softmax schedule: stalls.{name} is never True, so nothing would ever pass")
    items = contents(unit, rows)
    transfers: list[Transfer] = []
    exponent, reciprocal, normalise = (_Pipe(stalls, transfers) for _ in range(3))

    sums = iter(items["sums"])
    for line, result in zip(items["scores"], items["exponents"], strict=True):
        results = [(unit.exponent_cycles, "exponents", result)]
        if line[0]:
            results.append((unit.exponent_cycles + unit.test_cycles, "sums", next(sums)))
        exponent.pass_through("scores", line, results)

    for final, inverse in zip(items["finals"], items["reciprocals"], strict=True):
        reciprocal.pass_through("finals", final, [(unit.reciprocal_cycles, "reciprocals", inverse)])

    lines = iter(zip(items["stored"], items["weights"], strict=True))
    latency = unit.normalise_cycles - NORMALISE_READ_CYCLES
    taken, left = -1, [-1] * unit.row_queue_depth
    for r, inverse in enumerate(items["rows"]):
        taken = max(_next(stalls.rows, taken + 1), left[r % unit.row_queue_depth] + 1)
        transfers.append(Transfer("rows", taken, inverse))
        last = 0
        while not last:
            line, result = next(lines)
            last = line[0]
            left[r % unit.row_queue_depth] = normalise.pass_through(
                "stored", line, [(latency, "weights", result)], not_before=taken + 1
            )
    for pipe in (exponent, reciprocal, normalise):
        pipe.drain()
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
