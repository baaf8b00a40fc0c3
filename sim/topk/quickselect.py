"""Quick-select top-k engine: partition by a random pivot until the k-th value is bracketed, then filter the row.

``select_cycles`` (see :mod:`sim.topk_schedule`) is the sum over rounds of ``words + u.round_overhead_cycles``.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.units.topk import LFSR_BITS, LFSR_SHIFTS, TopKUnit
from accel.units.topk.quickselect import PARTS
from sim.topk_schedule import KEEP_ALL, KEEP_NONE, Rows, emit_gaps, keep_above

Int64Array = NDArray[np.int64]
#: Cycles per round beyond the words read, in the latency model of the published release.
PUBLISHED_ROUND_OVERHEAD_CYCLES = 3
_LEFT, _RIGHT, _BACK = LFSR_SHIFTS
_LFSR_MASK = (1 << LFSR_BITS) - 1


class Selection(NamedTuple):
    """Outcome of one row: kept are the values above ``threshold`` and the first ``n_equal_kept`` of those equal to it.

    ``threshold`` is the last pivot: the k-th value or, where the larger part came out as exactly k values, the one
    below it (then ``n_equal_kept`` is 0). ``rounds`` partitions read ``round_words`` words in all; ``lfsr_state`` is
    the generator's state afterwards. A row that is not selected has no rounds; its threshold is 0 if k >= n
    (everything is kept, ``n_equal_kept`` = n) and 2^62 - 1 if k = 0.
    """

    threshold: int
    n_equal_kept: int
    rounds: int
    round_words: int
    lfsr_state: int


class Partitions(NamedTuple):
    """Outcomes of many rows: int64 [rows] each, positions kept of row r at kept[starts[r] : starts[r] + n_kept[r]]."""

    kept: Int64Array
    n_kept: Int64Array
    threshold: Int64Array
    n_equal_kept: Int64Array
    rounds: Int64Array
    round_words: Int64Array
    lfsr_state: int


@njit(cache=True)
def lfsr_step(state: int) -> int:
    """The next state of the pivot generator, 1..65535."""
    state ^= (state << _LEFT) & _LFSR_MASK
    state ^= state >> _RIGHT
    return state ^ ((state << _BACK) & _LFSR_MASK)


@njit(cache=True)
def select(
    values: Int64Array, n: int, k: int, lanes: int, lfsr_state: int, stop_at_exact_count: bool = True
) -> Selection:
    """Find the threshold that keeps the k largest of values[:n], drawing the pivots that the hardware draws.

    values : int64 [>= n], 0 or more; not changed.
    stop_at_exact_count : stop as well when the larger part is exactly as long as what is still to be kept, as our
        engine does. False gives the rounds of the published latency model, which goes on until a pivot is the k-th
        value itself: about one round more.
    """
    if k >= n:
        return Selection(KEEP_ALL, n, 0, 0, lfsr_state)
    if k <= 0:
        return Selection(KEEP_NONE, 0, 0, 0, lfsr_state)
    smaller, larger = np.empty(n, np.int64), np.empty(n, np.int64)
    current, size, target = values, n, k
    rounds, round_words = 0, 0
    while True:
        pivot = current[(lfsr_state * size) >> LFSR_BITS]
        lfsr_state = lfsr_step(lfsr_state)
        rounds += 1
        round_words += (size + lanes - 1) // lanes
        n_smaller, n_larger = 0, 0
        # Both parts keep their order and fill from the front, so the part being read may be written over. The writes
        # are unconditional and only the counts depend on the compare: no branch to mispredict.
        for i in range(size):
            value = current[i]
            smaller[n_smaller] = value
            n_smaller += value < pivot
            larger[n_larger] = value
            n_larger += value > pivot
        if n_larger > target or (n_larger == target and not stop_at_exact_count):
            current, size = larger, n_larger
        elif size - n_smaller >= target:
            return Selection(pivot, target - n_larger, rounds, round_words, lfsr_state)
        else:
            target -= size - n_smaller
            current, size = smaller, n_smaller


@njit(cache=True)
def select_row(values: Int64Array, k: int, lanes: int, lfsr_state: int, kept: Int64Array) -> tuple[int, Selection]:
    """Select one row and write the positions kept, ascending, to the front of kept (int64 [>= min(k, n)]).

    Returns their number, min(k, n), and the Selection.
    """
    found = select(values, values.shape[0], k, lanes, lfsr_state)
    return keep_above(values, found.threshold, found.n_equal_kept, kept), found


@njit(cache=True)
def partition_rows(values: Int64Array, starts: Int64Array, ks: Int64Array, lanes: int, lfsr_state: int) -> Partitions:
    """Rows values[starts[r] : starts[r + 1]] one after another through one engine, the generator running on.

    values : int64 [total]; starts : int64 [rows + 1]; ks : int64 [rows], 0 or more.
    """
    n_rows = ks.shape[0]
    kept = np.empty(values.shape[0], np.int64)
    n_kept, threshold, n_equal_kept = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    rounds, round_words = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    for r in range(n_rows):
        row = slice(starts[r], starts[r + 1])
        n_kept[r], found = select_row(values[row], ks[r], lanes, lfsr_state, kept[row])
        threshold[r], n_equal_kept[r] = found.threshold, found.n_equal_kept
        rounds[r], round_words[r] = found.rounds, found.round_words
        lfsr_state = found.lfsr_state
    return Partitions(kept, n_kept, threshold, n_equal_kept, rounds, round_words, lfsr_state)


@njit(cache=True)
def select_cycles(rounds: int, round_words: int, round_overhead_cycles: int) -> int:
    """Cycles of a row's rounds: each reads its words, one per cycle, and adds the overhead."""
    return round_words + rounds * round_overhead_cycles


