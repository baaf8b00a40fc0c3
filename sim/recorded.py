"""What goes into the execution of values and what it leaves for the timing."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accel.program import Jobs
from accel.units.topk import TOPK_EVENTS

Int = NDArray[np.int64]


@dataclass(frozen=True)
class JobTensors:
    """12-bit words (int16) of one attend job: ``q`` (rows, dim); ``k_msb``, ``k_full``, ``v`` (live tokens, dim).
    ``decays``: of mode STATE with DECAY_WORDS, unsigned decay words (tokens, dim).
    """

    q: NDArray[np.int16]
    k_msb: NDArray[np.int16]
    k_full: NDArray[np.int16]
    v: NDArray[np.int16]
    decays: NDArray[np.int16] | None = None


class Op(NamedTuple):
    """A job of the program as the sequencer sees it; ``kind``: of :data:`sim.work.OP`. ``cycles``: of an operation on
    the state, for which all rows so far must have been ``accumulated`` or ``written``. ``relists``: writes a keep list.
    """

    kind: int
    cycles: int = 0
    accumulated: bool = False
    written: bool = False
    relists: bool = False


class ScoreSource(Protocol):
    """Draws log2-unit scores for rows whose tensors are not known."""

    def scores(self, jobs: Jobs, tokens: NDArray[np.int32], rows: int) -> Int:
        """int64 (rows, len(tokens)) for the rows of ``jobs``, which all see these tokens."""
        ...


@dataclass
class Recorded:
    """What the timing needs to know of the values, in row, job and prune order (lists of arrays, joined at the end)."""

    lsb: list[NDArray] = field(default_factory=list)
    kept: list[NDArray] = field(default_factory=list)
    selected: list[NDArray] = field(default_factory=list)
    select: list[NDArray] = field(default_factory=list)
    emit: list[NDArray] = field(default_factory=list)
    pv_issues: list[NDArray] = field(default_factory=list)
    tokens: list[NDArray] = field(default_factory=list)
    job_ids: list[int] = field(default_factory=list)
    jobs: list[NDArray] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    rows: int = 0
    token_entries: int = 0
    topk_events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPK_EVENTS, 0))
    importance_updates: int = 0

    def add_topk(self, events: dict[str, int]) -> None:
        """Count what a top-k has done, see :class:`sim.topk_schedule.Rows`."""
        for name, count in events.items():
            self.topk_events[name] += count
