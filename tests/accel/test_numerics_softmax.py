"""Golden softmax against float64, and the rules that the datapath relies on."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accel.errors import UserError
from accel.numerics.softmax import (
    RowSum,
    exponent,
    is_flat,
    reciprocal,
    scale_scores,
    score_scale,
    softmax_row,
)
from accel.units.softmax import EXPONENT_BITS, PROBABILITY_BITS, SCORE_BITS, THRESHOLD_BITS, WEIGHT_BITS
from tests.accel.numerics_error import calls, random_rows, recorded_rows, row_errors, table_error

#: What the formats promise; docs/numerics.md has the measured figures, a third of this.
LARGEST_ERROR = 2.0**-11
ONE = 1 << 12

scores = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(-(1 << 21), (1 << 21) - 1))
near = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(-5 * ONE, 5 * ONE))
lanes = st.sampled_from([1, 2, 8, 64])


@given(st.one_of(scores, near), lanes)
def test_probabilities_are_float64_to_eleven_bits(row: np.ndarray, width: int) -> None:
    assert max(row_errors(row)) <= LARGEST_ERROR
    found = softmax_row(row, width)
    assert found.probabilities.min() >= 0
    assert found.probabilities.max() <= 1 << PROBABILITY_BITS
    assert found.weights.max() < 1 << WEIGHT_BITS


def test_random_rows_are_float64_to_eleven_bits() -> None:
    assert max(max(row_errors(row)) for row in random_rows()) <= LARGEST_ERROR


@pytest.fixture(params=["minilm", "smollm2"])
def real_rows(request: pytest.FixtureRequest) -> Iterator[np.ndarray]:
    try:
        layers = calls(request.param, 96)
    except UserError as missing:
        pytest.skip(str(missing))
    return (scores for call in layers[::5] for scores, _ in recorded_rows(call, every=97))


def test_real_rows_are_float64_to_eleven_bits(real_rows: Iterator[np.ndarray]) -> None:
    assert max(max(row_errors(row)) for row in real_rows) <= LARGEST_ERROR


def test_the_table_is_as_good_as_its_segments_allow() -> None:
    # Balanced chords: (ln 2 / 32)^2 / 16 = 2.9e-5, and half a unit of 2^-16 of rounding.
    assert table_error() <= (np.log(2) / 32) ** 2 / 16 + 2.0**-17


def test_exponents_fall_with_the_score_and_vanish() -> None:
    e = exponent(np.arange(0, -22 * ONE, -1), 0)
    assert (np.diff(e) <= 0).all()
    assert e[0] == 65534 << (EXPONENT_BITS - 16), "1 is lowered by half a sag, as all knots of the table"
    assert e[-1] == 0


@given(near, lanes)
def test_equal_scores_get_equal_probabilities(row: np.ndarray, width: int) -> None:
    flat = softmax_row(np.full_like(row, row[0]), width).probabilities
    assert len(set(flat.tolist())) == 1
    assert abs(int(flat[0]) - (1 << PROBABILITY_BITS) / len(row)) <= 1


@given(st.integers(-(1 << 21), (1 << 21) - 1), lanes)
def test_a_single_key_gets_everything(score: int, width: int) -> None:
    row = softmax_row([score], width)
    assert row.probabilities.tolist() == [1 << PROBABILITY_BITS]


@given(near, st.integers(-100, 100), lanes)
def test_a_whole_shift_of_all_scores_changes_nothing(row: np.ndarray, by: int, width: int) -> None:
    np.testing.assert_array_equal(softmax_row(row, width).weights, softmax_row(row + by * ONE, width).weights)


@given(near, st.integers(1, 39))
def test_two_tiles_have_the_sum_of_one_row(row: np.ndarray, cut: int) -> None:
    """Lines of one key: the tile boundary then falls on a line boundary, and the sums are equal to the bit."""
    if cut >= len(row):
        return
    first = softmax_row(row[:cut], 1)
    second = softmax_row(row[cut:], 1, first.state)
    whole = softmax_row(row, 1)
    assert second.state == whole.state
    np.testing.assert_array_equal(second.probabilities, whole.probabilities[cut:])


@given(st.integers(1, 1 << 36))
def test_the_reciprocal_has_fifteen_good_bits(total: int) -> None:
    inverse, shift = reciprocal(total)
    assert inverse * total * 2.0 ** -(31 + shift) == pytest.approx(1, abs=2.0**-14 if total >= 1 << 15 else 1.0)


@given(near, st.integers(0, 1 << THRESHOLD_BITS), lanes)
def test_the_maximum_test_is_that_of_the_exact_ratio(row: np.ndarray, threshold: int, width: int) -> None:
    found = softmax_row(row, width)
    assert is_flat(found, threshold) == (found.largest / found.state.total < threshold / (1 << THRESHOLD_BITS))
    assert not is_flat(found, 0)


def test_scores_round_half_up_and_saturate() -> None:
    assert scale_scores([1, -1, 3, -3], 1 << 15, 16).tolist() == [1, 0, 2, -1]
    top = (1 << (SCORE_BITS - 1)) - 1
    assert scale_scores([1 << 30, -(1 << 30)], 1 << 15, 1).tolist() == [top, -top - 1]


def test_the_score_scale_makes_log2_units() -> None:
    mantissa, shift = score_scale(0.01, 0.02, 64)
    raw = np.array([100000])
    wanted = 100000 * 0.01 * 0.02 / 8 * np.log2(np.e)
    assert scale_scores(raw, mantissa, shift)[0] / ONE == pytest.approx(wanted, rel=1e-4)


def test_a_far_lower_tile_adds_nothing_and_keeps_the_sum() -> None:
    before = RowSum(100, 12345678)
    row = softmax_row([-100 * ONE] * 5, 8, before)
    assert row.state == before
    assert row.probabilities.tolist() == [0] * 5
