"""Figures: the same bytes every time, colours of the palette only, ids of their own, numbers that are the report's."""

import copy
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from reports.build import Document
from reports.figures.canvas import standalone
from reports.figures.crossover import crossings, crossover
from reports.figures.energy import grouped
from reports.figures.reproduction import reproduction
from reports.figures.rivals import means
from reports.figures.roofline import Point, roof, roofline
from reports.figures.waterfall import steps, waterfall
from reports.figures.zoo_heat import tint
from reports.palette import COLOURS
from tests.reports import made_up

Report = dict[str, Any]


def test_every_figure_is_well_formed_named_and_in_the_palette(everything: Document) -> None:
    figures = {figure.name: figure.svg for section in everything.sections for figure in section.figures}
    assert len(figures) >= 12
    ids: list[str] = []
    for name, svg in figures.items():
        tree = ElementTree.fromstring(svg)
        assert tree.get("role") == "img", name
        found = [element.get("id", "") for element in tree.iter() if element.get("id")]
        assert set((tree.get("aria-labelledby") or "").split()) <= set(found), name
        ids += found
        for target in re.findall(r"url\(#([^)]+)\)", svg) + re.findall(r'href="#([^"]+)"', svg):
            assert target in found, f"{name}: {target}"
        outside = re.sub(r"var\(--[a-z0-9-]+, #[0-9a-f]{6}\)", "", svg)
        assert not re.findall(r"[:\"]\s*#[0-9a-f]{6}\b", outside), f"{name}: a colour that no theme can change"
        assert "mathdefault" not in svg
        assert "1970" not in svg
    assert len(ids) == len(set(ids)), "an id twice in one page"


def test_the_same_report_gives_the_same_bytes(a_run: Report) -> None:
    assert waterfall(a_run) == waterfall(copy.deepcopy(a_run))
    rows = made_up.bench(a_run)["reproduction"]
    assert reproduction(rows) == reproduction(rows)


def test_a_file_of_its_own_knows_both_themes(a_run: Report) -> None:
    text = standalone(waterfall(a_run))
    ElementTree.fromstring(text.encode())
    assert "prefers-color-scheme: dark" in text
    for theme in ("light", "dark"):
        assert f"--ours: {getattr(COLOURS['ours'], theme)};" in text


def published() -> Report:
    """The counters of gpt2-small-wikitext2 on spatten that the waterfall reads, from the published run."""
    return {
        "workload": {"kind": "trace", "name": "gpt2-small-wikitext2", "rows": 4608}, "arch": {"name": "spatten"},
        "baseline_bytes": {"fp32": 2381709312},
        "counts": {
            "rows": 4608, "lsb_refetch_rows": 323, "keys": 1283172, "macs": {"qk": 99297728, "pv": 16331520},
            "softmax": {"exponentials": 1551527}, "dram_write_bytes": 589824,
            "dram_useful_bytes": {"q": 442368, "k_msb": 61592256, "k_lsb": 8587360, "v": 12248640, "weights": 0},
            "dram_read_bytes": {"q": 442368, "k_msb": 73623552, "k_lsb": 8587360, "v": 16331520, "weights": 0},
        },
    }  # fmt: skip


def test_waterfall_tells_techniques_apart_where_each_row_reads_its_own_keys() -> None:
    found = steps(published())
    names = [step.name for step in found]
    assert names == [
        "dense, fp32", "token and head pruning", "value pruning", "narrower words", "LSB refetch", "whole bursts"
    ]  # fmt: skip
    pruned = 4 * 64 * (2 * 4608 + 2 * 1283172)  # Q, output, K, V of kept keys, four bytes a number
    assert [step.bytes for step in found[:3]] == [2381709312, pruned, pruned - 4 * (64 * 1283172 - 16331520)]
    assert found[-1].bytes == 99574624, "what crossed the bus"
    assert found[3].cause == "first plane of K 6 bit, V 6 bit"


def test_waterfall_does_not_guess_where_queries_share_keys() -> None:
    shared = published()
    shared["workload"]["kind"] = "network"
    assert [step.name for step in steps(shared)][1] == "pruning, narrower words"
    odd = published()
    odd["counts"]["dram_useful_bytes"]["k_msb"] //= 7
    assert [step.name for step in steps(odd)][1] == "pruning, narrower words"


def test_energy_groups_lose_nothing() -> None:
    parts = {"dram_transfer": 5.0, "qk_array": 2.0, "something_new": 1.0, "total": 8.0}
    assert grouped(parts) == {"DRAM transfer": 5.0, "QK and PV arrays": 2.0, "other parts": 1.0}


def test_lines_of_the_crossover_are_where_attention_is_left_behind(a_run: Report) -> None:
    report = made_up.crossover(a_run)
    assert crossings(report, "dram_bytes") == {"chunkwise": 3230.4, "recurrent": 1024.0}
    assert crossings(report, "cycles") == {"recurrent": 64.0}, "chunkwise never does"
    drawn = crossover(report)
    assert drawn.count("3,230") == 1
    assert drawn.count("1,024") == 1, "from the shortest length on is no place on the axis, so 64 has no line"
    assert len(re.findall(r">64</text>", drawn)) == 2, "ticks only"


def test_rivals_are_averaged_over_what_all_of_them_ran() -> None:
    rows = [
        {"machine": "a", "workload": "x", "dram_bytes": 2.0}, {"machine": "a", "workload": "y", "dram_bytes": 8.0},
        {"machine": "a", "workload": "z", "dram_bytes": 1e9},
        {"machine": "b", "workload": "x", "dram_bytes": {"total": 1.0}},
        {"machine": "b", "workload": "y", "dram_bytes": 1.0},
    ]  # fmt: skip
    assert means(rows, "dram_bytes") == pytest.approx({"a": 4.0, "b": 1.0})


def test_tints_are_steps_of_a_column_that_spreads() -> None:
    assert [tint(value, [1, 10, 100_000], True) for value in (1, 10, 100_000)] == [0, 1, 4]
    assert {tint(value, [1.0, 1.04], True) for value in (1.0, 1.04)} == {0}, "a spread of 4 % is none"


def test_roof_of_a_stored_machine(a_run: Report) -> None:
    found = roof(a_run["arch"])
    assert found is not None
    assert found.operations_per_s == a_run["throughput_ops_per_s"]["peak"]
    assert roof({"name": "of another version"}) is None
    said = roofline([Point("a <b>", "tiny", "a", 2.0, 1e9)], [found])
    assert "a &lt;b&gt; on tiny: 2 operations per byte, 1 GOP/s" in said
