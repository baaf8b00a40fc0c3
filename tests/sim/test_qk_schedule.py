"""QK array as a unit: its numbers are the machine's, its unstalled timing the engine's, and mistakes are named."""

import numpy as np
import pytest

from accel.arch import archs, load_arch
from accel.errors import UserError
from accel.units.qk import SRAM_READ_CYCLES, QkUnit
from sim.qk_schedule import Row, Stalls, Transfer, schedule

UNIT = QkUnit(multipliers=16, max_head_dim=64, lanes=2)


def row(head_dim: int, keys: int) -> Row:
    return Row(np.ones(head_dim, np.int16), np.ones((keys, head_dim), np.int16), 1 << 15, 15)


def cycles(transfers: list[Transfer], port: str) -> list[int]:
    return [transfer.cycle for transfer in transfers if transfer.port == port]


@pytest.mark.parametrize("name", archs())
def test_unit_and_machine_agree(name: str) -> None:
    """Keys per line and parts per key are computed in Arch for the engine and in QkUnit for the hardware."""
    arch = load_arch(name)
    unit = QkUnit.of(arch)
    assert unit.dims[-1] == arch.max_head_dim
    for head_dim in range(8, arch.max_head_dim + 1, 8):
        padded = arch.padded_head_dim(head_dim)
        assert padded in unit.dims
        assert unit.keys_per_line(padded) == arch.keys_per_line(head_dim)
        assert unit.fold(padded) == arch.qk_fold(head_dim)


@pytest.mark.parametrize("head_dim", [8, 16, 24, 32, 64])
def test_engine_timing(head_dim: int) -> None:
    """A line, or a part, per cycle also from row to row; scores one latency after the read of the last part."""
    rows = [row(head_dim, 5), row(head_dim, 1), row(head_dim, 1), row(head_dim, 4)]
    transfers = schedule(UNIT, rows, Stalls())
    lines, scores = cycles(transfers, "line"), cycles(transfers, "scores")
    assert lines[0] == UNIT.query_cycles
    assert lines == list(range(lines[0], lines[0] + len(lines)))
    fold = UNIT.fold(rows[0].dim)
    assert scores == [line + UNIT.latency_cycles - SRAM_READ_CYCLES for line in lines[fold - 1 :: fold]]


def test_a_stalled_sink_stops_the_lines() -> None:
    """Nothing is lost or made while the sink is away: the pipeline holds one line per stage, the output one more."""
    long_row = row(8, 200)
    patience = 100
    transfers = schedule(UNIT, [long_row], Stalls(scores=(*[False] * patience, *[True] * 300)))
    early = [cycle for cycle in cycles(transfers, "line") if cycle < patience]
    assert len(early) == UNIT.pipeline_cycles + 1
    assert cycles(transfers, "scores") == list(range(patience, patience + 100))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"multipliers": 24}, "qk: multipliers must be a power of two from 1 to 16384, got 24"),
        ({"max_head_dim": 4}, "qk: max_head_dim must be a power of two from 8 to 256, got 4"),
        ({"lanes": 2.0}, "qk: lanes must be an integer, got 2.0"),
    ],
)
def test_impossible_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        QkUnit(**parameters)


@pytest.mark.parametrize(
    ("bad", "stalls", "message"),
    [
        (row(72, 1), Stalls(), "row 0 must have keys"),
        (row(8, 1)._replace(keys=np.ones((1, 16), np.int16)), Stalls(), "row 0 must have keys"),
        (row(8, 1)._replace(keys=np.full((1, 8), 2048, np.int16)), Stalls(), "row 0 must be one key or more"),
        (row(8, 0), Stalls(), "row 0 must be one key or more"),
        (row(8, 1)._replace(shift=0), Stalls(), "score scale of row 0"),
        (row(8, 1), Stalls(line=(False,)), "stalls.line is never True"),
    ],
)
def test_impossible_work(bad: Row, stalls: Stalls, message: str) -> None:
    with pytest.raises(UserError, match=message):
        schedule(UNIT, [bad], stalls)
