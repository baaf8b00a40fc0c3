"""What rows hand from tile to tile: running maximum, sum of exponents and weighted V sums."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError
from accel.numerics.softmax import NO_MAXIMUM

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Sums:
    """``maximum``, ``total``: int64 (rows,). ``values``: int64 (rows, dim), None for fresh or drawn rows."""

    maximum: Int
    total: Int
    values: Int | None

    @classmethod
    def fresh(cls, rows: int) -> "Sums":
        """Of rows that start."""
        return cls(np.full(rows, NO_MAXIMUM, np.int64), np.zeros(rows, np.int64), None)

    def part(self, at: slice | Int) -> "Sums":
        """Of some of the rows."""
        return Sums(self.maximum[at], self.total[at], None if self.values is None else self.values[at])


class TileSums:
    """The sums that the last unfinished tile left, by the address of the row that holds them."""

    def __init__(self) -> None:
        self._addresses: Int = np.zeros(0, np.int64)
        self._sums = Sums.fresh(0)
        self._taken = 0

    def keep(self, addresses: Int, pieces: list[Sums]) -> None:
        """Store the sums of rows; ``pieces`` are consecutive parts of them."""
        self._addresses, self._taken = addresses, 0
        values = [piece.values for piece in pieces if piece.values is not None]
        self._sums = Sums(
            np.concatenate([piece.maximum for piece in pieces]),
            np.concatenate([piece.total for piece in pieces]),
            np.concatenate(values) if values else None,
        )

    def take(self, addresses: Int) -> Sums:
        """The sums of the next rows, in the order in which they were left.

        Raises:
            UserError: the last unfinished tile was of other rows, or those before these have not been taken.
        """
        rows = slice(self._taken, self._taken + len(addresses))
        if not np.array_equal(self._addresses[rows], addresses):
            raise UserError(
                "a job without FIRST_TILE: the next sums that the tile before it left are not at its partial_address"
            )
        self._taken += len(addresses)
        return self._sums.part(rows)
