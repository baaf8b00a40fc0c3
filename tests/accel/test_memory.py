"""Memory descriptions: presets load, carry their sources, and wrong ones are refused with one useful line."""

import copy
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from accel.errors import UserError
from accel.memory import PRESET_DIR, MemorySpec, load_memory, memory_from_mapping, memory_names


def _hbm2() -> dict[str, Any]:
    return yaml.safe_load((PRESET_DIR / "hbm2.yaml").read_text(encoding="utf-8"))


def test_the_folder_is_the_list() -> None:
    assert {"hbm2", "ddr4", "lpddr5"} <= set(memory_names())


@pytest.mark.parametrize("name", memory_names())
def test_every_entry_has_a_source(name: str) -> None:
    spec = load_memory(name)
    assert set(spec.sources) == set(MemorySpec.model_fields) - {"name", "sources"}
    assert all(spec.sources.values())


@pytest.mark.parametrize(
    ("name", "bytes_per_s", "latency"), [("hbm2", 32e9, 31), ("ddr4", 19.2e9, 36), ("lpddr5", 12.8e9, 35)]
)
def test_derived_figures(name: str, bytes_per_s: float, latency: int) -> None:
    """Peak rate is data rate times width; a closed-bank read is ACT + RCD + CL + burst."""
    spec = load_memory(name)
    assert spec.peak_bytes_per_channel_per_s == pytest.approx(bytes_per_s, rel=1e-3)
    assert spec.closed_read_cycles == latency


def test_hbm2_is_the_published_512_GB_per_s() -> None:
    spec = load_memory("hbm2")
    assert spec.channels * spec.peak_bytes_per_channel_per_s == pytest.approx(512e9)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        load_memory("hbm2").CL = 3  # type: ignore[misc]


def test_with_channels_keeps_the_rest() -> None:
    spec = load_memory("hbm2")
    assert spec.with_channels(4).model_dump(exclude={"channels"}) == spec.model_dump(exclude={"channels"})
    assert spec.with_channels(4).channels == 4


def _refused(entries: object) -> str:
    with pytest.raises(UserError) as caught:
        memory_from_mapping("mine", entries)
    message = str(caught.value)
    assert "\n" not in message
    assert "memory 'mine'" in message
    return message


def test_unknown_field_gets_a_suggestion() -> None:
    entries = _hbm2()
    entries["CCDL"] = entries.pop("CCD_L")
    assert "unknown field 'CCDL'; did you mean 'CCD_L'?" in _refused(entries)


def test_missing_field_says_what_to_give() -> None:
    entries = _hbm2()
    del entries["FAW"]
    assert "'FAW' is missing; give {value, unit: tCK, source}" in _refused(entries)


@pytest.mark.parametrize(
    ("field", "entry", "words"),
    [
        ("CL", {"value": 14, "unit": "ns", "source": "x"}, "unit is 'ns', has to be 'tCK'"),
        ("CL", {"value": 14, "unit": "tCK"}, "expected {source, unit, value}"),
        ("CL", 14, "expected {source, unit, value}"),
        ("CL", {"value": 14, "unit": "tCK", "source": " "}, "source is empty"),
        ("CL", {"value": 14.5, "unit": "tCK", "source": "x"}, "'CL'"),
        ("CL", {"value": "14", "unit": "tCK", "source": "x"}, "'CL'"),
        ("CL", {"value": 0, "unit": "tCK", "source": "x"}, "'CL'"),
    ],
)
def test_bad_entry(field: str, entry: object, words: str) -> None:
    assert words in _refused({**_hbm2(), field: entry})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RC": 47}, "RC (47) has to be at least RAS + RP (48)"),
        ({"channels": 12}, "channels is 12, but has to be a power of two"),
        ({"row_bytes": 1000}, "row_bytes is 1000"),
        ({"banks_per_group": 16}, "banks per channel"),
        ({"CCD_L": 1}, "CCD_L"),
        ({"CCD_S": 1}, "CCD_S"),
        ({"WTR_L": 1}, "WTR_L"),
        ({"FAW": 2}, "FAW"),
        ({"RPab": 2}, "RPab"),
        ({"CWL": 18}, "read-to-write"),
        ({"REFI": 300}, "REFI"),
        ({"command_buses": 3}, "command_buses"),
        ({"write_low_watermark": 60}, "watermarks"),
        ({"address_map": "co1 ch pc bg co3 ba ro"}, "4 column bits, but a row has 32 accesses (5 bits)"),
        ({"address_map": "co1 ch bg co4 ba ro"}, "'pc' is missing"),
        ({"address_map": "co1 ch pc bg co4 ba bx ro"}, "'bx' is not one of"),
        ({"address_map": "co1 ch ch pc bg co4 ba ro"}, "'ch' is not one of"),
        ({"address_map": "ro co1 ch pc bg co4 ba"}, "last field"),
        ({"address_map": "co1 ch pc bg co4 ba"}, "last field"),
        ({"address_map": ""}, "'ch' is missing"),
    ],
)
def test_impossible_memory(changes: dict[str, object], words: str) -> None:
    entries = copy.deepcopy(_hbm2())
    for field, value in changes.items():
        entries[field]["value"] = value
    assert words in _refused(entries)


def test_not_a_mapping() -> None:
    assert "expected a mapping" in _refused([1, 2])


def test_unknown_name_and_path_tricks() -> None:
    with pytest.raises(UserError, match="did you mean 'hbm2'"):
        load_memory("hbm")
    with pytest.raises(UserError, match="no such preset"):
        load_memory("../memory/hbm2")
