"""The compiled softmax and score scaling against golden: every weight, probability, sum and decision."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.numerics.softmax import NO_MAXIMUM, RowSum, is_flat, softmax_row
from accel.units.softmax import THRESHOLD_BITS
from sim.softmax import base2

TOP = (1 << 21) - 1


@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 4, 8, 64]),
    st.sampled_from(["near", "wide", "equal", "saturated", "rising"]),
    st.integers(1, 50),
    st.booleans(),
    st.integers(0, 1 << THRESHOLD_BITS),
)
def test_rows_are_golden(seed: int, lanes: int, kind: str, n: int, carried: bool, threshold: int) -> None:
    rng = np.random.default_rng(seed)
    count = 6
    visible = rng.integers(1, n + 1, count)
    scores = {
        "near": lambda: rng.integers(-20000, 20000, (count, n)),
        "wide": lambda: rng.integers(-TOP - 1, TOP + 1, (count, n)),
        "equal": lambda: np.full((count, n), rng.integers(-TOP, TOP)),
        "saturated": lambda: rng.choice([-TOP - 1, TOP], (count, n)),
        "rising": lambda: np.sort(rng.integers(-90000, 90000, (count, n)), axis=1),
    }[kind]()
    maximum, total = base2.fresh(count)
    if carried:
        maximum, total = rng.integers(-30, 30, count), rng.integers(1 << 19, 1 << 34, count)
    found = base2.rows(scores, visible, lanes, maximum, total)
    flat = base2.is_flat(found.largest, found.total, threshold)
    for r in range(count):
        before = RowSum(int(maximum[r]), int(total[r])) if maximum[r] != NO_MAXIMUM else None
        wanted = softmax_row(scores[r, : visible[r]], lanes, before)
        assert found.weights[r, : visible[r]].tolist() == wanted.weights.tolist()
        assert found.probabilities[r, : visible[r]].tolist() == wanted.probabilities.tolist()
        assert not found.weights[r, visible[r] :].any()
        assert not found.probabilities[r, visible[r] :].any()
        assert (found.maximum[r], found.total[r]) == (wanted.state.maximum, wanted.state.total)
        assert (found.largest[r], found.reciprocal[r], found.shift[r]) == (
            wanted.largest, wanted.reciprocal, wanted.shift,
        )  # fmt: skip
        assert flat[r] == is_flat(wanted, threshold)
