"""PV array: one line of V rows weighted and added into the output row per cycle, then normalisation by the
reciprocal.

:class:`PvUnit` is the array as rows of one head dimension see it, :class:`PvArray` the hardware, which takes rows of
any head dimension.
"""

from dataclasses import dataclass

from accel.arch import Arch
from accel.errors import UserError
from accel.units.softmax import (
    EXPONENT_BITS,
    MANTISSA_BITS,
    OUTPUT_BITS,
    OUTPUT_FRACTION_BITS,
    RECIPROCAL_BITS,
    WEIGHT_BITS,
)

SRAM_READ_CYCLES = 1
MULTIPLY_CYCLES = 1
ACCUMULATE_CYCLES = 1
NORMALISE_CYCLES = 2  # multiply by the reciprocal, then round and saturate
ISSUE_CYCLES = 1  # from a line issued, which reads its weights, to the read of its V row
WRITER_CYCLES = 1  # from a row in the output buffer to its first write offered: the read of the buffer

VALUE_BITS = 12  # signed V word, Arch.value_bits
PRODUCT_BITS = VALUE_BITS + WEIGHT_BITS  # signed: the weight is unsigned, its product with -2048 is above -2^23
MAX_ROWS = 1 << 16  # V rows in one output row, all tiles together: the longest context of an Arch
#: Signed sum of MAX_ROWS products. A carried sum was shifted right by what the maximum rose, as its weights would have
#: been, so tiles need no more.
ACCUMULATOR_BITS = PRODUCT_BITS + MAX_ROWS.bit_length() - 1
#: A record of sums between tiles is so many planes of 16-bit words, low first, each laid out like an output row.
PARTIAL_PLANES = 3
RECIPROCAL_WORD_BITS = MANTISSA_BITS + 1  # 2^31 / 2^15 is 2^16
SHIFT_BITS = 6  # of the row sum's mantissa, and of what is carried from tile to tile
#: A sum times the reciprocal lies this many bits, and the row's shift, above the output.
OUTPUT_SHIFT = RECIPROCAL_BITS - EXPONENT_BITS + WEIGHT_BITS - OUTPUT_FRACTION_BITS
MIN_HEAD_DIM = 8  # smallest padded head dimension, Arch.padded_head_dim
MAX_HEAD_DIM = 256  # of any Arch


@dataclass(frozen=True)
class PvUnit:
    """Latency of the array: the accumulators hold a row ``latency_cycles`` after its last line issued."""

    multipliers: int
    output_lanes: int
    rows_per_line: int

    @classmethod
    def of(cls, arch: Arch, head_dim: int) -> "PvUnit":
        return cls(arch.pv.multipliers, arch.pv.output_lanes, arch.values_per_line(head_dim))

    @property
    def tree_levels(self) -> int:
        """Levels of the adder tree over the rows of a line; a register behind each."""
        return self.rows_per_line.bit_length() - 1

    @property
    def latency_cycles(self) -> int:
        """From the cycle that reads a row's last line from the V SRAM to the first in which its sums can be read; the
        first output item is offered ``NORMALISE_CYCLES`` after that.
        """
        return SRAM_READ_CYCLES + MULTIPLY_CYCLES + self.tree_levels + ACCUMULATE_CYCLES

    def drain_cycles(self, head_dim: int) -> int:
        """Cycles the output scaler is busy with one row: ``output_lanes`` dimensions per cycle."""
        return -(-head_dim // self.output_lanes)


@dataclass(frozen=True)
class PvArray:
    """One PV array with its output scaler, for rows of every head dimension up to ``max_head_dim``.

    Attributes
    ----------
    multipliers : words of a line, M; a power of two.
    lanes : weights that arrive per cycle at most, as many as scores; a power of two. A line holds
        max(1, min(M / D, lanes)) rows of padded head dimension D.
    max_head_dim : widest row; a power of two, 8 to 256. The accumulators of both sets.
    output_lanes : output dimensions normalised per cycle.

    Raises
    ------
    UserError : one line, for a parameter the hardware cannot have.
    """

    multipliers: int = 512
    lanes: int = 8
    max_head_dim: int = 128
    output_lanes: int = 32

    def __post_init__(self) -> None:
        limits = {
            "multipliers": (1, 1 << 14),
            "lanes": (1, 64),
            "max_head_dim": (MIN_HEAD_DIM, MAX_HEAD_DIM),
            "output_lanes": (1, 512),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UserError(f"pv: {name} must be an integer, got {value!r}")
            if not low <= value <= high:
                raise UserError(f"pv: {name} must be {low} to {high}, got {value}")
            if name != "output_lanes" and value & (value - 1):
                raise UserError(f"pv: {name} must be a power of two (8, 16, 32, ...), got {value}")

    @classmethod
    def of(cls, arch: Arch) -> "PvArray":
        return cls(arch.pv.multipliers, arch.softmax.lanes, arch.max_head_dim, arch.pv.output_lanes)

    def at(self, head_dim: int) -> PvUnit:
        """The array as rows of this head dimension see it."""
        return PvUnit(self.multipliers, self.output_lanes, self.rows_per_line(head_dim))

    @property
    def padded_dims(self) -> list[int]:
        """Padded head dimensions it takes: 8, 16, ... ``max_head_dim``."""
        return [1 << bits for bits in range(MIN_HEAD_DIM.bit_length() - 1, self.max_head_dim.bit_length())]

    def rows_per_line(self, head_dim: int) -> int:
        """V rows in one line."""
        return max(1, min(self.multipliers // Arch.padded_head_dim(head_dim), self.lanes))

    def fold(self, head_dim: int) -> int:
        """Consecutive parts in which a line arrives: more than 1 where one row is wider than the array."""
        return max(1, Arch.padded_head_dim(head_dim) // self.multipliers)

    @property
    def weights_per_line(self) -> int:
        """Weights on the ``line`` port: the rows of a line at the smallest head dimension."""
        return self.rows_per_line(MIN_HEAD_DIM)

    @property
    def max_fold(self) -> int:
        """Parts in which a line of the widest row arrives; groups of accumulators."""
        return self.fold(self.max_head_dim)

    @property
    def magnitude_bits(self) -> int:
        """Sum of the magnitudes of one output row, each up to 2^15."""
        return OUTPUT_BITS + self.max_head_dim.bit_length() - 1
