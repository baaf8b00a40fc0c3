"""Top-k engines alone: how long rows take, one by one and one behind the other, in an unstalled engine."""

from typing import Any, NamedTuple

import numpy as np

from accel.units import implementation
from accel.units.topk import TOPK_EVENTS, TopKUnit
from sim.local_values import emit_cycles
from sim.topk_schedule import Int64Array


class Survey(NamedTuple):
    """Of many rows, int64 [rows]: ``latency`` from a row's last word in to its last word out. ``interval_cycles``: per
    row when rows are offered without a pause. ``events``: per row, by the names in ``counts.topk``.
    """

    latency: Int64Array
    interval_cycles: float
    events: dict[str, float]


def survey(unit: TopKUnit, keys: int, kept: int, rows: int, seed: int) -> Survey:
    """Rows of ``keys`` random values, all values equally likely, of which ``kept`` are kept."""
    values = np.random.default_rng(seed).integers(0, unit.max_value, rows * keys, endpoint=True)
    starts = np.arange(rows + 1) * keys
    engine = implementation("sim.topk", unit.engine)
    found = engine.select_rows(unit, values, starts, np.full(rows, kept), unit.lfsr_seed)
    emit = np.zeros(rows, np.int64)
    emit_cycles(found.kept, starts, found.n_kept, unit.lanes, emit)
    fixed = unit.take_cycles + unit.handoff_cycles + unit.filter_cycles
    events: dict[str, Any] = dict.fromkeys(TOPK_EVENTS, 0) | found.events
    return Survey(
        fixed + found.select_cycles + emit,
        last_cycle(unit, [unit.words(keys)] * rows, found.select_cycles, emit) / rows,
        {name: count / rows for name, count in events.items()},
    )


def last_cycle(unit: TopKUnit, words: list[int], select_cycles: Int64Array, emit: Int64Array) -> int:
    """The cycle in which the last word of rows of so many words leaves, by the rules of :mod:`sim.topk_schedule`."""
    loaded = handoff = -1
    freed = [-1] * unit.rows_in_flight
    for r, length in enumerate(words):
        bank = r % unit.rows_in_flight
        loaded = max(loaded, freed[bank]) + 1 + length  # a command, and its words behind it
        selected = max(loaded + unit.take_cycles, handoff + 1) + unit.handoff_cycles + int(select_cycles[r])
        handoff = max(selected, freed[(r - 1) % unit.rows_in_flight] + 1)
        freed[bank] = handoff + unit.filter_cycles + int(emit[r])
    return freed[(len(words) - 1) % unit.rows_in_flight]
