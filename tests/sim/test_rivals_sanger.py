"""Sanger: the predicted mask against plain NumPy, packing against an exhaustive bound, cycles of the array."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.rivals import select_all
from sim.rivals.sanger import Machine, SangerConfig, packed_rows
from tests.sim.rivals_case import rounded, tensors


def test_the_mask_is_the_thresholded_low_bit_softmax() -> None:
    work = tensors(30, 80, 32, seed=1, causal=True)
    (done,) = select_all(Machine(SangerConfig(1024, mask_above=0.02)), [work])
    q, k = rounded(work.q, 4), rounded(work.k, 4)
    for row, seen in enumerate(work.seen.tolist()):
        weight = np.exp(k[:seen] @ q[row] / math.sqrt(32))
        wanted = weight / weight.sum() >= 0.02
        if not wanted.any():
            wanted[(k[:seen] @ q[row]).argmax()] = True
        assert (done.keys[row, :seen] == wanted).all()
        assert not done.keys[row, seen:].any()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 16), st.integers(1, 12))
@settings(max_examples=100)
def test_packing_is_between_no_waste_and_no_sharing(counts: list[int], columns: int, window: int) -> None:
    rows = packed_rows(np.array(counts, np.int64), columns, window)
    assert rows >= sum(-(-sum(counts[at : at + window]) // columns) for at in range(0, len(counts), window))
    assert rows <= sum(-(-count // columns) for count in counts)


def test_packing_shares_rows_that_fit_together() -> None:
    assert packed_rows(np.array([16, 32, 0]), 16, 64) == 3
    assert packed_rows(np.array([10, 6, 9, 7]), 16, 64) == 2
    assert packed_rows(np.array([10, 6, 9, 7]), 16, 1) == 4
    assert packed_rows(np.array([20, 12]), 16, 64) == 2


def test_cycles() -> None:
    work = tensors(64, 64, 32)
    rival = Machine(SangerConfig(1024, mask_above=0.0))
    (done,) = select_all(rival, [work])
    cost = rival.cost(work, done)
    # Four loads of 64 x 16 scores, each 32 cycles for Q K and 32 for P V.
    assert cost.stages["array"].sum() == 4 * 64
    assert not cost.stages["prediction"].any()
    rival = Machine(SangerConfig(1024))
    (done,) = select_all(rival, [work])
    cost = rival.cost(work, done)
    assert cost.stages["prediction"].sum() == 64 * 64 * 32 / 4096
    assert {stream.name: stream.useful_bytes for stream in cost.streams} == {
        "q low": 1024, "k low": 1024, "q": 4096, "k": 4096, "v": 4096, "output": 4096,
    }  # fmt: skip
