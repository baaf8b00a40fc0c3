"""Timing of every top-k engine: one frame of load, select and filter around the way in which a threshold is found.

Timing rules (an engine-level simulator needs no more than these; ``u`` is a ``TopKUnit``). A row passes
three stages, each serving one row at a time, in order: load, select, filter. All cycles are those in which a transfer
or a step happens; ready is always a register.

* A row holds one of ``u.rows_in_flight`` (2) source banks from its command to the acceptance of its last output word.
* Command of row r can be accepted from max(last input word of r-1, last output word of r-2) + 1.
* Load: input words can be accepted from ``command + u.command_cycles`` on, one per cycle. ``loaded`` is the cycle of
  the last word, or of the command if n = 0.
* Select: the row is taken at ``take = max(loaded + u.take_cycles, handoff of r-1 + 1)`` and is ready for handoff at
  ``take + u.handoff_cycles + select_cycles``. ``select_cycles`` is 0 for a row that needs no selection (k = 0 or
  k >= n); of others the implementation, a module of :mod:`sim.topk`, says it.
* Handoff: ``handoff = max(that, last output word of r-1 accepted + 1)``. Hence r+1 is selected while r is filtered.
* Filter: output word 0 is offered at ``handoff + u.filter_cycles + gaps[0]``, output word j at the acceptance of word
  j-1 plus ``gaps[j]``; ``gaps`` comes from ``emit_gaps``. The filter freezes while an offered word waits.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.errors import UserError
from accel.units import implementation
from accel.units.topk import TopKUnit

Int64Array = NDArray[np.int64]
#: Thresholds of rows that are not selected from: everything is kept, nothing is.
KEEP_ALL, KEEP_NONE = 0, (1 << 62) - 1


class Rows(NamedTuple):
    """What an engine found in many rows, and the events it cost; int64 [rows] each, unless said otherwise.

    Positions kept of row r are kept[starts[r] : starts[r] + n_kept[r]]: of the values above ``threshold`` all, of
    those equal to it the first ``n_equal_kept``. ``lfsr_state`` (int): the pivot generator's afterwards.
    ``events`` (int each), by the names in ``counts.topk``: of the selection and the filter.
    """

    kept: Int64Array
    n_kept: Int64Array
    threshold: Int64Array
    n_equal_kept: Int64Array
    select_cycles: Int64Array
    lfsr_state: int
    events: dict[str, int]


@njit(cache=True)
def keep_above(values: Int64Array, threshold: int, n_equal_kept: int, kept: Int64Array) -> int:
    """Write the positions kept, ascending, to the front of kept (int64 [>= their number]); returns their number."""
    n_kept = 0
    for i in range(values.shape[0]):
        if values[i] > threshold:
            kept[n_kept] = i
            n_kept += 1
        elif values[i] == threshold and n_equal_kept > 0:
            n_equal_kept -= 1
            kept[n_kept] = i
            n_kept += 1
    return n_kept


@njit(cache=True)
def keep_rows(
    values: Int64Array, starts: Int64Array, threshold: Int64Array, n_equal: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """``keep_above`` of many rows: kept and n_kept of ``Rows``."""
    kept, n_kept = np.empty(values.shape[0], np.int64), np.empty(threshold.shape[0], np.int64)
    for r in range(threshold.shape[0]):
        row = slice(starts[r], starts[r + 1])
        n_kept[r] = keep_above(values[row], threshold[r], n_equal[r], kept[row])
    return kept, n_kept


@njit(cache=True)
def emit_gaps(kept: Int64Array, n_kept: int, lanes: int, gaps: Int64Array) -> int:
    """Spacing of the output words of one row.

    kept : int64, positions kept, ascending; n_kept of them count.
    gaps : int64 [>= max(1, ceil(n_kept / lanes))], filled:
    gaps[0] is the source word that completes output word 0; gaps[j] the cycles from the acceptance of output word j-1
    to the offer of word j. Returns the number of output words, max(1, ceil(n_kept / lanes)).
    """
    if n_kept == 0:
        gaps[0] = 0
        return 1
    n_words = (n_kept + lanes - 1) // lanes
    before = 0
    for j in range(n_words):
        completed_by = kept[min((j + 1) * lanes, n_kept) - 1] // lanes
        # One source word may complete two output words: a full one and, the row being over, the rest.
        gaps[j] = max(1, completed_by - before) if j else completed_by
        before = completed_by
    return n_words


class Row(NamedTuple):
    """One row of work: values, int64 [n] of 0..max_value; k, 0 or more."""

    values: Int64Array
    k: int


class Stalls(NamedTuple):
    """What the neighbours do, per cycle, as booleans repeated cyclically from cycle 0 (the first one out of reset).

    ``command`` and ``input``: cycles in which the source may begin to offer its next item; once offered it stays until
    accepted. ``output``: cycles in which the sink is ready. Each needs at least one True.
    """

    command: tuple[bool, ...] = (True,)
    input: tuple[bool, ...] = (True,)
    output: tuple[bool, ...] = (True,)


class Transfer(NamedTuple):
    """One handshake: the port, the cycle and the content.

    ``content`` is (n, k) on ``command``; the values of the word on ``input``; (last, position, value, position, value,
    ...) on ``output``.
    """

    port: str
    cycle: int
    content: tuple[int, ...]


def _next(pattern: tuple[bool, ...], cycle: int) -> int:
    """First cycle from ``cycle`` on in which the pattern is True."""
    while not pattern[cycle % len(pattern)]:
        cycle += 1
    return cycle


def schedule(unit: TopKUnit, rows: list[Row], stalls: Stalls) -> list[Transfer]:
    """Every transfer of the unit from reset until the last row has left, in order of cycle, then port.

    A max-plus recursion over transfers; no cycle is stepped. Raises UserError for a row the unit cannot take or a
    pattern that is never True.
    """
    for name, pattern in stalls._asdict().items():
        if not any(pattern):
            raise UserError(f"topk schedule: stalls.{name} is never True, so nothing would ever pass")
    engine = implementation("sim.topk", unit.engine)
    transfers: list[Transfer] = []
    lanes, lfsr_state = unit.lanes, unit.lfsr_seed
    command, loaded, handoff, word_in = -1, -1, -1, -1
    freed = [-1] * unit.rows_in_flight  # cycle in which each bank's last row left
    for r, row in enumerate(rows):
        values, n = np.asarray(row.values, np.int64), len(row.values)
        if n > unit.max_n or (n and not 0 <= values.min() <= values.max() <= unit.max_value):
            raise UserError(f"topk schedule: row {r} must be at most {unit.max_n} values of 0..{unit.max_value}")
        if not 0 <= row.k < 1 << unit.size_bits:
            raise UserError(f"topk schedule: k of row {r} must be 0..{(1 << unit.size_bits) - 1}, got {row.k}")
        command = max(_next(stalls.command, command + 1), loaded + 1, freed[r % unit.rows_in_flight] + 1)
        transfers.append(Transfer("command", command, (n, row.k)))
        loaded = command
        for first in range(0, n, lanes):
            word_in = max(_next(stalls.input, word_in + 1), loaded + (unit.command_cycles if first == 0 else 1))
            loaded = word_in
            transfers.append(Transfer("input", word_in, tuple(values[first : first + lanes].tolist())))

        found = engine.select_rows(unit, values, np.array([0, n]), np.array([row.k]), lfsr_state)
        kept, n_kept, lfsr_state = found.kept, int(found.n_kept[0]), found.lfsr_state
        take = max(loaded + unit.take_cycles, handoff + 1)
        selected = take + unit.handoff_cycles + int(found.select_cycles[0])
        handoff = max(selected, freed[(r - 1) % unit.rows_in_flight] + 1)

        gaps = np.empty(max(1, unit.words(n)), np.int64)
        accepted = handoff + unit.filter_cycles
        n_words = emit_gaps(kept, n_kept, lanes, gaps)
        for j in range(n_words):
            accepted = _next(stalls.output, accepted + int(gaps[j]))
            word = kept[j * lanes : min((j + 1) * lanes, n_kept)].tolist()
            content = [int(j == n_words - 1)] + [part for i in word for part in (i, int(values[i]))]
            transfers.append(Transfer("output", accepted, tuple(content)))
        freed[r % unit.rows_in_flight] = accepted
    return sorted(transfers, key=lambda t: (t.cycle, t.port))
