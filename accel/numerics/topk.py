"""Golden top-k and zero elimination: what every view of the top-k engine must produce, bit for bit.

Written as a sort, so that it shares no idea with the hardware, which never sorts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import UserError


class TopK(NamedTuple):
    """positions: int64 [min(k, n)], ascending; kth_value: the smallest kept value, None if nothing is kept."""

    positions: NDArray[np.int64]
    kth_value: int | None


def top_k(values: ArrayLike, k: int) -> TopK:
    """Positions of the k largest values, in original order.

    Of values equal to the k-th largest, the ones at the lowest positions are kept. k >= n keeps everything.

    values : integers [n], n may be 0.
    k : how many to keep, 0 or more.
    Raises UserError if values is not one-dimensional and integral, or k is negative.
    """
    row = np.asarray(values)
    if row.size == 0:
        row = row.astype(np.int64)
    if row.ndim != 1 or row.dtype.kind not in "iu":
        raise UserError(f"top_k: values must be a one-dimensional integer array, got {row.dtype} of shape {row.shape}")
    if k < 0:
        raise UserError(f"top_k: k must be 0 or more, got {k}")
    # Ascending stable sort of the complement: descending in value, ascending in position among equals.
    largest_first = np.argsort(~row, kind="stable")
    kept = np.sort(largest_first[:k]).astype(np.int64)
    return TopK(kept, int(row[kept].min()) if kept.size else None)


def zero_eliminate(values: ArrayLike, keep: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Move the kept lanes of one word to its front, in order.

    values : integers [lanes]; keep : booleans [lanes].
    Returns the word, int64 [lanes], with zeros behind the kept values, and the number kept.
    Raises UserError if the shapes differ.
    """
    word, mask = np.asarray(values, dtype=np.int64), np.asarray(keep, dtype=bool)
    if word.ndim != 1 or word.shape != mask.shape:
        raise UserError(
            f"zero_eliminate: values and keep must be one word of equal length, got {word.shape} and {mask.shape}"
        )
    packed = np.zeros_like(word)
    kept = word[mask]
    packed[: kept.size] = kept
    return packed, int(kept.size)
