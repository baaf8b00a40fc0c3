"""Address and data crossbar between the fetch lanes and the memory channels, see ``docs/hardware.md``."""

import operator
from collections.abc import Iterable
from functools import reduce
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.units.engine import ADDRESS_BITS, EngineUnit
from rtl.axi import is_error, read_master, single_beat_reads
from rtl.job import address_layout, tag_layout
from rtl.stream import SkidBuffer
from rtl.window_fifo import WindowFifo

__all__ = ["CYCLE_BITS", "Crossbar", "PhaseArbiter", "arrived_layout"]

CYCLE_BITS = 16  # of the cycle counter that turns the priorities; log2 of lanes or channels is needed


def arrived_layout(unit: EngineUnit) -> data.StructLayout:
    """An access as it comes to its lane: where it goes, and its bytes (byte 0 in bits 7..0)."""
    return data.StructLayout({"tag": tag_layout(unit), "data": 8 * unit.arch.memory_spec.access_bytes})


def _any(values: Iterable[Value]) -> Value:
    return reduce(operator.or_, values)


def _choose(m: Module, bits: Value, into: Any, items: Iterable[Any]) -> None:
    """The item whose bit is set, if one is; no two are."""
    with m.Switch(bits):
        for i, item in enumerate(items):
            with m.Case(1 << i):
                m.d.comb += into.eq(item)


