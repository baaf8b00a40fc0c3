"""Golden ``decay`` mode: decay exponents and their words, factors, weights, windows, and retention against float64."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from accel.numerics import decay
from accel.numerics.decay import DECAY_ONE, LARGEST_DECAY
from accel.numerics.state import score_unit_bits
from tests.accel import modes_error
from tests.accel.float_kernels import retention_parallel

exponents = st.integers(0, LARGEST_DECAY)


@given(st.integers(-(1 << 50), 1 << 50), st.integers(0, 62))
def test_half_up_is_the_floor_of_the_quotient_and_a_half(x: int, by: int) -> None:
    assert int(decay.half_up(x, by)) == (Fraction(x, 1 << by) + Fraction(1, 2)).__floor__()


def test_every_decay_word_survives_the_way_to_memory_and_back() -> None:
    every = np.arange(1 << 12)
    units = decay.decode_decay_words(every)
    np.testing.assert_array_equal(decay.encode_decay_words(units), every)
    assert (np.diff(units) > 0).all()
    assert units[-1] < 16 * DECAY_ONE


@given(exponents)
def test_a_decay_word_is_right_to_half_a_step_and_a_unit(d: int) -> None:
    found = int(decay.decode_decay_words(decay.encode_decay_words(d)))
    largest = int(decay.decode_decay_words((1 << 12) - 1))
    assert found == largest if d > largest else abs(found - d) <= 1 + d / 512


@given(st.floats(1e-4, 1))
def test_decay_exponents_are_the_nearest(a: float) -> None:
    assert abs(int(decay.encode_decay(a)) / DECAY_ONE + np.log2(a)) <= 0.5 / DECAY_ONE + 1e-12


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.01, float("nan")])
def test_a_decay_outside_of_zero_to_one_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match="must be above 0 and at most 1"):
        decay.encode_decay([0.5, bad])


def test_factors_are_those_of_the_table() -> None:
    """All fractions there are."""
    fractions = np.arange(DECAY_ONE)
    mantissa, whole = decay.decay_factor(fractions)
    # Balanced chords, a unit for the roundings of start and slope, and the bits below 2^-12 that are dropped.
    bound = (np.log(2) / 32) ** 2 / 16 + 2.0**-16 + np.log(2) / 4096
    assert np.abs(mantissa / 65536 - 2.0 ** -(fractions / DECAY_ONE)).max() <= bound
    assert not np.any(whole)


@given(exponents)
def test_whole_halvings_are_a_shift(d: int) -> None:
    assert decay.decay_factor(d)[0] == decay.decay_factor(d % DECAY_ONE)[0]
    assert decay.decay_factor(d)[1] == d // DECAY_ONE


@given(st.integers(-(1 << 21), (1 << 21) - 1), st.integers(0, 1 << 40))
def test_a_weight_is_the_decayed_score_to_half_a_unit(score: int, below: int) -> None:
    weights, clipped = decay.decay_weights(score, below)
    wanted = score * 2.0 ** -(10 + below / DECAY_ONE)
    assert abs(int(weights) - np.clip(wanted, -2048, 2047)) <= 0.5 + abs(wanted) * 3e-4
    assert clipped == (wanted >= 2047.6) or abs(wanted - 2047.5) < 0.7


def test_weights_that_are_too_large_are_limited_and_counted() -> None:
    weights, clipped = decay.decay_weights([(1 << 21) - 1, 1 << 20, -(1 << 21)], 0)
    assert weights.tolist() == [2047, 1024, -2048]
    assert clipped == 1


@given(st.integers(1, 60), st.integers(0, 59), exponents)
def test_a_row_cut_into_tiles_has_the_same_sum(n: int, cut: int, d: int) -> None:
    rng = np.random.default_rng(n)
    q, k, v = (rng.integers(-2047, 2048, (n, 8)) for _ in range(3))
    scale = decay.weight_scale(8 * 2047**2)
    whole = decay.decay_attention(q, k, v, d, scale).accumulated[-1]
    lag = n - 1 - np.arange(n)
    scores = decay.scale_scores(k @ q[-1], *scale)
    weights = decay.decay_weights(scores, lag * d)[0]
    cut = min(cut, n)
    np.testing.assert_array_equal(whole, weights[:cut] @ v[:cut] + weights[cut:] @ v[cut:])


def test_a_window_drops_what_has_decayed_below_the_threshold() -> None:
    d = int(decay.encode_decay(1 - 1 / 32))
    w = decay.decay_window(d, 0.05)
    assert w is not None
    g = 2.0 ** (-d / DECAY_ONE)
    assert g ** (w - 1) >= 0.05 > g**w
    assert decay.decay_window(0, 0.05) is None
    assert decay.window_bound(0, 5, 1, 1) == np.inf


@pytest.mark.parametrize("g", [1 - 2.0**-4, 1 - 2.0**-6])
@pytest.mark.parametrize("smallest", [0.2, 0.01])
def test_the_error_of_a_decay_window_is_within_its_bound(g: float, smallest: float) -> None:
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(512, 64)) for _ in range(3))
    (qw, sq), (kw, sk), (vw, sv) = (modes_error.integers(x) for x in (q, k, v))
    d = int(decay.encode_decay(g))
    w = decay.decay_window(d, smallest)
    dots = np.abs(q @ k.T).max()
    scale = decay.weight_scale(dots / (sq * sk))
    full, some = (decay.decay_attention(qw, kw, vw, d, scale, window=x) for x in (None, w))
    unit = sq * sk * sv * 2.0 ** score_unit_bits(scale)
    bound = decay.window_bound(d, w or 0, dots, np.abs(v).max())
    changed = np.abs(full.accumulated - some.accumulated).max() * unit
    # Weights are rounded to 12 bits, so the bound holds but for half a unit of each dropped one.
    assert 0 < changed <= bound + 0.5 * 512 * 2048 * unit
    assert some.pairs == sum(min(i + 1, w or 0) for i in range(512)) < full.pairs
    exact = retention_parallel(q, k, v, g) - retention_parallel(q, k, v, g, w)
    assert np.abs(exact).max() <= bound


@given(st.floats(2.0**-40, 0.12))
def test_output_scales_have_seventeen_bits(real: float) -> None:
    mantissa, shift = decay.output_scale(real)
    assert mantissa * 2.0 ** -(19 + shift) == pytest.approx(real, rel=2.0**-17)
    assert 19 + shift <= 62


@pytest.mark.parametrize("bad", [0.0, -1.0, 2.0**-50, 1.0])
def test_output_scales_out_of_reach_are_refused(bad: float) -> None:
    with pytest.raises(UserError, match="scale"):
        decay.output_scale(bad)


def test_outputs_round_half_up_and_saturate() -> None:
    scale = decay.output_scale(2.0**-10)
    assert decay.scale_output([512, 511, -512, -513, 1 << 40, -(1 << 40)], scale).tolist() == [
        1, 0, 0, -1, 32767, -32768,
    ]  # fmt: skip


@pytest.mark.parametrize("g", modes_error.RETENTION_DECAYS)
@pytest.mark.parametrize(("tokens", "limit"), [(64, 0.0018), (512, 0.006)])
def test_parallel_retention_is_float64_to_the_stated_error(g: float, tokens: int, limit: float) -> None:
    found = modes_error.retention_case(g, tokens, "parallel")
    assert found.error <= limit
    assert found.saturated == 0
