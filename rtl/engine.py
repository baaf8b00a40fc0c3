"""The whole engine: sequencer, fetcher, memories, arrays and state, joined as docs/hardware.md says."""

from collections.abc import Iterable

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.units.engine import ADDRESS_BITS, PROGRAM_BEAT_BYTES, EngineUnit
from accel.units.fetcher import record_bytes
from accel.units.pv import PARTIAL_PLANES
from accel.units.qk import QkUnit
from accel.units.state import StateUnit
from rtl.arrivals import Arrivals
from rtl.axi import lite_slave, read_master, write_master
from rtl.converter import Converter
from rtl.crossbar import CYCLE_BITS, Crossbar
from rtl.fetcher import Fetcher
from rtl.job import KIND_K, KIND_LSB, KIND_Q, KIND_V
from rtl.line_memory import LineMemory
from rtl.partial_sums import PartialSums
from rtl.probes import connect_probes, probe_members
from rtl.pv_path import PvPath
from rtl.qk import QkArray
from rtl.qk_issue import QkIssue
from rtl.query_buffer import QueryBuffer
from rtl.registers import PAGE_ADDRESS_BITS, Registers
from rtl.sequencer import Sequencer
from rtl.softmax_path import SoftmaxPath
from rtl.state import State
from rtl.state_path import StatePath
from rtl.state_ports import connect_states

__all__ = ["Engine"]


