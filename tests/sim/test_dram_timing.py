"""Every timing constraint on its own: the command goes out at its first legal tick and never one earlier."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.memory import MemorySpec, load_memory, memory_names
from sim.dram import map_address, new_dram
from sim.dram_replay import replay
from sim.dram_state import ACT, PREA, RD, REF, WR, flat_bank
from tests.sim.dram_checker import RULES, slacks, violations

LINEAR = "co1 ch pc bg co4 ba ro"
Access = tuple[int, int, int, int, int, bool]  # pseudo channel, bank group, bank, row, column, is write


def _one_channel(**changes: int) -> MemorySpec:
    return load_memory("hbm2").with_channels(1).with_address_map(LINEAR).model_copy(update=changes)


def _run(spec: MemorySpec, wanted: list[Access], refresh: bool = False) -> np.ndarray:
    address = [
        ((((((row * 4 + bank) * 16 + column // 2) * 4 + group) * 2 + pseudo) * 2) + column % 2) * spec.access_bytes
        for pseudo, group, bank, row, column, _ in wanted
    ]
    is_write = np.array([access[5] for access in wanted])
    return replay(spec, np.array(address), is_write=is_write, refresh=refresh, log_capacity=100_000).commands


def _reads(*places: tuple[int, int, int, int], columns: int = 1) -> list[Access]:
    return [(*place, column, False) for place in places for column in range(columns)]


def _writes(*places: tuple[int, int, int, int], columns: int = 1) -> list[Access]:
    return [(*place, column, True) for place in places for column in range(columns)]


ANOTHER_ROW = ((0, 0, 0, 1), (0, 0, 0, 2))
OTHER_GROUPS = tuple((0, group, 0, 1) for group in range(4))
SAME_GROUP = tuple((0, 0, bank, 1) for bank in range(4))
CASES = {  # rule: (changes that make it the one that binds, accesses)
    "RCDRD": ({"RCDRD": 20}, _reads((0, 0, 0, 1))),
    "RCDWR": ({"RCDWR": 23}, _writes((0, 0, 0, 1))),
    "RAS": ({"RAS": 50, "RC": 64}, _reads(*ANOTHER_ROW)),
    "RC": ({"RC": 90}, _reads(*ANOTHER_ROW)),
    "RP": ({"RP": 30, "RC": 64}, _reads(*ANOTHER_ROW)),
    "RTP": ({"RTP": 40}, _reads(*ANOTHER_ROW)),
    "WR": ({"WR": 50}, _writes(*ANOTHER_ROW)),
    "RRD_L": ({"RRD_L": 13}, _reads(*SAME_GROUP)),
    "RRD_S": ({"RRD_S": 9, "RRD_L": 9}, _reads(*OTHER_GROUPS)),
    "FAW": ({"FAW": 61}, _reads(*OTHER_GROUPS, *SAME_GROUP[1:])),
    "CCD_L": ({"CCD_L": 9}, _reads((0, 0, 0, 1), columns=8)),
    "CCD_S": ({"CCD_S": 7, "CCD_L": 7}, _reads(*OTHER_GROUPS, columns=8)),
    "CCD_L write": ({"CCD_L": 9}, _writes((0, 0, 0, 1), columns=8)),
    "CCD_S write": ({"CCD_S": 7, "CCD_L": 7}, _writes(*OTHER_GROUPS, columns=8)),
    "WTR_L": ({"WTR_L": 21}, _writes((0, 0, 0, 1), columns=2) + _reads((0, 0, 1, 1), columns=2)),
    "WTR_S": ({"WTR_S": 19, "WTR_L": 19}, _writes((0, 0, 0, 1), columns=2) + _reads((0, 1, 0, 1), columns=2)),
    "RTW": ({"CL": 25}, _reads((0, 0, 0, 1)) + _writes((0, 1, 0, 1))),
}


@pytest.mark.parametrize("rule", CASES)
def test_legal_at_n_illegal_at_n_minus_1(rule: str) -> None:
    changes, wanted = CASES[rule]
    spec = _one_channel(**changes)
    commands = _run(spec, wanted)
    assert slacks(spec, commands)[rule] == 0, "goes out late, or not the constraint that binds"
    assert violations(spec, commands) == []
    stricter = _one_channel(**changes)
    name = {"RTW": "CL", "CCD_L write": "CCD_L", "CCD_S write": "CCD_S"}.get(rule, rule)
    stricter = stricter.model_copy(update={name: getattr(spec, name) + 1})
    assert slacks(stricter, commands)[rule] == -1, "the checker would not notice one tick too early"
    assert slacks(stricter, _run(stricter, wanted))[rule] == 0


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in RULES} == CASES.keys() | {"RFC", "RPab"}  # these two: test_refresh_sequence


@pytest.mark.parametrize(("name", "column"), [("hbm2", False), ("lpddr5", True)])
def test_act_occupies_its_bus_for_two_ticks(name: str, column: bool) -> None:
    """And the other bus not at all, where there is another one."""
    spec = load_memory(name).with_channels(1)
    result = replay(spec, np.arange(0, 4 << 20, 64), log_capacity=1 << 20)
    ticks = {int(tick): int(command) for tick, _, command, _, _ in result.commands if command == RD}
    after_act = [int(tick) + 1 for tick, _, command, _, _ in result.commands if command == ACT]
    assert any(tick in ticks for tick in after_act) != column
    assert slacks(spec, result.commands)["command bus"] == 0


def test_refresh_sequence() -> None:
    """At its tick each pseudo channel in turn is closed, refreshed and opened again as early as allowed."""
    spec = _one_channel(RPab=31)
    stream = [(i // 2 % 2, i // 4 % 4, 0, i // 256, (i % 2) + i // 16 % 16 * 2, False) for i in range(6000)]
    commands = _run(spec, stream, refresh=True)
    assert violations(spec, commands) == []
    spare = slacks(spec, commands)
    assert spare["RPab"] == 0
    assert spare["RFC"] == 0
    sequence = [row.tolist() for row in commands if row[2] in (PREA, REF)]
    assert [row[2:4] for row in sequence[:4]] == [[PREA, 0], [REF, 0], [PREA, 16], [REF, 16]]
    assert spec.REFI - 1 <= sequence[0][0] < spec.REFI + spec.RCDRD + 10


@pytest.mark.parametrize("name", memory_names())
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), writes=st.sampled_from([0.0, 0.1, 0.5, 1.0]), region_bits=st.integers(12, 30))
def test_no_violation_and_every_access_once(name: str, seed: int, writes: float, region_bits: int) -> None:
    """Random mixes of reads and writes over small (row hits) and large (conflicts) regions, across refreshes."""
    spec = load_memory(name).with_channels(2)
    rng = np.random.default_rng(seed)
    runs = rng.integers(0, 1 << region_bits, 150)[:, None] + np.arange(rng.integers(1, 9)) * spec.access_bytes
    addresses = runs.reshape(-1)
    is_write = np.repeat(rng.random(150) < writes, runs.shape[1])
    result = replay(spec, addresses, is_write=is_write, log_capacity=20_000)
    assert violations(spec, result.commands) == []
    state = new_dram(spec)
    wanted: Counter[tuple[int, ...]] = Counter()
    for address, write in zip(addresses.tolist(), is_write.tolist(), strict=True):
        channel, pseudo, group, bank, row, _ = map_address(state, address)
        wanted[channel, WR if write else RD, flat_bank(state, pseudo, group, bank), row] += 1
    issued = Counter(tuple(row.tolist()[1:]) for row in result.commands if row[2] in (RD, WR))
    assert issued == wanted
    assert (result.rd, result.wr) == (int((~is_write).sum()), int(is_write.sum()))
    assert result.row_hit + result.row_miss + result.row_conflict == addresses.size
    assert result.data_busy_ticks == addresses.size * spec.burst_cycles


def test_the_checker_sees_wrong_states() -> None:
    """A checker that accepts everything would make all tests above pass."""
    spec = _one_channel()
    good = _run(spec, _reads(*ANOTHER_ROW))
    for drop in range(len(good)):
        if good[drop, 2] != RD:
            assert violations(spec, np.delete(good, drop, axis=0)), f"nobody missed {good[drop]}"
    wrong_row = good.copy()
    wrong_row[-1, 4] += 1
    assert violations(spec, wrong_row)
