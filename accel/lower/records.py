"""Bytes of rows in memory: nibble planes, then a crumb plane, so that the bitwidth converter is wiring.

A *unit* is 16 bytes: 32 nibbles (number i in byte i // 2, the even one in bits 3..0) or 64 crumbs (number i in byte
i // 4, the first in bits 1..0). A stored integer of 4, 6, 8, 10 or 12 bits, two's complement, is cut from the top: its
most significant nibble, the next, ..., and for 6 and 10 bits the two bits that are left, a *crumb*. A row's *record* is

* nibble plane 0 (most significant) of all numbers, ``ceil(head_dim / 32)`` units,
* the other nibble planes, ``bits // 4`` altogether,
* for 6 and 10 bits the crumb plane, ``ceil(head_dim / 64)`` units.

The record of a *pair* of heads has the nibble planes of the first head, those of the second, the crumb plane of the
first, that of the second. An LSB plane is a record of its own: one nibble plane of unsigned numbers. What fills up a
unit is 0. Rows are padded to whole accesses by the caller (``accel.units.fetcher.row_stride_bytes``); the functions
that read take rows padded so.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import UserError
from accel.numerics.quantise import check_planes
from accel.units.fetcher import UNIT_BYTES, record_bytes

Records = NDArray[np.uint8]
LSB_BITS = 4  # of every LSB plane there is, accel.numerics.quantise.PLANES


def _checked(values: ArrayLike, low: int, high: int, what: str) -> NDArray[np.int16]:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(f"{what}: values of shape {array.shape}: must be (rows, head dimension)")
    if array.dtype.kind not in "iu" or array.min() < low or array.max() > high:
        raise UserError(f"{what}: values must be integers from {low} to {high}")
    return array.astype(np.int16)


def _pack(values: NDArray[np.int16], bits: int) -> Records:
    """One plane of ``bits`` (4 or 2) per number, in whole units, lowest bits of a byte first."""
    rows, numbers = values.shape
    per_unit = UNIT_BYTES * 8 // bits
    full = np.zeros((rows, -(-numbers // per_unit) * per_unit), np.uint8)
    full[:, :numbers] = values & ((1 << bits) - 1)
    parts = full.reshape(rows, -1, 8 // bits) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(parts, axis=2)


def _unpack(plane: Records, head_dim: int, bits: int) -> NDArray[np.int16]:
    """Inverse of :func:`_pack`."""
    parts = (plane[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & ((1 << bits) - 1)
    return parts.reshape(len(plane), -1)[:, :head_dim].astype(np.int16)


def _nibble_planes(values: NDArray[np.int16], bits: int) -> list[Records]:
    return [_pack(values >> (bits - 4 * plane - 4), 4) for plane in range(bits // 4)]


def _crumb_planes(values: NDArray[np.int16], bits: int) -> list[Records]:
    return [_pack(values, 2)] if bits % 4 else []


def _signed(values: ArrayLike, bits: int, what: str) -> NDArray[np.int16]:
    check_planes(bits, 0)
    return _checked(values, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, f"{what} of {bits} bits")


def pack_rows(values: ArrayLike, bits: int) -> Records:
    """Records of rows of stored integers.

    Args:
        values: integers (rows, head_dim), from -2^(bits-1) to 2^(bits-1) - 1; of numbers that also have an LSB plane
            the MSB plane (``split_planes``).
        bits: 4, 6, 8, 10 or 12.

    Returns:
        uint8 (rows, record_bytes(head_dim, bits)).

    Raises:
        UserError: another width, shape, type or range.
    """
    checked = _signed(values, bits, "rows")
    return np.concatenate(_nibble_planes(checked, bits) + _crumb_planes(checked, bits), axis=1)


def pack_pair(a: ArrayLike, b: ArrayLike, bits: int) -> Records:
    """Records of rows of two heads side by side, of one shape: uint8 (rows, 2 * record_bytes(head_dim, bits)).

    Raises:
        UserError: as :func:`pack_rows`, and for different shapes.
    """
    first, second = _signed(a, bits, "pair"), _signed(b, bits, "pair")
    if first.shape != second.shape:
        raise UserError(f"pair: heads of shapes {first.shape} and {second.shape}: must be the same")
    planes = [side for cut in (_nibble_planes, _crumb_planes) for head in (first, second) for side in cut(head, bits)]
    return np.concatenate(planes, axis=1)


def pack_lsb(values: ArrayLike, lsb_bits: int = LSB_BITS) -> Records:
    """Records of the LSB plane: unsigned integers (rows, head_dim) below 2^lsb_bits as ``split_planes`` returns them.

    Returns:
        uint8 (rows, record_bytes(head_dim, lsb_bits)).

    Raises:
        UserError: ``lsb_bits`` other than 4, another shape, type or range.
    """
    if lsb_bits != LSB_BITS:
        raise UserError(f"LSB plane of {lsb_bits} bits: must be {LSB_BITS}")
    return _pack(_checked(values, 0, (1 << lsb_bits) - 1, "LSB plane"), lsb_bits)


def _record(records: ArrayLike, size: int, what: str) -> Records:
    array = np.asarray(records)
    if array.ndim != 2 or array.dtype != np.uint8 or array.shape[1] < size:
        raise UserError(f"{what}: records of shape {array.shape}, {array.dtype}: must be uint8 (rows, {size} or more)")
    return array


def _join(record: Records, head_dim: int, bits: int, nibbles_at: int, crumbs_at: int) -> NDArray[np.int16]:
    plane_bytes = record_bytes(head_dim, 4)
    values: NDArray[np.int16] = np.zeros((len(record), head_dim), np.int16)
    for plane in range(bits // 4):
        start = nibbles_at + plane * plane_bytes
        values = values << 4 | _unpack(record[:, start : start + plane_bytes], head_dim, 4)
    if bits % 4:
        values = values << 2 | _unpack(record[:, crumbs_at : crumbs_at + record_bytes(head_dim, 2)], head_dim, 2)
    return values << (16 - bits) >> (16 - bits)  # the top bit is the sign


def unpack_rows(records: ArrayLike, head_dim: int, bits: int) -> NDArray[np.int16]:
    """Inverse of :func:`pack_rows`, for records that may be padded: int16 (rows, head_dim).

    Raises:
        UserError: another width, or records that are too short.
    """
    check_planes(bits, 0)
    size = record_bytes(head_dim, bits)
    return _join(_record(records, size, "rows"), head_dim, bits, 0, bits // 4 * record_bytes(head_dim, 4))


def unpack_pair(records: ArrayLike, head_dim: int, bits: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Inverse of :func:`pack_pair`: both heads' values, int16 (rows, head_dim) each. Raises UserError."""
    check_planes(bits, 0)
    record = _record(records, 2 * record_bytes(head_dim, bits), "pair")
    nibbles, crumbs = bits // 4 * record_bytes(head_dim, 4), record_bytes(head_dim, bits % 4)
    a, b = (_join(record, head_dim, bits, side * nibbles, 2 * nibbles + side * crumbs) for side in (0, 1))
    return a, b


def unpack_lsb(records: ArrayLike, head_dim: int, lsb_bits: int = LSB_BITS) -> NDArray[np.int16]:
    """Inverse of :func:`pack_lsb`: int16 (rows, head_dim), 0 to 15. Raises UserError."""
    if lsb_bits != LSB_BITS:
        raise UserError(f"LSB plane of {lsb_bits} bits: must be {LSB_BITS}")
    size = record_bytes(head_dim, lsb_bits)
    return _unpack(_record(records, size, "LSB plane")[:, :size], head_dim, lsb_bits)
