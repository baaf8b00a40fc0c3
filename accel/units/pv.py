"""PV array: one line of V rows weighted and added into the output row per cycle, then normalisation by the
reciprocal.
"""

from dataclasses import dataclass

from accel.arch import Arch

SRAM_READ_CYCLES = 1
MULTIPLY_CYCLES = 1
ACCUMULATE_CYCLES = 1
NORMALISE_CYCLES = 2  # multiply by the reciprocal, then round and saturate


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
    def latency_cycles(self) -> int:
        return SRAM_READ_CYCLES + MULTIPLY_CYCLES + (self.rows_per_line.bit_length() - 1) + ACCUMULATE_CYCLES

    def drain_cycles(self, head_dim: int) -> int:
        """Cycles the output scaler is busy with one row: ``output_lanes`` dimensions per cycle."""
        return -(-head_dim // self.output_lanes)
