"""Golden top-k: the written definition, tie rule and edges, against a direct reading of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from accel.numerics.topk import top_k, zero_eliminate


def by_definition(row: list[int], k: int) -> list[int]:
    """A position is kept if fewer than k values are larger, or equal and further forward."""
    ahead = [sum(w > v or (w == v and j < i) for j, w in enumerate(row)) for i, v in enumerate(row)]
    return [i for i, count in enumerate(ahead) if count < k]


@given(st.lists(st.integers(0, 7), max_size=40), st.integers(0, 45))
def test_keeps_the_k_largest_in_order_with_first_ties(row: list[int], k: int) -> None:
    found = top_k(row, k)
    assert found.positions.tolist() == by_definition(row, k)
    assert found.kth_value == (sorted(row)[-min(k, len(row))] if row and k else None)


def test_unsigned_extremes_survive() -> None:
    """Complement, not negation: negating an unsigned 0 would sort it first."""
    assert top_k(np.array([0, 2**32 - 1, 0, 5], np.uint32), 2).positions.tolist() == [1, 3]


@pytest.mark.parametrize("row", [[[1, 2]], [0.5]])
def test_refuses_what_is_not_a_row_of_integers(row: list) -> None:
    with pytest.raises(UserError, match="one-dimensional integer"):
        top_k(row, 1)


def test_refuses_negative_k() -> None:
    with pytest.raises(UserError, match="k must be 0 or more"):
        top_k([1], -1)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=16))
def test_zero_eliminate_is_a_stable_pack(lanes: list[tuple[int, bool]]) -> None:
    packed, count = zero_eliminate([v for v, _ in lanes], [keep for _, keep in lanes])
    kept = [v for v, keep in lanes if keep]
    assert (packed.tolist(), count) == (kept + [0] * (len(lanes) - len(kept)), len(kept))


def test_zero_eliminate_refuses_unequal_shapes() -> None:
    with pytest.raises(UserError, match="equal length"):
        zero_eliminate([1, 2], [True])
