"""Writer: output buffer behind the PV array, and one memory access per cycle out of it."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.errors import UserError
from accel.units.engine import ADDRESS_BITS, OUTPUT_ROWS, EngineUnit
from accel.units.pv import PvArray
from accel.units.softmax import OUTPUT_BITS
from rtl.axi import is_error, single_beat_writes, write_master
from rtl.job import format_layout, job_layout, sequence_bits
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
    accesses of ``access_bytes``, of which only the row's bytes are strobed. Rows of a job that is not the last tile are
    dropped.

    Parameters
    ----------
    unit : EngineUnit. ``pv.output_lanes`` has to be a power of two.

    Members
    -------
    dispatch : In(stream of job_layout), never refused; a job is seen from the next cycle on. At most ``job_slots`` jobs
        between dispatch and ``retired``.
    format : In(format_layout), a level.
    outputs : In(stream of output_layout), never refused. At most OUTPUT_ROWS rows from their first item to their end.
    head_magnitude : Out(stream), in the cycle of a row's last item: the head it belongs to and its magnitude. Only for
        rows of a last tile.
    write : Out(AXI4 write master). One beat per access; AW and W are offered in the same cycle, and an access is taken
        when both are. Addresses must be multiples of the access.
    row_written : Out. Pulse in the cycle after a row's last access was taken; a row that is dropped takes one cycle.
    rows_written : Out. Count of these, in the same cycle.
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
                "head_magnitude": Out(stream.Signature(head_magnitude_layout(unit), always_ready=True)),
                "write": Out(write_master(ADDRESS_BITS, 8 * arch.memory_spec.access_bytes)),
                "row_written": Out(1),
                "rows_written": Out(sequence_bits(unit)),
                "retired": Out(1),
                "write_idle": Out(1),
                "write_error": Out(1),
            }
        )

    def _collect(self, m: Module, buffer: OutputBuffer) -> Signal:
        """Items into the buffer. Returns the pulse of a row's last item."""
        item, outputs = Signal.like(buffer.write.payload.item), self.outputs
        slot = Signal(range(OUTPUT_ROWS))
        complete = Signal()
        m.d.comb += [
            outputs.ready.eq(1),
            complete.eq(outputs.valid & outputs.payload.last),
            buffer.write.valid.eq(outputs.valid),
            buffer.write.payload.numbers.eq(outputs.payload.numbers),
            buffer.write.payload.slot.eq(slot),
            buffer.write.payload.item.eq(item),
        ]
        with m.If(outputs.valid):
            m.d.sync += item.eq(Mux(complete, 0, item + 1))
            m.d.sync += slot.eq(slot + complete)
        return complete

    def _score_heads(self, m: Module, complete: Signal) -> None:
        """Which head a row belongs to."""
        job = job_layout()
        layout = data.StructLayout(
            {"rows": job["rows"].shape, "group": job["group"].shape, "first_head": HEAD_BITS, "last_tile": 1}
        )
        m.submodules.scored_jobs = jobs = Queue(layout, self.unit.job_slots)
        entry, front, dispatched = jobs.i.payload, jobs.o.payload, self.dispatch
        m.d.comb += [
            jobs.i.valid.eq(dispatched.valid),
            entry.rows.eq(dispatched.payload.rows),
            entry.group.eq(dispatched.payload.group),
            entry.first_head.eq(dispatched.payload.head * dispatched.payload.group),
            entry.last_tile.eq(dispatched.payload.last_tile),
        ]
        row, member = Signal.like(front.rows), Signal.like(front.group)
        ends_job = row + 1 == front.rows
        m.d.comb += [
            jobs.o.ready.eq(complete & ends_job),
            self.head_magnitude.valid.eq(complete & front.last_tile),
            self.head_magnitude.payload.head.eq(front.first_head + member),
            self.head_magnitude.payload.magnitude.eq(self.outputs.payload.magnitude),
        ]
        with m.If(complete):
            m.d.sync += row.eq(Mux(ends_job, 0, row + 1))
            m.d.sync += member.eq(Mux(ends_job | (member + 1 == front.group), 0, member + 1))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access_bytes = self.unit.arch.memory_spec.access_bytes
        numbers = access_bytes // NUMBER_BYTES
        m.submodules.buffer = buffer = OutputBuffer(self.unit)
        complete = self._collect(m, buffer)
        self._score_heads(m, complete)

        names = ("rows", "last_tile", "output_address", "output_stride")
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
        load, ends_row, ends_job = Signal(), Signal(), Signal()
        m.d.comb += [
            row_address.eq(Mux(row == 0, job.output_address, next_row)),
            address.eq(Mux(access == 0, row_address, next_access)),
            remaining.eq(self.format.head_dim - access * numbers),
            ends_row.eq(~job.last_tile | (remaining <= numbers)),
            ends_job.eq(row + 1 == job.rows),
            buffer.read.valid.eq(load),
            buffer.read.payload.slot.eq(slot),
            buffer.read.payload.access.eq(access),
            jobs.o.ready.eq(load & ends_row & ends_job),
        ]
        m.d.sync += waiting.eq(waiting + complete - (load & ends_row))
        with m.If(load):
            m.d.sync += [next_access.eq(address + access_bytes), access.eq(Mux(ends_row, 0, access + 1))]
            with m.If(ends_row):
                m.d.sync += [slot.eq(slot + 1), row.eq(Mux(ends_job, 0, row + 1))]
            with m.If(access == 0):
                m.d.sync += next_row.eq(row_address + job.output_stride)

        # The access that is offered; its data are what the buffer gives.
        offered, dropped, is_last, retires = Signal(), Signal(), Signal(), Signal()
        address_taken, data_taken, taken = Signal(), Signal(), Signal()
        offered_address = Signal(ADDRESS_BITS, reset_less=True)
        offered_numbers = Signal(numbers, reset_less=True)
        write = self.write
        m.d.comb += [
            taken.eq(offered & (dropped | ((address_taken | write.awready) & (data_taken | write.wready)))),
            load.eq((waiting != 0) & (~offered | taken)),
            *single_beat_writes(write),
            write.awvalid.eq(offered & ~dropped & ~address_taken),
            write.awaddr.eq(offered_address),
            write.wvalid.eq(offered & ~dropped & ~data_taken),
            write.wdata.eq(buffer.data),
            write.wstrb.eq(Cat(number.replicate(NUMBER_BYTES) for number in offered_numbers)),
            write.bready.eq(1),
        ]
        with m.If(load):
            m.d.sync += [
                dropped.eq(~job.last_tile),
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
        answered = write.bvalid
        m.d.sync += [
            self.row_written.eq(taken & is_last),
            self.rows_written.eq(self.rows_written + (taken & is_last)),
            self.retired.eq(taken & retires),
            unanswered.eq(unanswered + (taken & ~dropped) - answered),
            self.write_error.eq(self.write_error | (answered & is_error(write.bresp))),
        ]
        m.d.comb += self.write_idle.eq(~offered & (waiting == 0) & (unanswered == 0))
        return m
