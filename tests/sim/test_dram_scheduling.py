"""What the controller chooses when several commands could go out: small stories, one per rule of `sim/dram.py`."""

from collections.abc import Callable

import pytest

from accel.memory import MemorySpec, load_memory
from sim.dram import map_address, new_dram, push, tick
from sim.dram_state import ACT, NONE, PRE, PREA, RD, REF, DramState

Command = tuple[int, int, int]  # tick, command, bank


@pytest.fixture
def hbm2() -> MemorySpec:
    return load_memory("hbm2").with_channels(1).with_address_map("co1 ch pc bg co4 ba ro")


@pytest.fixture
def ddr4() -> MemorySpec:
    return load_memory("ddr4").with_channels(1).with_address_map("ch co7 bg ba ro")


def _address(spec: MemorySpec, bank: int, row: int, column: int) -> int:
    """Address of a column of a row of bank `bank` in bank group 0 of pseudo channel 0 (maps of the fixtures)."""
    if spec.name == "ddr4":
        return ((((row * 4 + bank) * 4) << 7) + column) * spec.access_bytes
    return ((((row * 4 + bank) * 16 + column // 2) * 8 << 1) + column % 2) * spec.access_bytes


def _run(state: DramState, first: int, last: int, before: Callable[[int], None] | None = None) -> list[Command]:
    """Tick from `first` to `last`; commands in order."""
    c = state.channel[0]
    commands = []
    for now in range(first, last + 1):
        if before is not None:
            before(now)
        tick(state, 0, now)
        for kind in ("column", "row"):
            if c[f"{kind}_command"] != NONE:
                commands.append((now, int(c[f"{kind}_command"]), int(c[f"{kind}_bank"])))
    return commands


def test_the_addresses_of_these_tests(hbm2: MemorySpec, ddr4: MemorySpec) -> None:
    for spec in (hbm2, ddr4):
        assert map_address(new_dram(spec), _address(spec, 2, 5, 7)) == (0, 0, 0, 2, 5, 7)


def test_a_row_stays_open_for_accesses_that_came_first(hbm2: MemorySpec) -> None:
    """12 accesses to a row outlast tRAS; the one to another row, which came last, waits for all of them."""
    state = new_dram(hbm2)
    for column in range(12):
        push(state, 0, _address(hbm2, 0, 1, column), False, 0)
    push(state, 0, _address(hbm2, 0, 2, 0), False, 0)
    order = [command for _, command, _ in _run(state, 0, 200)]
    assert order == [ACT] + [RD] * 12 + [PRE, ACT, RD]


def test_younger_row_hits_do_not_starve_another_row(hbm2: MemorySpec) -> None:
    """The access to another row came before the hits that keep arriving: its bank is closed under them.

    With tRTP below tCCD_L, that is; otherwise each hit puts the PRE off once more, here as in Ramulator.
    """
    spec = hbm2.model_copy(update={"RTP": 3})
    state = new_dram(spec)
    push(state, 0, _address(spec, 0, 1, 0), False, 0)
    push(state, 0, _address(spec, 0, 2, 0), False, 1)

    def keep_coming(now: int) -> None:
        if 2 <= now < 80:
            push(state, 0, _address(spec, 0, 1, now % 32), False, now)

    commands = _run(state, 0, 60, keep_coming)
    precharged = [now for now, command, _ in commands if command == PRE]
    assert precharged
    assert spec.RAS + 1 <= precharged[0] <= spec.RAS + 1 + spec.CCD_L


def test_the_access_that_opened_a_row_gets_it_before_the_row_is_closed(hbm2: MemorySpec) -> None:
    """An older access to another row, ready again at tRAS, must not close a row that was opened but never used."""
    spec = hbm2.model_copy(update={"RCDRD": 60})
    state = new_dram(spec)
    push(state, 0, _address(spec, 0, 1, 0), False, 0)
    push(state, 0, _address(spec, 0, 2, 0), False, 1)
    assert [command for _, command, _ in _run(state, 0, 300)] == [ACT, RD, PRE, ACT, RD]


@pytest.mark.parametrize("column_first", [True, False])
def test_single_bus_serves_the_older_of_column_and_row(ddr4: MemorySpec, column_first: bool) -> None:
    """Two buses would send both at once."""
    state = new_dram(ddr4)
    push(state, 0, _address(ddr4, 0, 1, 0), False, 0)
    _run(state, 0, 99)
    wanted = [_address(ddr4, 0, 1, 1), _address(ddr4, 1, 1, 0)]
    for address in wanted if column_first else wanted[::-1]:
        push(state, 0, address, False, 100)
    commands = _run(state, 100, 101)
    assert commands == ([(100, RD, 0), (101, ACT, 1)] if column_first else [(100, ACT, 1), (101, RD, 0)])


def test_two_buses_serve_both_at_once(hbm2: MemorySpec) -> None:
    state = new_dram(hbm2)
    push(state, 0, _address(hbm2, 0, 1, 0), False, 0)
    _run(state, 0, 99)
    push(state, 0, _address(hbm2, 1, 1, 0), False, 100)
    push(state, 0, _address(hbm2, 0, 1, 1), False, 100)
    assert _run(state, 100, 100) == [(100, RD, 0), (100, ACT, 1)]


def test_refresh_lets_opened_accesses_finish_and_holds_the_others(hbm2: MemorySpec) -> None:
    """A row opened just before the refresh is due is read first; a row hit that is merely queued waits until after."""
    state = new_dram(hbm2)
    due = hbm2.REFI - 1
    _run(state, 0, due - 6)
    for column in range(2):
        push(state, 0, _address(hbm2, 0, 1, column), False, due - 5)
    commands = _run(state, due - 5, due + 2 * hbm2.RFC)
    assert [command for _, command, _ in commands] == [ACT, RD, PREA, REF, REF, ACT, RD]
    assert commands[1][0] == due - 5 + 1 + hbm2.RCDRD
