"""Row records: byte by byte as the docstring says, sizes as the fetcher counts them, and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accel.errors import UserError
from accel.lower.records import pack_lsb, pack_pair, pack_rows, unpack_lsb, unpack_pair, unpack_rows
from accel.numerics.quantise import PLANES, merge_planes, split_planes
from accel.units.fetcher import record_bytes, side_mask

WIDTHS = (4, 6, 8, 10, 12)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 130))


def integers(bits: int, shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int16, shape, elements=st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1))


def bits_of(record: np.ndarray, first: int, count: int) -> int:
    """``count`` bits from bit ``first`` of a record, lowest bit of byte 0 first."""
    return int.from_bytes(record.tobytes(), "little") >> first & ((1 << count) - 1)


@given(st.sampled_from(WIDTHS), shapes, st.data())
def test_rows_round_trip_and_every_bit_is_in_its_place(bits: int, shape: tuple[int, int], data: st.DataObject) -> None:
    values = data.draw(integers(bits, shape))
    rows, dim = shape
    records = pack_rows(values, bits)
    assert records.shape == (rows, record_bytes(dim, bits))
    np.testing.assert_array_equal(unpack_rows(records, dim, bits), values)
    padded = np.pad(records, ((0, 0), (0, 48)), constant_values=255)
    np.testing.assert_array_equal(unpack_rows(padded, dim, bits), values)
    i, nibble_unit_bits = data.draw(st.integers(0, dim - 1)), 128 * -(-dim // 32)
    stored = int(values[0, i]) % (1 << bits)
    for plane in range(bits // 4):
        got = bits_of(records[0], plane * nibble_unit_bits + 4 * i, 4)
        assert got == stored >> (bits - 4 * plane - 4) & 15
    if bits % 4:
        assert bits_of(records[0], bits // 4 * nibble_unit_bits + 2 * i, 2) == stored & 3


@given(st.sampled_from(WIDTHS), shapes, st.data())
def test_pairs_round_trip_and_each_side_is_where_the_fetcher_looks(
    bits: int, shape: tuple[int, int], data: st.DataObject
) -> None:
    a, b = data.draw(integers(bits, shape)), data.draw(integers(bits, shape))
    dim, size = shape[1], record_bytes(shape[1], bits)
    records = pack_pair(a, b, bits)
    assert records.shape == (shape[0], 2 * size)
    for got, wanted in zip(unpack_pair(records, dim, bits), (a, b), strict=True):
        np.testing.assert_array_equal(got, wanted)
    # What the accesses of one side do not bring is not needed for it.
    atom, side = data.draw(st.sampled_from([16, 32, 64])), data.draw(st.integers(0, 1))
    brought = [side_mask(dim, bits, atom, side) >> (byte // atom) & 1 for byte in range(2 * size)]
    partial = np.where(np.array(brought, bool), records, 0xA5).astype(np.uint8)
    np.testing.assert_array_equal(unpack_pair(partial, dim, bits)[side], (a, b)[side])


@given(st.sampled_from(PLANES), shapes, st.data())
def test_msb_and_lsb_records_together_hold_the_number(
    planes: tuple[int, int], shape: tuple[int, int], data: st.DataObject
) -> None:
    msb_bits, lsb_bits = planes
    values = data.draw(integers(msb_bits + lsb_bits, shape))
    msb, lsb = split_planes(values, lsb_bits)
    records = pack_lsb(lsb, lsb_bits)
    assert records.shape == (shape[0], record_bytes(shape[1], lsb_bits))
    first_pass = unpack_rows(pack_rows(msb, msb_bits), shape[1], msb_bits)
    np.testing.assert_array_equal(merge_planes(first_pass, unpack_lsb(records, shape[1]), lsb_bits), values)


def test_bytes_written_out() -> None:
    """A row of three numbers of 6 bits: nibbles 1, F, 8 and crumbs 2, 1, 0; 32 bytes."""
    record = pack_rows([[0b000110, -0b000011, -0b100000]], 6)[0]
    assert record[:2].tolist() == [0xF1, 0x08]
    assert record[16:17].tolist() == [0b00_00_01_10]
    assert np.flatnonzero(record).tolist() == [0, 1, 16]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: pack_rows([[0]], 5), "planes 5", id="width"),
        pytest.param(lambda: pack_rows([[8]], 4), "from -8 to 7", id="range"),
        pytest.param(lambda: pack_rows([0], 4), "shape", id="one row without its axis"),
        pytest.param(lambda: pack_rows([[0.5]], 4), "integers", id="not integers"),
        pytest.param(lambda: pack_pair([[0]], [[0, 0]], 4), "must be the same", id="pair of two sizes"),
        pytest.param(lambda: pack_lsb([[16]], 4), "from 0 to 15", id="LSB range"),
        pytest.param(lambda: pack_lsb([[1]], 2), "must be 4", id="LSB width"),
        pytest.param(lambda: unpack_lsb(np.zeros((1, 16), np.uint8), 8, 2), "must be 4", id="LSB width back"),
        pytest.param(lambda: unpack_rows(np.zeros((1, 16), np.uint8), 33, 4), "32 or more", id="short"),
        pytest.param(lambda: unpack_pair(np.zeros((1, 32)), 8, 4), "uint8", id="type"),
    ],
)
def test_refuses(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        call()
