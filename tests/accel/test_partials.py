"""The record of sums between tiles, byte by byte, and which jobs use it."""

import numpy as np

from accel.lower.layout import partial_stride_bytes
from accel.lower.partials import Partial, pack_partial, transit, unpack_partial
from accel.program import Flag, Opcode, jobs_of


def test_bytes_of_a_record() -> None:
    """Low words, middle words, top bytes with the header between them; planes in whole accesses."""
    values = np.arange(16) * 0x01_0203_0405 + 0x1122_3344
    values[1] = -2
    record = pack_partial(Partial(-3, 0x0102_0304_0506, values), 32)
    assert len(record) == partial_stride_bytes(16, 32) == 96
    assert record[:4] == (0x3344).to_bytes(2, "little") + b"\xfe\xff"
    assert record[32:36] == (0x1122).to_bytes(2, "little") + b"\xff\xff"
    assert record[64:80:2] == bytes(int(v) >> 32 & 0xFF for v in values[:8])
    assert record[65:80:2] == b"\xfd\xff\x06\x05\x04\x03\x02\x01"
    assert record[81::2] == bytes(8)
    found = unpack_partial(record, 16)
    assert (found.maximum, found.total, found.values.tolist()) == (-3, 0x0102_0304_0506, values.tolist())


def test_whole_accesses_of_each_plane() -> None:
    assert [partial_stride_bytes(dim, 32) for dim in (8, 16, 24, 128)] == [96, 96, 192, 768]
    assert [partial_stride_bytes(dim, 64) for dim in (8, 32, 128)] == [192, 192, 768]


def test_which_jobs_go_through_memory() -> None:
    """Several rows do, a single row does not; but one that comes from there does."""
    first, last, both = Flag.FIRST_TILE, Flag.LAST_TILE, Flag.FIRST_TILE | Flag.LAST_TILE
    jobs = [(both, 3), (first, 3), (last, 2), (0, 1), (last, 1), (first, 1), (0, 1), (last, 1), (both, 1)]
    found = transit(jobs_of([{"opcode": Opcode.ATTEND, "flags": f, "queries": q, "group": 1} for f, q in jobs]))
    assert found.takes.tolist() == [False, False, True, True, True, False, False, False, False]
    assert found.leaves.tolist() == [False, True, False, True, False, False, False, False, False]
    assert found.rows_before[found.takes].tolist() == [3, 3, 1]
