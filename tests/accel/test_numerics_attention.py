"""Golden attention: against float64, the output's rounding, local values, second passes and tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.numerics.attention import add_importance, attend_row, normalise_output, values_kept
from accel.numerics.quantise import encode_scale
from accel.units.softmax import OUTPUT_FRACTION_BITS

SCALE = encode_scale(0.01, 16)


def row_of(seed: int, n: int, dim: int, spread: float = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    q, k, v = (np.clip(rng.normal(0, spread, s), -2047, 2047).astype(np.int16) for s in [(dim,), (n, dim), (n, dim)])
    return q, k, v


@given(st.integers(0, 10**6), st.integers(1, 300), st.sampled_from([8, 64, 128]))
def test_an_output_is_float64_to_a_thousandth_of_the_range(seed: int, n: int, dim: int) -> None:
    q, k, v = row_of(seed, n, dim)
    found = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=n)
    scores = k.astype(float) @ q * SCALE[0] * 2.0 ** -SCALE[1] / 4096
    p = np.exp2(scores - scores.max())
    wanted = p @ v / p.sum()
    # 12-bit weights of n keys, each off by at most half a unit, and a unit of the output.
    bound = 0.5 * n * 2048 / 4096 / p.sum() + 0.5 + 2048 * 2.0**-11
    assert np.abs(found.output / (1 << OUTPUT_FRACTION_BITS) - wanted).max() <= bound


def test_one_key_returns_its_value() -> None:
    q, k, v = row_of(1, 1, 64)
    found = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=1)
    # The weight of 1 is stored as 4095 / 4096.
    assert np.abs(found.output / 16 - v[0]).max() <= np.abs(v).max() / 2048 + 1 / 16


@pytest.mark.parametrize(
    ("keys", "count", "ratio", "kept"),
    [
        (10, 0, 1 << 16, 10),
        (10, 0, 1 << 15, 5),
        (11, 0, 1 << 15, 5),
        (3, 0, 1, 1),
        (10, 4, 1 << 16, 4),
        (3, 4, 0, 3),
        (5, 0, 0, 1),
    ],
)
def test_values_kept(keys: int, count: int, ratio: int, kept: int) -> None:
    assert values_kept(keys, count, ratio) == kept


def test_kept_values_are_the_largest_and_ties_go_to_the_front() -> None:
    q, k, v = row_of(2, 20, 16)
    found = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=7)
    left = np.setdiff1d(np.arange(20), found.kept)
    assert found.softmax.weights[found.kept].min() >= found.softmax.weights[left].max()
    same = attend_row(q, np.repeat(k[:1], 20, 0), k, v, scale=SCALE, lanes=8, keep_values=7)
    assert same.kept.tolist() == list(range(7))


def test_dropped_values_do_not_change_the_normalisation() -> None:
    """Local value pruning leaves the sum of all exponents in the denominator, as in the paper."""
    q, k, v = row_of(3, 30, 16)
    full = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=30)
    part = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=10)
    assert (part.softmax.reciprocal, part.softmax.shift) == (full.softmax.reciprocal, full.softmax.shift)
    np.testing.assert_array_equal(part.softmax.probabilities, full.softmax.probabilities)


def test_the_second_pass_uses_all_planes_and_only_when_asked() -> None:
    q, k, v = row_of(4, 30, 64)
    coarse = (k >> 6) << 6
    run = lambda **how: attend_row(q, coarse, k, v, scale=SCALE, lanes=8, keep_values=30, **how)  # noqa: E731
    fine = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=30)
    assert not run(lsb="never", threshold=1 << 16).lsb_pass
    assert not run(lsb="test", threshold=0).lsb_pass
    for again in (run(lsb="always"), run(lsb="test", threshold=1 << 16)):
        assert again.lsb_pass
        np.testing.assert_array_equal(again.output, fine.output)
    assert (run(lsb="never").output != fine.output).any()


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 59))
def test_two_tiles_come_close_to_one(seed: int, n: int, cut: int) -> None:
    cut = min(cut, n - 1)
    q, k, v = row_of(seed, n, 32)
    whole = attend_row(q, k, k, v, scale=SCALE, lanes=8, keep_values=n)
    first = attend_row(q, k[:cut], k[:cut], v[:cut], scale=SCALE, lanes=8, keep_values=cut)
    second = attend_row(
        q, k[cut:], k[cut:], v[cut:], scale=SCALE, lanes=8, keep_values=n,
        before=first.softmax.state, carried=first.accumulated,
    )  # fmt: skip
    assert np.abs(second.output - whole.output).max() <= 16 * (2 + 2048 * n / 4096)
    assert second.softmax.state.maximum == whole.softmax.state.maximum
    assert second.softmax.state.total == pytest.approx(whole.softmax.state.total, rel=1e-4)


def test_an_output_rounds_half_up_and_saturates() -> None:
    # 31 - 20 + 12 - 4 + shift = 19 + shift
    assert normalise_output([1, -1, 3, -3], 1 << 18, 0).tolist() == [1, 0, 2, -1]
    assert normalise_output([1 << 40, -(1 << 40)], 1 << 16, 1).tolist() == [32767, -32768]


def test_importance_saturates() -> None:
    assert add_importance([0, 2**32 - 2], [4096, 4096]).tolist() == [4096, 2**32 - 1]
