"""The crossbars' arbiter: who may get what, that nothing is wasted, and how long anybody waits."""

from pathlib import Path

import pytest

pytest.importorskip("pyosys", reason="proofs: pip install 'accel-codesign[synth]'")

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rtl.crossbar import PhaseArbiter
from tests.formal.proof import always, assert_proved, broken, counterexample


def at_most_one(bits: Value) -> Value:
    return (bits & (bits - 1)) == 0


def inputs(arbiter: wiring.Component) -> dict[str, wiring.Member]:
    signature = arbiter.signature.members
    return {name: signature[name] for name in ("asking", "choice", "free", "turn")}


class Granted(wiring.Component):
    """Any requests, any free targets, any priority."""

    def __init__(self, arbiter: wiring.Component):
        self.arbiter = arbiter
        super().__init__(inputs(arbiter))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.arbiter
        askers, targets, phases = range(dut.askers), range(dut.targets), range(dut.window)
        turn = Signal.like(self.turn)  # a register, because ABC wants one
        m.d.sync += turn.eq(self.turn)
        m.d.comb += [dut.free.eq(self.free), dut.turn.eq(turn)]
        for a in askers:
            m.d.comb += dut.asking[a].eq(self.asking[a])
            m.d.comb += [dut.choice[a][p].eq(self.choice[a][p]) for p in phases]

        def served(a: int, phases: range) -> Value:
            """Did asker a get one of these choices?"""
            return Cat(dut.take[a][p] for p in phases).any()

        def taken(t: int, phases: range) -> Value:
            """Was target t given away to somebody's choice of these?"""
            return Cat(dut.take[a][p] & (self.choice[a][p] == t) for a in askers for p in phases).any()

        for a in askers:
            always(m, at_most_one(dut.take[a]))
            always(m, at_most_one(Cat(dut.grant[t][a] for t in targets)))
        for t in targets:
            always(m, at_most_one(dut.grant[t]))
            for a in askers:
                chosen = Cat(dut.take[a][p] & (self.choice[a][p] == t) for p in phases).any()
                always(m, dut.grant[t][a] == chosen)  # what the asker takes is what the target gives
            always(m, ~dut.grant[t].any() | self.free[t])
        for a in askers:
            for p in phases:
                always(m, ~dut.take[a][p] | (self.asking[a][p] & (self.choice[a][p] < dut.targets)))
                for t in targets:
                    # Asker a wants t in phase p, has got nothing so far, and t is still there: t goes to a, or to
                    # one that comes before a from ``turn`` upwards.
                    wants = self.asking[a][p] & (self.choice[a][p] == t) & self.free[t]
                    open_ = ~served(a, range(p)) & ~taken(t, range(p))
                    before = Cat(
                        dut.take[b][p] & (self.choice[b][p] == t) & _comes_before(b, a, turn, dut.askers)
                        for b in askers
                        if b != a
                    ).any()
                    always(m, ~(wants & open_) | dut.take[a][p] | before)
        return m


def _comes_before(b: int, a: int, turn: Value, askers: int) -> Value:
    """Is asker b met before asker a, counting from ``turn`` upwards and around?"""
    bits = (askers - 1).bit_length()
    return (b - turn)[:bits] < (a - turn)[:bits]


SIZES = [(2, 2, 2), (4, 1, 2), (4, 4, 2), (4, 2, 3), (8, 4, 2), (4, 8, 2)]


@pytest.mark.parametrize(("askers", "targets", "window"), SIZES)
def test_grants(askers: int, targets: int, window: int, tmp_path: Path) -> None:
    """At most one for each, only what was asked for and is free, first choices before second ones, in the order of the
    priority; nothing that could be given stays.
    """
    assert_proved(Granted(PhaseArbiter(askers, targets, window)), tmp_path)


BROKEN = [
    ("grant.eq(first & -first)", "grant.eq(first)"),
    ("(asks & from_turn).any(), asks & from_turn, asks)", "asks.any(), asks, asks)"),  # no turning priority
    ("free & ~Cat(grant.any() for grant in grants[p])", "free"),
    ("unserved & ~served", "unserved"),
    ("chosen & unserved", "chosen"),
]


@pytest.mark.parametrize(("right", "wrong"), BROKEN)
def test_broken_grants_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    arbiter = broken("rtl.crossbar", right, wrong).PhaseArbiter(4, 4, 2)
    assert counterexample(Granted(arbiter), 3, tmp_path) is not None


class Waiting(wiring.Component):
    """A request, of any one asker's first choice, and how many cycles it has stood while its target was free: in a row,
    or counted over all. The priority turns by one in every cycle, as in the crossbars.
    """

    def __init__(self, arbiter: wiring.Component, in_a_row: bool):
        self.arbiter, self.in_a_row = arbiter, in_a_row
        super().__init__({**inputs(arbiter), "watched": In(range(arbiter.askers))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.arbiter
        askers, window = range(dut.askers), range(dut.window)
        turn, watched, known = Signal.like(self.turn), Signal.like(self.watched), Signal()
        waited, target = Signal(range(dut.askers + 2)), Signal.like(self.choice[0][0])
        m.d.sync += [turn.eq(turn + 1), known.eq(1)]
        with m.If(~known):
            m.d.sync += watched.eq(self.watched)
        m.d.comb += [dut.free.eq(self.free), dut.turn.eq(turn)]
        for a in askers:
            m.d.comb += dut.asking[a].eq(self.asking[a])
            m.d.comb += [dut.choice[a][p].eq(self.choice[a][p]) for p in window]
        asks = Signal()
        choice, take = Signal.like(target), Signal()
        m.d.comb += [
            asks.eq(known & Array(self.asking[a][0] for a in askers)[watched]),
            choice.eq(Array(self.choice[a][0] for a in askers)[watched]),
            take.eq(Array(dut.take[a][0] for a in askers)[watched]),
        ]
        m.d.sync += target.eq(choice)
        free = Array(self.free[t] for t in range(dut.targets))[choice]
        stays = asks & ~take & (choice < dut.targets)
        with m.If(stays & free):
            m.d.sync += waited.eq(1)
            with m.If((waited != 0) & (choice == target)):
                m.d.sync += waited.eq(waited + 1)
        with m.Elif(~stays | self.in_a_row):
            m.d.sync += waited.eq(0)
        always(m, waited < dut.askers)
        return m


@pytest.mark.parametrize(("askers", "targets", "window"), SIZES)
def test_waiting(askers: int, targets: int, window: int, tmp_path: Path) -> None:
    """The oldest entry of an asker is granted within ``askers`` cycles in a row in which its target is free."""
    assert_proved(Waiting(PhaseArbiter(askers, targets, window), in_a_row=True), tmp_path)


def test_waiting_for_a_target_that_is_free_now_and_then(tmp_path: Path) -> None:
    """What the rule does not promise: the priority turns with time, so a target that is free only every ``askers``
    cycles goes to the same asker, as long as that asks. In the engine a fetch ends, so others wait for that at most.
    """
    assert counterexample(Waiting(PhaseArbiter(2, 1, 1), in_a_row=False), 12, tmp_path) is not None


def test_broken_priority_is_found(tmp_path: Path) -> None:
    right, wrong = BROKEN[1]
    arbiter = broken("rtl.crossbar", right, wrong).PhaseArbiter(4, 2, 2)
    assert counterexample(Waiting(arbiter, in_a_row=True), 10, tmp_path) is not None
