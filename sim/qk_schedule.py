"""QK array as a unit: the cycle of every transfer among stalls on all sides.

Timing rules (``u`` is a ``QkUnit``; each name is the cycle in which the transfer or step of that name happens):

* Query of row r: accepted from ``query[r-1] + 1`` and ``load[r-2] + 1`` on. Two wait, one is loaded.
* It is loaded for the multipliers at ``load[r] = max(query[r], load[r-1]) + 1``, but not before the cycle in which the
  last line of row r-1 is accepted. So an idle unit loads it one cycle after ``query[r]``.
* Lines: accepted from ``load[r] + 1`` on, one per cycle, but not in frozen cycles. A key in parts takes ``u.fold``.
* Scores of a line (of a key's last part) reach the output's buffer when ``u.pipeline_cycles - 1`` cycles that are
  not frozen have passed since the line was accepted; call this cycle ``push``. They are offered from
  ``max(push, scores accepted before) + 1`` on.
* Frozen are, for every push, the cycles from ``push + 1`` to the one in which the scores before it are accepted: the
  buffer then holds both. Nothing moves and no line is accepted. A refused transfer alone freezes nothing.

So without stalls scores are offered ``u.pipeline_cycles`` after their line. In the engine nothing stalls the array and
``sim.qk`` needs the latency alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.numerics.quantise import WORD_BITS
from accel.units.qk import SHIFT_BITS, QkUnit
from accel.units.softmax import SCALE_BITS
from sim.products import _scaled
from sim.qk import scores as dot_products


class Row(NamedTuple):
    """One query and its keys. query: int (head_dim,) and keys: int (n, head_dim) of 12-bit words, n >= 1; the score
    scale is ``mantissa * 2^-shift``.
    """

    query: NDArray[np.int16]
    keys: NDArray[np.int16]
    mantissa: int
    shift: int

    @property
    def dim(self) -> int:
        """Padded head dimension."""
        return Arch.padded_head_dim(len(self.query))


class Stalls(NamedTuple):
    """What the neighbours do, per cycle, as booleans repeated cyclically from cycle 0 (the first one out of reset).

    ``query`` and ``line``: cycles in which the source may begin to offer its next item; once offered it stays until
    accepted. ``scores``: cycles in which the sink is ready. Each needs at least one True.
    """

    query: tuple[bool, ...] = (True,)
    line: tuple[bool, ...] = (True,)
    scores: tuple[bool, ...] = (True,)


class Transfer(NamedTuple):
    """One handshake: the port, the cycle and the content.

    ``content`` is (log2 of D, mantissa, shift, words of the head) on ``query``; (last, words of the keys, head only) on
    ``line``, with last = 0 for all but the last part of a key; (last, scores) on ``scores``.
    """

    port: str
    cycle: int
    content: tuple[int, ...]


def lines_of(unit: QkUnit, row: Row) -> list[NDArray[np.int16]]:
    """The row's lines in order: (keys in the line, words of the head); for a key in parts (1, words of the part)."""
    n, dim = len(row.keys), row.dim
    per_line, fold = unit.keys_per_line(dim), unit.fold(dim)
    if fold == 1:
        return [row.keys[first : first + per_line] for first in range(0, n, per_line)]
    width = unit.multipliers
    return [row.keys[k : k + 1, part * width : (part + 1) * width] for k in range(n) for part in range(fold)]


def _next(pattern: tuple[bool, ...], cycle: int) -> int:
    """First cycle from ``cycle`` on in which the pattern is True."""
    while not pattern[cycle % len(pattern)]:
        cycle += 1
    return cycle


def _check(unit: QkUnit, rows: list[Row], stalls: Stalls) -> None:
    for name, pattern in stalls._asdict().items():
        if not any(pattern):
            raise UserError(f"qk schedule: stalls.{name} is never True, so nothing would ever pass")
    reach = 1 << (WORD_BITS - 1)
    for r, row in enumerate(rows):
        if row.dim > unit.max_head_dim or row.keys.ndim != 2 or row.keys.shape[1:] != row.query.shape:
            raise UserError(f"qk schedule: row {r} must have keys (n, head_dim), head_dim at most {unit.max_head_dim}")
        if (
            not len(row.keys)
            or min(row.query.min(), row.keys.min()) < -reach
            or max(row.query.max(), row.keys.max()) >= reach
        ):
            raise UserError(f"qk schedule: row {r} must be one key or more, of words -{reach} to {reach - 1}")
        if not (0 <= row.mantissa < 1 << SCALE_BITS and 1 <= row.shift < 1 << SHIFT_BITS):
            raise UserError(f"qk schedule: the score scale of row {r} must be 0..65535 times 2^-1..2^-63")


def schedule(unit: QkUnit, rows: list[Row], stalls: Stalls) -> list[Transfer]:
    """Every transfer of the unit from reset until the last scores have left, in order of cycle, then port.

    A max-plus recursion over transfers; no cycle is stepped. Raises UserError for a row the unit cannot take or a
    pattern that is never True.
    """
    _check(unit, rows, stalls)
    transfers: list[Transfer] = []
    query, line, scores = -1, -1, -1  # last transfer on each port
    load, load_before = -1, -1
    frozen: list[tuple[int, int]] = []  # first and last cycle of each freeze that may still matter, in order
    for row in rows:
        query = max(_next(stalls.query, query + 1), load_before + 1)
        scale = (row.dim.bit_length() - 1, row.mantissa, row.shift)
        transfers.append(Transfer("query", query, (*scale, *row.query.tolist())))
        load, load_before = max(max(query, load) + 1, line), load

        values = _scaled(dot_products(row.query[None], row.keys).astype(np.float64), row.mantissa, row.shift)[
            0
        ].tolist()
        lines, fold = lines_of(unit, row), unit.fold(row.dim)
        done = 0
        for i, words in enumerate(lines):
            line = max(_next(stalls.line, line + 1), load + 1)
            while frozen and frozen[0][0] <= line:
                line = max(line, frozen.pop(0)[1] + 1)
            whole = (i + 1) % fold == 0
            last = int(i == len(lines) - 1)
            transfers.append(Transfer("line", line, (last, *words.ravel().tolist())))
            if whole:
                push = line + unit.pipeline_cycles - 1 + sum(end - start + 1 for start, end in frozen)
                if scores > push:
                    frozen.append((push + 1, scores))
                scores = _next(stalls.scores, max(push, scores) + 1)
                transfers.append(Transfer("scores", scores, (last, *values[done : done + len(words)])))
                done += len(words)
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
