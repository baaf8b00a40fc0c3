"""The printed tables show the report's numbers, fit the page, and survive what users and other versions give them."""

import copy
import io
import re
from typing import Any

import pytest

from accel.arch import load_arch
from accel.errors import UserError
from accel.session import run_trace
from reports.compare_table import print_comparison
from reports.page import bar, console, prefix_of, quantity, share
from reports.run_table import limit_sentence, print_run
from tests.accel.cli_case import tiny_trace
from workloads.traces import load_trace

Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    trace = load_trace(tiny_trace(tmp_path_factory.mktemp("trace")))
    return run_trace(trace, load_arch("tiny"), 1, 1).report


def printed(*reports: Report) -> str:
    out = io.StringIO()
    if len(reports) == 1:
        print_run(reports[0], console(out))
    else:
        print_comparison(list(reports), console(out))
    return out.getvalue()


def named(report: Report, workload: str, machine: str = "spatten") -> Report:
    changed = copy.deepcopy(report)
    changed["workload"]["name"], changed["arch"]["name"] = workload, machine
    return changed


def test_units_and_numbers(report: Report) -> None:
    text = printed(report)
    counts, rate = report["counts"], report["throughput_ops_per_s"]
    moved = sum(counts["dram_read_bytes"].values()) + counts["dram_write_bytes"]
    assert f"{report['cycles']:,} cycles = {report['latency_s'] * 1e6:.2f} us at 1000 MHz" in text
    assert f"{rate['done'] / 1e9:.1f} GOP/s done" in text
    assert re.search(rf"^total +{moved / 1e3:,.2f}\b", text, re.M), "DRAM bytes, in kB here"
    for name, ratio in report["dram_reduction"].items():
        assert re.search(rf"^{name} .* {report['dram_reduction_useful'][name]:.1f} x +{ratio:.1f} x\b", text, re.M)
    for name in ("dram", "qk", "softmax", "topk", "pv", "writer"):
        assert re.search(rf"^{name} +{report['bound'][name]:,} ", text, re.M)
    watts = report["energy_pJ"]["total"] * 1e-12 / report["latency_s"]
    assert f"{watts:.2f} W" in text
    assert "(2 seeds)" in text


def test_it_fits_the_page(report: Report) -> None:
    long = named(report, "a-name-" * 20)
    long["notes"] = ["a long note " * 20]
    assert max(map(len, printed(long).splitlines())) <= 80
    assert all(line == line.rstrip() for line in printed(long).splitlines())


@pytest.mark.parametrize("times", [1, 1000, 10**6, 10**9])
def test_no_digit_is_cut_off(report: Report, times: int) -> None:
    large = copy.deepcopy(report)
    large["cycles"] *= times
    for name in ("dram", "qk", "softmax", "topk", "pv", "writer"):
        large["bound"][name] *= times
    for name in large["energy_pJ"]:
        large["energy_pJ"][name] *= times
    text = printed(large)
    for name in ("dram", "qk", "softmax", "topk", "pv", "writer"):
        assert re.search(rf"^{name} +{large['bound'][name]:,} ", text, re.M)
    assert all(f"{part.replace('_', ' ')} " in text for part in large["energy_pJ"])
    compared = printed(large, report, large, report)
    assert f"{large['cycles']:,}" in compared


def test_published_figures_are_labelled_and_stand_only_where_they_belong(report: Report) -> None:
    assert "published" not in printed(report)
    text = printed(named(report, "gpt2-small-wikitext2"))
    assert "published     430.0 GOP/s, average of the 8 GPT-2 benchmarks" in text
    assert re.search(r"published +18\.71 mm2", text)
    assert re.search(r"published +8\.30 W", text)
    changed = named(report, "gpt2-small-wikitext2")
    changed["options"] = {"set": {"topk.lanes": 32}}
    text = printed(changed)
    assert "18.71" not in text
    assert "spatten, topk.lanes = 32" in text


def test_brackets_are_text(report: Report) -> None:
    for name in ("[bold]x[/bold]", "[/nothing]", ":smile:"):
        assert name in printed(named(report, name))


def test_quality_and_notes(report: Report) -> None:
    shown = {**report, "quality": {"perplexity": 12.34567, "tokens": 3}, "notes": ["first", "second"]}
    text = printed(shown)
    assert re.search(r"^perplexity +12\.3457$", text, re.M)
    assert re.search(r"^note 1 +first$", text, re.M)


def test_a_trace_says_that_its_scores_are_drawn(report: Report) -> None:
    assert "scores are drawn" in " ".join(printed(report).split())


@pytest.mark.parametrize("key", ["counts", "bound", "energy_pJ", "throughput_ops_per_s", "arch"])
def test_a_report_of_another_version_is_refused_in_one_line(report: Report, key: str) -> None:
    lacking = {name: value for name, value in report.items() if name != key}
    for reports in ((lacking,), (report, lacking)):
        with pytest.raises(UserError) as caught:
            printed(*reports)
        assert "\n" not in str(caught.value)
        assert key in str(caught.value)


def test_the_sentence_names_the_limit_or_says_that_there_is_none(report: Report) -> None:
    def sentence(**cycles: int) -> str:
        bound = dict.fromkeys(("dram", "qk", "softmax", "topk", "pv", "writer"), 10) | cycles
        return limit_sentence({**report, "cycles": 1000, "bound": bound})

    assert "the memory, which alone would need 90 % of the cycles (next: the QK array, 20 %)" in sentence(
        dram=900, qk=200
    )
    assert "memory.channels" in sentence(dram=900)
    assert "no part alone" in sentence(topk=300)
    assert sentence(writer=800).endswith("%).")


def test_comparison_warns_of_different_work(report: Report) -> None:
    other = copy.deepcopy(report)
    assert "different" not in printed(report, other)
    other["workload"]["sha256"], other["code_version"] = "0", "another"
    text = printed(report, other, report)
    assert "different workloads" in text
    assert "different versions of the code" in text
    assert re.search(r"^cycles +([\d,]+) +\1  1\.000 x +\1  1\.000 x$", text, re.M)


def test_comparison_with_nothing_to_divide_by(report: Report) -> None:
    none = copy.deepcopy(report)
    none["counts"]["lsb_refetch_rows"] = 0
    assert re.search(r"^LSB second passes +0 +\d+  -$", printed(none, report), re.M)


def test_numbers() -> None:
    assert quantity(0.00047925, "s") == "479.25 us"
    assert quantity(0, "B") == "0.00 B"
    assert prefix_of(1e6) == (1e6, "M")
    assert share(1, 0) == "-"
    assert (bar(0, 10), bar(0.001, 10), bar(1, 10), bar(7, 10)) == ("", "#", "#" * 10, "#" * 10)
