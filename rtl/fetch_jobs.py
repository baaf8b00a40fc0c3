"""What to fetch next: cursors over the jobs for K, Q and V, the room in their memories, and the order of urgency."""

from collections.abc import Callable, Mapping

from amaranth.hdl import Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import ADDRESS_BITS, OUTPUT_ROWS, ROWS_BITS, SETTLING_ROWS, EngineUnit
from accel.units.fetcher import UNIT_BYTES
from accel.units.pv import PARTIAL_PLANES
from rtl.fetch_layout import all_atoms, fetch_layout, input_members, query_atoms, side_atoms
from rtl.job import (
    ATOM_BITS,
    COUNT_BITS,
    KIND_K,
    KIND_LSB,
    KIND_Q,
    KIND_V,
    job_layout,
    line_bits,
    lsb_request_layout,
    v_row_layout,
)
from rtl.stream import Queue

__all__ = ["FetchJobs"]


class _Ring:
    """The lines of K or V: how many there are in this format, where the next fetch begins, how many are taken."""

    def __init__(
        self, m: Module, unit: EngineUnit, name: str, entries: int, per_line: Callable[[int], int],
        row_format: data.View, wide: Value,
    ):  # fmt: skip
        bits = line_bits(unit)
        self.m, self.name, self.bits = m, name, bits
        self.size = Signal(bits + 1, name=f"{name}_ring_lines")
        self.log2_per_line = Signal(range(unit.arch.fetcher.lanes.bit_length()), name=f"{name}_log2_per_line")
        self.next = Signal(bits, name=f"{name}_next_line")
        self.used = Signal(bits + 1, name=f"{name}_used_lines")
        with m.Switch(row_format.log2_dim):
            for log2_dim in range(3, unit.arch.max_head_dim.bit_length()):
                keys = per_line(1 << log2_dim)
                with m.Case(log2_dim):
                    m.d.comb += [
                        self.log2_per_line.eq(keys.bit_length() - 1),
                        self.size.eq(Mux(wide, unit.lines(entries, keys, True), unit.lines(entries, keys, False))),
                    ]

    def fetch(self, keys: Value) -> dict[str, ValueLike]:
        """The fields of a fetch of so many keys into it."""
        lines = Signal(self.bits + 1, name=f"{self.name}_fetch_lines")
        self.m.d.comb += lines.eq((keys + ((1 << self.log2_per_line) - 1)) >> self.log2_per_line)
        ring = {"line": self.next, "ring": self.size, "log2_per_line": self.log2_per_line}
        return {**ring, "count": keys, "lines": lines}

    def has_room(self, lines: Value) -> Value:
        return self.used + lines <= self.size

    def update(self, taken: Value, release: stream.Interface, restart: Value) -> None:
        """``taken``: lines taken in this cycle."""
        m, end = self.m, Signal(self.bits + 2, name=f"{self.name}_end_line")
        m.d.comb += end.eq(self.next + taken)
        m.d.sync += [
            self.used.eq(self.used + taken - Mux(release.valid, release.payload.count, 0)),
            self.next.eq(Mux(end >= self.size, end - self.size, end)),
        ]
        with m.If(restart):
            m.d.sync += [self.used.eq(0), self.next.eq(0)]


