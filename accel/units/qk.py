"""QK array: one line of keys against the query per cycle, full-width dot products.

A line of the K SRAM holds ``keys_per_line`` keys of the padded head dimension D side by side. The adder tree is tapped
at the level of D, so the line gives one score per key. A key wider than the array comes as ``fold`` lines, its parts.
"""

from dataclasses import dataclass

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.quantise import WORD_BITS

ISSUE_CYCLES = 2  # in which a row's query is read and spread, so that every line of it finds it there
SRAM_READ_CYCLES = 1  # synchronous read port
MULTIPLY_CYCLES = 1
#: Score scaling, 32 x 16 bit: multiply in limbs, add the limbs' products, round and saturate. In NanGate 45 nm each
#: takes as long as one 12 x 12 bit product, about 1 ns; multiplied in one piece it would be 1.4 ns.
SCALE_CYCLES = 3
QUERY_CYCLES = 2  # into the queue of waiting queries, then spread over the multipliers
QUERIES_WAITING = 2  # two, so that rows of one line follow each other without a gap; the row's own is held apart
SHIFT_BITS = 6  # of the score scale: 1 to 62
PRODUCT_BITS = 2 * WORD_BITS
SMALLEST_DIM = 8  # lowest tap of the adder tree: Arch.padded_head_dim


@dataclass(frozen=True)
class QkUnit:
    """One array.

    A line issued to the K SRAM in cycle t gives its scaled scores at t + ``latency_cycles``; a new line may issue every
    ``fold`` cycles. In the engine the pipeline never stalls: its destination, the score buffer, is allocated before a
    row starts. The unit can be stalled all the same.

    Attributes
    ----------
    multipliers : products per cycle, a power of two; words of a line.
    max_head_dim : words of a query, a power of two.
    lanes : scores per transfer, a power of two; those of the softmax.

    Raises
    ------
    UserError : one line, for a parameter the hardware cannot have.
    """

    multipliers: int = 512
    max_head_dim: int = 128
    lanes: int = 8

    def __post_init__(self) -> None:
        for name, low, high in (("multipliers", 1, 1 << 14), ("max_head_dim", SMALLEST_DIM, 256), ("lanes", 1, 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise UserError(f"qk: {name} must be an integer, got {value!r}")
            if not low <= value <= high or value & (value - 1):
                raise UserError(f"qk: {name} must be a power of two from {low} to {high}, got {value}")

    @classmethod
    def of(cls, arch: Arch) -> "QkUnit":
        return cls(arch.qk.multipliers, arch.max_head_dim, arch.softmax.lanes)

    # ---- geometry ----------------------------------------------------------------------------------------------

    def keys_per_line(self, dim: int) -> int:
        """Keys of the padded head dimension ``dim`` in one line (``Arch.keys_per_line``)."""
        return max(1, min(self.multipliers // dim, self.lanes))

    def fold(self, dim: int) -> int:
        """Lines that one key of the padded head dimension ``dim`` takes (``Arch.qk_fold``)."""
        return max(1, dim // self.multipliers)

    @property
    def dims(self) -> list[int]:
        """The padded head dimensions that the unit serves, ascending."""
        return [SMALLEST_DIM << i for i in range((self.max_head_dim // SMALLEST_DIM).bit_length())]

    @property
    def max_keys(self) -> int:
        """Most keys in a line, which is at the smallest head dimension; adder tree outputs and score scalers."""
        return self.keys_per_line(SMALLEST_DIM)

    @property
    def multipliers_reached(self) -> int:
        """Multipliers that a key can lie before; an array wider than ``lanes`` keys of any dimension has idle ones."""
        return min(self.multipliers, self.lanes * self.max_head_dim)

    @property
    def query_registers(self) -> int:
        """Words of the running row's query: one per multiplier, or the parts of the widest head."""
        return max(self.multipliers_reached, self.max_head_dim)

    @property
    def sum_bits(self) -> int:
        """Bits of a signed dot product; all are needed, by -2048 times -2048 in every place."""
        return PRODUCT_BITS + self.max_head_dim.bit_length() - 1

    # ---- latencies ---------------------------------------------------------------------------------------------

    @property
    def tree_levels(self) -> int:
        """One registered adder level per halving; a key wider than the array needs one more, for its partial sums."""
        inside = min(self.multipliers, self.max_head_dim)
        return inside.bit_length() - 1 + (self.max_head_dim > self.multipliers)

    @property
    def latency_cycles(self) -> int:
        """From the read of a line (or of a key's last part) in the K SRAM to its scores being offered, at every D."""
        return SRAM_READ_CYCLES + self.pipeline_cycles

    @property
    def pipeline_cycles(self) -> int:
        """From the line being accepted to its scores being offered, unstalled.

        The last of these registers is the output's skid buffer, so that buffer costs no cycle of its own.
        """
        return MULTIPLY_CYCLES + self.tree_levels + SCALE_CYCLES

    @property
    def query_cycles(self) -> int:
        """From a query being accepted by an idle unit to the first cycle in which its row's first line can be."""
        return QUERY_CYCLES
