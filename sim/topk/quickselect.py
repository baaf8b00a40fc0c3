"""Quick-select top-k engine: partition by a random pivot until the k-th value is bracketed, then filter the row.

Timing rules of the engine (an engine-level simulator needs no more than these; ``u`` is a ``TopKUnit``). A row passes
three stages, each serving one row at a time, in order: load, select, filter. All cycles are those in which a transfer
or a step happens; ready is always a register.

* A row holds one of ``u.rows_in_flight`` (2) source banks from its command to the acceptance of its last output word.
* Command of row r can be accepted from max(last input word of r-1, last output word of r-2) + 1.
* Load: input words can be accepted from ``command + u.command_cycles`` on, one per cycle. ``loaded`` is the cycle of
  the last word, or of the command if n = 0.
* Select: the row is taken at ``take = max(loaded + u.take_cycles, handoff of r-1 + 1)`` and is ready for handoff at
  ``take + u.handoff_cycles + select_cycles``, where ``select_cycles`` is the sum over rounds of
  ``words + u.round_overhead_cycles`` and 0 for a row that needs no selection (k = 0 or k >= n).
* Handoff: ``handoff = max(that, last output word of r-1 accepted + 1)``. Hence r+1 is selected while r is filtered.
* Filter: output word 0 is offered at ``handoff + u.filter_cycles + gaps[0]``, output word j at the acceptance of word
  j-1 plus ``gaps[j]``; ``gaps`` comes from ``emit_gaps``. The filter freezes while an offered word waits.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.errors import UserError
from accel.units.topk import LFSR_BITS, LFSR_SHIFTS, TopKUnit

Int64Array = NDArray[np.int64]
#: Cycles per round beyond the words read, in the latency model of the published release.
PUBLISHED_ROUND_OVERHEAD_CYCLES = 3
_LEFT, _RIGHT, _BACK = LFSR_SHIFTS
_LFSR_MASK = (1 << LFSR_BITS) - 1


class Selection(NamedTuple):
    """Outcome of one row: kept are the values above ``threshold`` and the first ``n_equal_kept`` of those equal to it.

    ``threshold`` is the last pivot: the k-th value or, where the larger part came out as exactly k values, the one
    below it (then ``n_equal_kept`` is 0). ``rounds`` partitions read ``round_words`` words in all; ``lfsr_state`` is
    the generator's state afterwards. A row that is not selected has no rounds; its threshold is 0 if k >= n
    (everything is kept, ``n_equal_kept`` = n) and 2^62 - 1 if k = 0.
    """

    threshold: int
    n_equal_kept: int
    rounds: int
    round_words: int
    lfsr_state: int


class Rows(NamedTuple):
    """Outcomes of many rows: int64 [rows] each, positions kept of row r at kept[starts[r] : starts[r] + n_kept[r]]."""

    kept: Int64Array
    n_kept: Int64Array
    threshold: Int64Array
    n_equal_kept: Int64Array
    rounds: Int64Array
    round_words: Int64Array
    lfsr_state: int


@njit(cache=True)
def lfsr_step(state: int) -> int:
    """The next state of the pivot generator, 1..65535."""
    state ^= (state << _LEFT) & _LFSR_MASK
    state ^= state >> _RIGHT
    return state ^ ((state << _BACK) & _LFSR_MASK)


@njit(cache=True)
def select(
    values: Int64Array, n: int, k: int, lanes: int, lfsr_state: int, stop_at_exact_count: bool = True
) -> Selection:
    """Find the threshold that keeps the k largest of values[:n], drawing the pivots that the hardware draws.

    values : int64 [>= n], 0 or more; not changed.
    stop_at_exact_count : stop as well when the larger part is exactly as long as what is still to be kept, as our
        engine does. False gives the rounds of the published latency model, which goes on until a pivot is the k-th
        value itself: about one round more.
    """
    if k >= n:
        return Selection(0, n, 0, 0, lfsr_state)
    if k <= 0:
        return Selection((1 << 62) - 1, 0, 0, 0, lfsr_state)
    smaller, larger = np.empty(n, np.int64), np.empty(n, np.int64)
    current, size, target = values, n, k
    rounds, round_words = 0, 0
    while True:
        pivot = current[(lfsr_state * size) >> LFSR_BITS]
        lfsr_state = lfsr_step(lfsr_state)
        rounds += 1
        round_words += (size + lanes - 1) // lanes
        n_smaller, n_larger = 0, 0
        # Both parts keep their order and fill from the front, so the part being read may be written over. The writes
        # are unconditional and only the counts depend on the compare: no branch to mispredict.
        for i in range(size):
            value = current[i]
            smaller[n_smaller] = value
            n_smaller += value < pivot
            larger[n_larger] = value
            n_larger += value > pivot
        if n_larger > target or (n_larger == target and not stop_at_exact_count):
            current, size = larger, n_larger
        elif size - n_smaller >= target:
            return Selection(pivot, target - n_larger, rounds, round_words, lfsr_state)
        else:
            target -= size - n_smaller
            current, size = smaller, n_smaller


@njit(cache=True)
def select_row(values: Int64Array, k: int, lanes: int, lfsr_state: int, kept: Int64Array) -> tuple[int, Selection]:
    """Select one row and write the positions kept, ascending, to the front of kept (int64 [>= min(k, n)]).

    Returns their number, min(k, n), and the Selection.
    """
    found = select(values, values.shape[0], k, lanes, lfsr_state)
    equal_left = found.n_equal_kept
    n_kept = 0
    for i in range(values.shape[0]):
        if values[i] > found.threshold:
            kept[n_kept] = i
            n_kept += 1
        elif values[i] == found.threshold and equal_left > 0:
            equal_left -= 1
            kept[n_kept] = i
            n_kept += 1
    return n_kept, found


@njit(cache=True)
def select_rows(values: Int64Array, starts: Int64Array, ks: Int64Array, lanes: int, lfsr_state: int) -> Rows:
    """Rows values[starts[r] : starts[r + 1]] one after another through one engine, the generator running on.

    values : int64 [total]; starts : int64 [rows + 1]; ks : int64 [rows], 0 or more.
    """
    n_rows = ks.shape[0]
    kept = np.empty(values.shape[0], np.int64)
    n_kept, threshold, n_equal_kept = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    rounds, round_words = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    for r in range(n_rows):
        row = slice(starts[r], starts[r + 1])
        n_kept[r], found = select_row(values[row], ks[r], lanes, lfsr_state, kept[row])
        threshold[r], n_equal_kept[r] = found.threshold, found.n_equal_kept
        rounds[r], round_words[r] = found.rounds, found.round_words
        lfsr_state = found.lfsr_state
    return Rows(kept, n_kept, threshold, n_equal_kept, rounds, round_words, lfsr_state)


@njit(cache=True)
def select_cycles(rounds: int, round_words: int, round_overhead_cycles: int) -> int:
    """Cycles of a row's rounds: each reads its words, one per cycle, and adds the overhead."""
    return round_words + rounds * round_overhead_cycles


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


