"""Writer: output buffer behind the PV array, and one memory access per cycle out of it."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.errors import UserError
from accel.program import Mode
from accel.units.engine import ADDRESS_BITS, OUTPUT_ROWS, SETTLING_ROWS, EngineUnit
from accel.units.pv import PARTIAL_PLANES, PvArray
from accel.units.softmax import OUTPUT_BITS
from rtl.axi import is_error, single_beat_writes, write_master
from rtl.fetch_layout import STRIDE_BITS
from rtl.job import ATOM_BITS, format_layout, job_layout, sequence_bits, weights_layout
from rtl.partial_sums import HEADER_WORDS, header_layout
from rtl.pv_scaler import output_layout
from rtl.sram import Sram
from rtl.stream import Queue

__all__ = ["Writer", "head_magnitude_layout"]

HEAD_BITS = 9  # of a head's number
UNANSWERED_BITS = 24  # writes under way: more than any memory holds
NUMBER_BYTES = OUTPUT_BITS // 8


def head_magnitude_layout(unit: EngineUnit) -> data.StructLayout:
    """What a row adds to the score of its head: the sum of its outputs' magnitudes."""
    return data.StructLayout({"head": HEAD_BITS, "magnitude": PvArray.of(unit.arch).magnitude_bits})


class OutputBuffer(wiring.Component):
    """OUTPUT_ROWS rows of outputs: written an item of the output scaler at a time, read a memory access at a time.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    write : In(stream), never refused: numbers of one item, the row's slot, the item's number in the row.
    read : In(stream), never refused: the row's slot and the access's number in the row.
    data : Out. The access's numbers, low first, from the cycle after its read until the next read's. Numbers that no
        item brought carry no meaning.
    """

    def __init__(self, unit: EngineUnit):
        array = PvArray.of(unit.arch)
        self.item = array.output_lanes
        self.access = unit.arch.memory_spec.access_bytes // NUMBER_BYTES
        self.row = max(array.max_head_dim, self.item, self.access)
        slot = range(OUTPUT_ROWS)
        write = {"numbers": self.item * OUTPUT_BITS, "slot": slot, "item": range(max(2, self.row // self.item))}
        read = {"slot": slot, "access": range(max(2, self.row // self.access))}
        super().__init__(
            {
                "write": In(stream.Signature(data.StructLayout(write), always_ready=True)),
                "read": In(stream.Signature(data.StructLayout(read), always_ready=True)),
                "data": Out(self.access * OUTPUT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = self.row // max(self.item, self.access)
        banks, parts = max(1, self.access // self.item), max(1, self.item // self.access)
        bank_bits, part_bits, word_bits = ((n - 1).bit_length() for n in (banks, parts, words))
        write, read = self.write.payload, self.read.payload
        memories = [Sram(self.item * OUTPUT_BITS, OUTPUT_ROWS * words) for _ in range(banks)]
        for index, memory in enumerate(memories):
            m.submodules[f"bank_{index}"] = memory
            m.d.comb += [
                memory.write_enable.eq(self.write.valid & (write.item[:bank_bits] == index)),
                memory.write_address.eq(Cat(write.item[bank_bits : bank_bits + word_bits], write.slot)),
                memory.write_data.eq(write.numbers),
                memory.read_enable.eq(self.read.valid),
                memory.read_address.eq(Cat(read.access[part_bits : part_bits + word_bits], read.slot)),
            ]
        word = Cat(memory.read_data for memory in memories)
        if part_bits:
            part = Signal(part_bits, reset_less=True)
            with m.If(self.read.valid):
                m.d.sync += part.eq(read.access)
            word = word.word_select(part, self.access * OUTPUT_BITS)
        m.d.comb += self.data.eq(word)
        return m


class Writer(wiring.Component):
    """Collects the rows that leave the PV array and writes them to memory, in row order.

    Row r of a job goes to ``output_address + r * output_stride``: dimension d at byte 2 d, low byte first, in whole
    accesses of ``access_bytes``, of which only the row's bytes are strobed. Rows of a job with ``sums_out`` leave a
    record at ``partial_address`` instead (``accel.lower.layout.partial_stride_bytes``); rows of another job that is not
    the last tile are dropped.

    Parameters
    ----------
    unit : EngineUnit. ``pv.output_lanes`` has to be a power of two.

    Members
    -------
    dispatch : In(stream of job_layout), never refused; a job is seen from the next cycle on. At most ``job_slots`` jobs
        between dispatch and ``retired``.
    format : In(format_layout), a level.
    outputs : In(stream of output_layout), never refused. At most OUTPUT_ROWS rows from their first item to their end.
    weights : In(stream of weights_layout), never refused: of each row, before its first item; maximum and total are
        used.
    head_magnitude : Out(stream), in the cycle of a row's last item: the head it belongs to and its magnitude. Only for
        rows of a last tile; not in modes LINEAR and STATE, whose rows are of no head.
    write : Out(AXI4 write master). One beat per access; AW and W are offered in the same cycle, and an access is taken
        when both are. Addresses must be multiples of the access.
    row_written : Out. Pulse in the cycle after a row's last access was taken; a row that is dropped takes one cycle.
    rows_written : Out. Count of these, in the same cycle.
    row_settled : Out. Pulse: the oldest row is not only written, all its writes are answered; in the cycle of the last
        answer. Only then may it be read again. At most SETTLING_ROWS rows wait for it; with so many, no access is
        loaded.
    retired : Out. The pulse of a job's last row.
    write_idle : Out. No row waits, and every access was answered.
    write_error : Out. High from the first answer with an error on.

    A row whose last item comes at t is offered at t + 1 + ``WRITER_CYCLES`` (the read of the buffer) or, if that is
    later, in the cycle after the last access of the row before was taken; then one access per cycle. All outputs but
    head_magnitude, which follows ``outputs``, are decoded from registers. BREADY is always 1.

    Raises
    ------
    UserError : a number of output lanes that the buffer cannot have.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        arch = unit.arch
        if arch.pv.output_lanes & (arch.pv.output_lanes - 1):
            raise UserError(
                f"machine {arch.name}: pv.output_lanes = {arch.pv.output_lanes}: must be a power of two in hardware"
            )
        super().__init__(
            {
                "dispatch": In(stream.Signature(job_layout(), always_ready=True)),
                "format": In(format_layout()),
                "outputs": In(stream.Signature(output_layout(PvArray.of(arch)))),
                "weights": In(stream.Signature(weights_layout(unit), always_ready=True)),
                "head_magnitude": Out(stream.Signature(head_magnitude_layout(unit), always_ready=True)),
                "write": Out(write_master(ADDRESS_BITS, 8 * arch.memory_spec.access_bytes)),
                "row_written": Out(1),
                "rows_written": Out(sequence_bits(unit)),
                "row_settled": Out(1),
                "retired": Out(1),
                "write_idle": Out(1),
                "write_error": Out(1),
            }
        )

    def _collect(self, m: Module, buffers: list[OutputBuffer], complete: Signal, raw: Value) -> None:
        """Items into the buffers, one for each plane; outputs have only the first."""
        item, outputs = Signal.like(buffers[0].write.payload.item), self.outputs
        slot = Signal(range(OUTPUT_ROWS))
        # Seen by the softmax long before; rows_in_flight of them are not in the PV array yet.
        header_bytes = data.ArrayLayout(8, HEADER_WORDS)
        m.submodules.headers = headers = Queue(header_bytes, self.unit.arch.rows_in_flight + OUTPUT_ROWS)
        header = Signal(header_layout())
        m.d.comb += [
            header.maximum.eq(self.weights.payload.maximum),
            header.total.eq(self.weights.payload.total),
            headers.i.valid.eq(self.weights.valid),
            headers.i.payload.eq(header),
            headers.o.ready.eq(complete),
            outputs.ready.eq(1),
        ]
        lanes = len(outputs.payload.numbers)
        tops = [Signal(8, name=f"top_{lane}") for lane in range(lanes)]
        for d in range(HEADER_WORDS):
            with m.If(item == d // lanes):
                m.d.comb += tops[d % lanes].eq(headers.o.payload[d])
        upper = outputs.payload.upper
        planes = (
            outputs.payload.numbers,
            Cat(number[:OUTPUT_BITS] for number in upper),
            Cat(Cat(number[OUTPUT_BITS:], top) for number, top in zip(upper, tops, strict=True)),
        )
        for p, (buffer, numbers) in enumerate(zip(buffers, planes, strict=True)):
            m.d.comb += [
                buffer.write.valid.eq(outputs.valid & (raw if p else 1)),
                buffer.write.payload.numbers.eq(numbers),
                buffer.write.payload.slot.eq(slot),
                buffer.write.payload.item.eq(item),
            ]
        with m.If(outputs.valid):
            m.d.sync += item.eq(Mux(complete, 0, item + 1))
            m.d.sync += slot.eq(slot + complete)

    def _score_heads(self, m: Module, complete: Signal) -> Value:
        """Which head a row belongs to. Returns whether it leaves its sums in memory."""
        job = job_layout()
        layout = data.StructLayout(
            {
                "rows": job["rows"].shape,
                "group": job["group"].shape,
                "first_head": HEAD_BITS,
                "last_tile": 1,
                "sums_out": 1,
            }
        )
        m.submodules.scored_jobs = jobs = Queue(layout, self.unit.job_slots)
        entry, front, dispatched = jobs.i.payload, jobs.o.payload, self.dispatch
        m.d.comb += [
            jobs.i.valid.eq(dispatched.valid),
            entry.rows.eq(dispatched.payload.rows),
            entry.group.eq(dispatched.payload.group),
            entry.first_head.eq(dispatched.payload.head * dispatched.payload.group),
            entry.last_tile.eq(dispatched.payload.last_tile),
            entry.sums_out.eq(dispatched.payload.sums_out),
        ]
        row, member = Signal.like(front.rows), Signal.like(front.group)
        ends_job = row + 1 == front.rows
        of_head = (self.format.mode != Mode.LINEAR) & (self.format.mode != Mode.STATE)
        m.d.comb += [
            jobs.o.ready.eq(complete & ends_job),
            self.head_magnitude.valid.eq(complete & front.last_tile & of_head),
            self.head_magnitude.payload.head.eq(front.first_head + member),
            self.head_magnitude.payload.magnitude.eq(self.outputs.payload.magnitude),
        ]
        with m.If(complete):
            m.d.sync += row.eq(Mux(ends_job, 0, row + 1))
            m.d.sync += member.eq(Mux(ends_job | (member + 1 == front.group), 0, member + 1))
        return front.sums_out

    def _settle(self, m: Module, taken: Value, answered: Value, ends_row: Value, dropped: Value) -> Value:
        """Rows in order, each with all its accesses answered. Returns whether there is room for another row."""
        m.submodules.settling = rows = Queue(range(1 << ATOM_BITS), SETTLING_ROWS)
        accesses = Signal(ATOM_BITS)  # of the row that is offered, before this one
        answers = Signal(UNANSWERED_BITS)  # of rows that are not settled
        m.d.comb += [
            rows.i.valid.eq(taken & ends_row),
            rows.i.payload.eq(Mux(dropped, 0, accesses + 1)),
            self.row_settled.eq(rows.o.valid & (answers + answered >= rows.o.payload)),
            rows.o.ready.eq(self.row_settled),
        ]
        m.d.sync += answers.eq(answers + answered - Mux(self.row_settled, rows.o.payload, 0))
        with m.If(taken):
            m.d.sync += accesses.eq(Mux(ends_row, 0, accesses + 1))
        held = Signal(range(SETTLING_ROWS + 1))
        m.d.sync += held.eq(held + rows.i.valid - self.row_settled)
        return held < SETTLING_ROWS - 1  # one more may be offered

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access_bytes = self.unit.arch.memory_spec.access_bytes
        numbers = access_bytes // NUMBER_BYTES
        buffers = [OutputBuffer(self.unit) for _ in range(PARTIAL_PLANES)]
        buffer = buffers[0]
        for p, one in enumerate(buffers):
            m.submodules[f"buffer_{p}"] = one
        complete = Signal()
        m.d.comb += complete.eq(self.outputs.valid & self.outputs.payload.last)
        self._collect(m, buffers, complete, self._score_heads(m, complete))

        names = ("rows", "last_tile", "output_address", "output_stride", "partial_address", "sums_out")
        layout = data.StructLayout({name: job_layout()[name].shape for name in names})
        m.submodules.jobs = jobs = Queue(layout, self.unit.job_slots)
        job = jobs.o.payload
        m.d.comb += jobs.i.valid.eq(self.dispatch.valid)
        m.d.comb += [jobs.i.payload[name].eq(self.dispatch.payload[name]) for name in names]

        # The access that is read from the buffer next.
        waiting, slot = Signal(range(OUTPUT_ROWS + 1)), Signal(range(OUTPUT_ROWS))
        row, access = Signal.like(job.rows), Signal.like(buffer.read.payload.access)
        next_row, next_access = Signal(ADDRESS_BITS, reset_less=True), Signal(ADDRESS_BITS, reset_less=True)
        row_address, address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        remaining = Signal.like(self.format.head_dim)  # numbers, from this access on
        plane = Signal(range(PARTIAL_PLANES))
        stride, begins = Signal(STRIDE_BITS), Signal()
        load, ends_plane, ends_row, ends_job = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq((access == 0) & (plane == 0)),
            row_address.eq(Mux(row == 0, Mux(job.sums_out, job.partial_address, job.output_address), next_row)),
            address.eq(Mux(begins, row_address, next_access)),
            stride.eq(
                Mux(
                    job.sums_out,
                    (PARTIAL_PLANES * self.format.output_atoms) << (access_bytes.bit_length() - 1),
                    job.output_stride,
                )
            ),
            remaining.eq(self.format.head_dim - access * numbers),
            ends_plane.eq(remaining <= numbers),
            ends_row.eq(Mux(job.sums_out, ends_plane & (plane == PARTIAL_PLANES - 1), ~job.last_tile | ends_plane)),
            ends_job.eq(row + 1 == job.rows),
            *(one.read.valid.eq(load & (plane == p)) for p, one in enumerate(buffers)),
            *(one.read.payload.slot.eq(slot) for one in buffers),
            *(one.read.payload.access.eq(access) for one in buffers),
            jobs.o.ready.eq(load & ends_row & ends_job),
        ]
        m.d.sync += waiting.eq(waiting + complete - (load & ends_row))
        with m.If(load):
            m.d.sync += next_access.eq(address + access_bytes)
            m.d.sync += access.eq(Mux(ends_row | ends_plane, 0, access + 1))
            m.d.sync += plane.eq(Mux(ends_row, 0, plane + ends_plane))
            with m.If(ends_row):
                m.d.sync += [slot.eq(slot + 1), row.eq(Mux(ends_job, 0, row + 1))]
            with m.If(begins):
                m.d.sync += next_row.eq(row_address + stride)

        # The access that is offered; its data are what the buffer gives.
        offered, dropped, is_last, retires = Signal(), Signal(), Signal(), Signal()
        address_taken, data_taken, taken = Signal(), Signal(), Signal()
        offered_address = Signal(ADDRESS_BITS, reset_less=True)
        offered_numbers = Signal(numbers, reset_less=True)
        offered_plane = Signal.like(plane, reset_less=True)
        write, answered = self.write, self.write.bvalid
        may_load = self._settle(m, taken, answered, is_last, dropped)
        m.d.comb += [
            taken.eq(offered & (dropped | ((address_taken | write.awready) & (data_taken | write.wready)))),
            load.eq((waiting != 0) & (~offered | taken) & may_load),
            *single_beat_writes(write),
            write.awvalid.eq(offered & ~dropped & ~address_taken),
            write.awaddr.eq(offered_address),
            write.wvalid.eq(offered & ~dropped & ~data_taken),
            write.wdata.eq(Array(one.data for one in buffers)[offered_plane]),
            write.wstrb.eq(Cat(number.replicate(NUMBER_BYTES) for number in offered_numbers)),
            write.bready.eq(1),
        ]
        with m.If(load):
            m.d.sync += [
                dropped.eq(~job.last_tile & ~job.sums_out),
                offered_plane.eq(plane),
                is_last.eq(ends_row),
                retires.eq(ends_row & ends_job),
                offered_address.eq(address),
                *(offered_numbers[n].eq(n < remaining) for n in range(numbers)),
            ]
        m.d.sync += [
            offered.eq(load | (offered & ~taken)),
            address_taken.eq(offered & ~taken & (address_taken | write.awready)),
            data_taken.eq(offered & ~taken & (data_taken | write.wready)),
        ]

        # What becomes of it.
        unanswered = Signal(UNANSWERED_BITS)
        m.d.sync += [
            self.row_written.eq(taken & is_last),
            self.rows_written.eq(self.rows_written + (taken & is_last)),
            self.retired.eq(taken & retires),
            unanswered.eq(unanswered + (taken & ~dropped) - answered),
            self.write_error.eq(self.write_error | (answered & is_error(write.bresp))),
        ]
        m.d.comb += self.write_idle.eq(~offered & (waiting == 0) & (unanswered == 0))
        return m
