"""Fetcher: address generation, address and data crossbar, bitwidth converter; the fixed parts of a read's latency."""

from dataclasses import dataclass

from accel.arch import Arch

JOB_START_CYCLES = 2  # read the job, then the first word of its keep list
DATA_CROSSBAR_CYCLES = 1
CONVERT_CYCLES = 1  # bit-select multiplexers
SRAM_WRITE_CYCLES = 1
PREFETCH_DEPTH = 8  # addresses of K or resident V that a lane may have waiting; enough to keep its channel busy
UNIT_BYTES = 16  # a row record is a whole number of these, so nibble and crumb planes start aligned


@dataclass(frozen=True)
class FetcherUnit:
    """Latency around the memory: ``return_cycles`` from the data crossbar to a word that the arrays can read."""

    lanes: int

    @classmethod
    def of(cls, arch: Arch) -> "FetcherUnit":
        return cls(arch.fetcher.lanes)

    @property
    def return_cycles(self) -> int:
        return DATA_CROSSBAR_CYCLES + CONVERT_CYCLES + SRAM_WRITE_CYCLES


def _units(numbers: int, bits: int) -> int:
    return -(-numbers * bits // (8 * UNIT_BYTES)) * UNIT_BYTES


def _record_parts(head_dim: int, bits: int) -> tuple[int, int]:
    """Bytes of the nibble planes and of the crumb plane of one row."""
    return bits // 4 * _units(head_dim, 4), _units(head_dim, bits % 4)


def record_bytes(head_dim: int, bits: int) -> int:
    """Bytes of one row: its 4-bit planes, then (for 6 and 10 bits) a 2-bit plane, each a whole number of units."""
    return sum(_record_parts(head_dim, bits))


def row_stride_bytes(head_dim: int, bits: int, atom_bytes: int, heads: int = 1) -> int:
    """Distance between two tokens' rows: the records of ``heads`` fused heads, padded to whole memory accesses."""
    return -(-heads * record_bytes(head_dim, bits) // atom_bytes) * atom_bytes


def fused_heads(head_dim: int, bits: int, atom_bytes: int) -> int:
    """2 where storing two heads side by side saves memory accesses (6 bit: 96 bytes instead of 2 x 64), else 1."""
    return (
        2 if row_stride_bytes(head_dim, bits, atom_bytes, 2) < 2 * row_stride_bytes(head_dim, bits, atom_bytes) else 1
    )


def side_mask(head_dim: int, bits: int, atom_bytes: int, side: int) -> int:
    """Which accesses of a pair's row hold head ``side`` (0 or 1), one bit each.

    A pair's row is the nibble planes of the first head, those of the second, then both crumb planes.
    """
    nibbles, crumbs = _record_parts(head_dim, bits)
    mask = 0
    for first, size in ((side * nibbles, nibbles), (2 * nibbles + side * crumbs, crumbs)):
        for atom in range(first // atom_bytes, -(-(first + size) // atom_bytes) if size else 0):
            mask |= 1 << atom
    return mask