@njit(cache=True)
def latency_rows(
    values: Int64Array, starts: Int64Array, ks: Int64Array, lanes: int, lfsr_state: int, round_overhead_cycles: int
) -> tuple[Int64Array, Int64Array]:
    """Published and own latency of each row, int64 [rows] twice, arguments as for ``select_rows``.

    The published model counts rounds of ceil(size / lanes) + PUBLISHED_ROUND_OVERHEAD_CYCLES until the pivot is the
    k-th value, and nothing else. The own figure is what the engine takes: from the last input word to the
    last output word, unstalled, less the fixed take, handoff and filter cycles; so rounds and the filter's pass.
    """
    n_rows = ks.shape[0]
    published, own = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    published_state = lfsr_state
    kept, gaps = np.empty(values.shape[0], np.int64), np.empty(values.shape[0] + 1, np.int64)
    for r in range(n_rows):
        row = values[starts[r] : starts[r + 1]]
        model = select(row, row.shape[0], ks[r], lanes, published_state, False)
        published_state = model.lfsr_state
        published[r] = select_cycles(model.rounds, model.round_words, PUBLISHED_ROUND_OVERHEAD_CYCLES)
        n_kept, found = select_row(row, ks[r], lanes, lfsr_state, kept)
        lfsr_state = found.lfsr_state
        n_words = emit_gaps(kept, n_kept, lanes, gaps)
        own[r] = select_cycles(found.rounds, found.round_words, round_overhead_cycles) + gaps[:n_words].sum()
    return published, own


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

        kept = np.empty(max(1, n), np.int64)
        n_kept, found = select_row(values, row.k, lanes, lfsr_state, kept)
        lfsr_state = found.lfsr_state
        take = max(loaded + unit.take_cycles, handoff + 1)
        selected = (
            take + unit.handoff_cycles + select_cycles(found.rounds, found.round_words, unit.round_overhead_cycles)
        )
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
