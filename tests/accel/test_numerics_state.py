"""Golden ``state`` mode: the shift-accumulate state word by word, its three forms, and states with a running level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from accel.numerics import decay, level_state, state
from accel.numerics.decay import DECAY_ONE, LARGEST_DECAY
from accel.numerics.quantise import WORD_BITS
from tests.accel import float_kernels, modes_error
from tests.accel.float_kernels import rms_error

seeds = st.integers(0, 10**6)


def words_of(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-2047, 2048, shape)


def row_by_hand(ks: list[int], vs: list[int], ds: list[int], shift: int) -> tuple[int, int]:
    """One word of one row in plain integers, from the rule in docs/modes.md; (S~, f)."""
    s = f = 0
    for k, v, d in zip(ks, vs, ds, strict=True):
        level = f + d
        n, f = level // DECAY_ONE, level % DECAY_ONE
        mantissa, whole = (int(x) for x in decay.decay_factor(DECAY_ONE - f // 256 * 256))
        up = 16 + whole
        grown = (k * mantissa + (1 << (up - 1))) >> up
        s = (s + ((1 << n) >> 1)) >> n
        s += (grown * v + ((1 << shift) >> 1)) >> shift
        s = max(-(1 << 23), min((1 << 23) - 1, s))
    return s, f


@given(seeds, st.integers(1, 12), st.integers(0, 15))
def test_states_follow_the_rule_to_the_bit(seed: int, tokens: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    k, v = words_of(rng, tokens, 3), words_of(rng, tokens, 2)
    d = rng.integers(0, 1 << int(rng.integers(1, 25)), (tokens, 3))
    found = state.run_state(k, k, v, d, shift).state
    for i in range(3):
        for j in range(2):
            s, f = row_by_hand(k[:, i].tolist(), v[:, j].tolist(), d[:, i].tolist(), shift)
            assert (found.words[i, j], found.fraction[i]) == (s, f)


@given(seeds)
@settings(max_examples=30)
def test_a_token_is_read_back_with_the_decay_of_its_age(seed: int) -> None:
    """Slow decays never touch the state, so one token comes back exact to its own rounding, however old."""
    rng = np.random.default_rng(seed)
    g, age = 1 - 2.0 ** -rng.uniform(1, 12), int(rng.integers(0, 200))
    d = int(decay.encode_decay(g))
    k, v = np.zeros((age + 1, 1), int), np.zeros((age + 1, 4), int)
    k[0], v[0] = 2047, 2047
    rows = state.run_state(np.full((age + 1, 1), 2047), k, v, np.int64(d), 0)
    wanted = 2047.0**3 * 2.0 ** (-d * age / DECAY_ONE) / 2 ** state.output_unit_bits(0)
    # V words are rounded to one in about 2048, or when shifted to half a unit; so are q' and k'.
    assert abs(rows.accumulated[-1, 0] - wanted) <= 0.003 * wanted + 0.5 * 2048


def test_keys_and_queries_take_opposite_powers() -> None:
    f = np.arange(0, DECAY_ONE, 4099)
    grown = state.grown_keys(np.full(f.shape, 2047), f)
    np.testing.assert_allclose(grown, 2047 * 2.0 ** (f / DECAY_ONE - 1), atol=0.75)
    assert grown.max() <= 2047
    shrunk = decay.times_power(np.full(f.shape, 2047), f)
    np.testing.assert_allclose(grown * shrunk, 2047**2 / 2, rtol=0.002)


def test_the_pv_array_sees_the_upper_half_rounded() -> None:
    top = (1 << 23) - 1
    assert state.upper_words(np.array([0, 2047, 2048, -2048, -2049, top, -top - 1])).tolist() == [
        0, 0, 1, 0, -1, 2047, -2048,
    ]  # fmt: skip


def test_saturation_is_limited_and_counted() -> None:
    tokens = 6
    k, v = np.full((tokens, 1), 2047), np.full((tokens, 2), 2047)
    rows = state.run_state(k, k, v, np.int64(0), 0)
    assert rows.state.words.tolist() == [[(1 << 23) - 1] * 2]
    assert rows.saturated == 2 * 2  # 1024 x 2047 a token: the fifth and the sixth do not fit
    assert state.run_state(k, k, v, np.int64(0), 1).saturated == 0


@given(seeds, st.integers(1, 40))
@settings(max_examples=30)
def test_the_shift_from_bounds_or_data_never_saturates(seed: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    k, v = words_of(rng, tokens, 4), words_of(rng, tokens, 4)
    d = int(rng.integers(0, DECAY_ONE // 4))
    bound = state.peak_bound(2047, 2047, d, tokens)
    peak = state.peak_of_data(k, v, np.int64(d))
    assert peak <= bound * (1 + 1e-9)
    for shift in (state.state_shift(bound), state.state_shift(peak)):
        assert state.run_state(k, k, v, np.int64(d), shift).saturated == 0


def test_the_largest_state_still_has_a_shift_and_larger_ones_are_refused() -> None:
    assert state.state_shift(state.peak_bound(2047, 2047, 0, 1 << 15)) <= 15
    with pytest.raises(UserError, match="use smaller words"):
        state.state_shift(2.0**40)


# ---- retention's three forms -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("g", modes_error.RETENTION_DECAYS[::3])
def test_three_forms_agree_within_the_stated_error(g: float) -> None:
    outputs = {form: modes_error.retention(g, 512, form)[0] for form in ("parallel", "chunkwise", "recurrent")}
    for form in ("chunkwise", "recurrent"):
        assert rms_error(outputs[form], outputs["parallel"]) <= 0.006


@given(seeds, st.integers(1, 30), st.integers(1, 16))
@settings(max_examples=20)
def test_chunks_leave_the_state_of_the_recurrent_form(seed: int, tokens: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = (words_of(rng, tokens, 4) for _ in range(3))
    d, shift, scale = int(rng.integers(0, DECAY_ONE)), 3, decay.weight_scale(4 * 2047**2)
    chunks = state.run_chunks(q, k, v, d, shift, scale, chunk)
    steps = state.run_state(q, k, v, np.int64(d), shift)
    np.testing.assert_array_equal(chunks.state.words, steps.state.words)
    np.testing.assert_array_equal(chunks.state.fraction, steps.state.fraction)


def test_one_chunk_is_the_parallel_form() -> None:
    rng = np.random.default_rng(1)
    q, k, v = (words_of(rng, 20, 8) for _ in range(3))
    d, scale = int(decay.encode_decay(0.9)), decay.weight_scale(8 * 2047**2)
    shift = 0  # a fine state unit: the attention tile is then the coarser one and is not shifted
    assert state.chunk_unit_bits(shift, scale) == state.score_unit_bits(scale)
    chunks = state.run_chunks(q, k, v, d, shift, scale, 20)
    np.testing.assert_array_equal(chunks.accumulated, decay.decay_attention(q, k, v, d, scale).accumulated)


@pytest.mark.parametrize("g", modes_error.RETENTION_DECAYS)
@pytest.mark.parametrize("form", ["chunkwise", "recurrent"])
@pytest.mark.parametrize("tokens", [64, 512])
def test_retention_is_float64_to_the_stated_error(g: float, form: str, tokens: int) -> None:
    found = modes_error.retention_case(g, tokens, form)
    assert found.error <= 0.004
    assert found.saturated == 0


def test_four_thousand_tokens_of_the_slowest_decay() -> None:
    """Decay exponents of 12 fraction bits would fail here: 1 - 2^-12 would become another decay."""
    found = modes_error.retention_case(1 - 2.0**-12, 4096, "recurrent")
    assert found.error <= 0.004
    assert found.saturated == 0


# ---- gated states ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["gla", "liger", "rwkv"])
@pytest.mark.parametrize("tokens", [64, 512])
def test_gated_states_are_float64_to_the_stated_error(kind: str, tokens: int) -> None:
    found = modes_error.gla_case(kind, tokens)
    assert found.error <= 0.005
    assert found.saturated == 0


def test_heads_do_not_see_each_other_and_a_sequence_goes_on_where_it_stopped() -> None:
    rng = np.random.default_rng(2)
    q, k, v = (words_of(rng, 2, 10, 4) for _ in range(3))
    d = rng.integers(0, DECAY_ONE, (2, 10, 4))
    both = state.run_state(q, k, v, d, 4)
    one = state.run_state(q[1], k[1], v[1], d[1], 4)
    np.testing.assert_array_equal(both.accumulated[1], one.accumulated)
    first = state.run_state(q[:, :6], k[:, :6], v[:, :6], d[:, :6], 4)
    rest = state.run_state(q[:, 6:], k[:, 6:], v[:, 6:], d[:, 6:], 4, start=first.state)
    np.testing.assert_array_equal(rest.accumulated, both.accumulated[:, 6:])


def test_the_last_token_is_seen_after_and_not_before_the_update() -> None:
    k, v = np.array([[5], [7]]), np.array([[2000], [1000]])
    d = np.int64(LARGEST_DECAY)
    before = state.run_state(np.full((2, 1), 2047), k * 100, v, d, 0, order="before").accumulated
    after = state.run_state(np.full((2, 1), 2047), k * 100, v, d, 0).accumulated
    assert before[0, 0] == 0
    assert after[0, 0] > 0
    assert abs(after[1, 0] - after[0, 0] * 0.7) <= 0.02 * after[0, 0], "the first token has decayed to nothing"


# ---- states with a running level -------------------------------------------------------------------------------------
@pytest.mark.parametrize("g", [1.0, 1 - 2.0**-7])
@pytest.mark.parametrize("tokens", [64, 512])
def test_level_states_are_float64_to_the_stated_error(g: float, tokens: int) -> None:
    assert modes_error.level_case(tokens, g).error <= 0.004


@given(seeds, st.integers(1, 50))
@settings(max_examples=30)
def test_no_word_of_a_level_state_overflows_and_weights_fit(seed: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    kappa = rng.integers(-(1 << 21), 1 << 21, (tokens, 2)) >> int(rng.integers(0, 20))
    v, d = np.full((tokens, 2), 2047), int(rng.integers(0, LARGEST_DECAY)) >> int(rng.integers(0, 24))
    s = level_state.LevelState.empty(2, 2)
    for t in range(tokens):
        s = level_state.update_level(s, kappa[t], v[t], d)
        assert np.abs(s.words).max() < 1 << 23
        assert (s.totals >= 1 << 18).all()
        assert s.totals.max() < 1 << 36
        inverse, shift = level_state.reciprocals(s.totals)
        shift = shift - s.growth
        assert (shift >= 0).all()
        weights = decay.half_up(2047 * inverse, 16 + shift - shift.min())
        assert np.abs(weights).max() < 1 << (WORD_BITS - 1)


@given(seeds, st.integers(-50, 50))
@settings(max_examples=20)
def test_a_whole_shift_of_all_keys_changes_nothing(seed: int, by: int) -> None:
    rng = np.random.default_rng(seed)
    q, v, kappa = words_of(rng, 9, 3), words_of(rng, 9, 2), rng.integers(-20000, 20000, (9, 3))
    one, other = (level_state.run_level_state(q, kappa + shift * 4096, v, 12345) for shift in (0, by))
    np.testing.assert_array_equal(one.accumulated, other.accumulated)
    np.testing.assert_array_equal(one.shift, other.shift)


@pytest.mark.parametrize("spread", [0, 100, 30000])
def test_equal_values_come_back_whatever_the_keys(spread: int) -> None:
    """A / B is a mean: a value that is everywhere the same stays that value, over any number of tokens."""
    rng = np.random.default_rng(4)
    kappa = rng.integers(-spread, spread + 1, (1500, 1))
    rows = level_state.run_level_state(np.full((1500, 1), 2047), kappa, np.full((1500, 1), 2047))
    found = rows.accumulated[:, 0] * 2.0 ** (level_state.LEVEL_UNIT_BITS - rows.shift)
    np.testing.assert_allclose(found, 2047.0**2, rtol=0.004)


def test_the_level_form_is_lightnets_published_recurrence() -> None:
    rng = np.random.default_rng(5)
    q, k, v = (rng.normal(size=(2, 30, 4)) for _ in range(3))
    np.testing.assert_allclose(
        float_kernels.normalised_state(q, k, v, np.ones(k.shape)), float_kernels.lightnet_multiplicative(q, k, v)
    )
