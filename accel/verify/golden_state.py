"""Golden machine, mode ``state``: what the line memories hold of states between jobs, from the golden functions."""

from typing import Any

import numpy as np

from accel.lower.image import Tensors
from accel.numerics.attention import AttendedRow, normalise_output
from accel.numerics.decay import decode_decay_words, times_power
from accel.numerics.modes import NO_SUM
from accel.numerics.softmax import SoftmaxRow
from accel.numerics.state import State, read, update
from accel.program import FORMAT, Flag


class ResidentRows:
    """Rows of states by their place, as long as jobs of one format follow each other."""

    def __init__(self) -> None:
        self._format: tuple[int, ...] | None = None
        self._rows = State.empty(0, 0)

    def follow(self, job: Any) -> None:
        """A job that is worked on: of another format it ends all states."""
        form = tuple(int(job[name]) for name in FORMAT)
        if form != self._format:
            self._format, self._rows = form, State.empty(0, int(job["head_dim"]))

    def run(self, job: Any, t: Tensors) -> list[AttendedRow]:
        """The tokens of a job: ``softmax.weights`` are q'."""
        first, keys, dim = int(job["first_key"]), int(job["keys"]), int(job["head_dim"])
        output, fresh = (int(job["output_mantissa"]), int(job["output_shift"])), bool(job["flags"] & Flag.RESTART)
        missing = first + keys - len(self._rows.words)
        if missing > 0:
            held = State.empty(missing, dim)
            self._rows = State(
                np.concatenate([self._rows.words, held.words]), np.concatenate([self._rows.fraction, held.fraction])
            )
        place = slice(first, first + keys)
        state = State.empty(keys, dim) if fresh else State(self._rows.words[place], self._rows.fraction[place])
        rows = []
        for token in range(int(job["queries"])):
            decay = np.asarray(int(job["decay"]))
            if job["flags"] & Flag.DECAY_WORDS:
                assert t.decays is not None
                decay = decode_decay_words(t.decays[token, :keys])
            state = update(state, t.k_full[token, :keys], t.v[token], decay, int(job["score_shift"]))
            sums = read(state, t.q[token, :keys])
            weights = times_power(t.q[token, :keys], state.fraction)
            softmax = SoftmaxRow(weights, np.zeros_like(weights), NO_SUM, 0, *output)
            kept = np.arange(keys)
            rows.append(AttendedRow(normalise_output(sums, *output), kept, softmax, False, sums))
        self._rows.words[place], self._rows.fraction[place] = state.words, state.fraction
        return rows
