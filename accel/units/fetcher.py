"""Fetcher: address generation, address and data crossbar, bitwidth converter; the fixed parts of a read's latency."""

from dataclasses import dataclass

from accel.arch import Arch

JOB_START_CYCLES = 2  # read the job, then the first word of its keep list
DATA_CROSSBAR_CYCLES = 1
CONVERT_CYCLES = 1  # bit-select multiplexers
SRAM_WRITE_CYCLES = 1
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


def record_bytes(head_dim: int, bits: int) -> int:
    """Bytes of one row of a plane: ``head_dim`` numbers of ``bits``, padded to a whole number of units."""
    return -(-head_dim * bits // (8 * UNIT_BYTES)) * UNIT_BYTES


def row_stride_bytes(head_dim: int, bits: int, atom_bytes: int, heads: int = 1) -> int:
    """Distance between two tokens' rows: the records of ``heads`` fused heads, padded to whole memory accesses."""
    return -(-heads * record_bytes(head_dim, bits) // atom_bytes) * atom_bytes


def fused_heads(head_dim: int, bits: int, atom_bytes: int) -> int:
    """2 where storing two heads side by side saves memory accesses (6 bit: 96 bytes instead of 2 x 64), else 1."""
    return (
        2 if row_stride_bytes(head_dim, bits, atom_bytes, 2) < 2 * row_stride_bytes(head_dim, bits, atom_bytes) else 1
    )
