"""QKV fetcher: turns fetch after fetch into addresses, one per lane and cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.memory import XOR_FOLDS, MemorySpec
from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.fetcher import PREFETCH_DEPTH
from rtl.fetch_jobs import FetchJobs
from rtl.fetch_layout import input_members
from rtl.job import ATOM_BITS, COUNT_BITS, KIND_K, KIND_LSB, KIND_Q, KIND_V, address_layout, line_bits, sequence_bits

__all__ = ["Fetcher", "channel_of", "list_read_signature"]


def channel_of(address: Value, spec: MemorySpec) -> Value:
    """Memory channel of a byte address, by the memory's address map. Golden: ``sim.dram_state.map_address``."""
    access = address[spec.access_bytes.bit_length() - 1 :]
    low, hash_from = 0, 0
    bits = {"ch": 0, "pc": 0}
    channel: Value = Const(0, 0)
    for field, count in spec.address_fields():
        if field == "ch":
            channel = access[low : low + count]
        low += count
        if field in bits:
            bits[field], hash_from = count, low
    if spec.address_hashed and bits["ch"]:
        digit = sum(bits.values())
        for fold in range(XOR_FOLDS):
            at = hash_from + fold * digit
            channel = channel ^ access[at : at + bits["ch"]]
    return channel


def list_read_signature(lanes: int, index_bits: int, versions: bool) -> wiring.Signature:
    """Reads of a ``rtl.lane_list.LaneList`` of token numbers, whose terms hold; ``version`` is the index's top bit."""
    members = {
        "enable": Out(1),
        "rotate": Out((lanes - 1).bit_length()),
        "index": Out(index_bits).array(lanes),
        "data": In(TOKEN_BITS).array(lanes),
    }
    return wiring.Signature({**members, "version": Out(1)} if versions else members)


class _Lane:
    """The state of a lane: its next key and access.

    Its keys are ``offset``, ``offset + lanes`` and so on; ``turn`` of them are done, ``more``: there is another.
    """

    def __init__(self, m: Module, unit: EngineUnit, number: int, fetch: data.View, rotate: Signal):
        lanes = unit.arch.fetcher.lanes
        lane_bits = (lanes - 1).bit_length()
        self.m, self.unit, self.number, self.fetch = m, unit, number, fetch
        self.offset = Signal(lane_bits, name=f"offset_{number}")
        m.d.comb += self.offset.eq(number - rotate)
        if unit.query_lanes < lanes:
            with m.If(fetch.kind == KIND_Q):
                m.d.comb += self.offset.eq((number - rotate) & (unit.query_lanes - 1))
        # Lanes beyond the query lanes fetch no queries.
        self.is_query = fetch.kind == KIND_Q if number < unit.query_lanes else Const(0)
        takes: Value = Const(1) if number < unit.query_lanes else fetch.kind != KIND_Q
        self.whole_turns = fetch.count[lane_bits:]  # of which every lane has a key; after them some have another
        self.another = takes & (self.offset < fetch.count[:lane_bits])

        def register(shape: ShapeLike, name: str) -> Signal:
            return Signal(shape, name=f"{name}_{number}", reset_less=True)

        self.more = Signal(name=f"more_{number}")
        self.turn = register(len(self.whole_turns), "turn")
        self.position = register(len(fetch.first), "position")
        self.line = register(line_bits(unit), "line")
        self.atom = register(ATOM_BITS, "atom")
        self.in_sums = register(1, "in_sums") if number < unit.query_lanes else Const(0)  # behind the query
        self.sums = self.is_query & fetch.sums
        self.next_position = Signal.like(self.position, name=f"next_position_{number}")
        self.generates, self.finished = Signal(name=f"generates_{number}"), Signal(name=f"finished_{number}")

    def run(self, start: Value, may: Value) -> None:
        """Everything that changes it: ``may`` says that an address generated now has a place."""
        m, fetch, atoms = self.m, self.fetch, self.fetch.atoms
        lanes, number = self.unit.arch.fetcher.lanes, self.number
        key_ends, follows = Signal(name=f"key_ends_{number}"), Signal(name=f"follows_{number}")
        pauses = Signal(name=f"pauses_{number}")
        line = Signal(len(self.line) + 1, name=f"next_line_{number}")
        m.d.comb += [
            self.generates.eq(may & self.more),
            key_ends.eq(self.generates & (self.atom == atoms.last) & (self.in_sums | ~self.sums)),
            pauses.eq((self.atom == atoms.pause) & ~self.in_sums),
            follows.eq((self.turn != self.whole_turns) & ((self.turn + 1 != self.whole_turns) | self.another)),
            self.finished.eq(~self.more | (key_ends & ~follows)),
            self.next_position.eq(
                Mux(start, fetch.first + self.offset, Mux(key_ends, self.position + lanes, self.position))
            ),
            line.eq(
                Mux(
                    start,
                    fetch.line + (self.offset >> fetch.log2_per_line),
                    self.line + (Const(lanes) >> fetch.log2_per_line),
                )
            ),
        ]
        m.d.sync += self.position.eq(self.next_position)
        with m.If(start | key_ends):
            m.d.sync += [self.line.eq(Mux(line >= fetch.ring, line - fetch.ring, line)), self.atom.eq(atoms.first)]
        with m.Elif(self.generates):
            m.d.sync += self.atom.eq(Mux(pauses, atoms.resume, self.atom + 1))
        if number < self.unit.query_lanes:
            with m.If(start | key_ends):
                m.d.sync += self.in_sums.eq(0)
            with m.Elif(self.generates):
                m.d.sync += self.in_sums.eq(self.in_sums | (pauses & self.sums))
        with m.If(start):
            m.d.sync += [self.turn.eq(0), self.more.eq((self.whole_turns != 0) | self.another)]
        with m.Elif(key_ends):
            m.d.sync += [self.turn.eq(self.turn + 1), self.more.eq(follows)]

    def access(self, access: data.View, listed: Value, kept: Value) -> None:
        """What it asks for; ``listed``, ``kept``: the list's entries at its position."""
        m, fetch, spec = self.m, self.fetch, self.unit.arch.memory_spec
        shift = spec.access_bytes.bit_length() - 1
        is_query = Signal(name=f"is_query_{self.number}")
        token = Signal(COUNT_BITS, name=f"token_{self.number}")
        stride = Signal.like(fetch.row_stride, name=f"stride_{self.number}")
        base = Mux(self.in_sums, fetch.sums_base, fetch.base)
        steps = Signal(ATOM_BITS, name=f"steps_{self.number}")
        product = Signal(COUNT_BITS + ATOM_BITS, name=f"product_{self.number}")
        m.d.comb += [
            is_query.eq(self.is_query),
            # One multiplier: token by accesses between tokens, or the query's number by bytes between queries.
            stride.eq(Mux(self.in_sums, fetch.sums_stride, fetch.row_stride)),
            token.eq(Mux(is_query, stride, Mux(fetch.kept, kept, Mux(fetch.list, listed, self.position)))),
            steps.eq(Mux(is_query, self.offset, fetch.stride)),
            product.eq(token * steps),
            access.address.eq(base + Mux(is_query, product, product << shift) + (self.atom << shift)),
            access.channel.eq(channel_of(access.address, spec)),
            access.tag.kind.eq(fetch.kind),
            access.tag.index.eq(self.line),
            access.tag.row.eq(fetch.number),
            access.tag.atom.eq(self.atom),
            access.tag.side.eq(fetch.side | self.in_sums),
        ]


