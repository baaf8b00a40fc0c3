"""The two products of attention for many rows, and the scaling behind each: exact integers, computed fast."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.numerics.attention import normalise_output
from accel.program import Mode
from accel.units.softmax import SCORE_BITS
from sim.modes import identity_scores
from sim.recorded import Int, JobTensors

_TOP_SCORE = (1 << (SCORE_BITS - 1)) - 1


class Operands:
    """K and V of one job as float64, in which sums of 12 x 12 bit products (below 2^53) are exact."""

    def __init__(self, tensors: JobTensors, at: slice | NDArray[np.int32]) -> None:
        self._tensors, self._at = tensors, at
        self._msb = tensors.k_msb[at].astype(np.float64)
        self._full: NDArray[np.float64] | None = None
        self.v = tensors.v[at].astype(np.float64)

    @classmethod
    def of(cls, tensors: JobTensors, tokens: NDArray[np.int32], *, dense: bool) -> "Operands":
        return cls(tensors, slice(int(tokens[0]), int(tokens[-1]) + 1) if dense else tokens)

    def scores(self, q: NDArray[np.int16], keys: int, job: NDArray, *, full: bool = False) -> Int:
        """Log2-unit scores int64 (rows, keys) of the first ``keys`` keys, with one plane or both."""
        scale = int(job["score_mantissa"]), int(job["score_shift"])
        if job["mode"] == Mode.LINEAR:
            return _scaled(identity_scores(q, keys), *scale)
        if full and self._full is None:
            self._full = self._tensors.k_full[self._at].astype(np.float64)
        k = self._full if full and self._full is not None else self._msb
        return _scaled(q.astype(np.float64) @ k[:keys].T, *scale)


@njit(cache=True)
def _scaled(products: NDArray, mantissa: int, shift: int) -> NDArray:
    """The compiled :func:`accel.numerics.softmax.scale_scores` of float64 products (rows, keys)."""
    scores = np.empty(products.shape, np.int64)
    half = 1 << (shift - 1)
    for r in range(products.shape[0]):
        for j in range(products.shape[1]):
            wide = (int(products[r, j]) * mantissa + half) >> shift
            scores[r, j] = min(_TOP_SCORE, max(-_TOP_SCORE - 1, wide))
    return scores


def normalise_rows(summed: Int, reciprocal: Int, shift: Int) -> Int:
    """Outputs int64 (rows, dim) of weighted V sums; ``reciprocal`` and ``shift`` (rows,) are each row's own."""
    outputs = np.empty_like(summed)
    for by in np.unique(shift):
        at = shift == by
        outputs[at] = normalise_output(summed[at], reciprocal[at][:, None], int(by))
    return outputs
