"""Softmax: base-2 exponent with a running integer maximum, one pipelined reciprocal per row, then normalisation.

Formats (Q notation counts fraction bits):

===================  ======================================  ==========================================
signal               format                                  why
===================  ======================================  ==========================================
score in log2 units  signed 22 bit, 12 fraction bits         error of 2^-13 in log2 is 8.5e-5 relative
maximum              signed 11 bit integer                   ceiling of a score: -512 to 512; -1024 in a fresh row
exponent             unsigned 20 bit, 20 fraction bits       1.0 is stored as 1048544, a 16-bit piece shifted by 4
weight               unsigned 12 bit, 12 fraction bits       operand of the 12-bit PV array; 1.0 as 4095
row sum              unsigned, 20 fraction bits              20 + log2(keys) bits; 2^19 or more after any key
reciprocal           17 bit: floor(2^31 / 16-bit mantissa)   one restoring divider, one bit per stage
probability          unsigned 13 bit, 12 fraction bits       4096 is exactly 1
===================  ======================================  ==========================================
"""

from dataclasses import dataclass

from accel.arch import Arch
from accel.errors import UserError

SCORE_FRACTION_BITS = 12
SCORE_BITS = 22
SCALE_BITS = 16  # mantissa of the score scale, normalised: its top bit is set
EXPONENT_BITS = 20
TABLE_BITS = 16
MAXIMUM_BITS = SCORE_BITS - SCORE_FRACTION_BITS + 1  # a ceiling is one more than the integer part can hold
MANTISSA_BITS = 16  # of the row sum, before the reciprocal
THRESHOLD_BITS = 16
WEIGHT_BITS = 12
RECIPROCAL_BITS = 31
QUOTIENT_BITS = RECIPROCAL_BITS - MANTISSA_BITS + 2  # 2^31 / 2^15 needs 17
PROBABILITY_BITS = 12
SEGMENTS = 32  # straight pieces of 2^-f over [0, 1); largest error 2.9e-5, see docs/numerics.md
OUTPUT_FRACTION_BITS = 4  # outputs carry 4 bits below the V quantisation step
OUTPUT_BITS = 16
STORE_CYCLES = 1  # of a reciprocal, by row: rows become final out of order and are read out in order
NORMALISE_READ_CYCLES = 1  # synchronous read port of the score buffer, which stands outside the unit
#: Longest row of any instance, all its tiles together, as for the context of an Arch.
MAX_KEYS = 1 << 20


@dataclass(frozen=True)
class SoftmaxUnit:
    """The base-2 softmax of a machine: widths and latencies.

    A score line entering in cycle t is in the score buffer, and in the running sum, at t + ``exponent_cycles``. The
    maximum test is known ``test_cycles`` after the last line. ``reciprocal_cycles`` later the second pass may start; it
    reads one line per cycle and each line reaches the importance accumulators and the local-value top-k
    ``normalise_cycles`` after its read.

    Attributes
    ----------
    lanes : scores per line, a power of two.
    max_keys : longest row in keys, all its tiles together; sizes the sum.

    Raises
    ------
    UserError : one line, for a parameter the hardware cannot have.
    """

    lanes: int = 8
    max_keys: int = MAX_KEYS

    def __post_init__(self) -> None:
        for name in ("lanes", "max_keys"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UserError(f"softmax: {name} must be an integer, got {value!r}")
        if self.lanes < 1 or self.lanes & (self.lanes - 1):
            raise UserError(f"softmax: lanes must be a power of two (1, 2, 4, ...), got {self.lanes}")
        if not 1 <= self.max_keys <= MAX_KEYS:
            raise UserError(f"softmax: max_keys must be 1 to {MAX_KEYS}, got {self.max_keys}")

    @classmethod
    def of(cls, arch: Arch) -> "SoftmaxUnit":
        return cls(arch.softmax.lanes)

    # ---- widths ------------------------------------------------------------------------------------------------

    @property
    def total_bits(self) -> int:
        """Bits of a row's sum: each exponent is below 2^20."""
        return EXPONENT_BITS + (self.max_keys - 1).bit_length()

    @property
    def shift_bits(self) -> int:
        """Bits of the mantissa's shift, 0..total_bits - MANTISSA_BITS."""
        return (self.total_bits - MANTISSA_BITS).bit_length()

    # ---- latencies ---------------------------------------------------------------------------------------------

    @property
    def maximum_cycles(self) -> int:
        """Line maximum, one level of log2(lanes) per stage, at least one stage; the last also has the running maximum
        and, beside it, the table, which needs only the fractions.
        """
        return max(1, self.lanes.bit_length() - 1)

    @property
    def exponent_cycles(self) -> int:
        """From a score line accepted to its exponents offered, and in the sum: maximum, interpolate (a multiply whose
        carries are left open, then their resolution), shift, add up the line, add to the running sum.
        """
        return self.maximum_cycles + 2 + 1 + 1 + 1

    @property
    def test_cycles(self) -> int:
        """max(p) < threshold without a division: compare max << 16 with threshold * sum; one multiply, whose carries
        are left open, and one compare, which resolves them.
        """
        return 2

    @property
    def reciprocal_cycles(self) -> int:
        """Normalise the sum, then 17 pipelined divider stages; a new row may enter every cycle."""
        return 1 + QUOTIENT_BITS

    @property
    def normalise_cycles(self) -> int:
        """Read, multiply by the reciprocal with carries left open, resolve them, shift to the final maximum and round.

        Without the first: from a stored line accepted to its weights offered.
        """
        return NORMALISE_READ_CYCLES + 1 + 1 + 1

    @property
    def row_queue_depth(self) -> int:
        """Rows whose reciprocal waits at the second pass: the one being read and the next, for no gap between them."""
        return 2


def stored_bits(keys: int, lanes: int) -> int:
    """Bits of the score buffer that ``keys`` exponents take: each line of ``lanes`` shares the maximum it refers to."""
    return keys * EXPONENT_BITS + -(-keys // lanes) * MAXIMUM_BITS
