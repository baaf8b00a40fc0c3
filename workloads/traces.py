"""Importer of the per-row traces that the SpAtten release publishes (mit-han-lab/spatten, MIT licence).

A CSV file with one row per (generated token, layer, head) in execution order and a last line that names the
quantisation configuration. docs/traces.md explains the columns and every decision taken here.
"""

import hashlib
import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from accel.errors import UserError
from workloads.row_trace import (
    DATAPATH_BITS,
    KEYS_PER_LINE,
    LSB_PLANE_BITS,
    RowTrace,
    TraceSource,
    as_release_testbench,
    dense_bytes,
    dense_operations,
    issue_cycles,
    operations,
    useful_bytes,
)
from workloads.trace_checks import KEY_BITS, LSB_BITS, QUERY_BITS, VALUE_BITS, check_order, check_possible
from workloads.trace_file import RowReader, read_bytes, split_text

__all__ = [
    "COLUMNS",
    "KEYS_PER_LINE",
    "RowTrace",
    "TraceSource",
    "as_release_testbench",
    "dense_bytes",
    "dense_operations",
    "issue_cycles",
    "load_trace",
    "operations",
    "useful_bytes",
]

# Column of the file -> column of RowTrace (None: `if_topk` only says whether `topk` holds).
COLUMNS: dict[str, str | None] = {
    "iteration_id": "iteration",
    "layer_id": "layer",
    "head_id": "head",
    "embedding_length_D": "head_dim",
    "sentence_length_L": "live_tokens",
    "key_fetch_num": "keys",
    "quant_key_bit": "key_msb_bits",
    "quant_query_bit": "query_bits",
    "auto_requant_thres": "lsb_threshold",
    "if_requant": "lsb_pass",
    "auto_requant_incre": "key_lsb_bits",
    "value_fetch_num": "values",
    "quant_value_bit": "value_bits",
    "if_accumulate_importance": "accumulate_importance",
    "if_rescale_previous_importance": "rescale_importance",
    "if_topk": None,
    "topk": "token_topk",
}
_FLAGS = {"if_requant", "if_accumulate_importance", "if_rescale_previous_importance", "if_topk"}
_REALS = {"auto_requant_thres"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_LARGEST = 2**31 - 1  # int32 columns
_DEFAULT_RANGES = {"key": KEY_BITS, "value": VALUE_BITS, "query": QUERY_BITS, "lsb": LSB_BITS}


def load_trace(
    path: str | os.PathLike[str],
    *,
    default_key_bits: int = DATAPATH_BITS,
    default_value_bits: int = DATAPATH_BITS,
    default_lsb_bits: int = 0,
    default_query_bits: int = DATAPATH_BITS,
) -> RowTrace:
    """Read one published trace.

    A width of -1 in the file means "not set": such rows get `default_*_bits`; `default_lsb_bits` holds where
    `auto_requant_incre` is -1 (0: no LSB plane). LSB passes happen in exactly the rows the file flags. Where key width
    and LSB width together exceed the 12-bit datapath, the first plane gets what the LSB plane leaves (12 with 4: 8+4).
    Whatever was filled in or read that way is said in `notes`.

    Raises UserError, one line naming file, line and column, for anything that is not such a trace or cannot be.
    """
    defaults = {"key": default_key_bits, "value": default_value_bits, "query": default_query_bits}
    for what, bits in {**defaults, "lsb": default_lsb_bits}.items():
        lowest, highest = _DEFAULT_RANGES[what]
        if isinstance(bits, bool) or not isinstance(bits, int) or not lowest <= bits <= highest:
            raise UserError(f"default_{what}_bits: {bits!r} is not possible, {lowest} to {highest} is")
    where = os.fspath(path)
    raw = read_bytes(where)
    header, reader, config = split_text(where, raw, COLUMNS)
    notes: list[str] = []
    table, lines = _read_table(where, reader, _positions(where, header, notes))
    check_possible(where, table, lines)
    check_order(where, table, lines, notes)
    table["topk"] = np.where(table["if_topk"], table["topk"], -1)
    _resolve_widths(table, defaults, default_lsb_bits, notes)
    columns = {column: table[name] for name, column in COLUMNS.items() if column}
    source = TraceSource(where, hashlib.sha256(raw).hexdigest())
    return RowTrace(name=Path(where).stem, **columns, source=source, config=config, notes=tuple(notes))


def _positions(where: str, header: list[str], notes: list[str]) -> dict[str, int]:
    """Where each needed column stands. Unknown columns are ignored with a note, missing ones are an error."""
    missing = [name for name in COLUMNS if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing:
        found = ", ".join(header)
        if len(found) > 200:
            found = found[:200] + "..."
        near = get_close_matches(missing[0], unknown, 1)
        hint = f"; is {near[0]!r} meant for it?" if near else f"; the first line has: {found!r}"
        count = "column" if len(missing) == 1 else "columns"
        raise UserError(f"{where}: missing {count} {', '.join(missing)}{hint}")
    twice = sorted({name for name in COLUMNS if header.count(name) > 1})
    if twice:
        raise UserError(f"{where}: line 1 names column {twice[0]} {header.count(twice[0])} times, once is right")
    if any(unknown):
        notes.append(f"columns not used: {', '.join(' '.join(name.split()) for name in unknown if name)}")
    return {name: header.index(name) for name in COLUMNS}


def _read_table(where: str, reader: RowReader, position: dict[str, int]) -> tuple[dict[str, np.ndarray], list[int]]:
    """All rows as one array per column of the file, and the line number of each row."""
    known = {name: _Known(_truth if name in _FLAGS else _real if name in _REALS else _whole) for name in COLUMNS}
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    lines: list[int] = []
    for block_lines, columns in reader:
        for name in COLUMNS:
            cells = columns[position[name]]
            try:
                numbers = map(known[name].__getitem__, cells)
                blocks[name].append(np.fromiter(numbers, dtype=_dtype(name), count=len(cells)))
            except ValueError as error:
                text, right = error.args
                line = block_lines[cells.index(text)]
                shown = text if len(text) <= 40 else text[:40] + "..."
                raise UserError(
                    f"{where}: line {line}, column {name}: {shown!r} is not possible, {right} is right"
                ) from None
        lines += block_lines
    if not lines:
        raise UserError(f"{where}: no rows below the column names; a trace has one per (iteration, layer, head)")
    return {name: np.concatenate(parts) for name, parts in blocks.items()}, lines


class _Known(dict[str, Any]):
    """Text -> number of one column. A column holds few different texts, so each is converted once and looked up."""

    def __init__(self, convert: Callable[[str], float]) -> None:
        self._convert = convert

    def __missing__(self, text: str) -> float:
        try:
            self[text] = number = self._convert(text.strip())
        except ValueError as error:
            raise ValueError(text, str(error)) from None
        return number


def _dtype(name: str) -> type:
    return np.bool_ if name in _FLAGS else np.float64 if name in _REALS else np.int64


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("True or False")
    return _TRUTH[text.lower()]


def _real(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError("a number")
    return float(text)


def _whole(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("a whole number")
    value = float(text)
    if abs(value) > _LARGEST or not value.is_integer():
        raise ValueError("a whole number" if abs(value) <= _LARGEST else f"a number up to {_LARGEST}")
    return int(value)


def _resolve_widths(table: dict[str, np.ndarray], defaults: dict[str, int], lsb_default: int, notes: list[str]) -> None:
    """Fill in widths that are not set and split the key width into its planes, in place."""
    rows = len(table["topk"])

    def share(chosen: np.ndarray) -> str:
        return "all rows" if chosen.all() else f"{int(chosen.sum())} of {rows} rows"

    unset = {what: table[f"quant_{what}_bit"] == -1 for what in defaults}
    for what, bits in defaults.items():
        table[f"quant_{what}_bit"][unset[what]] = bits
    lsb, passes = table["auto_requant_incre"], table["if_requant"]
    lsb_unset = lsb == -1
    lsb[lsb_unset] = lsb_default
    if lsb_default and lsb_unset.any():
        notes.append(f"LSB width -1 (not set) in {share(lsb_unset)}: an LSB plane of {lsb_default} bit is kept")
    without = lsb == 0
    if (passes & without).any():
        lsb[without] = LSB_PLANE_BITS  # also where no pass happened: the planes are how the keys lie in memory
        kept = f"an LSB plane of {LSB_PLANE_BITS} bit is kept in {share(without)}"
        notes.append(f"LSB pass flagged without an LSB width in {share(passes & without)}: {kept}")

    keys = table["quant_key_bit"]
    if not passes.any() and (table["auto_requant_thres"] == -1).all():
        # Nothing is progressive in this file: the listed width is what every row computed with.
        lsb[~lsb_unset & (keys + lsb > DATAPATH_BITS)] = 0
    for what, bits in defaults.items():
        if unset[what].any():
            plane = " without an LSB plane" if what == "key" and not lsb[unset[what]].any() else ""
            notes.append(f"{what} width -1 (not set) in {share(unset[what])}: run at {bits} bit{plane}")
    for bits in np.unique(keys[keys + LSB_PLANE_BITS > DATAPATH_BITS]):  # widths that leave no room for the plane
        single = (keys == bits) & (lsb == 0) & ~unset["key"]
        if single.any():
            notes.append(
                f"key width {bits} without LSB passes in {share(single)}: run at {bits} bit without an LSB plane"
            )
    wide = (lsb > 0) & (keys + lsb > DATAPATH_BITS)
    for total, plane in sorted(set(zip(keys[wide].tolist(), lsb[wide].tolist(), strict=True))):
        chosen = wide & (keys == total) & (lsb == plane)
        planes = f"{DATAPATH_BITS - plane}+{plane}"
        notes.append(f"key width {total} with an LSB width of {plane} in {share(chosen)}: run as {planes} bit")
    table["quant_key_bit"] = np.where(wide, DATAPATH_BITS - lsb, keys)