class Fetcher(wiring.Component):
    """Chooses fetches (``FetchJobs``) and generates their addresses.

    Parameters
    ----------
    unit : EngineUnit.

    Members
    -------
    dispatch : In(stream of job_layout, always ready). A job; it can be chosen from the next cycle on.
    format : In(format_layout). Of the jobs dispatched; used from the cycle after the dispatch.
    format_change : In(1). With the first dispatch of another format, when all before has been released: ring pointers
        go to 0. Running numbers go on.
    lsb_request : In(stream of lsb_request_layout, always ready). A row that needs its LSB plane.
    v_row : In(stream of v_row_layout, always ready). A row of a v_selected job whose kept tokens can be read, in order.
    query_release : In(1). A query slot is free. row_settled : In(1). The oldest row is in memory, if it leaves anything
        there. row_started : In(1). A row of mode STATE begins, of records that are no rows.
    k_release, v_release : In(stream of release_layout, always ready).
        Lines that are free. All count from the next cycle on.
    level : In(address_fifo_depth + 1).array(lanes). Entries of each lane's address FIFO, a register there.
    push : Out(stream of address_layout, always ready).array(lanes). The address that a lane generates.
    list_read : Out(list_read_signature). The keep list: entry ``index`` of ``version``.
    kept_read : Out(list_read_signature). The ring of kept tokens, of ``softmax.buffer_keys`` entries.
    k_limit, v_limit, query_limit, lsb_limit : Out. Running numbers of K and V lines, queries and LSB fetches whose
        addresses have all been generated, in order. Registers; while a fetch runs its lines (queries) are passed at
        most one per cycle, the cycle after its last address all of them.
    active : Out(1). A fetch is under way: from the cycle after its choice to that of its last address.
    busy : Out(1). Its lanes generate: active but for the first cycle.

    Latency: chosen at t, the lists are read from t + 1 on and addresses generated from t + 2 on. After a fetch's last
    address at t, the next is chosen at t + 1. Each lane one address per cycle, unless its FIFO is too full.

    Combinational: from level to push.valid and to the lists' index; from the lists' data to push.payload.
    """

    def __init__(self, unit: EngineUnit):
        self.unit, self.jobs = unit, FetchJobs(unit)
        arch = unit.arch
        lanes, running = arch.fetcher.lanes, Out(sequence_bits(unit))
        list_bits, kept_bits = (arch.max_context - 1).bit_length(), (arch.softmax.buffer_keys - 1).bit_length()
        super().__init__(
            {
                **input_members(unit),
                "level": In(range(arch.fetcher.address_fifo_depth + 1)).array(lanes),
                "push": Out(stream.Signature(address_layout(unit), always_ready=True)).array(lanes),
                "list_read": Out(list_read_signature(lanes, list_bits, True)),
                "kept_read": Out(list_read_signature(lanes, kept_bits, False)),
                "k_limit": running,
                "v_limit": running,
                "query_limit": running,
                "lsb_limit": running,
                "active": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        m.submodules.jobs = jobs = self.jobs
        for name, member in input_members(unit).items():
            inside, outside = getattr(jobs, name), getattr(self, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outside), inside)
            else:
                m.d.comb += inside.eq(outside)

        fetch, lanes = jobs.fetch, unit.arch.fetcher.lanes
        lane_bits = (lanes - 1).bit_length()
        rotate, room = Signal(lane_bits), Signal(range(unit.arch.fetcher.address_fifo_depth + 1))
        depth = unit.arch.fetcher.address_fifo_depth
        m.d.comb += [
            self.active.eq(jobs.start | self.busy),
            jobs.idle.eq(~self.active),
            rotate.eq(fetch.line << fetch.log2_per_line),  # lane of key 0
            room.eq(Mux(fetch.prefetch, min(depth, PREFETCH_DEPTH), depth)),
        ]
        work = [_Lane(m, unit, lane, fetch, rotate) for lane in range(lanes)]
        for lane, level in zip(work, self.level, strict=True):
            lane.run(jobs.start, self.busy & (level < room))
        finish = Signal()
        m.d.comb += finish.eq(self.busy & Cat(lane.finished for lane in work).all())
        m.d.sync += self.busy.eq(jobs.start | (self.busy & ~finish))

        m.d.comb += [
            self.list_read.enable.eq(self.active & fetch.list),
            self.list_read.rotate.eq(fetch.first - rotate),
            self.list_read.version.eq(fetch.version),
            self.kept_read.enable.eq(self.active & fetch.kept),
            self.kept_read.rotate.eq(-rotate),
        ]
        keys = unit.arch.softmax.buffer_keys
        for lane, push in zip(work, self.push, strict=True):
            at = lane.next_position
            m.d.comb += [
                self.list_read.index[lane.number].eq(at),
                self.kept_read.index[lane.number].eq(Mux(at >= keys, at - keys, at)),
                push.valid.eq(lane.generates),
            ]
            lane.access(push.payload, self.list_read.data[lane.number], self.kept_read.data[lane.number])
        self._limits(m, fetch, jobs.start, finish, rotate, work)
        return m

    def _limits(
        self, m: Module, fetch: data.View, start: Value, finish: Value, rotate: Value, work: list[_Lane]
    ) -> None:
        """Walks behind the lanes, from line to line in order, each when all its lanes are beyond it."""
        unit = self.unit
        left, turn, lane, home = (
            Signal.like(fetch.lines),
            Signal.like(work[0].turn),
            Signal.like(rotate),
            Signal.like(rotate),
        )
        following, complete, passed = Signal.like(rotate), Signal(), Signal.like(fetch.lines)
        m.d.comb += [home.eq(rotate), following.eq(lane + (1 << fetch.log2_per_line))]
        if unit.query_lanes < unit.arch.fetcher.lanes:
            with m.If(fetch.kind == KIND_Q):
                m.d.comb += [
                    home.eq(rotate & (unit.query_lanes - 1)),
                    following.eq((lane + 1) & (unit.query_lanes - 1)),
                ]
        # The walker is never past a lane, so a lane is beyond its turn if not in it; the last line waits for the end.
        beyond = Cat(one.turn != turn for one in work) >> lane
        columns = unit.arch.softmax.lanes
        unused = Cat(Const(0, 1), (fetch.log2_per_line < i.bit_length() for i in range(1, columns)))
        m.d.comb += [
            complete.eq((beyond[:columns] | unused).all()),
            # An LSB fetch counts as a whole.
            passed.eq(Mux(finish, left, self.busy & complete & (fetch.kind != KIND_LSB))),
        ]
        with m.If(start):
            m.d.sync += [left.eq(fetch.lines), turn.eq(0), lane.eq(home)]
        with m.Elif(passed != 0):
            m.d.sync += [left.eq(left - passed), lane.eq(following), turn.eq(turn + (following == home))]
        limits = {KIND_Q: self.query_limit, KIND_K: self.k_limit, KIND_LSB: self.lsb_limit, KIND_V: self.v_limit}
        for kind, limit in limits.items():
            with m.If(fetch.kind == kind):
                m.d.sync += limit.eq(limit + passed)
