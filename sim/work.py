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


KSET = np.dtype(
    [
        ("base", "i8"),  # address of token 0 in the MSB plane
        ("stride", "i8"),  # bytes from token to token
        ("mask", "i8"),  # which memory accesses of a token's row are made
        ("keys", "i8"),
        ("ids", "i8"),  # first entry in ``tokens``
        ("keys_per_line", "i8"),
        ("pending", "i8"),
        ("bytes", "i8"),  # K SRAM taken, both heads of a fused pair
        ("last_row", "i8"),  # its K may be freed when this row is final
        ("prunes", "i8"),  # prunes that must be done before the keep list is known
        ("first_job", "i8"),
    ]
)
"""One K fetch: one K/V head, or a fused pair."""

JOB = np.dtype(
    [
        ("first_row", "i8"),
        ("rows", "i8"),
        ("kset", "i8"),
        ("head_dim", "i8"),
        ("keys", "i8"),
        ("ids", "i8"),
        ("keys_per_line", "i8"),
        ("values_per_line", "i8"),
        ("qk_fold", "i8"),
        ("pv_fold", "i8"),
        ("pv_latency", "i8"),
        ("drain", "i8"),  # cycles of the output scaler per row
        ("v_resident", "i8"),
        ("v_base", "i8"),
        ("v_stride", "i8"),
        ("v_atoms", "i8"),
        ("v_pending", "i8"),  # resident V
        ("v_bytes", "i8"),
        ("lsb_base", "i8"),
        ("lsb_stride", "i8"),
        ("lsb_atoms", "i8"),
    ]
)
"""One attend job."""

ROW = np.dtype(
    [
        ("job", "i8"),
        ("keys", "i8"),  # visible to this row
        ("lines", "i8"),
        ("lsb", "i8"),  # 1: makes a second pass
        ("lsb_pending", "i8"),
        ("kept", "i8"),  # V rows used
        ("kept_ids", "i8"),  # first entry in ``selected``
        ("v_pending", "i8"),  # selected V
        ("v_bytes", "i8"),
        ("select", "i8"),  # cycles of the top-k rounds; -1: the row is not selected
        ("emit", "i8"),  # cycles from the first source word filtered to the last output word
        ("pv_issues", "i8"),
        ("q_address", "i8"),
        ("q_atoms", "i8"),
        ("p_address", "i8"),  # partial sums of the tile before
        ("p_atoms", "i8"),
        ("after", "i8"),  # the row that wrote them; -1: none
        ("q_pending", "i8"),
        ("w_address", "i8"),
        ("w_atoms", "i8"),  # output row or partial sums; none where the next tile follows on chip
    ]
)
"""One query row of one head."""

PRUNE = np.dtype(
    [
        ("row", "i8"),  # rows before this one must have added their importance
        ("heads", "i8"),  # 1: head importance, which is known only after PV
        ("cycles", "i8"),
    ]
)
"""One cascade top-k between layers."""

TIME = integers(
    """
    qk_start qk_end decided lsb_fetch lsb_start lsb_end final pass2_start pass2_end important loaded take
    handoff emitted v_fetch v_fetched pv_start pv_end drained written
    """
)
"""When things happened to a row; :data:`NEVER` where they did not."""


class Times(NamedTuple):
    """``row``: dtype TIME per row. ``kset``, ``job``: int64 (n, 2), first and last cycle of the address generation of K
    and of resident V.
    """

    row: np.ndarray
    kset: np.ndarray
    job: np.ndarray


MACHINE = integers(
    """
    lanes window prefetch address_fifo outstanding query_slots rows_in_flight channels atom_bytes ticks ticks_per
    k_bytes
    v_bytes score_keys topk_lanes job_start return_cycles qk_latency exponent test reciprocal normalise
    topk_command topk_take topk_handoff topk_filter accumulate output_cycles
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
    prunes: NDArray
    tokens: NDArray[np.int32]
    selected: NDArray[np.int32]
    pending: NDArray[np.int32]


def records(dtype: np.dtype, count: int) -> NDArray:
    """A zeroed table; numba wants at least one entry to index into."""
    return np.zeros(max(1, count), dtype)[:count]