class PhaseArbiter(wiring.Component):
    """Who gets which target in this cycle: first choices first, then the second choices of those who got nothing.

    Parameters
    ----------
    askers, targets : how many.
    window : choices of each asker.

    Members
    -------
    asking : In(window).array(askers). Bit p: the asker has a choice p.
    choice : In.array(askers, window). A target's number.
    free : In(targets). Targets that may be given away.
    turn : In. The asker that comes first where several ask for one target in a phase, those above it follow, then 0.
    take : Out(window).array(askers). Choice p is granted; at most one bit.
    grant : Out(askers).array(targets). Who got the target; at most one bit.

    Combinational. Each asker gets one target, each target goes to one asker.
    """

    def __init__(self, askers: int, targets: int, window: int):
        self.askers, self.targets, self.window = askers, targets, window
        super().__init__(
            {
                "asking": In(window).array(askers),
                "choice": In(range(max(2, targets))).array(askers, window),
                "free": In(targets),
                "turn": In(range(max(2, askers))),
                "take": Out(window).array(askers),
                "grant": Out(askers).array(targets),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        askers, targets = range(self.askers), range(self.targets)
        everybody = (1 << self.askers) - 1
        from_turn = Signal(self.askers)
        m.d.comb += from_turn.eq(Const(everybody, self.askers) << self.turn)
        unserved: Value = Const(everybody, self.askers)
        free: Value = self.free
        grants: list[list[Signal]] = []
        for p in range(self.window):
            grants.append([Signal(self.askers, name=f"grant_{p}_{target}") for target in targets])
            for target, grant in zip(targets, grants[p], strict=True):
                asks = Signal(self.askers, name=f"asks_{p}_{target}")
                first = Signal(self.askers, name=f"first_{p}_{target}")
                chosen = Cat(self.asking[a][p] & (self.choice[a][p] == target) for a in askers)
                m.d.comb += [
                    asks.eq(Mux(free[target], chosen & unserved, 0)),
                    first.eq(Mux((asks & from_turn).any(), asks & from_turn, asks)),
                    grant.eq(first & -first),  # its lowest bit
                ]
            served = Signal(self.askers, name=f"served_{p}")
            still_unserved = Signal(self.askers, name=f"unserved_after_{p}")
            still_free = Signal(self.targets, name=f"free_after_{p}")
            m.d.comb += [
                served.eq(_any(grants[p])),
                still_unserved.eq(unserved & ~served),
                still_free.eq(free & ~Cat(grant.any() for grant in grants[p])),
                *(self.take[a][p].eq(served[a]) for a in askers),
            ]
            unserved, free = still_unserved, still_free
        for target in targets:
            m.d.comb += self.grant[target].eq(_any(phase[target] for phase in grants))
        return m


class Crossbar(wiring.Component):
    """Takes the lanes' addresses to the memory channels and the channels' data back to the lanes.

    Parameters
    ----------
    unit : the engine's geometry.

    Members
    -------
    push : In(stream of address_layout, always ready).array(lanes). Only while the lane's level is below
        address_fifo_depth. Pushed at t, asks for its channel from t + 1.
    level : Out.array(lanes). Entries of the lane's FIFO at the start of the cycle.
    read : Out(AXI4 read master).array(channels). Reads of one beat of memory_spec.access_bytes. An offered AR stays
        until taken. rready does not depend on anything that comes in in the same cycle.
    cycle : In(16). Low bits of the cycle t.
    arrived : Out(stream of arrived_layout, always ready).array(lanes). Registers: granted at t, valid in t + 1.
    idle : Out(1). Every address FIFO is empty and no access is under way (granted and not yet given to a lane), by
        registered state: the last access is in its lane's ``arrived`` in the first idle cycle at the latest.
    granted_cycles : Out(1). Pulse: an address was granted in this cycle.
    read_error : Out(1). Some read was answered with an error; from the cycle after, until reset.

    Grants depend on registers and ``cycle`` only. An access takes at least: pushed at t, granted t + 1, ARVALID t + 2,
    received r, granted r + 1, ``arrived`` r + 2.
    """

    def __init__(self, unit: EngineUnit):
        self.unit = unit
        lanes, spec = unit.arch.fetcher.lanes, unit.arch.memory_spec
        super().__init__(
            {
                "push": In(stream.Signature(address_layout(unit), always_ready=True)).array(lanes),
                "level": Out(range(unit.arch.fetcher.address_fifo_depth + 1)).array(lanes),
                "read": Out(read_master(ADDRESS_BITS, 8 * spec.access_bytes)).array(spec.channels),
                "cycle": In(CYCLE_BITS),
                "arrived": Out(stream.Signature(arrived_layout(unit), always_ready=True)).array(lanes),
                "idle": Out(1),
                "granted_cycles": Out(1),
                "read_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fetcher, channels = self.unit.arch.fetcher, self.unit.arch.memory_spec.channels
        sent = data.StructLayout({"lane": range(max(2, fetcher.lanes)), "tag": tag_layout(self.unit)})
        limit, window = fetcher.outstanding_per_channel, fetcher.window

        fifos = [WindowFifo(address_layout(self.unit), fetcher.address_fifo_depth, window) for _ in self.push]
        m.submodules.address_arbiter = out = PhaseArbiter(fetcher.lanes, channels, window)
        m.submodules.data_arbiter = back = PhaseArbiter(channels, fetcher.lanes, window)
        slices = [SkidBuffer(ADDRESS_BITS) for _ in self.read]
        tags = [WindowFifo(sent, limit, 1) for _ in self.read]
        received = [WindowFifo(data.StructLayout({"sent": sent, "data": len(port.rdata)}), window, window)
                    for port in self.read]  # fmt: skip
        under_way = [Signal(range(limit + 1), name=f"under_way_{c}") for c in range(channels)]
        for arbiter in (out, back):  # askers are a power of two: the low bits are the remainder
            m.d.comb += arbiter.turn.eq(self.cycle[: exact_log2(arbiter.askers)])

        # Out: every lane's FIFO, the arbiter, and what it gives to each channel.
        for lane, fifo in enumerate(fifos):
            m.submodules[f"addresses_{lane}"] = fifo
            m.d.comb += [
                fifo.push.valid.eq(self.push[lane].valid),
                fifo.push.payload.eq(self.push[lane].payload),
                self.level[lane].eq(fifo.level),
                out.asking[lane].eq(Cat(fifo.level > p for p in range(window))),
                *(out.choice[lane][p].eq(fifo.heads[p].channel) for p in range(window)),
                fifo.take.eq(out.take[lane]),
            ]
        leaving = self._taken(m, fifos, "leaving")
        for c, port in enumerate(self.read):
            m.submodules[f"slice_{c}"], m.submodules[f"tags_{c}"] = slices[c], tags[c]
            m.submodules[f"received_{c}"] = received[c]
            granted = Signal(name=f"granted_{c}")
            address = Signal(address_layout(self.unit), name=f"address_{c}")
            _choose(m, out.grant[c], address, leaving)
            _choose(m, out.grant[c], tags[c].push.payload.lane, range(fetcher.lanes))
            m.d.comb += [
                out.free[c].eq(slices[c].i.ready & (under_way[c] != limit)),
                granted.eq(out.grant[c].any()),
                slices[c].i.valid.eq(granted),
                slices[c].i.payload.eq(address.address),
                tags[c].push.valid.eq(granted),
                tags[c].push.payload.tag.eq(address.tag),
                *single_beat_reads(port),
                port.arvalid.eq(slices[c].o.valid),
                port.araddr.eq(slices[c].o.payload),
                slices[c].o.ready.eq(port.arready),
            ]
            # Back: the window behind the port, where an access meets its tag again.
            given, accepted = Signal(name=f"given_{c}"), Signal(name=f"accepted_{c}")
            m.d.comb += [
                given.eq(back.take[c].any()),
                port.rready.eq((received[c].level != window) | given),
                accepted.eq(port.rvalid & port.rready),
                tags[c].take.eq(accepted),
                received[c].push.valid.eq(accepted),
                received[c].push.payload.sent.eq(tags[c].heads[0]),
                received[c].push.payload.data.eq(port.rdata),
                back.asking[c].eq(Cat(received[c].level > p for p in range(window))),
                *(back.choice[c][p].eq(received[c].heads[p].sent.lane) for p in range(window)),
                received[c].take.eq(back.take[c]),
            ]
            m.d.sync += under_way[c].eq(under_way[c] + granted - given)
            with m.If(accepted & is_error(port.rresp)):
                m.d.sync += self.read_error.eq(1)
        coming = self._taken(m, received, "coming")
        m.d.comb += back.free.eq(~0)
        for lane, arrived in enumerate(self.arrived):
            held = Signal(arrived_layout(self.unit), name=f"arrived_{lane}", reset_less=True)
            access = Signal(received[0].shape, name=f"access_{lane}")
            _choose(m, back.grant[lane], access, coming)
            m.d.sync += [
                arrived.valid.eq(back.grant[lane].any()),
                held.tag.eq(access.sent.tag),
                held.data.eq(access.data),
            ]
            m.d.comb += arrived.payload.eq(held)
        m.d.comb += [
            self.idle.eq(~_any([*(fifo.level.any() for fifo in fifos), *(count.any() for count in under_way)])),
            self.granted_cycles.eq(_any(grant.any() for grant in out.grant)),
        ]
        return m

    def _taken(self, m: Module, fifos: list[WindowFifo], name: str) -> list[Signal]:
        """Of each FIFO, the entry that leaves it."""
        items = []
        for i, fifo in enumerate(fifos):
            item = Signal(fifo.shape, name=f"{name}_{i}")
            _choose(m, fifo.take, item, (fifo.heads[p] for p in range(fifo.window)))
            items.append(item)
        return items
