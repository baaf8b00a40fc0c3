"""Token and head importance, keep lists, and the cascade top-k between layers: values here, times in ``prune``."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS
from sim.work import integers

STATE = integers(
    """
    next until done busy_cycles
    """
)


def new_prune() -> np.ndarray:
    """No prune done yet; one record."""
    return np.zeros(1, STATE)


@njit(cache=True)
def prune(state: np.ndarray, prunes: np.ndarray, time: np.ndarray, passed_rows: int, pv_rows: int, t: int) -> None:
    """One cycle of the cascade top-k: it starts when the rows before it have left their importance, and runs alone.

    ``passed_rows`` have started their second pass, ``pv_rows`` have left the PV array.
    """
    s = state[0]
    if s.done < s.next:
        if t >= s.until:
            s.done = s.next
        return
    if s.next >= prunes.shape[0]:
        return
    p = prunes[s.next]
    before = p.row - 1
    if before >= 0:
        if p.heads:
            if pv_rows <= before or time[before].written > t:
                return
        elif passed_rows <= before or time[before].important > t:
            return
    s.until = t + p.cycles
    s.busy_cycles += p.cycles
    s.next += 1


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