class _Cursor:
    """A queue of what one kind of fetch needs of each job."""

    def __init__(
        self, m: Module, unit: EngineUnit, name: str, fields: tuple[str, ...], dispatch: Value, job: data.View
    ):  # fmt: skip
        layout = job_layout()
        queue = Queue(data.StructLayout({field: layout[field].shape for field in fields}), unit.job_slots)
        m.submodules[f"{name}_jobs"] = queue
        self.m, self.unit, self.name = m, unit, name
        self.valid, self.job, self.done = queue.o.valid, queue.o.payload, Signal(name=f"{name}_job_done")
        m.d.comb += [queue.i.valid.eq(dispatch), queue.o.ready.eq(self.done)]
        m.d.comb += [queue.i.payload[field].eq(job[field]) for field in fields]

    def k_chosen(self, k_taken: Value) -> Value:
        """Whether K of the oldest job has been chosen.

        Counted are the K fetches chosen beyond those of the jobs that this cursor has passed. A job without keys has
        none; nor has the second job of a fused pair one of its own, and the job before it, which has been passed, has
        waited for theirs.
        """
        ahead = Signal(range(self.unit.job_slots + 1), name=f"{self.name}_k_ahead")
        self.m.d.sync += ahead.eq(ahead + k_taken - (self.done & self.job.fetches_k))
        return ~self.job.fetches_k | (ahead != 0)

    def rows_left(self, taken: Value, rows: Value | None = None) -> Value:
        """Of the rows of the oldest job (or of what is given) those that are left; ``taken`` of them go, and with the
        last one the job.
        """
        first, rest = Signal(init=1, name=f"{self.name}_first_rows"), Signal(ROWS_BITS, name=f"{self.name}_rest")
        left = Signal(ROWS_BITS, name=f"{self.name}_rows_left")
        self.m.d.comb += left.eq(Mux(first, self.job.rows if rows is None else rows, rest))
        self.m.d.sync += rest.eq(left - taken)
        with self.m.If(self.done):
            self.m.d.sync += first.eq(1)
        with self.m.Elif(taken != 0):
            self.m.d.sync += first.eq(0)
        return left


class _Choice:
    """A fetch that may be ``possible``, and whether it is ``taken``."""

    def __init__(self, m: Module, unit: EngineUnit, name: str):
        self.m = m
        self.fetch = Signal(fetch_layout(unit), name=f"{name}_fetch")
        # Of their own, as they are driven under conditions: constant fields beside them would become an ``always @*``
        # that never runs in simulation, as it reads nothing.
        self.atoms = Signal(self.fetch.shape()["atoms"].shape, name=f"{name}_atoms")
        self.possible, self.taken = Signal(name=f"{name}_possible"), Signal(name=f"{name}_taken")

    def be(self, fields: Mapping[str, ValueLike]) -> None:
        """Its fields; those left out are 0."""
        fields = {**fields, "atoms": self.atoms}
        for name, _ in self.fetch.shape():
            self.m.d.comb += self.fetch[name].eq(fields.get(name, 0))


