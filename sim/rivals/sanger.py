"""Sanger: a 4-bit product of all pairs predicts the softmax; what is predicted above a threshold is computed exactly.

The mask's rows are packed and split: full groups of ``pe_columns`` non-zeros of a row fill a row of the array, what is
left of several rows shares one. The array stays with its scores: it first multiplies Q and K where the mask is, then
the probabilities with V, d cycles each for every load of the array. A separate low-bit array predicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.errors import UserError
from sim.rivals._attention import fixed, scores, softmax, visible, with_best
from sim.rivals._memory import whole
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, at_least, between


@dataclass(frozen=True)
class SangerConfig(Config):
    """``mask_above``: predicted probability from which a pair is computed; 0 masks nothing.

    ``pe_columns``: non-zeros that a row of the array holds. ``predict_bits``: of the prediction;
    ``predict_ratio``: its products per cycle over those of the array.
    """

    bits: int = 16
    mask_above: float = 0.002
    pe_columns: int = 16
    predict_bits: int = 4
    predict_ratio: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("mask_above", self.mask_above, 0, 1)
        at_least("pe_columns", self.pe_columns, 1)
        between("predict_bits", self.predict_bits, 2, 16)
        at_least("predict_ratio", self.predict_ratio, 0.25)
        if self.multipliers % self.pe_columns:
            raise UserError(
                f"rival: sanger: multipliers = {self.multipliers}: must be a multiple of pe_columns = {self.pe_columns}"
            )

    @property
    def pe_rows(self) -> int:
        """Rows of the array, 64 in the publication."""
        return self.multipliers // self.pe_columns


@njit(cache=True)
def packed_rows(non_zeros: np.ndarray, columns: int, window: int) -> int:
    """Array rows that the mask's rows take, int64 (rows,) non-zeros each.

    Full groups of ``columns`` first; what is left over within each ``window`` of rows is put together, largest first,
    each into the first array row with room (rows are packed with their neighbours, not across the whole matrix).
    """
    total = 0
    room = np.zeros(window, np.int64)
    for start in range(0, len(non_zeros), window):
        block = non_zeros[start : start + window]
        total += int((block // columns).sum())
        rest = np.sort(block % columns)[::-1]
        used = 0
        for left in rest:
            if left == 0:
                break
            at = 0
            while at < used and room[at] < left:
                at += 1
            if at == used:
                room[used] = columns
                used += 1
            room[at] -= left
        total += used
    return total


class Machine(Rival):
    """Low-bit prediction, packed sparse arithmetic."""

    TITLE = "Sanger (MICRO 2021)"
    VARIANTS: ClassVar[Mapping[str, Config]] = {
        "sanger": SangerConfig(1024, 500.0, channels=0),
        "sanger-2e-2": SangerConfig(1024, 500.0, channels=0, mask_above=0.02),
    }
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant("64 x 16 processing elements: the authors' latency model, hatsu3/Sanger", "published"),
        "clock_MHz": Constant(
            "500 MHz, 55 nm (SOFA's comparison table); the authors' latency model says 1 GHz", "published"
        ),
        "channels": Constant("the authors' latency model has no memory", "published"),
        "bits": Constant("16-bit arithmetic behind the prediction", "memory"),
        "mask_above": Constant("configurations 2e-3 and 2e-2 of hatsu3/Sanger", "published"),
        "pe_columns": Constant("16: the authors' latency model", "published"),
        "predict_bits": Constant("4-bit prediction (abstract of the paper)", "published"),
        "predict_ratio": Constant(
            "four 4-bit products per element of the array, so that prediction is not the limit", "assumed"
        ),
    }
    SWEEP = (
        {"mask_above": 0.0},
        {"mask_above": 0.0005},
        {"mask_above": 0.002},
        {"mask_above": 0.008},
        {"mask_above": 0.02},
    )
    NOTE = "systolic fill of the array not modelled; in decoding (not its design) its array is mostly empty"
    config: SangerConfig

    def helpers(self) -> tuple[tuple[float, int], ...]:
        """The predictor."""
        return ((self.config.predict_ratio * self.config.multipliers, self.config.predict_bits),)

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Pairs whose predicted probability is at least ``mask_above``."""
        config = self.config
        allowed = visible(seen, len(k))
        guess = scores(fixed(q, config.predict_bits), fixed(k, config.predict_bits))
        kept = with_best(allowed & (softmax(guess, allowed) >= config.mask_above), guess, allowed)
        exact = scores(fixed(q, config.bits), fixed(k, config.bits))
        return Selection(softmax(exact, kept) @ fixed(v, config.bits), kept, kept)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """Prediction of a row, then its share of the array's loads."""
        config, (rows, dim) = self.config, work.q.shape
        counts = selection.keys.sum(axis=1).astype(np.int64)
        loads = -(-packed_rows(counts, config.pe_columns, config.pe_rows) // config.pe_rows)
        predict: NDArray[np.float64] = np.zeros(rows)
        atom, byte = config.spec.access_bytes, config.predict_bits / 8
        parts = self.operands(work)
        streams = [parts[name] for name in ("q", "k", "v", "output")]
        events = self.events(work, selection)
        if config.mask_above:
            predict = work.seen * dim / (config.predict_ratio * config.multipliers)
            streams[:0] = [whole(f"{n} low", x.size * byte, atom) for n, x in (("q", work.q), ("k", work.k))]
            events[f"mac_{config.predict_bits}"] = float(work.pairs * dim)
            events["exponential"] += float(work.pairs)
            events["compare_12"] = float(work.pairs)
            events["sram_read_bytes"] += work.pairs * dim * byte / config.pe_rows  # a key serves all rows of the array
        # In the array too a fetched key or value is used by as many rows as hold it; we count one read per use.
        execute = np.full(rows, loads * 2.0 * dim / rows)
        return Cost({"prediction": predict, "array": execute}, streams, events)
