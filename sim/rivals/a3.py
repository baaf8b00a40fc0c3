"""A3: greedy candidate search over sorted key columns, exact scores of the candidates, then a cut below the best score.

Each column of K is sorted beforehand. For a query, every column has a pointer to its largest product and one to its
smallest; one iteration takes the largest of all columns and adds it to its row's greedy score, and likewise the
smallest, which is left out while the sum of all that was added is negative. Rows that end above zero are candidates.
Of these, keys whose softmax weight is below ``post_threshold`` of the best one's are dropped before exponential and
weighted sum.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.rivals._attention import fixed, scores, softmax, visible, with_best
from sim.rivals._memory import whole
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, array_cycles, at_least, between

UNIT_MULTIPLIERS = 128  # a unit: 64 for dot products, 64 for the weighted sum


@dataclass(frozen=True)
class A3Config(Config):
    """``search_share``: iterations per visible key; 0 searches nothing and takes every key (base A3).

    ``post_threshold``: share of the best key's weight below which a key is dropped; 0 drops none.
    ``scan_lanes``: greedy scores looked at per cycle. ``overhead_cycles``: per row and module.
    ``sort_lanes``: key columns that are sorted at a time, one element per cycle and merge pass; 0: done elsewhere, as
    in the paper.
    """

    bits: int = 9
    search_share: float = 0.5
    post_threshold: float = 0.05
    scan_lanes: int = 16
    overhead_cycles: int = 9
    sort_lanes: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("search_share", self.search_share, 0)
        between("post_threshold", self.post_threshold, 0, 1)
        at_least("scan_lanes", self.scan_lanes, 1)
        at_least("overhead_cycles", self.overhead_cycles, 0)
        at_least("sort_lanes", self.sort_lanes, 0)

    @property
    def units(self) -> float:
        """Units that take rows in turn; a machine of other size has more, or a part of one."""
        return self.multipliers / UNIT_MULTIPLIERS


@njit(cache=True)
def greedy_scores(
    q: np.ndarray, k: np.ndarray, order: np.ndarray, seen: np.ndarray, iterations: np.ndarray
) -> np.ndarray:
    """Greedy scores of the search, float64 (rows, keys).

    ``order`` int64 (keys, d): row numbers of each column of ``k`` by rising value; row r may only see keys below
    ``seen[r]``, entries of others are passed over at no cost.
    """
    rows, dim = q.shape
    keys = len(k)
    found = np.zeros((rows, keys))
    high, low = np.zeros(dim, np.int64), np.zeros(dim, np.int64)
    for r in range(rows):
        for c in range(dim):
            rising = q[r, c] >= 0
            high[c] = _next(order, c, keys - 1 if rising else 0, -1 if rising else 1, seen[r])
            low[c] = _next(order, c, 0 if rising else keys - 1, 1 if rising else -1, seen[r])
        total = 0.0
        for _ in range(iterations[r]):
            best = _extreme(q, k, order, high, r, 1.0)
            if best >= 0:
                at = order[high[best], best]
                product = q[r, best] * k[at, best]
                if product > 0:
                    found[r, at] += product
                    total += product
                step = -1 if q[r, best] >= 0 else 1
                high[best] = _next(order, best, high[best] + step, step, seen[r])
            if total < 0:
                continue
            worst = _extreme(q, k, order, low, r, -1.0)
            if worst >= 0:
                at = order[low[worst], worst]
                product = q[r, worst] * k[at, worst]
                if product < 0:
                    found[r, at] += product
                    total += product
                step = 1 if q[r, worst] >= 0 else -1
                low[worst] = _next(order, worst, low[worst] + step, step, seen[r])
    return found


@njit(cache=True)
def _next(order: np.ndarray, column: int, place: int, step: int, seen: int) -> int:
    """First place from ``place`` on in the direction of ``step`` whose key may be seen; -1 behind the end."""
    while 0 <= place < len(order):
        if order[place, column] < seen:
            return place
        place += step
    return -1


@njit(cache=True)
def _extreme(q: np.ndarray, k: np.ndarray, order: np.ndarray, at: np.ndarray, row: int, sign: float) -> int:
    """Column whose pointer has the largest (sign 1) or smallest (-1) product; the first of equals; -1: none left."""
    best, value = -1, 0.0
    for c in range(q.shape[1]):
        if at[c] >= 0:
            product = sign * q[row, c] * k[order[at[c], c], c]
            if best < 0 or product > value:
                best, value = c, product
    return best


class Machine(Rival):
    """Greedy search, exact scores of candidates, post-scoring."""

    TITLE = "A3 (HPCA 2020)"
    VARIANTS: ClassVar[Mapping[str, Config]] = {
        "a3": A3Config(128),
        "a3-base": A3Config(128, search_share=0.0, post_threshold=0.0),
        "a3-aggressive": A3Config(128, search_share=0.125, post_threshold=0.1),
    }
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant(
            "comparison table of SpAtten (HPCA 2021): 128 = 64 dot product + 64 output", "published"
        ),
        "clock_MHz": Constant("comparison table of SpAtten: 1 GHz", "published"),
        "channels": Constant("comparison table of SpAtten: 64 GB/s", "published"),
        "bits": Constant("9-bit fixed point", "memory"),
        "search_share": Constant("conservative n/2, aggressive n/8 iterations", "memory"),
        "post_threshold": Constant("5 % (conservative) and 10 % (aggressive) of the best weight", "memory"),
        "scan_lanes": Constant("16 greedy scores per cycle", "memory"),
        "overhead_cycles": Constant("base throughput of one query per n + 9 cycles", "memory"),
        "sort_lanes": Constant(
            "own setting: sorting is not on the machine (published); 16 columns in iso settings", "assumed"
        ),
    }
    SWEEP = (
        {"search_share": 0.0, "post_threshold": 0.0}, {"search_share": 1.0, "post_threshold": 0.02},
        {"search_share": 0.5, "post_threshold": 0.05}, {"search_share": 0.25, "post_threshold": 0.08},
        {"search_share": 0.125, "post_threshold": 0.1},
    )  # fmt: skip
    ISO: ClassVar[Mapping[str, float | None]] = {"sort_lanes": 16}
    NOTE = "refill of the search's prefetch buffers never stalls"
    config: A3Config

    def iterations(self, seen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the search, for rows that see so many keys."""
        return np.ceil(self.config.search_share * seen).astype(np.int64)

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Candidates of the search, then the keys that post-scoring leaves."""
        config = self.config
        q9, k9, v9 = fixed(q, config.bits), fixed(k, config.bits), fixed(v, config.bits)
        allowed = visible(seen, len(k))
        score = scores(q9, k9)
        if config.search_share:
            order = np.argsort(k9, axis=0, kind="stable").astype(np.int64)
            greedy = greedy_scores(q9, k9, order, seen, self.iterations(seen))
            candidates = with_best(allowed & (greedy > 0), greedy, allowed)
        else:
            candidates = allowed
        kept = candidates
        if config.post_threshold:
            best = np.where(candidates, score, -np.inf).max(axis=1, keepdims=True)
            kept = candidates & (score >= best + math.log(config.post_threshold))
        return Selection(softmax(score, kept) @ v9, candidates, kept)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """Sort (once per key matrix), search and scan, dot products, exponent and output."""
        config, (rows, dim) = self.config, work.q.shape
        half, units, keys = UNIT_MULTIPLIERS / 2, config.units, len(work.k)
        sort = 0.0
        if config.sort_lanes and config.search_share:
            # A decode step inserts one key into every column, which passes each sorted list once.
            passes = 1 if work.decode else math.ceil(math.log2(max(2, keys)))
            sort = keys * passes * dim / config.sort_lanes
        search = np.zeros(rows)
        iterations = self.iterations(work.seen)
        if config.search_share:
            search = (iterations + np.ceil(work.seen / config.scan_lanes) + config.overhead_cycles) / units
        dot = (array_cycles(selection.keys.sum(axis=1), dim, half) + config.overhead_cycles) / units
        out = (array_cycles(selection.values.sum(axis=1), dim, half) + config.overhead_cycles) / units
        parts = self.operands(work)
        streams = [parts[name] for name in ("q", "k", "v", "output")]
        events = self.events(work, selection)
        if config.search_share:
            pair_bytes = 2 * config.bits / 8  # value and row number
            popped = float(2 * iterations.sum())
            events["compare_12"] = popped * dim + work.pairs
            events["add_32"] = popped
            events[f"mac_{config.bits}"] += popped
            events["sram_read_bytes"] += popped * pair_bytes
            if config.sort_lanes:
                events["compare_12"] += sort * config.sort_lanes
            if work.decode:  # the sorted columns of a sequence stay in memory between steps
                streams.insert(2, whole("sorted k", keys * dim * pair_bytes, config.spec.access_bytes))
            else:
                events["sram_write_bytes"] += keys * dim * pair_bytes
        events["exponential"] = float(selection.values.sum())
        return Cost({"search": search, "dot product": dot, "output": out}, streams, events, sort)
