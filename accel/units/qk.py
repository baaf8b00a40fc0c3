"""QK array: one line of keys against the query per cycle, full-width dot products."""

from dataclasses import dataclass

from accel.arch import Arch

SRAM_READ_CYCLES = 1  # synchronous read port
MULTIPLY_CYCLES = 1
SCALE_CYCLES = 2  # 31 x 16 bit score scaling: multiply, then round and saturate


@dataclass(frozen=True)
class QkUnit:
    """Latency of the array for one machine.

    A line issued in cycle t gives its scaled scores at t + ``latency_cycles``; a new line may issue every ``fold``
    cycles. The pipeline never stalls: its destination, the score buffer, is allocated before a row starts.
    """

    multipliers: int
    max_head_dim: int

    @classmethod
    def of(cls, arch: Arch) -> "QkUnit":
        return cls(arch.qk.multipliers, arch.max_head_dim)

    @property
    def tree_levels(self) -> int:
        """One registered adder level per halving; a key wider than the array needs one more, for its partial sums."""
        inside = min(self.multipliers, self.max_head_dim)
        return inside.bit_length() - 1 + (self.max_head_dim > self.multipliers)

    @property
    def latency_cycles(self) -> int:
        return SRAM_READ_CYCLES + MULTIPLY_CYCLES + self.tree_levels + SCALE_CYCLES
