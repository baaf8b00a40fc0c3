"""Base-2 softmax of many rows, compiled; the same bits as :func:`accel.numerics.softmax.softmax_row`."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.numerics.softmax import NO_MAXIMUM, exponent_table
from accel.units.softmax import (
    EXPONENT_BITS,
    MANTISSA_BITS,
    PROBABILITY_BITS,
    RECIPROCAL_BITS,
    SCORE_FRACTION_BITS,
    SEGMENTS,
    TABLE_BITS,
    THRESHOLD_BITS,
    WEIGHT_BITS,
)

_START, _SLOPE = exponent_table()
_LOW_BITS = SCORE_FRACTION_BITS - (SEGMENTS.bit_length() - 1)
_ONE = 1 << SCORE_FRACTION_BITS
_FURTHEST = EXPONENT_BITS + 1


class Rows(NamedTuple):
    """``weights``, ``probabilities``: int32 (rows, n), zero where a key is not visible; the rest int64 (rows,)."""

    weights: NDArray[np.int32]
    probabilities: NDArray[np.int32]
    maximum: NDArray[np.int64]
    total: NDArray[np.int64]
    largest: NDArray[np.int64]
    reciprocal: NDArray[np.int64]
    shift: NDArray[np.int64]


@njit(cache=True)
def exponent(score: int, maximum: int) -> int:
    """2^(score - maximum), ``EXPONENT_BITS`` fraction bits."""
    below = (maximum << SCORE_FRACTION_BITS) - score
    whole = min(below >> SCORE_FRACTION_BITS, _FURTHEST)
    fraction = below & (_ONE - 1)
    segment, low = fraction >> _LOW_BITS, fraction & ((1 << _LOW_BITS) - 1)
    mantissa = (_START[segment] - ((_SLOPE[segment] * low) >> _LOW_BITS)) << (EXPONENT_BITS - TABLE_BITS)
    return (mantissa + ((1 << whole) >> 1)) >> whole


@njit(cache=True)
def rows(scores: NDArray, visible: NDArray, lanes: int, maximum: NDArray, total: NDArray) -> Rows:
    """Softmax of rows of log2-unit scores.

    Args:
        scores: int64 (rows, n). visible: int64 (rows,), row r has scores[r, :visible[r]].
        lanes: scores per line.
        maximum, total: int64 (rows,), sums of earlier tiles; ``NO_MAXIMUM`` and 0 for a fresh row.
    """
    n_rows, n = scores.shape
    weights, probabilities = np.zeros((n_rows, n), np.int32), np.zeros((n_rows, n), np.int32)
    out_maximum, out_total = maximum.copy(), total.copy()
    largest, inverse, shifts = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    stored, at = np.empty(n, np.int64), np.empty(n, np.int64)
    for r in range(n_rows):
        high, sum_ = maximum[r], total[r]
        top = scores[r, 0]
        for first in range(0, visible[r], lanes):
            end = min(first + lanes, visible[r])
            line_top = scores[r, first]
            for j in range(first + 1, end):
                line_top = max(line_top, scores[r, j])
            top = max(top, line_top)
            line_high = (line_top + _ONE - 1) >> SCORE_FRACTION_BITS
            if line_high > high:
                sum_ >>= min(line_high - high, 62)
                high = line_high
            for j in range(first, end):
                stored[j] = exponent(scores[r, j], high)
                at[j] = high
                sum_ += stored[j]
        shift, mantissa = 0, sum_
        while mantissa >> MANTISSA_BITS:
            mantissa >>= 1
            shift += 1
        reciprocal = (1 << RECIPROCAL_BITS) // mantissa
        for j in range(visible[r]):
            late = min(high - at[j], _FURTHEST)
            by = late + EXPONENT_BITS - WEIGHT_BITS
            weights[r, j] = min((stored[j] + ((1 << by) >> 1)) >> by, (1 << WEIGHT_BITS) - 1)
            by = late + shift + RECIPROCAL_BITS - PROBABILITY_BITS
            probabilities[r, j] = (stored[j] * reciprocal + ((1 << by) >> 1)) >> by
        out_maximum[r], out_total[r], largest[r] = high, sum_, exponent(top, high)
        inverse[r], shifts[r] = reciprocal, shift
    return Rows(weights, probabilities, out_maximum, out_total, largest, inverse, shifts)


@njit(cache=True)
def is_flat(largest: NDArray, total: NDArray, threshold: int) -> NDArray:
    """Maximum-probability test of rows; ``threshold`` has ``THRESHOLD_BITS`` fraction bits."""
    return (largest << THRESHOLD_BITS) < threshold * total


def fresh(n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``maximum`` and ``total`` of rows that start."""
    return np.full(n_rows, NO_MAXIMUM, np.int64), np.zeros(n_rows, np.int64)
