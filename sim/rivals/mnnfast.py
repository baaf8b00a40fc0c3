"""MNNFast: keys and values stream through in chunks of columns, softmax is divided out at the end, small weights skip.

Of each chunk: scores, exponentials (without a running maximum, hence lazily normalised), the running denominator, and
the weighted sum of the values whose exponential is not below ``skip_below`` of the denominator so far. That denominator
only grows, so what is skipped ends up with an even smaller probability. Every key and value is fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sim.rivals._attention import fixed, scores, visible
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, array_cycles, at_least, between


@dataclass(frozen=True)
class MnnFastConfig(Config):
    """``skip_below``: share of the running denominator; 0 skips nothing. ``chunk_keys``: keys of a chunk.

    ``overlap``: the weighted sum of a row runs beside the scores of the next. ``skip_saves_time``: a skipped value
    gives its slot to the next one; otherwise its slot passes empty.
    """

    skip_below: float = 0.01
    chunk_keys: int = 32
    overlap: bool = False
    skip_saves_time: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        between("skip_below", self.skip_below, 0, 1)
        at_least("chunk_keys", self.chunk_keys, 1)


class Machine(Rival):
    """Column streaming with lazy softmax and zero skipping."""

    TITLE = "MNNFast (ISCA 2019)"
    VARIANTS: ClassVar[Mapping[str, Config]] = {
        "mnnfast": MnnFastConfig(128),
        "mnnfast-lockstep": MnnFastConfig(128, skip_saves_time=False),
    }
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant("comparison table of SpAtten (HPCA 2021): 128", "published"),
        "clock_MHz": Constant(
            "comparison table of SpAtten: 1 GHz (an FPGA design, taken as if it were an ASIC)", "published"
        ),
        "channels": Constant("comparison table of SpAtten: 64 GB/s", "published"),
        "overlap": Constant(
            "scores and weighted sum in turn: chosen since it gives the order of 120 GOP/s", "calibrated"
        ),
        "skip_saves_time": Constant("the paper's zero skipping; the FPGA's may not, see mnnfast-lockstep", "assumed"),
        "skip_below": Constant("no figure at hand; 1 % of the denominator", "assumed"),
        "chunk_keys": Constant("own choice", "assumed"),
        "bits": Constant("own choice: as ours, so that traffic compares", "assumed"),
    }
    SWEEP = (
        {"skip_below": 0.0},
        {"skip_below": 0.003},
        {"skip_below": 0.01},
        {"skip_below": 0.03},
        {"skip_below": 0.1},
    )
    NOTE = "embedding cache not modelled (no embeddings here)"
    config: MnnFastConfig

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """All keys; values whose exponential counts when their chunk comes."""
        config = self.config
        mask = visible(seen, len(k))
        score = scores(fixed(q, config.bits), fixed(k, config.bits))
        # Hardware takes e^s as it is; a shift by the row's maximum changes no ratio and cannot overflow here.
        power = np.where(mask, np.exp(score - np.where(mask, score, -np.inf).max(axis=1, keepdims=True)), 0.0)
        running = np.cumsum(power, axis=1)
        chunk_end = np.minimum((np.arange(len(k)) // config.chunk_keys + 1) * config.chunk_keys, len(k)) - 1
        kept = mask & (power >= config.skip_below * running[:, chunk_end])
        output = (power * kept) @ fixed(v, config.bits) / running[:, -1:]
        return Selection(output, mask, kept)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """QK and the weighted sum share a row's time unless they overlap."""
        config, dim = self.config, work.q.shape[1]
        qk = array_cycles(work.seen, dim, config.half)
        taken = selection.values.sum(axis=1) if config.skip_saves_time else work.seen
        pv = array_cycles(taken, dim, config.half)
        stages = {"qk": qk, "pv": pv} if config.overlap else {"qk then pv": qk + pv}
        parts = self.operands(work)
        events = self.events(work, selection)
        events["compare_12"] = work.pairs
        return Cost(stages, [parts[name] for name in ("q", "k", "v", "output")], events)
