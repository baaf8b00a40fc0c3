"""The controller against the two reference simulators (tests/data/dram/README.md), figure by figure."""

import csv
import zlib
from pathlib import Path

import numpy as np
import pytest

from accel.memory import load_memory
from sim.dram_replay import ReplayResult, replay
from tests.sim.dram_patterns import ADDRESS_MAPS, accesses, logical_reads

DATA = Path(__file__).parents[1] / "data" / "dram"


def _rows(name: str) -> list[dict[str, str]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


GOLDEN = _rows("golden_min.csv")


def _run(row: dict[str, str], refresh: bool = True) -> ReplayResult:
    channels = int(row["nch"])
    spec = load_memory("hbm2").with_channels(channels).with_address_map(ADDRESS_MAPS[row["mapping"]])
    trace = accesses(logical_reads(row["pattern"], channels), spec.access_bytes)
    return replay(spec, trace, refresh=refresh)


def _counts(result: ReplayResult) -> tuple[int, ...]:
    return result.cycles, result.act, result.row_hit, result.row_miss, result.row_conflict


def _reference(row: dict[str, str], prefix: str) -> tuple[int, ...]:
    return tuple(int(row[f"{prefix}_{name}"]) for name in ("cycles", "act", "row_hit", "row_miss", "row_conflict"))


@pytest.mark.parametrize("row", _rows("patterns.csv"), ids=lambda row: f"{row['nch']}-{row['pattern']}")
def test_our_traces_are_the_reference_traces(row: dict[str, str]) -> None:
    """Otherwise the comparison below compares different work."""
    address, size = logical_reads(row["pattern"], int(row["nch"]))
    assert f"{zlib.crc32(np.stack([address, size], 1).astype('<i8').tobytes()):08x}" == row["crc32"]
    assert accesses((address, size), 32).size == int(row["atoms32"])


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['nch']}-{row['mapping']}-{row['pattern']}")
def test_equal_to_ramulator(row: dict[str, str]) -> None:
    """Same protocol, same scheduler: clocks, activations and row hits are the same numbers, not close ones."""
    assert _counts(_run(row)) == _reference(row, "r2")


@pytest.mark.parametrize(
    "row", [row for row in GOLDEN if row["r2_noref_cycles"]], ids=lambda row: f"{row['nch']}-{row['pattern']}"
)
def test_equal_to_ramulator_without_refresh(row: dict[str, str]) -> None:
    assert _counts(_run(row, refresh=False)) == _reference(row, "r2_noref")


def test_close_to_dramsim3_with_the_default_map() -> None:
    """A second opinion with another controller (own command bus and queues per pseudo channel): 4 % on average.

    The random trace is left out, where the two references are 26 % apart.
    """
    rows = [row for row in GOLDEN if row["mapping"] == "cl64_xor" and not row["pattern"].startswith("b_rand")]
    errors = [abs(_run(row).cycles / int(row["d3_cycles"]) - 1) for row in rows]
    assert np.mean(errors) < 0.04
    assert np.percentile(errors, 90) < 0.08