class Engine(wiring.Component):
    """The machine of an :class:`~accel.arch.Arch`.

    Parameters
    ----------
    unit : EngineUnit.
    probes : add the ports of ``rtl.probes``, for a bench.

    Members
    -------
    registers : In(AXI4-Lite slave, 32 bit), see ``accel.registers``.
    program : Out(AXI4 read master, 32 bytes wide).
    read : Out(AXI4 read master).array(channels), single beats of one memory access; a channel's addresses are those
        that the memory's address map gives it.
    write : Out(AXI4 write master), single beats of one memory access, of results.
    irq : Out(1), the interrupt. Level.

    No input reaches an output within the cycle, but what ``registers``' units say of their own. Registers answer
    only after the arrival counts have been cleared, ``max_lines`` cycles after reset.
    """

    def __init__(self, unit: EngineUnit, probes: bool = False):
        self.unit, self._probed = unit, probes
        spec = unit.arch.memory_spec
        access_bits = 8 * spec.access_bytes
        super().__init__(
            {
                "registers": In(lite_slave(PAGE_ADDRESS_BITS)),
                "program": Out(read_master(ADDRESS_BITS, 8 * PROGRAM_BEAT_BYTES)),
                "read": Out(read_master(ADDRESS_BITS, access_bits)).array(spec.channels),
                "write": Out(write_master(ADDRESS_BITS, access_bits)),
                "irq": Out(1),
                **(probe_members(unit) if probes else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        m.submodules.sequencer = self.sequencer = Sequencer(unit)
        m.submodules.fetcher = self.fetcher = Fetcher(unit)
        m.submodules.crossbar = self.crossbar = Crossbar(unit)
        m.submodules.k_memory = self.k_memory = LineMemory(unit, "k")
        m.submodules.v_memory = self.v_memory = LineMemory(unit, "v")
        m.submodules.query_buffer = self.query_buffer = QueryBuffer(unit)
        m.submodules.partial_sums = self.partial_sums = PartialSums(unit)
        m.submodules.qk_issue = self.qk_issue = QkIssue(unit)
        self.state_path = None if StateUnit(unit.arch).missing() else StatePath(unit)
        m.submodules.qk = self.qk = QkArray(QkUnit.of(unit.arch), products=self.state_path is not None)
        m.submodules.softmax_path = self.softmax_path = SoftmaxPath(unit)
        m.submodules.pv_path = self.pv_path = PvPath(unit)
        m.submodules.state = self.state = State(unit)
        registers = Registers(unit)
        self._registers = registers
        self._order(m)
        self._fetch(m)
        self._scores(m)
        self._values(m)
        ready = self._arrivals(m)
        connect_states(m, self)
        m.submodules.registers = registers
        self._control(m, registers, ready)
        if self._probed:
            connect_probes(m, self)
        return m

    # ---- what every unit hears ------------------------------------------------------------------------------------
    def _order(self, m: Module) -> None:
        """Jobs and their format to all; program and state around the sequencer."""
        sequencer, state, pv = self.sequencer, self.state, self.pv_path
        for part in (self.fetcher, self.qk_issue, pv):
            m.d.comb += [
                part.dispatch.valid.eq(sequencer.dispatch.valid),
                part.dispatch.payload.eq(sequencer.dispatch.payload),
                part.format_change.eq(sequencer.format_change),
            ]
        for part in (
            self.fetcher, self.qk_issue, pv, self.k_memory, self.v_memory, self.softmax_path, self.partial_sums
        ):  # fmt: skip
            m.d.comb += part.format.eq(sequencer.format)
        wiring.connect(m, sequencer.bus, wiring.flipped(self.program))
        wiring.connect(m, sequencer.op, state.op)
        m.d.comb += [
            sequencer.op_done.eq(state.done),
            state.all_tokens.eq(sequencer.all_tokens),
            sequencer.live_heads.eq(state.live_heads),
            sequencer.list_length.eq(state.list_length),
            sequencer.version.eq(state.version),
            sequencer.row_accumulated.eq(state.row_accumulated),
            sequencer.row_written.eq(pv.row_written),
            sequencer.retired.eq(pv.retired),
            sequencer.write_idle.eq(pv.write_idle),
            sequencer.memory_error.eq(self.crossbar.read_error | pv.write_error),
        ]

    # ---- memory to line memories ----------------------------------------------------------------------------------
    def _fetch(self, m: Module) -> None:
        """Fetcher, crossbar, a converter per lane, line memories and query buffer."""
        fetcher, crossbar, path = self.fetcher, self.crossbar, self.softmax_path
        self.converters = []
        for lane in range(self.unit.arch.fetcher.lanes):
            wiring.connect(m, fetcher.push[lane], crossbar.push[lane])
            m.d.comb += fetcher.level[lane].eq(crossbar.level[lane])
            m.submodules[f"converter_{lane}"] = converter = Converter(self.unit)
            m.d.comb += converter.format.eq(self.sequencer.format)
            wiring.connect(m, crossbar.arrived[lane], converter.arrived)
            targets = [self.k_memory.write[lane], self.v_memory.write[lane]]
            if lane < self.unit.query_lanes:
                targets.append(self.query_buffer.write[lane])
                sums, arrived = self.partial_sums.arrived[lane], crossbar.arrived[lane]
                m.d.comb += [sums.valid.eq(arrived.valid), sums.payload.eq(arrived.payload)]
            for target in targets:
                m.d.comb += [target.valid.eq(converter.write.valid), target.payload.eq(converter.write.payload)]
            self.converters.append(converter)
        for channel, port in enumerate(self.read):
            wiring.connect(m, crossbar.read[channel], wiring.flipped(port))
        wiring.connect(m, fetcher.list_read, self.state.lane_read)
        wiring.connect(m, fetcher.kept_read, path.kept_read)
        m.d.comb += [
            fetcher.query_release.eq(path.query_release | self.qk_issue.record_taken),
            fetcher.row_settled.eq(self.pv_path.row_settled),
            fetcher.lsb_request.valid.eq(path.lsb_request.valid),
            fetcher.lsb_request.payload.eq(path.lsb_request.payload),
            crossbar.cycle.eq(self._registers.cycle[:CYCLE_BITS]),
        ]
        wiring.connect(m, path.k_release, fetcher.k_release)
        wiring.connect(m, path.v_row, fetcher.v_row)
        wiring.connect(m, self.pv_path.v_release, fetcher.v_release)

    def _arrivals(self, m: Module) -> Value:
        """One walker per kind; returns whether all are ready."""
        unit, fetcher, arch = self.unit, self.fetcher, self.unit.arch
        atom = arch.memory_spec.access_bytes
        lanes = arch.fetcher.lanes
        key_atoms = -(-record_bytes(unit.entry_words, arch.value_bits) // atom) + 1  # a pair's row may need one more
        query_accesses = key_atoms + PARTIAL_PLANES * -(-2 * unit.entry_words // atom)
        k_lines, v_lines = self._rings(m)
        lsb_accesses = -(-arch.max_context // lanes) * -(-record_bytes(unit.entry_words, 4) // atom)
        kinds = (
            ("k", KIND_K, max(k_lines), lanes, key_atoms, fetcher.k_limit, self.k_ring, "index"),
            ("v", KIND_V, max(v_lines), lanes, key_atoms, fetcher.v_limit, self.v_ring, "index"),
            (
                "query", KIND_Q, arch.fetcher.query_slots, unit.query_lanes, query_accesses, fetcher.query_limit,
                Const(arch.fetcher.query_slots), "index",
            ),
            (
                "lsb", KIND_LSB, arch.rows_in_flight, lanes, lsb_accesses, fetcher.lsb_limit,
                Const(arch.rows_in_flight), "row",
            ),
        )  # fmt: skip
        self.passed: dict[str, Value] = {}
        passed = self.passed
        ready = []
        for name, kind, entries, of_lanes, most, limit, ring, place in kinds:
            m.submodules[f"{name}_arrivals"] = arrivals = Arrivals(unit, entries, of_lanes, most)
            for lane in range(of_lanes):
                push, write = self.fetcher.push[lane], self.converters[lane].write
                for events, source, tag in (
                    (arrivals.generated[lane], push, push.payload.tag),
                    (arrivals.arrived[lane], write, write.payload.tag),
                ):
                    m.d.comb += [
                        events.valid.eq(source.valid & (tag.kind == kind)),
                        events.payload.index.eq(tag[place]),
                    ]
            m.d.comb += [
                arrivals.limit.eq(limit),
                arrivals.ring.eq(ring),
                arrivals.restart.eq(self.sequencer.format_change if kind in (KIND_K, KIND_V) else 0),
            ]
            passed[name] = arrivals.passed
            ready.append(arrivals.ready)
        m.d.comb += [
            self.qk_issue.k_passed.eq(passed["k"]),
            self.qk_issue.query_passed.eq(passed["query"]),
            self.qk_issue.lsb_passed.eq(passed["lsb"]),
            self.pv_path.v_passed.eq(passed["v"]),
        ]
        all_ready: Value = Const(1)
        for one in ready:
            all_ready = all_ready & one
        return all_ready

    def _rings(self, m: Module) -> tuple[list[int], list[int]]:
        """Ring sizes of the format, as levels; returns all that there are."""
        unit, form = self.unit, self.sequencer.format
        dims = QkUnit.of(unit.arch).dims
        k_lines = {(dim, wide): unit.k_ring_lines(dim, wide) for dim in dims for wide in (False, True)}
        v_lines = {dim: unit.v_ring_lines(dim) for dim in dims}
        self.k_ring, self.v_ring = Signal(range(max(k_lines.values()) + 1)), Signal(range(max(v_lines.values()) + 1))
        with m.Switch(form.log2_dim):
            for dim in dims:
                with m.Case(dim.bit_length() - 1):
                    m.d.comb += [
                        self.k_ring.eq(Mux(form.k_wide, k_lines[dim, True], k_lines[dim, False])),
                        self.v_ring.eq(v_lines[dim]),
                    ]
        return list(k_lines.values()), list(v_lines.values())

    # ---- the arrays -----------------------------------------------------------------------------------------------
    def _scores(self, m: Module) -> None:
        """Queries and K lines through the QK array to the softmax."""
        issue, qk, path, k = self.qk_issue, self.qk, self.softmax_path, self.k_memory
        m.d.comb += [
            issue.query_words.eq(self.query_buffer.words),
            issue.k_words.eq(k.data),
            issue.query_release.eq(path.query_release),
            issue.row_finished.eq(self.pv_path.row_finished),
            issue.lsb_request.valid.eq(path.lsb_request.valid),
            issue.lsb_request.payload.eq(path.lsb_request.payload),
        ]
        wiring.connect(m, path.score_release, issue.score_release)
        wiring.connect(m, issue.passes, path.passes)
        m.d.comb += [
            self.partial_sums.start_slot.eq(issue.query_read_slot),
            path.start.eq(self.partial_sums.start),
            path.decay.eq(issue.decay),
        ]
        wiring.connect(m, qk.scores, path.scores)

    def _values(self, m: Module) -> None:
        """Weights to importance and to the PV array; V lines; results."""
        path, pv, state, v = self.softmax_path, self.pv_path, self.state, self.v_memory
        wiring.connect(m, path.line, state.line)
        wiring.connect(m, path.token_read, state.token_read)
        wiring.connect(m, path.weights, pv.weights)
        wiring.connect(m, path.columns, pv.columns)
        wiring.connect(m, pv.ring_read, path.ring_read)
        wiring.connect(m, pv.ring_release, path.ring_release)
        wiring.connect(m, pv.head_magnitude, state.head_magnitude)
        wiring.connect(m, pv.write, wiring.flipped(self.write))
        wiring.connect(m, pv.carry, self.partial_sums.carry)
        wiring.connect(m, self.partial_sums.carried, pv.carried)
        m.d.comb += [
            pv.ring_items.eq(path.ring_items),
            pv.emitted.eq(path.emitted),
            pv.dense_lines.eq(path.dense_lines),
            pv.v_words.eq(v.data),
        ]

    # ---- software's side ------------------------------------------------------------------------------------------
    def _control(self, m: Module, registers: Registers, ready: Value) -> None:
        """Registers, which take nothing before all is ``ready``, and what they count."""
        sequencer, path, pv, issue = self.sequencer, self.softmax_path, self.pv_path, self.qk_issue
        recurs = self.state_path.qk_line.valid if self.state_path else Const(0, 1)
        for name, member in lite_slave(PAGE_ADDRESS_BITS).members.items():
            outside, inside = getattr(self.registers, name), getattr(registers.bus, name)
            target, source = (inside, outside) if member.flow == Out else (outside, inside)
            opens = name in ("awvalid", "wvalid", "arvalid", "awready", "wready", "arready")
            m.d.comb += target.eq(source & ready if opens else source)
        operating = Signal()
        with m.If(sequencer.op.valid & sequencer.op.ready):
            m.d.sync += operating.eq(1)
        with m.Elif(self.state.done):
            m.d.sync += operating.eq(0)
        m.d.comb += [
            sequencer.start.eq(registers.start),
            sequencer.program_address.eq(registers.program_address),
            registers.done.eq(sequencer.done),
            registers.error_code.eq(sequencer.error_code),
            registers.error_job.eq(sequencer.error_job),
            self.irq.eq(registers.interrupt),
            registers.qk_msb_issues.eq(issue.issue_msb | recurs),
            registers.qk_lsb_issues.eq(issue.issue_lsb),
            registers.pv_issues.eq(pv.issue | pv.state_line.valid),
            registers.rows.eq(pv.row_written),
            registers.lsb_rows.eq(path.lsb_request.valid),
            registers.read_accesses.eq(_count(port.arvalid & port.arready for port in self.read)),
            registers.write_accesses.eq(self.write.awvalid & self.write.awready),
            registers.busy_fetcher.eq(self.fetcher.busy),
            registers.busy_qk.eq(issue.busy | recurs),
            registers.busy_softmax.eq(path.softmax_busy),
            registers.busy_topk.eq(path.select_busy),
            registers.busy_pv.eq(pv.issue | pv.state_line.valid),
            registers.busy_cascade.eq(operating),
        ]


def _count(events: Iterable[Value]) -> Value:
    total: Value = Const(0, 1)
    for event in events:
        total = total + event
    return total
