"""State unit: recurrent states in the two line memories, updated line by line (``accel.numerics.state``).

A job of mode ``state`` has the engine to itself. Row i of its state lies in the V memory (upper halves of the words)
and in the K memory (lower halves) where V row ``first_key + i`` of a job of the same head dimension would lie, counted
from line 0. Per token it takes the records of k, v, with decay words these, and q, in that order, from the query
buffer.
"""

from dataclasses import dataclass
from typing import Any

from accel.arch import Arch
from accel.errors import UserError
from accel.units.engine import EngineUnit

#: Keys, and where states begin, are multiples of this, so that every line of a state is full.
ROW_STEP = 8
RECORDS = 3  # k, v, q
RECORDS_WITH_DECAYS = 4
#: k' and q' of a line share the multipliers that make them.
LINE_CYCLES = 2
#: From a line's issue to where ``PvIssue`` would issue the line of q' and new words: 7 to k' in the QK array, 3 to the
#: new word, 1 to what PV sees of it, less the 2 from an issue to PV's own line.
ISSUE_CYCLES = 9


@dataclass(frozen=True)
class StateUnit:
    """What states a machine can hold."""

    arch: Arch

    @classmethod
    def of(cls, arch: Arch) -> "StateUnit":
        """Raises UserError if the machine has no mode ``state`` (:meth:`missing`)."""
        if reason := cls(arch).missing():
            raise UserError(f"machine {arch.name}: no mode state: {reason}")
        return cls(arch)

    def missing(self) -> str | None:
        """Why there is no such mode, in the simulator or in hardware; None if there is."""
        arch, qk, pv = self.arch, self.arch.qk.multipliers, self.arch.pv.multipliers
        block = EngineUnit(arch).block_words
        if qk != pv:
            return f"qk.multipliers = {qk} and pv.multipliers = {pv} differ, so lines of K and V are not alike"
        if arch.softmax.lanes > ROW_STEP:
            return f"softmax.lanes = {arch.softmax.lanes}: at most {ROW_STEP} rows in a line"
        if pv < arch.max_head_dim and pv % block:
            return f"pv.multipliers = {pv}: parts of a row must be multiples of {block} words"
        return None

    def rows(self, head_dim: int) -> int:
        """Rows of states of that many columns that fit; ``Arch.tile_keys``, in whole steps."""
        return self.arch.tile_keys(head_dim) // ROW_STEP * ROW_STEP

    def line_cycles(self, head_dim: int) -> int:
        """From line to line: the multipliers of k' and q', or the parts of a row wider than the arrays."""
        return max(LINE_CYCLES, self.arch.pv_fold(head_dim))

    def lines(self, rows: Any, head_dim: int) -> Any:
        """Lines of a state of so many rows, or of several."""
        return rows // self.arch.values_per_line(head_dim)

    @property
    def max_lines(self) -> int:
        """Most lines of states at any head dimension; words of the memory of fractions."""
        dims = [1 << bits for bits in range(3, self.arch.max_head_dim.bit_length())]
        return max(2, *(self.lines(self.rows(dim), dim) for dim in dims))
