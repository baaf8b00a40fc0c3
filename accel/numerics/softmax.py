"""Golden softmax: base-2 exponent, running integer maximum, one reciprocal per row; bit-true, NumPy, one row at a time.

The score line is the unit of work: the lanes of one line see the same running maximum. A later line may raise it;
what was stored before is then shifted right by the difference when it is read back. Formats are in
:mod:`accel.units.softmax`.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.numerics.quantise import encode_scale
from accel.units.softmax import (
    EXPONENT_BITS,
    MANTISSA_BITS,
    PROBABILITY_BITS,
    RECIPROCAL_BITS,
    SCALE_BITS,
    SCORE_BITS,
    SCORE_FRACTION_BITS,
    SEGMENTS,
    TABLE_BITS,
    THRESHOLD_BITS,
    WEIGHT_BITS,
)

Int = NDArray[np.int64]
NO_MAXIMUM = -(1 << (SCORE_BITS - SCORE_FRACTION_BITS))  # below every possible maximum


def score_scale(q_scale: float, k_scale: float, head_dim: int) -> tuple[int, int]:
    """Mantissa and shift that take a raw dot product to log2 units: q and k word scales, log2(e) and
    1/sqrt(head_dim).
    """
    real = q_scale * k_scale * math.log2(math.e) / math.sqrt(head_dim)
    return encode_scale(real * (1 << SCORE_FRACTION_BITS), SCALE_BITS)


def scale_scores(scores: ArrayLike, mantissa: int, shift: int) -> Int:
    """Raw dot products to log2 units: multiply, round half up, saturate to ``SCORE_BITS``."""
    wide = (np.asarray(scores, np.int64) * mantissa + (1 << (shift - 1))) >> shift
    top = (1 << (SCORE_BITS - 1)) - 1
    return np.clip(wide, -top - 1, top)


@functools.cache
def exponent_table() -> tuple[Int, Int]:
    """Start value and slope of each straight piece of 2^-f, f in [0, 1); ``TABLE_BITS`` fraction bits.

    The pieces are chords, lowered by half of their largest distance from the curve so that the error is balanced.
    """
    one = 1 << TABLE_BITS
    knots = [one * 2.0 ** (-s / SEGMENTS) for s in range(SEGMENTS + 1)]
    sag = (math.log(2) / SEGMENTS) ** 2 / 16
    start = np.array([min(one - 1, round(k * (1 - sag))) for k in knots], np.int64)
    return start[:-1], start[:-1] - start[1:]


def exponent(scores: ArrayLike, maximum: int) -> Int:
    """2^(score - maximum) with ``EXPONENT_BITS`` fraction bits; ``maximum`` is an integer, not below any score."""
    start, slope = exponent_table()
    below = (maximum << SCORE_FRACTION_BITS) - np.asarray(scores, np.int64)
    whole = np.minimum(below >> SCORE_FRACTION_BITS, EXPONENT_BITS + 1)
    low_bits = SCORE_FRACTION_BITS - (SEGMENTS.bit_length() - 1)
    fraction = below & ((1 << SCORE_FRACTION_BITS) - 1)
    segment, low = fraction >> low_bits, fraction & ((1 << low_bits) - 1)
    mantissa = (start[segment] - ((slope[segment] * low) >> low_bits)) << (EXPONENT_BITS - TABLE_BITS)
    return (mantissa + ((1 << whole) >> 1)) >> whole


@dataclass(frozen=True)
class RowSum:
    """Running maximum (an integer, log2 units) and sum of exponents; what a tile hands to the next one."""

    maximum: int = NO_MAXIMUM
    total: int = 0


@dataclass(frozen=True)
class SoftmaxRow:
    """One finished row: ``weights`` (n, 12 bit) for the PV array, ``probabilities`` (n, 12 fraction bits), and its
    sum.
    """

    weights: Int
    probabilities: Int
    state: RowSum
    largest: int
    reciprocal: int
    shift: int


def reciprocal(total: int) -> tuple[int, int]:
    """``floor(2^31 / mantissa)`` of the sum's 16-bit mantissa, and the mantissa's shift."""
    shift = max(0, total.bit_length() - MANTISSA_BITS)
    return (1 << RECIPROCAL_BITS) // (total >> shift), shift


def softmax_row(scores: ArrayLike, lanes: int, before: RowSum | None = None) -> SoftmaxRow:
    """Softmax of one row of log2-unit scores.

    Args:
        scores: int (n,), n >= 1, from :func:`scale_scores`.
        lanes: scores per line; they share one running maximum.
        before: sum of the tiles of this row that were worked on earlier.

    Returns:
        Weights relative to the final maximum, and probabilities relative to the sum so far.
    """
    scores = np.asarray(scores, np.int64)
    before = before or RowSum()
    maximum, total = before.maximum, before.total
    stored, at = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
    for first in range(0, len(scores), lanes):
        line = scores[first : first + lanes]
        line_maximum = int(line.max() + (1 << SCORE_FRACTION_BITS) - 1) >> SCORE_FRACTION_BITS
        if line_maximum > maximum:
            total >>= min(line_maximum - maximum, 62)
            maximum = line_maximum
        stored[first : first + lanes] = exponent(line, maximum)
        at[first : first + lanes] = maximum
        total += int(stored[first : first + lanes].sum())
    inverse, shift = reciprocal(total)
    late = np.minimum(maximum - at, EXPONENT_BITS + 1)
    to_weight = late + EXPONENT_BITS - WEIGHT_BITS
    weights = np.minimum((stored + ((1 << to_weight) >> 1)) >> to_weight, (1 << WEIGHT_BITS) - 1)
    to_probability = late + shift + RECIPROCAL_BITS - PROBABILITY_BITS
    probabilities = (stored * inverse + ((1 << to_probability) >> 1)) >> to_probability
    largest = int(exponent(scores.max(), maximum))
    return SoftmaxRow(weights, probabilities, RowSum(maximum, total), largest, inverse, shift)


def is_flat(row: SoftmaxRow, threshold: int) -> bool:
    """The maximum-probability test: is the largest probability below ``threshold`` (16 fraction bits)?"""
    return row.largest << THRESHOLD_BITS < threshold * row.state.total
