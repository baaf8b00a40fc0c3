"""The 30 benchmarks as data: labels, the published traces unchanged, calibration, techniques off, refusals."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from accel.errors import UserError
from workloads.benchmarks import LABELS, TECHNIQUES, Benchmark, Variant, find_benchmarks, load_benchmarks
from workloads.benchmarks.calibrate import HEADS_ALL, TOKENS_ALL, TOKENS_GPT2, WIDTHS_ALL, _benchmarks
from workloads.benchmarks.closed_form import (
    count,
    geometric_mean,
    head_factor,
    token_factor,
    total_factor,
    width_factor,
)
from workloads.benchmarks.loader import FOLDER, load_calibrated, load_family
from workloads.benchmarks.rows import heads_per_layer, row_trace, tokens_per_layer, work_of
from workloads.row_trace import as_release_testbench, operations, useful_bytes
from workloads.schedule import load_schedule

EVERY = load_benchmarks()
DENSE = Variant.of(("token-pruning", "value-pruning", "head-pruning", "quantisation"))


def one(name: str) -> Benchmark:
    (found,) = find_benchmarks([name])
    return found


def test_there_are_thirty_and_every_input_says_what_it_rests_on() -> None:
    assert len({bench.name for bench in EVERY}) == 30
    assert [sum(bench.family == family for bench in EVERY) for family in ("bert-base", "bert-large")] == [11, 11]
    assert sum(not bench.is_bert for bench in EVERY) == 8
    for bench in EVERY:
        for given in bench.inputs.labelled().values():
            assert given.label in LABELS
            assert given.source
        assert bench.inputs.length.label == ("memory" if bench.is_bert else "published")


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("gpt2-small-wikitext-2", "gpt2-small-wikitext2"), ("gpt2-medium-wikitext-2", "gpt2-medium-wikitext2")],
)
def test_benchmarks_of_published_traces_are_those_rows(name: str, schedule: str) -> None:
    ours, published = row_trace(one(name), Variant()), load_schedule(schedule)
    for column, array in published.columns():
        np.testing.assert_array_equal(getattr(ours, column), array, column)


@pytest.mark.parametrize(
    ("name", "variant", "total_MB", "done_G"),
    [
        ("gpt2-small-wikitext-2", Variant(), 83.7, 0.197),
        ("gpt2-medium-wikitext-2", Variant(), 714.8, 1.023),
        ("gpt2-small-ptb", DENSE, 746.1, 1.190),
        ("gpt2-medium-ptb", DENSE, 1989.7, 3.173),
    ],
)
def test_published_totals(name: str, variant: Variant, total_MB: float, done_G: float) -> None:
    trace = row_trace(one(name), variant)
    found = sum(useful_bytes(as_release_testbench(trace), round_to=8).values()) / 1e6
    assert found == pytest.approx(total_MB, rel=1e-3)
    assert operations(trace) / 1e9 == pytest.approx(done_G, rel=2e-3)


def test_calibrated_values_reach_the_published_averages_and_their_neighbours_do_not() -> None:
    gpt2 = [bench for bench in EVERY if not bench.is_bert]
    assert geometric_mean([token_factor(bench) for bench in gpt2]) == pytest.approx(TOKENS_GPT2, rel=0.02)
    assert geometric_mean([token_factor(bench) for bench in EVERY]) == pytest.approx(TOKENS_ALL, rel=0.02)
    assert geometric_mean([width_factor(bench) for bench in EVERY]) == pytest.approx(WIDTHS_ALL, rel=0.03)
    assert geometric_mean([head_factor(bench) for bench in EVERY]) == pytest.approx(HEADS_ALL, rel=0.02)
    stored = {name: given["value"] for name, given in load_calibrated().items()}

    def miss(name: str, value: float) -> float:
        mean = geometric_mean([token_factor(bench) for bench in _benchmarks({**stored, name: value})])
        return abs(mean - TOKENS_ALL)

    best = miss("bert_token_share", stored["bert_token_share"])
    assert all(best <= miss("bert_token_share", stored["bert_token_share"] + step) for step in (-0.01, 0.01))


def test_counts_of_a_sentence_by_hand() -> None:
    cola = one("bert-base-cola")
    # 2 layers keep all, then a line around 0.6 that spans half of 0.4 on either side: 0.8 to 0.4 of 11.
    assert tokens_per_layer(cola, Variant()) == (11, 11, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4)
    assert heads_per_layer(cola, Variant()) == (12,) * 4 + (9,) * 8
    keys = 12 * (11 + 11 + 9 + 8) + 9 * (8 + 7 + 7 + 6 + 6 + 5 + 5 + 4)
    assert count(cola).keys == keys
    assert head_factor(cola) == pytest.approx(1.2)
    assert total_factor(cola) == pytest.approx(12 * 12 * 11 / keys * 32 / 6)


def test_a_technique_that_is_off_leaves_no_trace() -> None:
    bench = one("gpt2-medium-1bw")
    rows = row_trace(bench, DENSE)
    assert rows.rows == 24 * 16 * 32
    np.testing.assert_array_equal(rows.keys, rows.live_tokens)
    np.testing.assert_array_equal(rows.values, rows.live_tokens)
    assert not rows.lsb_pass.any()
    assert not rows.accumulate_importance.any()
    assert set(rows.key_msb_bits) == set(rows.value_bits) == {12}
    with_all = row_trace(bench, Variant())
    assert with_all.lsb_pass.mean() == pytest.approx(0.059, abs=1e-3)
    assert set(with_all.layer[with_all.lsb_pass]) == {0, 1}
    cola = one("bert-base-cola")
    assert tokens_per_layer(cola, DENSE) == (11,) * 12
    assert heads_per_layer(cola, DENSE) == (12,) * 12


def test_the_same_work_is_told_from_other_work() -> None:
    assert work_of(one("bert-base-sts-b"), Variant()) == work_of(one("bert-base-qqp"), Variant())
    assert work_of(one("gpt2-small-ptb"), DENSE) == work_of(one("gpt2-small-1bw"), DENSE)
    for name, technique in (("bert-base-mrpc", "query-pruning"), ("gpt2-small-ptb", "value-pruning")):
        assert work_of(one(name), Variant()) != work_of(one(name), Variant.of([technique]))


def test_variants_are_in_one_order() -> None:
    assert Variant.of(reversed(TECHNIQUES)) == Variant.of(TECHNIQUES)
    with pytest.raises(UserError, match="did you mean head-pruning"):
        Variant.of(["head-prunning"])


def changed(folder: Path, *change: tuple[str, str]) -> Path:
    text = (FOLDER / "bert-base.yaml").read_text(encoding="utf-8")
    for before, after in change:
        assert before in text
        text = text.replace(before, after)
    path = folder / "changed.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("kind: benchmarks", "kind: network"), "of kind benchmarks"),
        (("about:", "abuot:"), "did you mean about"),
        (("{value: 11, label: memory, source: M}", "11"), "write it as {value, label, source}"),
        (("{value: 11, label: memory, source: M}", "{value: 11, label: guess, source: M}"), "is none of published"),
        (
            ("{value: 11, label: memory, source: M}", "{value: 0, label: memory, source: M}"),
            "greater than or equal to 1",
        ),
        (("{value: 11, label: memory, source: M}", "{value: 11, label: memory, source: Z}"), "not in sources"),
        (("{value: 11, label: memory, source: M}", "{value: 11, label: calibrated, source: M}"), "refer to it by name"),
        (("{calibrated: bert_bits}", "{calibrated: bert_bitz}"), "nothing is calibrated as 'bert_bitz'"),
        (("value: [12, 12, 12, 12,", "value: [12, 12, 12,"), "heads_kept has 11 entries"),
        (("value: [12, 12, 12, 12,", "value: [12, 9, 12, 12,"), "never grows"),
        (("    title: CoLA", "    titel: CoLA"), "write it as"),
        (("value: linear", "value: steep"), "token_schedule is linear for a sentence"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(UserError, match=r"changed\.yaml") as error:
        load_family(changed(tmp_path, change), load_calibrated())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_calibrated_values_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "calibrated.yaml"
    path.write_text(yaml.safe_dump({"kind": "other"}), encoding="utf-8")
    with pytest.raises(UserError, match="not a file of calibrated values"):
        load_calibrated(path)
