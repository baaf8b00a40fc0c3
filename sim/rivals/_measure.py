"""Time, traffic and error of a machine, put together in the same way for all.

Rows of all work flow through the machine's stages one behind the other (:func:`pipeline_cycles`). Beside that the
memory moves all streams, each request there from the start. The time is the longer of the two, behind the fetch of the
first two tensors, without which nothing can begin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError
from sim.rivals._attention import dense_output, pipeline_cycles
from sim.rivals._memory import MemoryUse, memory_use
from sim.rivals.base import Config, Rival, Selection, Work

LEARN_EVERY, LEARN_FROM_ROWS = 4, 32
"""A threshold is learned from every fourth row, or from all of fewer than 32."""


@dataclass(frozen=True)
class Measured:
    """What a machine needed for a list of work. ``bound``: ``dram``, or the stage with the most cycles.

    ``output_error``: RMS of the difference from float64 attention over RMS of that, mean over the work items.
    """

    queries: int
    cycles: float
    compute_cycles: float
    dram_cycles: float
    stage_cycles: Mapping[str, float]
    bound: str
    latency_s: float
    gops_dense_equivalent: float
    dram: MemoryUse
    useful_bytes: int
    events: Mapping[str, float]
    kept_keys_share: float
    kept_values_share: float
    output_error: float

    @property
    def dram_bytes(self) -> int:
        """Read and written, in whole accesses."""
        return self.dram.read_bytes + self.dram.write_bytes


def relative_error(output: NDArray, exact: NDArray) -> float:
    """RMS of the difference over RMS of the exact result."""
    return float(np.linalg.norm(output - exact) / np.linalg.norm(exact))


def select_all(rival: Rival, works: Sequence[Work]) -> list[Selection]:
    """Selections of a list of work. A threshold that is learned is learned from every fourth row of the same work."""
    return [
        rival.select_and_run(
            w.q,
            w.k,
            w.v,
            w.seen,
            rival.learn(w.q[:: 4 if len(w.q) >= 32 else 1], w.k, w.seen[:: 4 if len(w.q) >= 32 else 1]),
        )
        for w in works
    ]


def measure(rival: Rival, works: Sequence[Work], selections: Sequence[Selection]) -> Measured:
    """Time, traffic and error of selections that were made before.

    Raises:
        UserError: no work, or none that fits the machine.
    """
    if not works:
        raise UserError("rival: no work")
    config = rival.config
    costs = [rival.cost(work, selection) for work, selection in zip(works, selections, strict=True)]
    names = list(costs[0].stages)
    stages = np.concatenate([np.stack([cost.stages[name] for name in names]) for cost in costs], axis=1)
    sizes = [len(work.q) for work in works]
    first_rows = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    prepare, begins = np.zeros(sum(sizes)), np.zeros(sum(sizes), np.bool_)
    prepare[first_rows], begins[first_rows] = [cost.prepare for cost in costs], True
    compute = float(pipeline_cycles(np.ascontiguousarray(stages, np.float64), prepare, begins))
    timed = bool(config.channels) and config.bandwidth_GBps is None
    dram = memory_use(config.spec, [stream for cost in costs for stream in cost.streams])
    first = memory_use(config.spec, costs[0].streams[:2]) if timed else dram
    dram_cycles = _memory_cycles(config, dram)
    lead = _memory_cycles(config, first) if timed else 0.0
    cycles = lead + max(compute, dram_cycles - lead)
    totals = dict(zip(names, stages.sum(axis=1).tolist(), strict=True))
    if prepare.any():
        totals["prepare"] = float(prepare.sum())
    latency_s = cycles / (config.clock_MHz * 1e6)
    events: dict[str, float] = {}
    for cost in costs:
        for name, count in cost.events.items():
            events[name] = events.get(name, 0.0) + float(count)
    pairs = sum(work.pairs for work in works)
    errors = [
        relative_error(done.output, dense_output(w.q, w.k, w.v, w.seen))
        for w, done in zip(works, selections, strict=True)
    ]
    return Measured(
        queries=sum(len(work.q) for work in works),
        cycles=cycles,
        compute_cycles=compute,
        dram_cycles=dram_cycles,
        stage_cycles=totals,
        bound="dram" if dram_cycles > compute else max(totals, key=lambda name: totals[name]),
        latency_s=latency_s,
        gops_dense_equivalent=sum(work.dense_operations for work in works) / latency_s / 1e9,
        dram=dram,
        useful_bytes=sum(stream.useful_bytes for cost in costs for stream in cost.streams),
        events=events,
        kept_keys_share=sum(int(done.keys.sum()) for done in selections) / pairs,
        kept_values_share=sum(int(done.values.sum()) for done in selections) / pairs,
        output_error=float(np.mean(errors)),
    )


def _memory_cycles(config: Config, use: MemoryUse) -> float:
    if config.bandwidth_GBps is not None:
        return (use.read_bytes + use.write_bytes) / config.bandwidth_GBps * config.clock_MHz / 1e3
    if not config.channels:
        return 0.0
    return use.ticks * config.spec.tCK_ps * config.clock_MHz / 1e6
