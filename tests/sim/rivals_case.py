"""What the tests of the rivals share: tensors, and attention written once more, plainly."""

import math

import numpy as np
from numpy.typing import NDArray

from sim.rivals.base import Work, work_of


def tensors(rows: int, keys: int, dim: int, seed: int = 0, causal: bool = False) -> Work:
    """Queries that resemble some keys, so that softmax has something to choose."""
    rng = np.random.default_rng(seed)
    k, v = rng.standard_normal((2, keys, dim))
    q = 0.6 * rng.standard_normal((rows, dim)) + 0.7 * k[rng.integers(0, keys, rows)]
    return work_of(q, k, v, rng.integers(1, keys + 1, rows) if causal else None)


def plain_attention(work: Work, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Row by row softmax over the kept keys, with Python's own arithmetic."""
    out = np.zeros(work.q.shape)
    for row, query in enumerate(work.q):
        score = {j: float(query @ work.k[j]) / math.sqrt(len(query)) for j in np.flatnonzero(kept[row])}
        top = max(score.values())
        weight = {j: math.exp(s - top) for j, s in score.items()}
        out[row] = sum(w * work.v[j] for j, w in weight.items()) / sum(weight.values())
    return out


def rounded(x: NDArray, bits: int) -> NDArray[np.float64]:
    """Symmetric quantisation, written independently."""
    step = np.abs(x).max() / (2 ** (bits - 1) - 1)
    return np.round(x / step) * step