@njit(cache=True)
def latency_rows(
    values: Int64Array, starts: Int64Array, ks: Int64Array, lanes: int, lfsr_state: int, round_overhead_cycles: int
) -> tuple[Int64Array, Int64Array]:
    """Published and own latency of each row, int64 [rows] twice, arguments as for ``partition_rows``.

    The published model counts rounds of ceil(size / lanes) + PUBLISHED_ROUND_OVERHEAD_CYCLES until the pivot is the
    k-th value, and nothing else. The own figure is what the engine takes: from the last input word to the
    last output word, unstalled, less the fixed take, handoff and filter cycles; so rounds and the filter's pass.
    """
    n_rows = ks.shape[0]
    published, own = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    published_state = lfsr_state
    kept, gaps = np.empty(values.shape[0], np.int64), np.empty(values.shape[0] + 1, np.int64)
    for r in range(n_rows):
        row = values[starts[r] : starts[r + 1]]
        model = select(row, row.shape[0], ks[r], lanes, published_state, False)
        published_state = model.lfsr_state
        published[r] = select_cycles(model.rounds, model.round_words, PUBLISHED_ROUND_OVERHEAD_CYCLES)
        n_kept, found = select_row(row, ks[r], lanes, lfsr_state, kept)
        lfsr_state = found.lfsr_state
        n_words = emit_gaps(kept, n_kept, lanes, gaps)
        own[r] = select_cycles(found.rounds, found.round_words, round_overhead_cycles) + gaps[:n_words].sum()
    return published, own


def select_rows(unit: TopKUnit, values: Int64Array, starts: Int64Array, ks: Int64Array, lfsr_state: int) -> Rows:
    """Rows one after another through one engine, see :mod:`sim.topk`."""
    found = partition_rows(values, starts, ks, unit.lanes, lfsr_state)
    # Whole words go through both parts in each round, and the row once more through the filter.
    elements = int(found.round_words.sum()) * unit.lanes + int(starts[-1])
    return Rows(
        found.kept,
        found.n_kept,
        found.threshold,
        found.n_equal_kept,
        found.round_words + found.rounds * unit.round_overhead_cycles,
        found.lfsr_state,
        {"elements": elements, "comparisons": PARTS * elements},
    )
