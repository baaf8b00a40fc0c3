"""Local value pruning: kept positions of many rows turned into counts and masked weights, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.program import Jobs

Int = NDArray[np.int64]


@njit(cache=True)
def pack_visible(weights: NDArray, visible: NDArray, values: NDArray, starts: NDArray) -> None:
    """The weights (rows, n) that each row sees, one after another."""
    for r in range(visible.shape[0]):
        for j in range(visible[r]):
            values[starts[r] + j] = weights[r, j]


@njit(cache=True)
def emit_cycles(kept: NDArray, starts: NDArray, counts: NDArray, lanes: int, emit: NDArray) -> None:
    """Cycles from the first source word filtered to the last output word: the word that completes it, or one more."""
    for r in range(counts.shape[0]):
        n = counts[r]
        words = (n + lanes - 1) // lanes
        before = 0
        for w in range(words):
            by = kept[starts[r] + min((w + 1) * lanes, n) - 1] // lanes
            emit[r] += by if w == 0 else max(1, by - before)
            before = by


@njit(cache=True)
def column_issues(kept: NDArray, starts: NDArray, counts: NDArray, columns: int, issues: NDArray) -> None:
    """PV issues of a row whose V is resident: row i of V lies in column ``i % columns``; the fullest column decides."""
    fill = np.zeros(columns, np.int64)
    for r in range(counts.shape[0]):
        fill[:] = 0
        for i in range(counts[r]):
            fill[kept[starts[r] + i] % columns] += 1
        issues[r] = fill.max()


@njit(cache=True)
def mask_weights(weights: NDArray, kept: NDArray, starts: NDArray, counts: NDArray) -> NDArray:
    """The weights at the kept positions; zero elsewhere."""
    masked = np.zeros_like(weights)
    for r in range(counts.shape[0]):
        for i in range(counts[r]):
            j = kept[starts[r] + i]
            masked[r, j] = weights[r, j]
    return masked


def kept_counts(visible: Int, jobs: Jobs, per_job: Int) -> Int:
    """V rows that each row keeps, as :func:`~accel.numerics.attention.values_kept` says."""
    count, ratio = (np.repeat(jobs[name].astype(np.int64), per_job) for name in ("keep_values", "keep_ratio"))
    return np.minimum(visible, np.maximum(1, np.where(count > 0, count, (visible * ratio) >> 16)))


def joined_kept(kept: Int, starts: Int, counts: Int) -> Int:
    """The kept positions of all rows, without the gaps."""
    total = int(counts.sum())
    shift = np.repeat(starts[:-1] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return kept[np.arange(total) + shift]
