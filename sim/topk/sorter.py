"""Full sorter as a top-k engine: the row is sorted, the k-th value read off; then filter the row.

``select_cycles`` (see :mod:`sim.topk_schedule`) depends on the row's length and k only,
:func:`accel.units.topk.sorter.select_cycles`.
"""

import numpy as np
from numba import njit

from accel.units.topk import TopKUnit
from accel.units.topk.sorter import exchanges_of_a_merge, exchanges_of_a_sort, passes, select_cycles
from sim.topk_schedule import KEEP_ALL, KEEP_NONE, Int64Array, Rows, keep_rows


@njit(cache=True)
def thresholds(values: Int64Array, starts: Int64Array, ks: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Of each row, int64 [rows] twice: the threshold, and how many equal to it are kept."""
    threshold, n_equal = np.empty(ks.shape[0], np.int64), np.empty(ks.shape[0], np.int64)
    for r in range(ks.shape[0]):
        row = values[starts[r] : starts[r + 1]]
        n = row.shape[0]
        if ks[r] >= n:
            threshold[r], n_equal[r] = KEEP_ALL, n
        elif ks[r] <= 0:
            threshold[r], n_equal[r] = KEEP_NONE, 0
        else:
            ascending = np.sort(row)
            threshold[r] = ascending[n - ks[r]]
            n_equal[r] = ks[r] - (n - np.searchsorted(ascending, threshold[r], side="right"))
    return threshold, n_equal


def select_rows(unit: TopKUnit, values: Int64Array, starts: Int64Array, ks: Int64Array, lfsr_state: int) -> Rows:
    """Rows one after another through one engine, see :mod:`sim.topk`."""
    threshold, n_equal = thresholds(values, starts, ks)
    kept, n_kept = keep_rows(values, starts, threshold, n_equal)
    lengths = np.diff(starts)
    cycles = np.zeros(len(ks), np.int64)
    exchanges = moves = 0
    selecting = (ks > 0) & (ks < lengths)
    for n, k in sorted(set(zip(lengths[selecting].tolist(), ks[selecting].tolist(), strict=True))):
        alike = selecting & (lengths == n) & (ks == k)
        rows, words, to_kth = int(alike.sum()), unit.words(n), unit.words(k)
        cycles[alike] = select_cycles(unit, words, to_kth)
        merged = words * (passes(words) - 1)  # words that are written; those of the last pass are only looked at
        in_sort, in_merge = exchanges_of_a_sort(unit.lanes), exchanges_of_a_merge(unit.lanes)
        exchanges += rows * (words * in_sort + (merged + to_kth) * in_merge)
        moves += rows * (words + merged) * unit.lanes
    total = int(starts[-1])
    events = {"elements": total, "comparisons": 2 * total, "exchanges": exchanges, "moves": moves}
    return Rows(kept, n_kept, threshold, n_equal, cycles, lfsr_state, events)
