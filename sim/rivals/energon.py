"""Energon: rounds of ever more precise scores filter the keys; only survivors are fetched and computed in full.

Round 1 scores all keys with 2-bit numbers, round 2 the survivors with 4-bit numbers. A round keeps what is above
a * max + (1 - a) * mean of its scores for a >= 0, and above -a * min + (1 + a) * mean for a < 0; at a = 0, above the
mean. K lies in memory as planes (2 bit, the next 2, the rest), so that a round fetches only what it adds, and V and the
rest of K are fetched for survivors alone. Queries of a head share what was fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.rivals._attention import Mask, Real, fixed, scores, softmax, visible, with_best
from sim.rivals._memory import chosen_rows, whole
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, array_cycles, at_least, between

PLANES = (2, 4)  # bits of the rounds


@dataclass(frozen=True)
class EnergonConfig(Config):
    """``alpha_1``, ``alpha_2``: of the two rounds, -1 to 1; ``filters`` off: no round at all.

    ``filter_ratio``: low-bit products per cycle over those of the QK array.
    """

    bits: int = 16
    alpha_1: float = 0.0
    alpha_2: float = 0.0
    filters: bool = True
    filter_ratio: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("alpha_1", self.alpha_1, -1, 1)
        between("alpha_2", self.alpha_2, -1, 1)
        at_least("filter_ratio", self.filter_ratio, 0.25)


def top_bits(x: NDArray, bits: int) -> Real:
    """Upper bits of a symmetrically scaled number as integers plus one half: {-1.5, -0.5, 0.5, 1.5} for two bits."""
    real = np.asarray(x, np.float64)
    half = 1 << (bits - 1)
    largest = np.abs(real).max(initial=0.0) or 1.0
    return np.clip(np.floor(real / largest * half), -half, half - 1) + 0.5


def above_mean(score: Real, alive: Mask, alpha: float) -> Mask:
    """Who of the living survives a round."""
    number = alive.sum(axis=1, keepdims=True)
    mean = np.where(alive, score, 0).sum(axis=1, keepdims=True) / number
    far = (
        np.where(alive, score, -np.inf).max(axis=1, keepdims=True)
        if alpha >= 0
        else np.where(alive, score, np.inf).min(axis=1, keepdims=True)
    )
    survivors: Mask = alive & (score > abs(alpha) * far + (1 - abs(alpha)) * mean)
    return with_best(survivors, score, alive)


class Machine(Rival):
    """Multi-round filtering and fetching on demand."""

    TITLE = "Energon (TCAD 2022)"
    VARIANTS: ClassVar[Mapping[str, Config]] = {"energon": EnergonConfig(128)}
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant(
            "128: 1153 GOP/s at 77 % saved work are 265 GOP/s of arithmetic at 1 GHz", "calibrated"
        ),
        "clock_MHz": Constant("1 GHz, 45 nm (SOFA's comparison table)", "published"),
        "channels": Constant("64 GB/s: 2.4 W of interface power at 3.9 pJ/bit are 77 GB/s", "derived"),
        "bits": Constant("16-bit arithmetic behind the filter", "memory"),
        "alpha_1": Constant("mean as threshold", "memory"),
        "alpha_2": Constant("mean as threshold", "memory"),
        "filter_ratio": Constant("eight low-bit products per multiplier of the QK array", "assumed"),
    }
    SWEEP = (
        {"filters": False}, {"alpha_1": -0.5, "alpha_2": -0.5}, {"alpha_1": -0.2, "alpha_2": -0.2},
        {"alpha_1": 0.0, "alpha_2": 0.0}, {"alpha_1": 0.1, "alpha_2": 0.1}, {"alpha_1": 0.2, "alpha_2": 0.2},
    )  # fmt: skip
    NOTE = "Q and K are both cut to a round's bits, with one half added; SRAM holds a whole head"
    config: EnergonConfig

    def helpers(self) -> tuple[tuple[float, int], ...]:
        """The filter, as wide as its second round."""
        return ((self.config.filter_ratio * self.config.half, PLANES[1]),)

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Survivors of both rounds; ``detail["round_1"]`` (rows, keys) are those of the first."""
        config = self.config
        first = kept = visible(seen, len(k))
        if config.filters:
            for bits, alpha in zip(PLANES, (config.alpha_1, config.alpha_2), strict=True):
                kept = above_mean(top_bits(q, bits) @ top_bits(k, bits).T, kept, alpha)
                first = kept if bits == PLANES[0] else first
        exact = scores(fixed(q, config.bits), fixed(k, config.bits))
        return Selection(softmax(exact, kept) @ fixed(v, config.bits), kept, kept, {"round_1": first})

    def cost(self, work: Work, selection: Selection) -> Cost:
        """Both rounds in the filter, then dot products, then the weighted sum."""
        config, dim = self.config, work.q.shape[1]
        atom, keys = config.spec.access_bytes, len(work.k)
        first = selection.detail["round_1"]
        count = selection.keys.sum(axis=1)
        scan: NDArray[np.float64] = np.zeros(len(work.q))
        parts = self.operands(work)
        low, high = PLANES
        if not config.filters:
            streams = [parts[name] for name in ("q", "k", "v", "output")]
            events = self.events(work, selection)
        else:
            rate = config.filter_ratio * config.half
            scan = array_cycles(work.seen, dim, rate) + array_cycles(first.sum(axis=1), dim, rate)
            after_1, after_2 = (np.flatnonzero(mask.any(axis=0)) for mask in (first, selection.keys))
            streams = [
                parts["q"],
                whole("k round 1", keys * dim * low / 8, atom),
                chosen_rows("k round 2", after_1, keys, dim * (high - low) / 8, atom),
                chosen_rows("k rest", after_2, keys, dim * (config.bits - high) / 8, atom),
                chosen_rows("v", after_2, keys, dim * config.bits / 8, atom),
                parts["output"],
            ]
            events = self.events(work, selection, 2.0 * len(after_2))
            pairs, again = float(work.pairs), float(first.sum())
            events[f"mac_{low}"] = pairs * dim
            # The second round adds its two new bits to the first round's result: a 4-bit product less the 2-bit one.
            events[f"mac_{high}"] = again * dim
            events["compare_12"] = pairs + again
            events["sram_read_bytes"] += (pairs * low + again * (high - low)) * dim / 8
            events["sram_write_bytes"] += sum(stream.useful_bytes for stream in streams[1:3])
        qk = pv = array_cycles(count, dim, config.half)
        return Cost({"filter": scan, "qk": qk, "pv": pv}, streams, events)
