"""A per-row workload: how many key and value rows every (generated token, layer, head) touches, and how wide they are.

`RowTrace` is what the importer of published traces (`workloads.traces`) and the token schedules (`workloads.schedule`)
both produce, and what lowering and the simulator read. The closed forms below count from the rows alone; the reports
use them as the bound that no machine can beat, the tests hold them against published totals.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError

IntRows = NDArray[np.int32]
BoolRows = NDArray[np.bool_]
FloatRows = NDArray[np.float64]

# Full-size machine: 512 multipliers per array and head dimension 64 make 8 keys per buffer line and cycle
# (Wang, Zhang, Han, "SpAtten", HPCA 2021, table I and section IV).
KEYS_PER_LINE = 8

# Widest key or value of the 12-bit datapath (same table). 12 = 8 + 4 is its widest split into planes.
DATAPATH_BITS = 12
LSB_PLANE_BITS = 4  # every published split is x + 4 (same paper, section III-D)


@dataclass(frozen=True)
class TraceSource:
    """Where the rows came from: the file as the user named it, and the SHA-256 (hex) of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True, eq=False)
class RowTrace:
    """Rows in execution order; every array has shape (rows,) and is read-only.

    Integer arrays are int32, `lsb_threshold` is float64, flags are bool. Counts are tokens (= K or V rows of one head),
    widths are bits. `-1` in `lsb_threshold` and `token_topk` means none.
    Raises UserError if the arrays differ in length or hold no row.
    """

    name: str
    iteration: IntRows  # generated-token number
    layer: IntRows
    head: IntRows
    head_dim: IntRows
    live_tokens: IntRows  # context length before any pruning
    keys: IntRows  # K rows fetched
    key_msb_bits: IntRows  # width of the plane of the first pass
    key_lsb_bits: IntRows  # width of the LSB plane, 0: there is none
    query_bits: IntRows
    lsb_threshold: FloatRows  # LSB pass where the largest probability lies below it
    lsb_pass: BoolRows  # the LSB pass happened in the software run
    values: IntRows  # V rows fetched after local-value pruning
    value_bits: IntRows
    accumulate_importance: BoolRows  # add this row's probabilities to the token scores
    rescale_importance: BoolRows  # rescale the token scores
    token_topk: IntRows  # k of the token top-k that runs after this row
    source: TraceSource
    config: str = ""  # name of the quantisation configuration that made the trace
    notes: tuple[str, ...] = ()  # printed with every result that uses these rows

    def __post_init__(self) -> None:
        for column, array in self.columns():
            dtype = {"lsb_threshold": np.float64}.get(column, np.bool_ if column in FLAG_COLUMNS else np.int32)
            array = np.array(array, dtype=dtype)  # a copy: the caller's array stays writable
            array.setflags(write=False)
            object.__setattr__(self, column, array)
        lengths = {array.shape for _, array in self.columns()}
        if len(lengths) != 1 or self.iteration.ndim != 1 or self.rows == 0:
            raise UserError(
                f"workload {self.name}: every column wants the same number (at least 1) of rows, got {lengths}"
            )

    def columns(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array) of every per-row column, in declaration order."""
        for field in fields(self):
            if field.name not in TEXT_FIELDS:
                yield field.name, getattr(self, field.name)

    @property
    def rows(self) -> int:
        return len(self.iteration)

    @property
    def iterations(self) -> int:
        """Number of different generated tokens."""
        return len(np.unique(self.iteration))

    @property
    def layers(self) -> int:
        """Number of different layers."""
        return len(np.unique(self.layer))

    @property
    def heads(self) -> int:
        """Number of different heads: those of the unpruned model, as long as one layer runs all of them."""
        return len(np.unique(self.head))


TEXT_FIELDS = frozenset({"name", "source", "config", "notes"})
FLAG_COLUMNS = frozenset({"lsb_pass", "accumulate_importance", "rescale_importance"})
COLUMN_NAMES = tuple(field.name for field in fields(RowTrace) if field.name not in TEXT_FIELDS)


def issue_cycles(trace: RowTrace, keys_per_line: int = KEYS_PER_LINE) -> dict[str, int]:
    """Cycles in which the two multiplier arrays accept a line, if nothing ever stalls: one line per cycle.

    `qk_msb`: first pass over the kept keys; `qk_lsb`: the second pass of flagged rows; `pv`: kept values.
    """
    qk = _lines(trace.keys, keys_per_line)
    return {
        "qk_msb": int(qk.sum()),
        "qk_lsb": int(qk[trace.lsb_pass].sum()),
        "pv": int(_lines(trace.values, keys_per_line).sum()),
    }


def useful_bytes(trace: RowTrace, round_to: int = 1) -> dict[str, float]:
    """Bytes that K and V of the kept tokens occupy, by tensor: `key_msb`, `key_lsb`, `value`.

    Counted: one K row of `key_msb_bits` per kept key, one more of `key_lsb_bits` where the LSB pass happened, one V row
    per kept value. Not counted: the query, outputs, the unused part of a burst. `round_to=8` rounds the number of K and
    V rows of each (token, layer, head) up to whole 8-row lines, as the published totals do.
    """
    dim = trace.head_dim.astype(np.int64)
    key_elements = _lines(trace.keys, round_to) * round_to * dim
    value_elements = _lines(trace.values, round_to) * round_to * dim
    return {
        "key_msb": float((key_elements * trace.key_msb_bits).sum() / 8),
        "key_lsb": float((key_elements * trace.key_lsb_bits)[trace.lsb_pass].sum() / 8),
        "value": float((value_elements * trace.value_bits).sum() / 8),
    }


def operations(trace: RowTrace) -> int:
    """Multiplications plus additions of QK and PV over kept keys and values: 2 per element.

    The recompute of an LSB pass is not counted: it is the price of a technique, not work that was asked for.
    """
    return int((2 * trace.head_dim.astype(np.int64) * (trace.keys.astype(np.int64) + trace.values)).sum())


def dense_bytes(trace: RowTrace, bits: int) -> float:
    """K and V bytes of the unpruned model at one width: every live token, every head of every layer.

    Heads that the trace leaves out count as well; that is why head pruning shows up as a saving.
    """
    return 2 * _dense_elements(trace) * bits / 8


def dense_operations(trace: RowTrace) -> int:
    """Multiplications plus additions of QK and PV of the unpruned model, counted as `dense_bytes` counts."""
    return 4 * _dense_elements(trace)


def as_release_testbench(trace: RowTrace) -> RowTrace:
    """The same rows as the testbench of the published hardware release runs them.

    That hardware knows keys of 4, 6 and 8 bit only: rows with a wider first plane run as 8 bit plus an LSB pass in
    EVERY such row, values wider than 8 bit run as 8 bit. Published totals of unquantised traces are counted this way.
    """
    wide = trace.key_msb_bits > 8
    note = "as the release's testbench: wide keys run as 8+4 bit with an LSB pass in every row, wide values as 8 bit"
    return replace(
        trace,
        key_msb_bits=np.where(wide, 8, trace.key_msb_bits),
        key_lsb_bits=np.where(wide, LSB_PLANE_BITS, trace.key_lsb_bits),
        lsb_pass=trace.lsb_pass | wide,
        value_bits=np.minimum(trace.value_bits, 8),
        notes=(*trace.notes, note),
    )


def _lines(counts: IntRows, per_line: int) -> NDArray[np.int64]:
    """Number of lines that `counts` rows fill, the last one perhaps in part."""
    if per_line < 1:
        raise UserError(f"rows per line: {per_line} is not possible, 1 or more is (8 in the published machine)")
    return -(-counts.astype(np.int64) // per_line)


def _dense_elements(trace: RowTrace) -> int:
    """Elements of K (equally of V) that the unpruned model reads: live tokens x head_dim x layers x heads per token."""
    _, first_row = np.unique(trace.iteration, return_index=True)  # rows are in execution order
    per_row = trace.live_tokens.astype(np.int64) * trace.head_dim
    return int(np.maximum.reduceat(per_row, first_row).sum()) * trace.layers * trace.heads
