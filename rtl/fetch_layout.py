"""A fetch as it is handed from the choice to the lanes, and which accesses of a row it makes."""

from amaranth.hdl import Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In

from accel.units.engine import ADDRESS_BITS, EngineUnit
from rtl.job import (
    ATOM_BITS,
    COUNT_BITS,
    format_layout,
    job_layout,
    line_bits,
    lsb_request_layout,
    release_layout,
    v_row_layout,
)

__all__ = ["all_atoms", "atoms_layout", "fetch_layout", "input_members", "query_atoms", "side_atoms"]

STRIDE_BITS = 16  # of job_layout's q_stride


def atoms_layout() -> data.StructLayout:
    """Which accesses of a row are made: first to pause, then resume to last; ``last`` ends the row wherever it lies."""
    return data.StructLayout({"first": ATOM_BITS, "pause": ATOM_BITS, "resume": ATOM_BITS, "last": ATOM_BITS})


def fetch_layout(unit: EngineUnit) -> data.StructLayout:
    """One fetch: ``count`` keys (queries), key 0 at ``first`` (list position, entry of the ring of kept tokens, token
    number; of queries 0) and for ring line (query slot) ``line`` of ``ring``.

    prefetch: nobody waits for it yet. list, version: of the keep list. kept: tokens come from the ring of kept tokens.
    lines: entries that it completes (ring lines, queries, one LSB fetch). row_stride: bytes from query to query;
    stride: accesses from token to token. number: of an LSB fetch. side: tag_layout's. sums: with KIND_Q,
    sums follow each query: ``atoms`` first to pause of the query, then resume to last of what is at sums_base,
    sums_stride bytes from query to query.
    """
    first_bits = max(COUNT_BITS, (2 * unit.arch.softmax.buffer_keys - 1).bit_length())
    fields: dict[str, ShapeLike] = {
        "kind": 2,
        "prefetch": 1,
        "list": 1,
        "version": 1,
        "kept": 1,
        "side": 1,
        "count": max(unit.arch.max_context, unit.query_lanes).bit_length(),
        "first": first_bits,
        "line": line_bits(unit),
        "ring": line_bits(unit) + 1,
        "log2_per_line": range(unit.arch.fetcher.lanes.bit_length()),
        "lines": line_bits(unit) + 1,
        "base": ADDRESS_BITS,
        "stride": ATOM_BITS,
        "row_stride": STRIDE_BITS,
        "number": range(unit.arch.rows_in_flight),
        "sums": 1,
        "sums_base": ADDRESS_BITS,
        "sums_stride": STRIDE_BITS,
        "atoms": atoms_layout(),
    }
    return data.StructLayout(fields)


def input_members(unit: EngineUnit) -> dict[str, wiring.Member]:
    """What the fetcher is told; its Members section says when."""
    lines = release_layout(line_bits(unit) + 1)
    return {
        "dispatch": In(stream.Signature(job_layout(), always_ready=True)),
        "format": In(format_layout()),
        "format_change": In(1),
        "lsb_request": In(stream.Signature(lsb_request_layout(unit), always_ready=True)),
        "v_row": In(stream.Signature(v_row_layout(unit), always_ready=True)),
        "query_release": In(1),
        "row_settled": In(1),
        "row_started": In(1),
        "k_release": In(stream.Signature(lines, always_ready=True)),
        "v_release": In(stream.Signature(lines, always_ready=True)),
    }


def all_atoms(m: Module, atoms: data.View, count: Value) -> None:
    """Every access of a row of so many."""
    m.d.comb += [atoms.first.eq(0), atoms.pause.eq(count - 1), atoms.resume.eq(0), atoms.last.eq(count - 1)]


def query_atoms(m: Module, atoms: data.View, row_format: data.View, sums: Value, sums_atoms: Value) -> None:
    """Every access of a query and, with ``sums``, of the sums that follow it."""
    query_last = row_format.query_atoms - 1
    m.d.comb += [
        atoms.first.eq(0),
        atoms.pause.eq(query_last),
        atoms.resume.eq(0),
        atoms.last.eq(Mux(sums, sums_atoms - 1, query_last)),
    ]


def side_atoms(m: Module, atoms: data.View, row_format: data.View, side: Value, units_per_atom: int) -> None:
    """The accesses that hold one side of a pair's row: nibble planes of side 0, of side 1, crumb planes of both.

    Golden: ``accel.units.fetcher.side_mask``. Every K row has a nibble plane.
    """
    shift = units_per_atom.bit_length() - 1
    nibbles, crumbs = Signal(6), Signal(4)  # 16-byte units of a side
    begin, crumb_begin, crumb_end = Signal(7), Signal(8), Signal(8)
    resume = Signal(ATOM_BITS)
    m.d.comb += [
        nibbles.eq(row_format.key_planes * row_format.plane_units),
        crumbs.eq(Mux(row_format.key_crumbs, (row_format.plane_units + 1) >> 1, 0)),
        begin.eq(Mux(side, nibbles, 0)),
        crumb_begin.eq((nibbles << 1) + Mux(side, crumbs, 0)),
        crumb_end.eq(crumb_begin + crumbs),
        resume.eq(crumb_begin >> shift),
        atoms.first.eq(begin >> shift),
        atoms.pause.eq((begin + nibbles - 1) >> shift),
        # An access with the end of the one and the beginning of the other is made once.
        atoms.resume.eq(resume + (resume == atoms.pause)),
        atoms.last.eq(Mux(row_format.key_crumbs, (crumb_end - 1) >> shift, atoms.pause)),
    ]
