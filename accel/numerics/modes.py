"""Golden rows of the modes ``decay`` and ``linear`` in the attention pipeline: one query row, integers to integers.

Scores are those of attention; 2^-(lag * decay) takes the place of the exponent, and the job's output scale that of the
row's reciprocal. Rules and formats: docs/modes.md.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.numerics.attention import AttendedRow, dot, normalise_output
from accel.numerics.decay import decay_weights
from accel.numerics.softmax import Int, RowSum, SoftmaxRow, scale_scores
from accel.units.modes import IDENTITY_WORD

#: What a tile leaves to the next one beside its sums: there is no maximum, so they add up as they are.
NO_SUM = RowSum(0, 0)


def identity_keys(count: int, dim: int) -> NDArray[np.int16]:
    """Keys (count, dim) of ``linear``: the dot product with key j is ``IDENTITY_WORD`` times element j of the query."""
    return np.eye(count, dim, dtype=np.int16) * np.int16(IDENTITY_WORD)


def lags(keys: int, visible: int) -> Int:
    """Distance of each of the first ``keys`` keys from a query that would see ``visible`` keys, were they there."""
    return visible - 1 - np.arange(keys, dtype=np.int64)


def weighted_row(
    q: NDArray[np.int16],
    keys: NDArray[np.int16],
    values: NDArray[np.int16],
    *,
    scale: tuple[int, int],
    exponents: ArrayLike,
    output: tuple[int, int],
    carried: ArrayLike = 0,
) -> AttendedRow:
    """One query against its keys.

    Args:
        q: (dim,) 12-bit words. keys, values: (n, dim). scale: mantissa and shift of the score scale. exponents: (n,)
            decay between query and key, units of 2^-20. output: mantissa and shift of the output scale. carried: sums
            of the earlier tiles of this row.

    Returns:
        A row whose ``softmax`` holds signed weights, no probabilities, ``NO_SUM`` and the output scale.
    """
    weights, _ = decay_weights(scale_scores(dot(q, keys), *scale), exponents)
    total = weights @ np.asarray(values, np.int64) + np.asarray(carried, np.int64)
    softmax = SoftmaxRow(weights, np.zeros_like(weights), NO_SUM, 0, *output)
    return AttendedRow(normalise_output(total, *output), np.arange(len(weights)), softmax, False, total)
