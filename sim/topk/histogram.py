"""Histogram top-k engine: counts of digits, from the top, until the k-th value is known; then filter the row.

``select_cycles`` (see :mod:`sim.topk_schedule`) depends on the row's length only,
:func:`accel.units.topk.histogram.select_cycles`.
"""

import numpy as np
from numba import njit

from accel.units.topk import TopKUnit
from accel.units.topk.histogram import DIGIT_BITS, digits, select_cycles
from sim.topk_schedule import KEEP_ALL, KEEP_NONE, Int64Array, Rows, keep_rows


@njit(cache=True)
def threshold_of(values: Int64Array, k: int, value_bits: int, n_digits: int) -> tuple[int, int]:
    """The k-th largest of values (int64 [n] of 0 .. 2^value_bits - 1), 0 < k < n, and how many equal ones are kept."""
    bins = 1 << DIGIT_BITS
    counts = np.empty(bins, np.int64)
    prefix, target = 0, k
    for digit in range(n_digits):
        shift = value_bits - (digit + 1) * DIGIT_BITS  # below 0: the lowest digit has bits that are not there
        counts[:] = 0
        for value in values:
            aligned = value >> shift if shift >= 0 else value << -shift
            if aligned >> DIGIT_BITS == prefix:
                counts[aligned & (bins - 1)] += 1
        at = bins - 1
        while counts[at] < target:
            target -= counts[at]
            at -= 1
        prefix = prefix << DIGIT_BITS | at
    return prefix >> n_digits * DIGIT_BITS - value_bits, target


@njit(cache=True)
def thresholds(
    values: Int64Array, starts: Int64Array, ks: Int64Array, value_bits: int, n_digits: int
) -> tuple[Int64Array, Int64Array]:
    """Of each row, int64 [rows] twice: the threshold, and how many equal to it are kept."""
    threshold, n_equal = np.empty(ks.shape[0], np.int64), np.empty(ks.shape[0], np.int64)
    for r in range(ks.shape[0]):
        row = values[starts[r] : starts[r + 1]]
        if ks[r] >= row.shape[0]:
            threshold[r], n_equal[r] = KEEP_ALL, row.shape[0]
        elif ks[r] <= 0:
            threshold[r], n_equal[r] = KEEP_NONE, 0
        else:
            threshold[r], n_equal[r] = threshold_of(row, ks[r], value_bits, n_digits)
    return threshold, n_equal


def select_rows(unit: TopKUnit, values: Int64Array, starts: Int64Array, ks: Int64Array, lfsr_state: int) -> Rows:
    """Rows one after another through one engine, see :mod:`sim.topk`."""
    threshold, n_equal = thresholds(values, starts, ks, unit.value_bits, digits(unit))
    kept, n_kept = keep_rows(values, starts, threshold, n_equal)
    lengths = np.diff(starts)
    selecting = (ks > 0) & (ks < lengths)
    cycles = np.zeros(len(ks), np.int64)
    for n in np.unique(lengths[selecting]).tolist():
        cycles[selecting & (lengths == n)] = select_cycles(unit, unit.words(n))
    total = int(starts[-1])
    # Every row is counted as it comes in; one that is selected from once more for each further digit.
    counted = total + int(lengths[selecting].sum()) * (digits(unit) - 1)
    events = {"elements": total, "comparisons": 2 * total, "counted": counted}
    return Rows(kept, n_kept, threshold, n_equal, cycles, lfsr_state, events)
