"""Golden ``scan`` mode: diagonal recurrences in both forms, WKV against its definition, cells with leaks, tallies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.numerics import decay, scan
from accel.numerics.decay import DECAY_ONE, LARGEST_DECAY
from tests.accel import float_kernels, modes_error

seeds = st.integers(0, 10**6)


@pytest.mark.parametrize(
    "case",
    [c for c in modes_error.cases(512) if c.name.startswith("scan")],
    ids=lambda c: c.name,
)
def test_scans_are_float64_to_the_stated_error(case: modes_error.Case) -> None:
    found = case.run()
    assert found.error <= case.limit
    assert found.saturated == 0


@given(seeds, st.sampled_from(["shift", "factor"]))
@settings(max_examples=30)
def test_one_input_fades_by_its_decays(seed: int, form: scan.Form) -> None:
    rng = np.random.default_rng(seed)
    tokens = 12
    d = rng.integers(0, DECAY_ONE // 2, tokens)
    x = np.zeros((tokens, 1), int)
    x[0] = 1 << 23
    found, limited = scan.linear_scan(x, d[:, None], 0, form)
    wanted = 2.0 ** (23 - 9 - np.concatenate([[0], np.cumsum(d[1:])]) / DECAY_ONE)
    np.testing.assert_allclose(found[:, 0], wanted, atol=0.6, rtol=0.003)
    assert limited == 0


def test_states_saturate_and_are_counted() -> None:
    x = np.full((5, 1), (1 << 23) - 1)
    found, limited = scan.linear_scan(x, np.int64(0) * x, 0)
    assert found[-1, 0] in (32766, 32767)
    assert limited == 3


def test_the_factor_form_forgets_slow_decays_and_the_shift_form_does_not() -> None:
    """What docs/modes.md says of the two forms, at one slow decay."""
    assert modes_error.long_memory_case(2048, "factor").error > 0.02
    assert modes_error.long_memory_case(2048, "shift").error < 0.003


@pytest.mark.parametrize("both", [False, True])
def test_the_float64_wkv_is_its_definition(both: bool) -> None:
    rng = np.random.default_rng(1)
    k, v, w, u = (rng.normal(size=s) for s in ((17, 3), (17, 3), 3, 3))
    w = np.abs(w)
    found = float_kernels.wkv(w, u, k, v, both=both)
    for t in range(17):
        others = [i for i in range(17) if i != t and (both or i < t)]
        e = np.array([np.exp(u + k[t]), *(np.exp(-(abs(t - i) - 1) * w + k[i]) for i in others)])
        values = np.array([v[t], *(v[i] for i in others)])
        np.testing.assert_allclose(found[t], (e * values).sum(0) / e.sum(0))


@given(seeds, st.integers(0, LARGEST_DECAY))
@settings(max_examples=30)
def test_wkv_is_a_mean_of_values(seed: int, d: int) -> None:
    """However large the keys, what comes out lies between the smallest and the largest value."""
    rng = np.random.default_rng(seed)
    kappa = rng.integers(-(1 << 21), 1 << 21, (30, 2)) >> int(rng.integers(0, 16))
    v = np.full((30, 2), int(rng.integers(-2047, 2048)))
    found = scan.wkv_outputs([scan.wkv_states(kappa, v, [d, 0])], kappa, v)
    np.testing.assert_allclose(found / 16, v, atol=0.002 * np.abs(v).max() + 0.5)


def test_a_selective_scan_with_one_decay_is_a_gated_state() -> None:
    """The float64 kernels agree where the two families meet (state space duality)."""
    rng = np.random.default_rng(2)
    u, B, C = rng.normal(size=(11, 4)), rng.normal(size=(11, 3)), rng.normal(size=(11, 3))
    dt, a0 = np.abs(rng.normal(size=(11, 1))), -0.3
    y = float_kernels.selective_scan(u, np.repeat(dt, 4, 1), np.full((4, 3), a0), B, C)
    a = np.repeat(np.exp(dt * a0), 3, 1)
    np.testing.assert_allclose(y, float_kernels.gated_state(C[None], (B * dt)[None], u[None], a[None])[0])


@given(st.floats(1, 1e6))
def test_leaks_keep_sixteen_bits_at_any_time_constant(tau: float) -> None:
    mantissa, shift = scan.encode_leak([1 / tau])
    assert mantissa[0] * 2.0 ** -float(shift[0]) == pytest.approx(1 / tau, rel=2.0**-15)


def test_a_leaky_cell_holds_moves_and_bends() -> None:
    leak = scan.encode_leak([1, 1, 0.25])
    h, limited = scan.leaky_step(np.array([100 << 8, 5 << 8, 80 << 8]), [300, -512, 80], leak, 1 << 15)
    assert (h >> 8).tolist() == [300, -256, 80]
    assert limited == 0
    assert scan.leaky_step(np.array([1 << 22]), [1 << 20], scan.encode_leak([1.0]), 0)[1] == 1


def test_indrnn_counts_what_saturates() -> None:
    found, limited = scan.indrnn(np.full((3, 1), 32767), np.array([16384]))
    assert limited == 2
    assert found[-1, 0] == (1 << 23) - 1


@given(seeds, st.integers(1, 20), st.integers(1, 30))
@settings(max_examples=30)
def test_a_tally_is_exact(seed: int, taps: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-2047, 2048, (tokens, 2)), rng.integers(-2047, 2048, taps)
    found = scan.fir(x, w)
    for c in range(2):
        np.testing.assert_array_equal(found[:, c], np.convolve(x[:, c], w)[:tokens])


def test_the_decay_words_of_a_gate_are_what_the_scan_takes() -> None:
    gates = np.array([0.5, 0.9, 0.999, 1.0])
    d = decay.decode_decay_words(decay.encode_decay_words(decay.encode_decay(gates)))
    np.testing.assert_allclose(2.0 ** (-d / DECAY_ONE), gates, rtol=1e-3)
