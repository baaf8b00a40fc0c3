"""On-chip memory: one write and one read port. A module of its own, so that a macro can take its place."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.shared import shared

__all__ = ["Sram"]


@shared
class Sram(wiring.Component):
    """Simple dual-port memory with synchronous read.

    Parameters
    ----------
    width : bits per word.
    depth : words.
    group_bits : what each bit of ``write_enable`` writes; the whole word if left out.

    Members
    -------
    write_enable, write_address, write_data : In. Written at the end of the cycle: bit i of write_enable writes bits
        i * group_bits and on.
    read_enable, read_address : In.
    read_data : Out. The word asked for in the last cycle with read_enable; it stays until the next.

    A word read in the cycle it is written comes out as it was before; no unit relies on that, so that a macro may do
    otherwise. Contents are not reset.
    """

    def __init__(self, width: int, depth: int, group_bits: int | None = None):
        self.width, self.depth, self.group_bits = width, depth, group_bits
        super().__init__(
            {
                "write_enable": In(width // (group_bits or width)),
                "write_address": In(range(depth)),
                "write_data": In(width),
                "read_enable": In(1),
                "read_address": In(range(depth)),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cells = cells = Memory(shape=self.width, depth=self.depth, init=[])
        write, read = cells.write_port(granularity=self.group_bits), cells.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m
