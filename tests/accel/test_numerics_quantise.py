"""Quantisation and planes: what is stored can be read back, and the first pass sees exactly the floored number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accel.errors import UserError
from accel.numerics.quantise import (
    PLANES,
    check_planes,
    encode_scale,
    merge_planes,
    quantise,
    split_planes,
    word_scale,
    words,
)

tensors = hnp.arrays(np.float64, (2, 3, 4), elements=st.floats(-1e6, 1e6, width=32))


@given(tensors, st.integers(2, 16), st.sampled_from(["tensor", "head", "channel"]))
def test_an_error_is_at_most_half_a_step_and_the_extremes_are_reached(x: np.ndarray, bits: int, per: str) -> None:
    q = quantise(x, bits, per)  # type: ignore[arg-type]
    top = (1 << (bits - 1)) - 1
    assert np.abs(q.values).max() <= top
    assert (np.abs(q.dequantise() - x) <= q.scale / 2 * (1 + 1e-9)).all()
    axes = {"tensor": None, "head": (1, 2), "channel": 1}[per]
    largest = np.abs(q.values).max(axis=axes)
    assert np.isin(largest, [0, top]).all()
    np.testing.assert_array_equal(quantise(-x, bits, per).values, -q.values)  # type: ignore[arg-type]


def test_zero_stays_zero_and_half_steps_round_to_even() -> None:
    assert (quantise(np.zeros((1, 2, 2)), 8).values == 0).all()
    assert quantise([127.0, 0.5, 1.5, -0.5], 8).values.tolist() == [127, 0, 2, 0]


@given(st.sampled_from(PLANES), st.data())
def test_planes_restore_the_number(planes: tuple[int, int], data: st.DataObject) -> None:
    msb, lsb = planes
    half = 1 << (msb + lsb - 1)
    values = data.draw(hnp.arrays(np.int16, 8, elements=st.integers(-half, half - 1)))
    upper, lower = split_planes(values, lsb)
    np.testing.assert_array_equal(merge_planes(upper, lower, lsb), values)
    assert -(1 << (msb - 1)) <= upper.min() <= upper.max() < 1 << (msb - 1)
    assert lower.min() >= 0
    assert lower.max() < 1 << lsb


@given(st.sampled_from([*PLANES, (4, 0), (6, 0), (8, 0), (10, 0), (12, 0)]), st.data())
def test_words_are_the_number_aligned_left(planes: tuple[int, int], data: st.DataObject) -> None:
    msb, lsb = planes
    bits = msb + lsb
    values = data.draw(hnp.arrays(np.int16, 8, elements=st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)))
    full = words(values, bits, lsb)
    first = words(values, bits, lsb, msb_only=True)
    assert -2048 <= full.min() <= full.max() < 2048
    exact = values * 2.0 ** (12 - bits)
    np.testing.assert_array_equal(full, np.floor(exact))
    np.testing.assert_array_equal(first, np.floor((values >> lsb) * 2.0 ** (12 - msb)))
    # The first pass misses less than one MSB step, always downwards, and its scale is that of the second pass.
    assert ((full - first >= 0) & (full - first < 1 << max(0, 12 - msb))).all()
    np.testing.assert_allclose(word_scale(0.5, bits) * exact, 0.5 * values)


def test_a_missing_lsb_plane_costs_every_key_the_same_on_average() -> None:
    rng = np.random.default_rng(1)
    q, k = rng.integers(-2048, 2048, 64), rng.integers(-2048, 2048, (20000, 64)).astype(np.int16)
    loss = (k.astype(np.int64) - words(k, 12, 4, msb_only=True)) @ q
    assert loss.mean() == pytest.approx(q.sum() * 7.5, abs=4 * loss.std() / np.sqrt(20000))


@pytest.mark.parametrize("planes", [(12, 4), (5, 0), (0, 0), (6, 2), (16, 0), (8, 8)])
def test_widths_the_datapath_lacks_are_refused(planes: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="planes"):
        check_planes(*planes)


@pytest.mark.parametrize("planes", [*PLANES, (4, 0), (12, 0)])
def test_widths_of_the_datapath_pass(planes: tuple[int, int]) -> None:
    check_planes(*planes)


@pytest.mark.parametrize(
    ("x", "bits", "per", "message"),
    [
        ([1.0], 1, "tensor", "2 to 16"),
        ([1.0], 17, "tensor", "2 to 16"),
        ([np.nan], 8, "tensor", "not finite"),
        ([np.inf], 8, "tensor", "not finite"),
        ([1.0], 8, "head", r"shape \(1,\)"),
    ],
)
def test_what_cannot_be_quantised_is_refused(x: list[float], bits: int, per: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        quantise(x, bits, per)  # type: ignore[arg-type]


@given(st.floats(2.0**-40, 2.0**14))
def test_a_scale_is_encoded_to_its_mantissa(value: float) -> None:
    mantissa, shift = encode_scale(value, 16)
    assert 1 << 15 <= mantissa < 1 << 16
    assert mantissa * 2.0**-shift == pytest.approx(value, rel=2.0**-16)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 2.0**17])
def test_a_scale_that_cannot_be_encoded_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="scale"):
        encode_scale(value, 16)


def test_a_vanishing_scale_makes_all_scores_zero() -> None:
    assert encode_scale(2.0**-60, 16) == (0, 1)
