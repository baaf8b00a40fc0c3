"""Golden ``linear`` mode: exact tiles, bias rows, and MSB-first weights with their interval bound."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from accel.numerics import linear
from accel.numerics.linear import IntervalTest
from accel.numerics.quantise import PLANES, words
from tests.accel import modes_error
from tests.accel.float_kernels import sigmoid

seeds = st.integers(0, 10**6)
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
}


@given(seeds, st.integers(1, 300), st.integers(1, 128))
def test_tiles_along_the_reduction_change_no_bit(seed: int, rows: int, tile: int) -> None:
    rng = np.random.default_rng(seed)
    x, W = rng.integers(-2048, 2048, (2, rows)), rng.integers(-2048, 2048, (rows, 3))
    wanted = [[sum(int(x[m, i]) * int(W[i, j]) for i in range(rows)) for j in range(3)] for m in range(2)]
    assert linear.linear_tiles(x, W, tile).tolist() == wanted


def test_sums_use_all_of_the_accumulator_and_no_more() -> None:
    top = (1 << 39) - 1
    x, W = np.array([1]), np.array([[1, -1]])
    assert linear.linear(x, W, [top - 1, -top]).tolist() == [top, -top - 1]
    with pytest.raises(UserError, match="40-bit accumulator"):
        linear.linear(x, W, [top, 0])


@given(st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=5))
def test_bias_rows_add_the_bias_to_half_their_step(bias: list[float]) -> None:
    x, rows = linear.bias_rows(bias)
    assert np.abs(rows).max() <= 2047
    assert len(set(x.tolist())) == 1
    step = int(x[0])
    assert step & (step - 1) == 0
    assert step <= 1024
    assert np.abs(x @ rows - np.array(bias)).max() <= step / 2
    if np.abs(bias).max() <= 2047:
        assert step == 1, "a bias of few units is exact"


@pytest.mark.parametrize(("bits", "limit"), [(12, 0.0012), (8, 0.012)])
def test_linear_is_float64_to_the_stated_error(bits: int, limit: float) -> None:
    assert modes_error.linear_case(bits).error <= limit


# ---- MSB-first weights -----------------------------------------------------------------------------------------------
@given(seeds, st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from([p for p in PLANES if sum(p) <= 12]), st.data())
def test_no_activation_moves_by_more_than_the_tolerance(
    seed: int, name: str, planes: tuple[int, int], data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    rows, n, block = 20, 12, 4
    bits, lsb_bits = sum(planes), planes[1]
    top = (1 << (bits - 1)) - 1
    stored, x = rng.integers(-top, top + 1, (rows, n)), rng.integers(-2047, 2048, rows)
    tolerance = data.draw(st.floats(0.001, 0.9))
    unit = 2.0 ** data.draw(st.integers(-28, -10))
    bias = rng.integers(-(1 << 26), 1 << 26, n)
    found = linear.msb_first(x, stored, bits, lsb_bits, block, linear.interval_test(name, tolerance, unit), bias)  # type: ignore[arg-type]
    full = linear.linear_tiles(x, words(stored, bits)) + bias
    act = ACTIVATIONS[name]
    assert np.abs(act(found.accumulated * unit) - act(full * unit)).max() <= tolerance * (1 + 1e-9)
    assert np.abs(found.accumulated - full).max() <= found.bound
    again = np.repeat(found.refetched, block)
    np.testing.assert_array_equal(found.accumulated[again], full[again])


def saturated_gates(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two blocks of four outputs, 8+4 bit: the first far beyond saturation, the second around zero."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 100, 64)
    near = rng.integers(-2047, 2048, (64, 4))
    return x, np.hstack([np.full((64, 4), 2000), near - near.mean(0, dtype=int)]), np.zeros(8, int)


def test_only_blocks_that_need_it_fetch_their_lsb_plane() -> None:
    x, stored, bias = saturated_gates(1)
    stored = np.clip(stored, -2047, 2047)
    test = linear.interval_test("sigmoid", 0.01, 1e-5)
    found = linear.msb_first(x, stored, 12, 4, 4, test, bias)
    assert found.refetched.tolist() == [False, True]
    assert linear.weight_bits_read(found, 64, 8, 12, 4, 4) == 64 * (8 * 8 + 4 * 4)


def test_relu_zeros_are_exact_and_need_no_lsb_plane() -> None:
    x, stored = np.arange(1, 33), np.full((32, 4), -1000)
    found = linear.msb_first(x, stored, 12, 4, 4, linear.interval_test("relu", 1e-9, 1.0))
    assert not found.refetched.any()
    assert (found.accumulated <= 0).all()


def test_a_test_that_nothing_passes_gives_the_full_product() -> None:
    rng = np.random.default_rng(2)
    x, stored = rng.integers(-2047, 2048, 16), rng.integers(-127, 128, (16, 8))
    found = linear.msb_first(x, stored, 8, 4, 8, IntervalTest(None, None, 0))
    assert found.refetched.all()
    np.testing.assert_array_equal(found.accumulated, linear.linear(x, words(stored, 8)))


@pytest.mark.parametrize(("bits", "lsb_bits"), [(14, 4), (12, 5)])
def test_planes_that_the_datapath_does_not_have_are_refused(bits: int, lsb_bits: int) -> None:
    with pytest.raises(UserError, match=r"8\+4"):
        linear.msb_first([1], [[1]], bits, lsb_bits, 1, IntervalTest(None, None, 0))


@pytest.mark.parametrize(("name", "tolerance"), [("relu", 0.0), ("sigmoid", 1.0), ("tanh", 2.5), ("linear", -1.0)])
def test_a_tolerance_that_means_nothing_is_refused(name: str, tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance"):
        linear.interval_test(name, tolerance, 1.0)  # type: ignore[arg-type]
