"""PV array on its own: every transfer at its ports, among stalls on both sides.

Timing rules (``u`` is a ``PvArray``; all cycles are those in which something moves). A line of padded head dimension D
is ``u.fold(D)`` transfers. Each passes the product registers, then ``L = u.at(D).tree_levels`` tree registers, and is
added into the accumulators out of the last of these. Stage 0 are the product registers, stage L the last registers.

* Transfer i is accepted at ``a[i] >= a[i-1] + MULTIPLY_CYCLES`` and not before i-1 leaves the product registers:
  ``a[i] >= m[i-1, 0]``.
* It leaves stage s at ``m[i, s] = max(m[i, s-1] + 1, m[i-1, s+1])``, with ``a[i]`` for ``m[i, -1]``: one cycle per
  stage, and the stage ahead is empty or being left. If its D is not that of i-1, also ``m[i, 0] > m[i-1, L]``.
* It is added at ``m[i, L]``. The first transfer of row r is added not before the cycle in which the last sums of row
  r-2 are read out: only then does row r-1 leave the accumulators.
* Item j of a row is read out at ``x[j]``: for j = 0 after the row's last transfer is added (``ACCUMULATE_CYCLES``) and
  after the row before is read out; then one per cycle; and not before the item ahead leaves the multiply stage.
* It leaves the multiply stage at ``n[j] > x[j]``, after the item ahead, and after the item two ahead was accepted, for
  the registers behind hold two.
* It is offered from ``n[j] + 1`` on, after the item ahead was accepted. Unstalled that is ``x[j] + NORMALISE_CYCLES``.

The engine-level kernel, ``sim.pv``, gives the same cycles for sums and outputs where the outputs are not stalled. It
holds a row that waits for its accumulators at issue, where here lines enter the tree and wait there.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.arch import Arch
from accel.errors import UserError
from accel.units.pv import (
    ACCUMULATE_CYCLES,
    NORMALISE_CYCLES,
    OUTPUT_SHIFT,
    RECIPROCAL_WORD_BITS,
    VALUE_BITS,
    PvArray,
)
from accel.units.softmax import WEIGHT_BITS
from sim.importance import add_head
from sim.products import normalise_rows

Int = NDArray[np.int64]
MAX_SHIFT = 62 - OUTPUT_SHIFT  # rounding fits int64; the softmax gives at most 21


class Row(NamedTuple):
    """One output row.

    weights: int64 (n,), 0 to 4095. values: int64 (n, D), 12-bit signed words at the padded head dimension, of which
    the first ``head_dim`` are output. reciprocal: 17 bits. shift: 0 to MAX_SHIFT. keep_shift: None, or the row goes on
    from the one before, shifted right by this. counts: V rows on each line, in order; by default full lines.
    """

    head_dim: int
    weights: Int
    values: Int
    reciprocal: int
    shift: int
    keep_shift: int | None = None
    counts: tuple[int, ...] | None = None


class Stalls(NamedTuple):
    """What the neighbours do, per cycle, as booleans repeated cyclically from cycle 0 (the first one out of reset).

    ``line``: cycles in which the source may begin to offer its next transfer; once offered it stays until accepted.
    ``outputs``: cycles in which the sink is ready. Each needs at least one True.
    """

    line: tuple[bool, ...] = (True,)
    outputs: tuple[bool, ...] = (True,)


class Transfer(NamedTuple):
    """One handshake: the port, the cycle and the content.

    ``content`` is (last, weight, weight, ...) on ``line``, last being 0 on all but the last part of a row's last line;
    (last, magnitude, number, number, ...) on ``outputs``.
    """

    port: str
    cycle: int
    content: tuple[int, ...]


class Line(NamedTuple):
    """One transfer on ``line``: part ``part`` of V rows ``begin`` to ``end`` of row ``row``."""

    row: int
    begin: int
    end: int
    part: int
    first: bool
    last: bool


def lines_of(unit: PvArray, rows: list[Row]) -> Iterator[Line]:
    """Transfers of the rows. ``first``: of the row's first line; ``last``: the last part of the row's last line.

    Raises:
        UserError: a row the unit cannot take.
    """
    before = 0
    for r, row in enumerate(rows):
        padded = Arch.padded_head_dim(row.head_dim)
        n = len(row.weights)
        if not 1 <= row.head_dim <= unit.max_head_dim or row.values.shape != (n, padded):
            raise UserError(
                f"pv schedule: row {r}: {n} weights at head dimension {row.head_dim} need values ({n}, {padded}), at "
                f"most {unit.max_head_dim} wide, got {row.values.shape}"
            )
        if row.keep_shift is not None and before != padded:
            raise UserError(
                f"pv schedule: row {r} goes on from a row of {padded} dimensions, the one before has {before}"
            )
        for name, data, low, high in (
            ("weights", row.weights, 0, (1 << WEIGHT_BITS) - 1),
            ("values", row.values, -(1 << (VALUE_BITS - 1)), (1 << (VALUE_BITS - 1)) - 1),
            ("reciprocal", row.reciprocal, 0, (1 << RECIPROCAL_WORD_BITS) - 1),
            ("shift", row.shift, 0, MAX_SHIFT),
            ("keep_shift", row.keep_shift or 0, 0, 63),
        ):
            if np.size(data) and not low <= np.min(data) <= np.max(data) <= high:
                raise UserError(f"pv schedule: {name} of row {r} must be {low} to {high}")
        full = unit.rows_per_line(row.head_dim)
        counts = row.counts or (*[full] * ((n - 1) // full), n - max(0, (n - 1) // full) * full)
        if sum(counts) != n or not all(0 <= count <= full for count in counts):
            raise UserError(f"pv schedule: counts of row {r} must be 0 to {full} each and {n} in all, got {counts}")
        before, fold, end = padded, unit.fold(row.head_dim), 0
        for i, count in enumerate(counts):
            begin, end = end, end + count
            for part in range(fold):
                yield Line(r, begin, end, part, i == 0, i == len(counts) - 1 and part == fold - 1)


def outputs_of(rows: list[Row]) -> list[Int]:
    """Normalised output int64 (head_dim,) of each row."""
    outputs, total = [], np.zeros(0, np.int64)
    for row in rows:
        # Sums stay below 2^53, so float64 is exact, and its matrix product is the compiled one.
        carried = 0 if row.keep_shift is None else total >> row.keep_shift
        total = (row.weights.astype(np.float64) @ row.values.astype(np.float64)).astype(np.int64) + carried
        scale = np.array([row.reciprocal]), np.array([row.shift])
        outputs.append(normalise_rows(total[None, : row.head_dim], *scale)[0])
    return outputs


def _next(pattern: tuple[bool, ...], cycle: int) -> int:
    """First cycle from ``cycle`` on in which the pattern is True."""
    while not pattern[cycle % len(pattern)]:
        cycle += 1
    return cycle


def schedule(unit: PvArray, rows: list[Row], stalls: Stalls) -> list[Transfer]:
    """Every transfer of the unit from reset until the last row has left, in order of cycle, then port.

    A max-plus recursion over transfers; no cycle is stepped. Raises UserError for a row the unit cannot take or a
    pattern that is never True.
    """
    for name, pattern in stalls._asdict().items():
        if not any(pattern):
            raise UserError(f"pv schedule: stalls.{name} is never True, so nothing would ever pass")
    numbers = outputs_of(rows)
    transfers: list[Transfer] = []
    accepted, offered, moves, dim_before = -1, -1, [-1], 0
    read, multiplied = -1, -1  # of the last item
    read_last = [-1, -1]  # last item of the last two rows
    taken = [-1, -1]  # acceptance of the last two items
    for line in lines_of(unit, rows):
        row = rows[line.row]
        offered = _next(stalls.line, accepted + 1)
        accepted = max(offered, moves[0])
        weights = row.weights[line.begin : line.end].tolist()
        transfers.append(Transfer("line", accepted, (int(line.last), *weights)))

        dim, cycle = Arch.padded_head_dim(row.head_dim), accepted
        levels = unit.at(dim).tree_levels
        ahead = [*moves[1:], -1] if dim == dim_before else [moves[-1] + 1] + [-1] * levels
        moves, dim_before = [], dim
        for stage in range(levels + 1):
            cycle = max(cycle + 1, ahead[stage])
            if stage == levels and line.first:
                cycle = max(cycle, read_last[-2])
            moves.append(cycle)
        if not line.last:
            continue

        magnitude = np.zeros(1, np.int64)
        for first in range(0, row.head_dim, unit.output_lanes):
            item = numbers[line.row][first : first + unit.output_lanes]
            read = max(read + 1, multiplied, cycle + ACCUMULATE_CYCLES)
            multiplied = max(read + 1, multiplied + 1, taken[-2] + 1)
            out = _next(stalls.outputs, max(multiplied + NORMALISE_CYCLES - 1, taken[-1] + 1))
            taken = [taken[-1], out]
            add_head(magnitude, 0, item)
            last = first + unit.output_lanes >= row.head_dim
            content = (int(last), int(magnitude[0]), *item.tolist(), *[0] * (unit.output_lanes - len(item)))
            transfers.append(Transfer("outputs", out, content))
        read_last = [read_last[-1], read]
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
