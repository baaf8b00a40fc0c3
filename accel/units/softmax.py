"""Softmax: base-2 exponent with a running integer maximum, one pipelined reciprocal per row, then normalisation.

Formats (Q notation counts fraction bits):

===================  ======================================  ==========================================
signal               format                                  why
===================  ======================================  ==========================================
score in log2 units  signed 22 bit, 12 fraction bits         error of 2^-13 in log2 is 8.5e-5 relative
exponent             unsigned 16 bit, 16 fraction bits       1.0 is stored as 65535
weight               unsigned 12 bit, 12 fraction bits       operand of the 12-bit PV array; 1.0 as 4095
row sum              unsigned, 16 fraction bits              16 + log2(keys) bits
reciprocal           17 bit: floor(2^31 / 16-bit mantissa)   one restoring divider, one bit per stage
probability          unsigned 13 bit, 12 fraction bits       4096 is exactly 1
===================  ======================================  ==========================================
"""

from dataclasses import dataclass

from accel.arch import Arch

SCORE_FRACTION_BITS = 12
SCORE_BITS = 22
SCALE_BITS = 16  # mantissa of the score scale, normalised: its top bit is set
EXPONENT_BITS = 20
TABLE_BITS = 16
STORED_BITS = EXPONENT_BITS + SCORE_BITS - SCORE_FRACTION_BITS  # score buffer: an exponent, the maximum it refers to
MANTISSA_BITS = 16  # of the row sum, before the reciprocal
THRESHOLD_BITS = 16
WEIGHT_BITS = 12
RECIPROCAL_BITS = 31
PROBABILITY_BITS = 12
SEGMENTS = 32  # straight pieces of 2^-f over [0, 1); largest error 2.9e-5, see docs/numerics.md
OUTPUT_FRACTION_BITS = 4  # outputs carry 4 bits below the V quantisation step
OUTPUT_BITS = 16


@dataclass(frozen=True)
class SoftmaxUnit:
    """Latencies of the base-2 softmax.

    A score line entering in cycle t is in the score buffer, and in the running sum, at t + ``exponent_cycles``. The
    maximum test is known ``test_cycles`` after the last line. ``reciprocal_cycles`` later the second pass may start; it
    reads one line per cycle and each line reaches the importance accumulators and the local-value top-k
    ``normalise_cycles`` after its read.
    """

    lanes: int

    @classmethod
    def of(cls, arch: Arch) -> "SoftmaxUnit":
        return cls(arch.softmax.lanes)

    @property
    def exponent_cycles(self) -> int:
        """Line maximum (log2 lanes levels) and running maximum, table, interpolate, shift, add into the sum."""
        return max(1, self.lanes.bit_length() - 1) + 1 + 1 + 1 + 1 + 1

    @property
    def test_cycles(self) -> int:
        """max(p) < threshold without a division: compare max << 16 with threshold * sum; one multiply, one compare."""
        return 2

    @property
    def reciprocal_cycles(self) -> int:
        """Normalise the sum, then 17 pipelined divider stages; a new row may enter every cycle."""
        return 1 + 17

    @property
    def normalise_cycles(self) -> int:
        """Read, shift to the final maximum, multiply by the reciprocal, round."""
        return 1 + 1 + 1 + 1
