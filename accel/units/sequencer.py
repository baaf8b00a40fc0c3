"""Sequencer: when a job that was read may be dispatched, what the machine can hold, and what it asks of its state."""

import enum
from dataclasses import dataclass

from accel.arch import Arch
from accel.program import HEADER_BYTES, JOB
from accel.units.engine import PROGRAM_BEAT_BYTES, TOKEN_BITS, EngineUnit
from accel.units.qk import SMALLEST_DIM

HEADER_BEATS = HEADER_BYTES // PROGRAM_BEAT_BYTES
JOB_BEATS = JOB.itemsize // PROGRAM_BEAT_BYTES
PROGRAM_ALIGN_BYTES = 64  # of the program's address: a burst then crosses 4 KiB only in its middle, where it is cut
#: From the header's last beat to the first job's AR: into the register, compare.
HEADER_CYCLES = 2
#: From a job's last beat to its earliest dispatch: into the register, multiply, compare and add, find the first error.
DECODE_CYCLES = 4


class StateOperation(enum.IntEnum):
    """What the sequencer has the token and head state do (:class:`~accel.program.Opcode` and flags say when)."""

    RESTART = 0  # all scores 0, all heads live, the list is all tokens
    HALVE = 1  # all token scores one bit down
    PRUNE_TOKENS = 2
    PRUNE_HEADS = 3


@dataclass(frozen=True)
class SequencerUnit:
    """Limits that the sequencer checks, from the sizes of the rings and buffers: what passes can always be fetched."""

    engine: EngineUnit

    @classmethod
    def of(cls, arch: Arch) -> "SequencerUnit":
        """Raises UserError as :meth:`EngineUnit.of` does."""
        return cls(EngineUnit.of(arch))

    @property
    def dims(self) -> list[int]:
        """Padded head dimensions of the machine, ascending."""
        largest = self.engine.arch.max_head_dim
        return [SMALLEST_DIM << i for i in range((largest // SMALLEST_DIM).bit_length())]

    def most_keys(self, dim: int, fused: bool) -> int:
        """Keys of one job: ``Arch.tile_keys``, and no more than each ring of the hardware holds (both heads, where K of
        two is fetched together).
        """
        arch, engine = self.engine.arch, self.engine
        per_line = arch.keys_per_line(dim)
        return min(
            arch.tile_keys(dim),
            engine.k_ring_lines(dim, fused) * per_line,
            engine.v_ring_lines(dim) * arch.values_per_line(dim),
            engine.score_words * per_line,
            1 << TOKEN_BITS,
        )
