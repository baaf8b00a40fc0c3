"""Weights of the modes ``decay`` and ``linear`` for many rows, compiled; the same bits as ``accel.numerics.modes``."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.numerics.softmax import exponent_table
from accel.program import Mode
from accel.units.modes import (
    DECAY_FRACTION_BITS,
    DECAY_WEIGHT_SHIFT,
    IDENTITY_WORD,
    SIGNED_WEIGHT_BITS,
    TABLE_INPUT_BITS,
)
from accel.units.softmax import SEGMENTS, TABLE_BITS
from sim.recorded import Int
from sim.softmax.base2 import Rows

_START, _SLOPE = exponent_table()
_LOW_BITS = TABLE_INPUT_BITS - (SEGMENTS.bit_length() - 1)
_TOP = (1 << (SIGNED_WEIGHT_BITS - 1)) - 1
_FARTHEST = 12  # shifted by this and more, no score is left


@njit(cache=True)
def _weigh(scores: NDArray, visible: NDArray, sees: NDArray, decay: int) -> NDArray:
    """Weights int32 (rows, n), zero where a key is not visible; ``sees``: what would be visible of endless keys."""
    weights = np.zeros(scores.shape, np.int32)
    for r in range(scores.shape[0]):
        for j in range(visible[r]):
            exponent = (sees[r] - 1 - j) * decay
            whole = min(exponent >> DECAY_FRACTION_BITS, _FARTHEST)
            fraction = (exponent & ((1 << DECAY_FRACTION_BITS) - 1)) >> (DECAY_FRACTION_BITS - TABLE_INPUT_BITS)
            segment, low = fraction >> _LOW_BITS, fraction & ((1 << _LOW_BITS) - 1)
            mantissa = _START[segment] - ((_SLOPE[segment] * low) >> _LOW_BITS)
            by = TABLE_BITS + DECAY_WEIGHT_SHIFT + whole
            weight = (scores[r, j] * mantissa + (1 << (by - 1))) >> by
            weights[r, j] = min(_TOP, max(-_TOP - 1, weight))
    return weights


def rows(job: NDArray, scores: Int, visible: Int, sees: Int) -> Rows:
    """What takes the place of the softmax of rows of ``job``; maximum and total are 0, the reciprocal is its output
    scale.

    Args:
        scores: int64 (rows, n). visible, sees: int64 (rows,), keys that a row sees, and would see of endless keys.
    """
    decay = int(job["decay"]) if job["mode"] == Mode.DECAY else 0
    weights = _weigh(scores, visible, sees, decay)
    none = np.zeros(len(scores), np.int64)
    scale = [np.full(len(scores), int(job[name]), np.int64) for name in ("output_mantissa", "output_shift")]
    return Rows(weights, np.zeros_like(weights), none, none, none, *scale)


def identity_scores(q: NDArray[np.int16], keys: int) -> NDArray[np.float64]:
    """Dot products (rows, keys) of query words with the keys of ``linear``."""
    return q[:, :keys].astype(np.float64) * IDENTITY_WORD
