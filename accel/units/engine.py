"""Geometry of the whole engine that simulator and hardware share: line memories, rings, slots."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError

Int = NDArray[np.int64]

JOB_FIFO_BYTES = 128  # one job of a program
RAW_JOBS = 4  # jobs read ahead of their dispatch
PROGRAM_BEAT_BYTES = 32  # data width of the port that reads the program
PROGRAM_LATENCY_CYCLES = 20  # of the memory behind that port, in simulations: from a request to its first beat
OUTPUT_ROWS = 8  # output rows between the start of their sums and their last write
SETTLING_ROWS = 16  # rows written whose writes have not been answered; the writer waits for more
ADDRESS_BITS = 48  # of every memory port
TOKEN_BITS = 16  # of a token number or position, Arch.max_context
ROWS_BITS = 24  # rows of one job


@dataclass(frozen=True)
class EngineUnit:
    """What the engine's control needs to know of a machine.

    A *lane* of the fetcher writes one bank of each line memory. A bank *entry* holds ``entry_words`` words of 12 bits:
    one key of the widest head, or two keys of at most half of it (a fused pair, or lines of two halves of the ring).
    """

    arch: Arch

    @classmethod
    def of(cls, arch: Arch) -> "EngineUnit":
        """The engine of a machine.

        Raises:
            UserError: sizes that the hardware cannot have (the simulator alone may).
        """
        unit = cls(arch)
        for good, message in unit._checks():
            if not good:
                raise UserError(f"machine {arch.name}: {message} in hardware")
        return unit

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        arch, fetcher, softmax = self.arch, self.arch.fetcher, self.arch.softmax
        entry_bytes = fetcher.lanes * self.entry_words * arch.value_bits // 8

        def power_of_two(name: str, value: int) -> tuple[bool, str]:
            return value & (value - 1) == 0, f"{name} = {value}: must be a power of two"

        return (
            (
                softmax.lanes <= fetcher.lanes,
                f"softmax.lanes = {softmax.lanes}: at most fetcher.lanes = {fetcher.lanes}",
            ),
            (
                softmax.lanes <= arch.topk.lanes,
                f"softmax.lanes = {softmax.lanes}: at most topk.lanes = {arch.topk.lanes}",
            ),
            power_of_two("fetcher.query_slots", fetcher.query_slots),
            power_of_two("rows_in_flight", arch.rows_in_flight),
            power_of_two("pv.output_lanes", arch.pv.output_lanes),
            (
                softmax.buffer_keys % self.granule == 0,
                f"softmax.buffer_keys = {softmax.buffer_keys}: must be a multiple of {self.granule}",
            ),
            (self.k_entries > 0, f"sram.k_bytes = {arch.sram.k_bytes}: must be {entry_bytes} or more"),
            (self.v_entries > 0, f"sram.v_bytes = {arch.sram.v_bytes}: must be {entry_bytes} or more"),
            (
                fetcher.query_slots <= self.max_lines,
                f"fetcher.query_slots = {fetcher.query_slots}: at most {self.max_lines}, the lines of a memory",
            ),
        )

    # ---- line memories --------------------------------------------------------------------------------------------
    @property
    def entry_words(self) -> int:
        """Words of a bank entry."""
        return self.arch.max_head_dim

    @property
    def block_words(self) -> int:
        """Words that a write enable of a bank covers: those of one nibble unit, or half an entry if that is less."""
        return min(32, self.entry_words // 2)

    def entries(self, size_bytes: int) -> int:
        """Entries of each bank of a line memory."""
        return size_bytes * 8 // (self.arch.fetcher.lanes * self.entry_words * self.arch.value_bits)

    @property
    def k_entries(self) -> int:
        return self.entries(self.arch.sram.k_bytes)

    @property
    def v_entries(self) -> int:
        return self.entries(self.arch.sram.v_bytes)

    def wide(self, head_dim: int, pair: bool = False) -> bool:
        """Whether a key (or the two of a pair) takes a whole entry instead of half of one."""
        return pair or 2 * self.arch.padded_head_dim(head_dim) > self.entry_words

    def lines(self, entries: int, per_line: int, wide: bool) -> int:
        """Lines in the ring of a line memory: ``lanes / per_line`` lines lie side by side in each (half) entry."""
        return entries * (self.arch.fetcher.lanes // per_line) * (1 if wide else 2)

    def k_ring_lines(self, head_dim: int, pair: bool = False) -> int:
        return self.lines(self.k_entries, self.arch.keys_per_line(head_dim), self.wide(head_dim, pair))

    def v_ring_lines(self, head_dim: int) -> int:
        return self.lines(self.v_entries, self.arch.values_per_line(head_dim), self.wide(head_dim))

    @property
    def max_lines(self) -> int:
        """Upper bound of the ring lines of either memory at any head dimension."""
        return max(self.k_entries, self.v_entries) * self.arch.fetcher.lanes * 2

    # ---- rings and slots ------------------------------------------------------------------------------------------
    @property
    def job_slots(self) -> int:
        """Jobs dispatched and not yet retired."""
        return 2 * self.arch.rows_in_flight

    @property
    def score_words(self) -> int:
        """Words of the score buffer; a line takes one, whatever its number of keys."""
        return self.arch.softmax.buffer_keys // self.arch.softmax.lanes

    @property
    def granule(self) -> int:
        """Kept weights are allocated in this many, so that words of the top-k and lanes of the fetcher both align."""
        return max(self.arch.topk.lanes, self.arch.fetcher.lanes)

    @property
    def granules(self) -> int:
        return self.arch.softmax.buffer_keys // self.granule

    @property
    def ring_words(self) -> int:
        """Words of ``topk.lanes`` kept weights in the weight ring."""
        return self.granules * self.granule // self.arch.topk.lanes

    def kept_granules(self, kept: Int, keys: Int, columns: Int) -> Int:
        """Granules that rows take in the weight ring, int64.

        Args:
            kept: V rows that each row keeps, of the ``keys`` that it sees.
            columns: ``values_per_line`` for a row that selects from resident V, where each column of a V line walks
                through its own kept rows: item n * columns + c is the n-th of column c, and the fullest column may
                have min(kept, lines). 1 for all other rows.
        """
        items = np.minimum(kept, -(-keys // columns)) * columns
        return -(-items // self.granule)

    @property
    def query_lanes(self) -> int:
        """Lanes that fetch queries: the query of row r comes through lane r mod this, into bank r mod this."""
        return min(self.arch.fetcher.query_slots, self.arch.fetcher.lanes)
