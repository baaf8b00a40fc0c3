"""What every top-k engine has: loader and two source banks around a selector and a filter."""

from typing import Any, ClassVar

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.units.topk import TopKUnit
from rtl.sram import Sram
from rtl.stream import Queue
from rtl.topk.row_filter import RowFilter, marked_layout, output_layout, source_layout
from rtl.topk.selector import lanes_below

__all__ = ["BankedTopK", "taken_layout"]


def taken_layout(unit: TopKUnit) -> data.StructLayout:
    """One input word as it is accepted; ``inside``: the lanes that belong to the row; ``first`` of its row."""
    values = data.ArrayLayout(unit.value_bits, unit.lanes)
    return data.StructLayout({"values": values, "inside": unit.lanes, "first": 1})


class BankedTopK(wiring.Component):
    """Keeps the k largest of n unsigned values with their positions, in original order.

    Of values equal to the k-th largest the first ones are kept. k >= n keeps everything without selecting, k = 0 takes
    the row and keeps nothing; both, and n = 0, still answer with an output word that carries ``last``.

    An implementation is a subclass that names its ``selector``, a component made from the unit with the members

    i : In(stream of n, k). A row that lies in the source bank; o : Out(stream of result_layout), the answer.
    source_enable, source_address : Out; source_data : In. Read port of the source bank, one cycle of latency.
    taken : In(stream of taken_layout, always ready), if it wants to see words as they come.

    and that gives the answer 1 + ``select_cycles`` cycles after it took the row, see ``sim.topk_schedule``.

    Parameters
    ----------
    unit : TopKUnit.

    Members
    -------
    command : In(stream of n, k). One per row, before its values; n <= unit.max_n.
    input : In(stream of lanes values). ceil(n / lanes) words per row; lanes beyond n are ignored. With payloads
        (unit.payload_bits > 0) a stream of values and payloads, each of them per lane.
    output : Out(stream of values, positions, count, last). max(1, ceil(min(n, k) / lanes)) words per row; lanes from
        count on carry no meaning. With payloads also those of the values.
    marked : Out(stream of marked_layout, always ready), only with payloads. The row's source words once more, with
        their kept lanes: each at least ``unit.marked_cycles`` before the output word that holds its last kept value.
    taking : Out(1). The selector takes a row in this cycle.
    selecting : Out(1). 1 in every cycle from the take of a row to its handoff to the filter, both included.

    Latency and initiation interval: the exact rules are stated in ``sim.topk_schedule``, their constants in
    ``accel.units.topk``. Load, select and filter each serve one row at a time and overlap between rows,
    so the interval is that of the slowest of the three, as far as two banks allow.

    Back-pressure: with output stalled the filter freezes; the selector finishes the row behind it and waits; the loader
    takes no third row. command.ready, input.ready and everything of output are registers or decoded from registers:
    no input reaches an output within the cycle.

    Golden: ``accel.numerics.topk.top_k``.
    """

    selector: ClassVar[type[Any]]
    row_filter: ClassVar[type[Any]] = RowFilter

    def __init__(self, unit: TopKUnit):
        self.unit = unit
        marked = {"marked": Out(stream.Signature(marked_layout(unit), always_ready=True))} if unit.payload_bits else {}
        super().__init__(
            {
                "command": In(stream.Signature(data.StructLayout({"n": unit.size_bits, "k": unit.size_bits}))),
                "input": In(stream.Signature(source_layout(unit))),
                "output": Out(stream.Signature(output_layout(unit))),
                **marked,
                "taking": Out(1),
                "selecting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        command = self.command

        m.submodules.select = select = self.selector(unit)
        m.submodules.filter = filter_ = self.row_filter(unit)
        m.submodules.loaded = loaded = Queue(command.payload.shape(), unit.rows_in_flight)
        wiring.connect(m, loaded.o, select.i)
        wiring.connect(m, select.o, filter_.i)
        wiring.connect(m, filter_.output, wiring.flipped(self.output))
        if unit.payload_bits:
            wiring.connect(m, filter_.marked, wiring.flipped(self.marked))
        m.d.comb += [
            self.taking.eq(select.i.valid & select.i.ready),
            self.selecting.eq(select.i.valid | ~select.i.ready),
        ]

        # A row keeps its bank from command to last output; each stage meets the banks in turn.
        load_bank, select_bank, filter_bank = Signal(), Signal(), Signal()
        occupied = Signal(range(unit.rows_in_flight + 1))
        m.d.sync += occupied.eq(occupied + (command.valid & command.ready) - filter_.done)
        with m.If(loaded.i.valid):
            m.d.sync += load_bank.eq(~load_bank)
        with m.If(select.o.valid & select.o.ready):
            m.d.sync += select_bank.eq(~select_bank)
        with m.If(filter_.done):
            m.d.sync += filter_bank.eq(~filter_bank)

        row = Signal.like(command.payload)
        address, remaining = Signal(range(unit.max_words)), Signal(unit.size_bits)
        with m.FSM(name="load"):
            with m.State("COMMAND"):
                m.d.comb += [command.ready.eq(occupied != unit.rows_in_flight), loaded.i.payload.eq(command.payload)]
                m.d.sync += [row.eq(command.payload), remaining.eq(command.payload.n), address.eq(0)]
                with m.If(command.valid & command.ready):
                    with m.If(command.payload.n == 0):
                        m.d.comb += loaded.i.valid.eq(1)
                    with m.Else():
                        m.next = "VALUES"
            with m.State("VALUES"):
                m.d.comb += [self.input.ready.eq(1), loaded.i.payload.eq(row)]
                with m.If(self.input.valid):
                    m.d.sync += [address.eq(address + 1), remaining.eq(remaining - unit.lanes)]
                    with m.If(remaining <= unit.lanes):
                        m.d.comb += loaded.i.valid.eq(1)
                        m.next = "COMMAND"

        if "taken" in select.signature.members:
            m.d.comb += [
                select.taken.valid.eq(self.input.valid & self.input.ready),
                select.taken.payload.values.eq(self.input.payload.as_value()),  # any payloads lie above
                select.taken.payload.inside.eq(Cat(lanes_below(remaining, unit.lanes))),
                select.taken.payload.first.eq(address == 0),
            ]

        read_data = []
        for bank in range(unit.rows_in_flight):
            memory = Sram(unit.lanes * (unit.value_bits + unit.payload_bits), unit.max_words)
            m.submodules[f"source_{bank}"] = memory
            filtering = Signal(name=f"filtering_{bank}")
            m.d.comb += [
                memory.write_address.eq(address),
                memory.write_data.eq(self.input.payload),
                memory.write_enable.eq(self.input.valid & self.input.ready & (load_bank == bank)),
                filtering.eq(filter_.active & (filter_bank == bank)),
                memory.read_address.eq(Mux(filtering, filter_.source_address, select.source_address)),
                memory.read_enable.eq(
                    Mux(filtering, filter_.source_enable, select.source_enable & (select_bank == bank))
                ),
            ]
            read_data.append(memory.read_data)
        m.d.comb += [
            select.source_data.eq(Array(read_data)[select_bank]),
            filter_.source_data.eq(Array(read_data)[filter_bank]),
        ]
        return m
