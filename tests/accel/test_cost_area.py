"""Area: parts add up, grows with the machine, and is set beside the published figure without adjustment."""

import math

import pytest

from accel.arch import load_arch
from accel.cost.area import area
from accel.cost.factors import load_technology
from accel.errors import UserError


@pytest.mark.parametrize("preset", ["spatten", "spatten-1-8", "edge", "tiny"])
def test_parts_add_up_and_have_sources(preset):
    report = area(load_arch(preset))
    parts = dict(report.area_mm2)
    total = parts.pop("total")
    assert total == pytest.approx(math.fsum(line.count * line.factor_mm2 for line in report.lines))
    assert total == pytest.approx(math.fsum(parts.values()))
    assert all(len(line.source) > 20 for line in report.lines)
    # One memory channel needs no data multiplexer, one lane no address multiplexer; nothing else is free.
    free = {"data multiplexer bits", "address multiplexer bits"}
    assert {line.count_name for line in report.lines if line.area_mm2 <= 0} <= free
    assert report.to_json()["area_mm2"]["total"] == report.area_mm2["total"]


def test_multipliers_are_in_square_millimetres():
    """512 x 893 um2 = 0.457 mm2: a slip in um2 -> mm2 shows here."""
    lines = {(line.part, line.count_name): line for line in area(load_arch("spatten")).lines}
    assert lines["qk_array", "multipliers"].area_mm2 == pytest.approx(0.457, abs=1e-3)
    macro = load_technology(40).sram.smallest("kv", 12288)
    assert lines["sram_k", "macros"].area_mm2 == pytest.approx(16 * macro.area_mm2)


@pytest.mark.parametrize(
    "change",
    [
        {"qk.multipliers": 1024}, {"topk.lanes": 32}, {"softmax.lanes": 16}, {"fetcher.lanes": 64},
        {"memory.channels": 32}, {"sram.k_bytes": 393216}, {"sram.v_bytes": 393216}, {"max_heads": 256},
        {"max_context": 2048}, {"softmax.buffer_keys": 4096}, {"pv.output_lanes": 64}, {"fetcher.query_slots": 64},
    ],
)  # fmt: skip
def test_a_larger_machine_is_larger(change):
    """Without the states, which a machine with more than 8 softmax lanes or arrays of two sizes does not have."""
    arch = load_arch("spatten")

    def without_states(arch):
        parts = area(arch).area_mm2
        return parts["total"] - parts.get("states", 0.0)

    assert without_states(arch.replace(change)) > without_states(arch)


@pytest.mark.parametrize(("preset", "published_mm2"), [("spatten", 18.71), ("spatten-1-8", 1.55)])
def test_the_published_figure_stands_beside_ours(preset, published_mm2):
    report = area(load_arch(preset))
    ours = report.area_mm2["total"]
    assert report.published.value == published_mm2
    assert f"published {published_mm2:.2f} mm2, ours {ours:.2f} mm2" in report.comparison
    assert f"difference {ours - published_mm2:+.2f} mm2" in report.comparison


def test_each_top_k_engine_has_parts_of_its_own():
    """Counters are registers, the sorter's exchanges grow with the width, the parts of quick-select are its own."""
    lines = {
        unit: {
            line.count_name: line.count
            for line in area(load_arch("spatten", {"topk.unit": unit})).lines
            if line.part == "topk"
        }
        for unit in ("quickselect", "histogram", "sorter")
    }
    assert set(lines["quickselect"]) == {"comparators", "zero eliminator lanes", "macros"}
    assert lines["histogram"]["counter bits"] == 2 * 2 * 64 * 11
    assert lines["sorter"]["compare-exchanges"] == (63 + 48) * (12 + 48) / 12


def test_a_changed_machine_is_not_compared_with_the_published_one():
    report = area(load_arch("spatten", {"topk.lanes": 32}))
    assert report.published is None
    assert report.comparison is None


def test_a_technology_without_factors_is_named():
    with pytest.raises(UserError, match=r"technology_nm 7.*available: 28, 40, 45"):
        area(load_arch("spatten", {"technology_nm": 7}))