class FetchJobs(wiring.Component):
    """Chooses fetches, one whenever none is active.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch, format, ... : as of ``rtl.fetcher.Fetcher``.
    idle : In(1). No fetch is active: choose.
    start : Out(1). A register, 1 in the cycle after a choice.
    fetch : Out(fetch_layout). Registers: the last fetch chosen.

    A choice depends on registers only, and on idle. Space is taken with it. What is released, requested or dispatched
    at t counts at t + 1. Nothing is ever refused: no more is outstanding than the queues hold.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        super().__init__({**input_members(unit), "idle": In(1), "start": Out(1), "fetch": Out(fetch_layout(unit))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, row_format = self.unit, self.format
        k_ring = _Ring(m, unit, "k", unit.k_entries, unit.arch.keys_per_line, row_format, row_format.k_wide)
        v_ring = _Ring(m, unit, "v", unit.v_entries, unit.arch.values_per_line, row_format, row_format.v_wide)
        lsb, v_row, query, v, k = choices = [
            _Choice(m, unit, name) for name in ("lsb", "v_row", "query", "v", "k")
        ]  # most urgent first
        self._lsb(m, lsb, k_ring)
        self._v(m, v_row, v, v_ring, k.taken)
        self._query(m, query, k.taken)
        self._k(m, k, k_ring)

        m.d.sync += self.start.eq(0)
        with m.If(~self.idle):
            pass
        for choice in choices:
            with m.Elif(choice.possible):
                m.d.comb += choice.taken.eq(1)
                m.d.sync += [self.start.eq(1), self.fetch.eq(choice.fetch)]
        return m

    def _lsb(self, m: Module, lsb: _Choice, ring: _Ring) -> None:
        unit, port = self.unit, self.lsb_request
        m.submodules.lsb_requests = queue = Queue(lsb_request_layout(unit), unit.arch.rows_in_flight)
        request, number = queue.o.payload, Signal(range(unit.arch.rows_in_flight))
        with m.If(lsb.taken):
            m.d.sync += number.eq(number + 1)
        m.d.comb += [
            queue.i.valid.eq(port.valid),
            queue.i.payload.eq(port.payload),
            queue.o.ready.eq(lsb.taken),
            lsb.possible.eq(queue.o.valid),
        ]
        all_atoms(m, lsb.atoms, self.format.lsb_atoms)
        lsb.be(
            {
                **{name: request[name] for name in request.shape().members if name in lsb.fetch.shape().members},
                "kind": KIND_LSB,
                "first": request.first_key,
                "count": request.keys,
                "ring": ring.size,
                "log2_per_line": ring.log2_per_line,
                "lines": 1,
                "base": request.k_lsb_address,
                "stride": self.format.lsb_atoms,
                "number": number,
            }
        )

    def _v(self, m: Module, row: _Choice, resident: _Choice, ring: _Ring, k_taken: Value) -> None:
        unit, port = self.unit, self.v_row
        fields = ("rows", "keys", "first_key", "list", "version", "fetches_k", "v_selected", "v_address")
        new = self.dispatch.payload
        cursor = _Cursor(m, unit, "v", fields, self.dispatch.valid & ~new.state, new)
        m.submodules.v_rows = queue = Queue(v_row_layout(unit), unit.arch.rows_in_flight)
        job, selected = cursor.job, queue.o.payload
        # One of the two at a time, so they share the arithmetic.
        keys, has_room = Signal(COUNT_BITS, name="v_keys"), Signal(name="v_has_room")
        into = ring.fetch(keys)
        rows_left = cursor.rows_left(row.taken)
        m.d.comb += [
            queue.i.valid.eq(port.valid),
            queue.i.payload.eq(port.payload),
            queue.o.ready.eq(row.taken),
            keys.eq(Mux(job.v_selected, selected.kept, job.keys)),
            has_room.eq(ring.has_room(Value.cast(into["lines"]))),
            row.possible.eq(cursor.valid & job.v_selected & queue.o.valid & has_room),
            resident.possible.eq(cursor.valid & ~job.v_selected & cursor.k_chosen(k_taken) & has_room),
            cursor.done.eq(resident.taken | (row.taken & (rows_left == 1))),
        ]
        ring.update(Mux(row.taken | resident.taken, into["lines"], 0), self.v_release, self.format_change)
        both = {**into, "kind": KIND_V, "base": job.v_address, "stride": self.format.value_atoms}
        for choice in (row, resident):
            all_atoms(m, choice.atoms, self.format.value_atoms)
        row.be({**both, "kept": 1, "first": selected.granule << unit.granule.bit_length() - 1})
        resident.be({**both, "prefetch": 1, "first": job.first_key, "list": job.list, "version": job.version})

    def _query(self, m: Module, query: _Choice, k_taken: Value) -> None:
        unit = self.unit
        slots, lanes = unit.arch.fetcher.query_slots, unit.query_lanes
        fields = (
            "rows",
            "state",
            "records",
            "fetches_k",
            "q_address",
            "q_stride",
            "last_tile",
            "sums_in",
            "partial_address",
        )
        cursor = _Cursor(m, unit, "q", fields, self.dispatch.valid, self.dispatch.payload)
        job, taken = cursor.job, Signal(range(lanes + 1), name="query_rows_taken")
        row, used = Signal(range(slots), name="query_row"), Signal(range(slots + 1), name="query_slots_used")
        room, count = Signal(range(lanes + 1), name="query_room"), Signal(range(lanes + 1), name="query_count")
        free = Signal(range(slots + 1), name="query_free")
        rows_left = cursor.rows_left(taken, Mux(job.state, job.records, job.rows))
        # The addresses of the job's next row are worked out while its last fetch starts.
        continues, address = Signal(name="query_continues"), Signal(ADDRESS_BITS, name="query_address")
        sums_address, sums_atoms = Signal(ADDRESS_BITS, name="sums_address"), Signal(ATOM_BITS, name="sums_atoms")
        m.d.comb += sums_atoms.eq(PARTIAL_PLANES * self.format.output_atoms)
        with m.If(query.taken):
            m.d.sync += continues.eq(~cursor.done)
        with m.If(self.start & (self.fetch.kind == KIND_Q)):
            fetched = self.fetch.count[: len(count)]
            m.d.sync += [
                address.eq(self.fetch.base + fetched * self.fetch.row_stride),
                sums_address.eq(self.fetch.sums_base + fetched * self.fetch.sums_stride),
            ]
        # Sums are there when the row that left them is settled. Rows take them in the order in which they were left,
        # so that is as many rows back as the last unfinished tile has; and each slot holds those of one row.
        under_way = Signal(range(slots + unit.arch.rows_in_flight + OUTPUT_ROWS + SETTLING_ROWS + 1))
        ahead, sums_room = Signal(range(slots + 1)), Signal(range(slots + 1))
        m.d.sync += under_way.eq(under_way + Mux(job.state, 0, taken) + self.row_started - self.row_settled)
        with m.If(cursor.done & ~job.last_tile):
            m.d.sync += ahead.eq(Mux(job.rows < slots, job.rows, slots))
        m.d.comb += [
            sums_room.eq(Mux(~job.sums_in, slots, Mux(under_way < ahead, ahead - under_way, 0))),
            free.eq(Mux(slots - used < sums_room, slots - used, sums_room)),
            room.eq(Mux(free < lanes, free, lanes)),
            count.eq(Mux(rows_left < room, rows_left, room)),
            taken.eq(Mux(query.taken, count, 0)),
            query.possible.eq(cursor.valid & cursor.k_chosen(k_taken) & (room != 0)),
            cursor.done.eq(query.taken & (rows_left <= room)),
        ]
        m.d.sync += [row.eq(row + taken), used.eq(used + taken - self.query_release)]
        query_atoms(m, query.atoms, self.format, job.sums_in, sums_atoms)
        query.be(
            {
                "kind": KIND_Q,
                "count": count,
                "line": row,
                "ring": slots,
                "lines": count,
                "base": Mux(continues, address, job.q_address),
                "row_stride": job.q_stride,
                "sums": job.sums_in,
                "sums_base": Mux(continues, sums_address, job.partial_address),
                "sums_stride": sums_atoms << (unit.arch.memory_spec.access_bytes.bit_length() - 1),
            }
        )

    def _k(self, m: Module, k: _Choice, ring: _Ring) -> None:
        new, row_format = self.dispatch.payload, self.format
        fields = ("keys", "first_key", "list", "version", "side", "k_msb_address")
        cursor = _Cursor(m, self.unit, "k", fields, self.dispatch.valid & new.fetches_k, new)
        job, into, one_side = cursor.job, ring.fetch(cursor.job.keys), Signal(name="k_one_side")
        m.d.comb += [
            one_side.eq(row_format.pair & ~row_format.fused),
            k.possible.eq(cursor.valid & ring.has_room(Value.cast(into["lines"]))),
            cursor.done.eq(k.taken),
        ]
        ring.update(Mux(k.taken, into["lines"], 0), self.k_release, self.format_change)
        with m.If(one_side):
            side_atoms(m, k.atoms, row_format, job.side, self.unit.arch.memory_spec.access_bytes // UNIT_BYTES)
        with m.Else():
            all_atoms(m, k.atoms, row_format.key_atoms)
        k.be(
            {
                **into,
                "kind": KIND_K,
                "prefetch": 1,
                "side": job.side & one_side,
                "first": job.first_key,
                "list": job.list,
                "version": job.version,
                "base": job.k_msb_address,
                "stride": row_format.key_atoms,
            }
        )
