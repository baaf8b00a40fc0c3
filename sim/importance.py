"""Token and head importance: the sums behind the cascade."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS


@njit(cache=True)
def add_tokens(
    scores: NDArray[np.int64], tokens: NDArray[np.int32], visible: NDArray[np.int64], probabilities: NDArray
) -> None:
    """Add rows of probabilities (rows, n) to the scores of their tokens (n,), saturating; row r has ``visible[r]``
    keys.
    """
    top = (1 << TOKEN_SCORE_BITS) - 1
    for r in range(probabilities.shape[0]):
        for j in range(visible[r]):
            scores[tokens[j]] = min(top, scores[tokens[j]] + probabilities[r, j])


@njit(cache=True)
def add_head(scores: NDArray[np.int64], head: int, outputs: NDArray[np.int64]) -> None:
    """Add the magnitudes of one output row (dim,) to its head's score, saturating."""
    total = scores[head]
    for value in outputs:
        total += abs(value)
    scores[head] = min((1 << HEAD_SCORE_BITS) - 1, total)
