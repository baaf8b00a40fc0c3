"""Rows of the zoo in all their configurations: the error's bound, techniques together, the crossover."""

import pytest

from accel.arch import load_arch
from accel.zoo import crossover
from accel.zoo.error import BOUND, measure
from accel.zoo.row import run_row
from workloads.systems import find_run, load_zoo

FULL = load_arch("spatten")
ALL = [one for system in load_zoo() for one in system.configurations]


def test_the_error_of_every_kernel_of_every_configuration_is_below_the_bound() -> None:
    assert len(ALL) == 87
    for one in ALL:
        for call in one.calls():
            found = measure(call.kernel, FULL)
            assert found is None or found.error < BOUND or found.why, f"{one.name}: {call.label}: {found}"
            assert found is None or not found.why, "a row above the bound: say so in docs/zoo.md and here"


def test_techniques_together_gain_what_each_gains_on_its_own_streams() -> None:
    row = run_row(*find_run("hopfield-bits"), FULL)
    alone, both = row["techniques"], row["together"]
    singles = [said["gain_step"] for said in alone.values()]
    assert all(gain > 1 for gain in singles)
    assert max(singles) < both["gain_step"] <= singles[0] * singles[1] * singles[2] * 1.001
    assert both["gain_time"] > 1
    assert both["gain_energy"] > 1
    assert both["error"] > 0


def test_a_row_without_techniques_gains_nothing_together() -> None:
    row = run_row(*find_run("global-workspace"), FULL)
    together = row["together"]
    assert together["gain_step"] == together["gain_time"] == pytest.approx(1)


SHORT = load_arch("spatten", {"max_context": 64})
"""A tile of 64 keys, so that four of them take a moment."""


@pytest.mark.parametrize("form", crossover.QUADRATIC)
def test_four_tiles_are_what_three_tiles_foretell(form: str) -> None:
    told, measured = crossover.point(form, 256, SHORT), crossover.measure(form, 256, SHORT)
    assert told.dram_bytes == measured.dram_bytes
    assert told.cycles == pytest.approx(measured.cycles, rel=0.01)


def test_crossover_and_its_figure() -> None:
    report = crossover.crossover_report(SHORT, "accel zoo --crossover", (64, 128, 512, 1024))
    by = {(row["form"], row["tokens"]): row for row in report["rows"]}
    for form in ("recurrent", "chunkwise"):
        growth = by[form, 1024]["dram_bytes"] / by[form, 512]["dram_bytes"]
        assert growth == pytest.approx(2, rel=0.01), "traffic in proportion to the length"
    for form in crossover.QUADRATIC:
        assert by[form, 1024]["dram_bytes"] > 3 * by[form, 512]["dram_bytes"]
    crossings_found = {(one["form"], one["against"], one["what"]): one["tokens"] for one in report["crossings"]}
    assert 128 <= crossings_found["recurrent", "softmax attention", "cycles"] <= 256, (
        "a line of a state every other cycle"
    )
    pytest.importorskip("matplotlib")
    from reports.figures.crossover import crossings
    from reports.figures.crossover import crossover as figure

    assert crossings(report, "cycles")["recurrent"] == crossings_found["recurrent", "softmax attention", "cycles"]
    svg = figure(report)
    assert svg == figure(report)
    assert "softmax attention, 1,024 tokens: " in svg
