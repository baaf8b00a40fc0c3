"""What the timing kernel reads: the program unrolled into rows, with every data-dependent count already known.

Values never depend on time: which keys survive, how many rounds a selection takes and which rows make a second pass
follow from the numbers alone. So the simulator first computes all values (``sim.values``) and leaves them here as
counts, then computes all times (``sim.engine``). Hardware does both at once; the result is the same.

Every table is a structured array. ``*_pending`` fields are indices into one array of outstanding memory accesses:
line i of a fetch has the index base + i, and may be read when its count has gone to zero.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Record = Any  # one entry of a structured array, handed around by reference in compiled code
NEVER = np.int64(1) << 62  # a time that has not come


def integers(names: str) -> np.dtype:
    """A record of 64-bit integers with these names."""
    return np.dtype([(name, "i8") for name in names.split()])


KSET = integers("base stride mask keys ids keys_per_line pending lines ring last_row first_job fresh")
"""One K fetch: one K/V head, or a fused pair.

``base``: address of token 0 in the MSB plane; ``stride``: bytes from token to token; ``mask``: which memory accesses of
a token's row are made; ``ids``: first entry in ``tokens``; ``lines`` of the K SRAM's ``ring`` are taken, and freed when
``last_row`` is final; ``first_job``: it can be fetched when this job has been dispatched; ``fresh``: the first of
another format, whose lines begin at 0.
"""

JOB = integers(
    """
    first_row rows kset head_dim keys ids keys_per_line values_per_line qk_fold pv_fold pv_latency drain
    v_resident v_base v_stride v_atoms v_pending v_lines v_ring fresh k_line
    lsb_base lsb_stride lsb_atoms
    records state_lines line_cycles
    """
)
"""One attend job. ``kset``: -1 where no K is fetched; ``v_pending``, ``v_lines``: of resident V; ``drain``: cycles of
the output scaler per row; ``k_line``: where its K begins in the ring, known when it is fetched. Of mode STATE
``records`` rows are a token (else 1), of which the last is its query, and a token takes ``state_lines`` (else 0), each
``line_cycles``.
"""

ROW = integers(
    """
    job keys lines lsb lsb_pending kept kept_ids v_pending v_first v_lines granules select emit pv_issues
    q_address q_atoms p_address p_atoms after alone q_pending w_address w_atoms silent
    """
)
"""One query row of one head.

``keys``: visible to it; ``lsb``: 1 if it makes a second pass; ``kept``: V rows used; ``kept_ids``: first entry in
``selected``; ``v_pending``, ``v_lines``: of selected V; ``v_first``: V lines of everything before, in order;
``granules`` of the weight ring; ``select``: cycles of a selection, -1 if the row is not selected; ``emit``: cycles
from the first source word filtered to the last output word; ``p_*``: partial sums of the tile before; ``after``: its
query is fetched when this row has been written (-1: at once); ``alone``: 1 if it takes over the sums of the row before
on chip; ``w_atoms``: output row or partial sums, none where the next tile follows on chip; ``silent``: a record of a
token that is not its query: the row is fetched, and nothing comes of it.
"""

OP_ATTEND, OP_SKIP, OP_TOKENS, OP_STATE = range(4)
OP = integers("kind cycles accumulated written retired fresh")
"""One job of the program as the sequencer sees it: an attend job, one of a pruned head, new tokens, or an operation of
``cycles`` on the state, which waits until so many rows have been ``accumulated`` and ``written`` and so many attend
jobs ``retired``. An attend job with ``cycles`` first halves the scores; one of a ``fresh`` format waits until all
before it have retired.
"""

TIME = integers(
    """
    qk_start qk_end decided lsb_fetch lsb_start lsb_end final pass2_start pass2_end important loaded take
    handoff emitted v_fetch v_fetched pv_start pv_end drained written q_chosen lsb_chosen stored
    """
)
"""When things happened to a row; :data:`NEVER` where they did not. ``q_chosen``, ``lsb_chosen``: the fetcher's choice;
``stored``: the writer was done with it.
"""

READ = integers("cycle channel bank row")
"""An access that a channel took, or gave back (then without ``bank`` and ``row``)."""


class Times(NamedTuple):
    """``row``: dtype TIME per row. ``kset``, ``job``: int64 (n, 2), first and last cycle of the address generation of K
    and of resident V; ``op``: when an operation on the state was taken and done. ``dispatch``: int64 per job.
    ``ready``: int64 per entry of ``Work.pending``, when it was complete.

    The others are in order of cycle, and empty unless recorded. ``qk_line``, ``pv_line``: int64, each line's issue;
    ``write``: int64, each access written; ``taken``, ``given``: dtype READ, each access that a channel took, gave back.
    """

    row: np.ndarray
    kset: np.ndarray
    job: np.ndarray
    op: np.ndarray
    dispatch: np.ndarray
    ready: np.ndarray
    qk_line: np.ndarray
    pv_line: np.ndarray
    write: np.ndarray
    taken: np.ndarray
    given: np.ndarray


def new_times(work: "Work", record: bool) -> Times:
    """Before the first cycle. ``record``: also what takes an entry per line or access."""

    def never(*shape: int) -> NDArray[np.int64]:
        return np.full(shape, NEVER)

    rows, accesses = len(work.rows), int(work.pending.sum())
    logged = (int((work.rows["lines"] * (1 + work.rows["lsb"])).sum()), int(work.rows["pv_issues"].sum()),
              int(work.rows["w_atoms"].sum()))  # fmt: skip
    return Times(
        never(rows, len(TIME.names or ())).view(TIME).reshape(rows), never(len(work.ksets), 2),
        never(len(work.jobs), 2), never(len(work.ops), 2), never(len(work.jobs)), never(len(work.pending)),
        *(never(count if record else 0) for count in logged),
        *(np.zeros(accesses if record else 0, READ) for _ in range(2)),
    )  # fmt: skip


MACHINE = integers(
    """
    lanes window prefetch address_fifo outstanding query_slots query_lanes rows_in_flight job_slots channels atom_bytes
    ticks ticks_per score_lines granules output_rows topk_lanes job_start return_cycles qk_latency exponent test
    reciprocal normalise topk_take topk_handoff topk_filter accumulate pv_issue output_cycles
    program_latency header_beats header_cycles job_beats decode raw_jobs
    """
)
"""Sizes and latencies of the machine, one record; the memory makes ``ticks`` per ``ticks_per`` engine cycles."""


@dataclass(frozen=True)
class Work:
    """The unrolled program. ``tokens`` and ``selected`` are int32 token numbers; ``pending`` int32 accesses per
    line.
    """

    ksets: NDArray
    jobs: NDArray
    rows: NDArray
    ops: NDArray
    tokens: NDArray[np.int32]
    selected: NDArray[np.int32]
    pending: NDArray[np.int32]

    @property
    def first_value_line(self) -> int:
        """Where the lines of V begin in ``pending``: behind those of K."""
        return int(np.sum(-(-self.ksets["keys"] // self.ksets["keys_per_line"])))


def records(dtype: np.dtype, count: int) -> NDArray:
    """A zeroed table; numba wants at least one entry to index into."""
    return np.zeros(max(1, count), dtype)[:count]
