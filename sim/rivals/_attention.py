"""Arithmetic that all rivals share: fixed-point words, masks, softmax over a selection, row pipelines."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.numerics.quantise import quantise

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]


def fixed(x: NDArray, bits: int) -> Real:
    """The tensor rounded to ``bits`` (symmetric, one scale), as real numbers; from 24 bits on as it is."""
    return np.asarray(x, np.float64) if bits >= 24 else quantise(x, min(bits, 16)).dequantise()


def visible(seen: NDArray[np.int64], keys: int) -> Mask:
    """(rows, keys): whether a row may look at a key; ``seen`` is the length of the prefix that it may see."""
    return np.arange(keys) < seen[:, None]


def scores(q: Real, k: Real) -> Real:
    """(rows, keys) scaled dot products."""
    return q @ k.T / np.sqrt(q.shape[1])


def softmax(score: Real, mask: Mask) -> Real:
    """Probabilities over the marked keys of each row, 0 elsewhere; each row has to have one."""
    masked = np.where(mask, score, -np.inf)
    weights = np.exp(masked - masked.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def with_best(mask: Mask, score: Real, allowed: Mask) -> Mask:
    """The mask, with the best allowed key for rows that have none."""
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        mask = mask.copy()
        mask[empty, np.where(allowed[empty], score[empty], -np.inf).argmax(axis=1)] = True
    return mask


def dense_output(q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64]) -> Real:
    """The float64 answer to which every machine's error refers."""
    real = [np.asarray(x, np.float64) for x in (q, k, v)]
    return softmax(scores(real[0], real[1]), visible(seen, len(k))) @ real[2]


@njit(cache=True)
def pipeline_cycles(stages: np.ndarray, prepare: np.ndarray, first_of_head: np.ndarray) -> float:
    """Cycles of rows that go through stages in order, float64 (stages, rows) cycles each.

    A stage works on one row at a time; between two stages there is room for two rows, so a row may only begin when the
    row two before it has gone on. ``prepare`` (rows,) cycles, on the first row of a head (``first_of_head``, bool), are
    spent on its keys before it begins, beside the rows of the head before: there is room for the keys of two heads.
    """
    depth, rows = stages.shape
    done = np.zeros(depth)
    before, before2 = np.zeros(depth), np.zeros(depth)  # when the row before and the one before that began
    prepared = head_end = head_end_before = 0.0
    for row in range(rows):
        if first_of_head[row]:
            head_end_before, head_end = head_end, done[depth - 1]
            prepared = max(prepared, head_end_before) + prepare[row]
        ready = prepared
        begin = np.zeros(depth)
        for stage in range(depth):
            start = max(ready, done[stage])
            if stage + 1 < depth:
                start = max(start, before2[stage + 1])
            begin[stage] = start
            done[stage] = start + stages[stage, row]
            ready = done[stage]
        before2[:] = before
        before[:] = begin
    return done[depth - 1]
