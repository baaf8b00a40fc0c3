"""Checks of a trace as a whole: values that no run of the software can have written, and rows out of order."""

import numpy as np

from accel.errors import UserError
from workloads.row_trace import DATAPATH_BITS

HEAD_DIM = (1, 256)  # the longest head that an Arch can be built for (accel.arch, max_head_dim)
# Lowest and highest width in bits. Planes of 4 to 12 bit are published; the datapath is 12 bit wide; queries are listed
# with 16 bit although the datapath keeps 12.
KEY_BITS = VALUE_BITS = (2, DATAPATH_BITS)
QUERY_BITS = (2, 16)
LSB_BITS = (0, 8)

Table = dict[str, np.ndarray]


def check_possible(where: str, table: Table, lines: list[int]) -> None:
    """Raise UserError for a value that cannot be: file, line, column, value and what would be right."""
    live, keys = table["sentence_length_L"], table["key_fetch_num"]
    for column in ("iteration_id", "layer_id", "head_id"):
        _refuse(where, lines, column, table[column], table[column] < 0, "0 or more")
    dims = table["embedding_length_D"]
    _refuse(where, lines, "embedding_length_D", dims, _outside(dims, HEAD_DIM), "{} to {}".format(*HEAD_DIM))
    _refuse(where, lines, "embedding_length_D", dims, dims != dims[0], f"{dims[0]} as in the rows before")
    _refuse(where, lines, "sentence_length_L", live, live < 1, "1 or more")
    _refuse(where, lines, "key_fetch_num", keys, keys < 1, "1 or more")
    _refuse(where, lines, "key_fetch_num", keys, keys > live, "at most sentence_length_L ({})", live)
    values = table["value_fetch_num"]
    _refuse(where, lines, "value_fetch_num", values, values < 1, "1 or more")
    _refuse(where, lines, "value_fetch_num", values, values > keys, "at most key_fetch_num ({})", keys)
    for column, limits in {
        "quant_key_bit": KEY_BITS,
        "quant_query_bit": QUERY_BITS,
        "quant_value_bit": VALUE_BITS,
        "auto_requant_incre": LSB_BITS,
    }.items():
        bits = table[column]
        wrong = (bits != -1) & _outside(bits, limits)
        _refuse(where, lines, column, bits, wrong, "{} to {}, or -1 for not set,".format(*limits))
    threshold = table["auto_requant_thres"]
    wrong = (threshold != -1) & _outside(threshold, (0, 1))
    _refuse(where, lines, "auto_requant_thres", threshold, wrong, "a probability from 0 to 1, or -1 for none,")
    topk, runs = table["topk"], table["if_topk"]
    _refuse(where, lines, "topk", topk, runs & (topk < 1), "1 or more where if_topk is True")
    _refuse(where, lines, "topk", topk, runs & (topk > live), "at most sentence_length_L ({})", live)


def check_order(where: str, table: Table, lines: list[int], notes: list[str]) -> None:
    """Rows must come in execution order, each (iteration, layer, head) once. A short last iteration is noted."""
    iteration, layer, head = table["iteration_id"], table["layer_id"], table["head_id"]
    step_i, step_l, step_h = np.diff(iteration), np.diff(layer), np.diff(head)
    later = (step_i > 0) | ((step_i == 0) & ((step_l > 0) | ((step_l == 0) & (step_h > 0))))
    wrong = np.flatnonzero(~later)
    if len(wrong):
        row = int(wrong[0])
        before, after = ((int(iteration[r]), int(layer[r]), int(head[r])) for r in (row, row + 1))
        fault = "a second time" if before == after else f"after {before}"
        raise UserError(
            f"{where}: line {lines[row + 1]}: (iteration, layer, head) = {after} comes {fault}; "
            "each comes once, in rising order"
        )
    _, rows_of = np.unique(iteration, return_counts=True)
    if len(rows_of) > 1 and rows_of[-1] < rows_of[-2]:
        notes.append(
            f"the last iteration has {rows_of[-1]} rows, the one before {rows_of[-2]}: the file may be cut off"
        )


def _outside(values: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    return (values < limits[0]) | (values > limits[1])


def _refuse(
    where: str,
    lines: list[int],
    column: str,
    values: np.ndarray,
    wrong: np.ndarray,
    right: str,
    limits: np.ndarray | None = None,
) -> None:
    """Raise for the first wrong row; `{}` in `right` becomes that row's limit."""
    found = np.flatnonzero(wrong)
    if len(found):
        row = int(found[0])
        right = right if limits is None else right.format(limits[row])
        raise UserError(f"{where}: line {lines[row]}, column {column}: {values[row]} is not possible, {right} is right")
