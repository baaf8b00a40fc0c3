"""Schedules are facts that unroll into the published rows exactly; a file that says something impossible is refused."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from workloads import catalog
from workloads.schedule import load_schedule
from workloads.traces import as_release_testbench, dense_operations, issue_cycles, load_trace, operations, useful_bytes

PUBLISHED = Path("/work/shared/traces/gpt2-small-wikitext2-pruned.csv")

TINY: dict[str, Any] = {
    "kind": "token_schedule",
    "name": "tiny",
    "about": "the schedule behind tests/data/traces/tiny-pruned.csv",
    "sources": {"M": "made up"},
    "config": "configs/tiny/pruned.yml",
    "model": {"layers": 2, "head_dim": 64, "heads": [{"layers": "0-1", "heads": 3}]},
    "context": {"prompt_tokens": 20, "generated_tokens": 2, "full_tokens": 24},
    "widths": {"key_msb_bits": 6, "key_lsb_bits": 4, "query_bits": 16, "value_bits": 6, "lsb_threshold": 0.05},
    "keys": {"dense_iterations": 0, "kept": [{"layers": 0, "tokens": 16}, {"layers": 1, "tokens": 9}]},
    "values": {"kept_share": 0.5},
    "token_topk": [
        {"iterations": 0, "after_layer": 1, "keep": 16},
        {"iterations": 1, "after_layer": 0, "keep": 9},
    ],
    "importance": {
        "not_accumulated": [{"iterations": 1, "layers": 1}],
        "rescaled": [{"iterations": 0, "after_layer": 1}],
    },
    "lsb_passes": [{"layers": 0}, {"iterations": 0, "layers": 1, "heads": "0"}],
    "totals": {"rows": 12, "lsb_passes": 7, "key_lines": 30, "lsb_key_lines": 18, "value_lines": 18},
}


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any] = lambda data: None) -> Path:
    """TINY as a file, after `change` has edited a copy of it in place."""
    data = yaml.safe_load(yaml.safe_dump(TINY))
    change(data)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_schedule(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_same_rows(schedule: Any, trace: Any) -> None:
    for (column, a), (_, b) in zip(schedule.columns(), trace.columns(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=column)
        assert a.dtype == b.dtype


def test_a_schedule_unrolls_into_the_rows_of_its_trace(tmp_path: Path) -> None:
    trace = load_trace(Path(__file__).parents[1] / "data" / "traces" / "tiny-pruned.csv")
    schedule = load_schedule(written(tmp_path))
    assert_same_rows(schedule, trace)
    assert (schedule.name, schedule.config) == ("tiny", trace.config)
    assert schedule.source.path.endswith("tiny.yaml")


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published traces are not here")
def test_gpt2_small_is_the_published_trace_row_by_row() -> None:
    schedule, trace = load_schedule("gpt2-small-wikitext2"), load_trace(PUBLISHED)
    assert_same_rows(schedule, trace)
    assert schedule.config == trace.config


def test_gpt2_small_totals() -> None:
    trace = load_schedule("gpt2-small-wikitext2")
    assert (trace.rows, trace.layers, trace.heads, trace.notes) == (4608, 12, 12, ())
    assert issue_cycles(trace) == {"qk_msb": 162_336, "qk_lsb": 33_767, "pv": 33_132}
    assert sum(useful_bytes(trace, round_to=8).values()) / 512 == pytest.approx(163_484, abs=1)  # at 512 B per cycle


def test_gpt2_medium_meets_every_published_total() -> None:
    trace = load_schedule("gpt2-medium-wikitext2")
    assert (trace.rows, trace.layers, trace.heads) == (11_328, 24, 16)
    assert issue_cycles(trace) == {"qk_msb": 773_852, "qk_lsb": 0, "pv": 235_270}
    assert int((~trace.accumulate_importance).sum()) == 178
    in_MB = {tensor: n / 1e6 for tensor, n in useful_bytes(as_release_testbench(trace), round_to=8).items()}
    assert in_MB == pytest.approx({"key_msb": 396.2, "key_lsb": 198.1, "value": 120.5}, rel=5e-4)
    assert sum(in_MB.values()) * 1e6 / 512 == pytest.approx(1_396_048, abs=1)
    assert (operations(trace) / 1e9, dense_operations(trace) / 1e9) == pytest.approx((1.023, 3.173), rel=5e-4)
    last = trace.iteration == 31
    kept = {int(layer): int(keys) for layer, keys in zip(trace.layer[last], trace.keys[last], strict=True)}
    assert list(kept.values()) == [1024] * 2 + [921] + [819] * 2 + [614] * 6 + [307] * 13
    assert any("not from the published rows" in note for note in trace.notes)


@settings(max_examples=30)
@given(
    layers=st.integers(1, 5),
    heads=st.integers(1, 4),
    tokens=st.integers(1, 6),
    prompt=st.integers(0, 40),
    kept=st.integers(1, 60),
    share=st.sampled_from([1, 0.9, 0.5, 0.3, 0.1]),
)
@example(layers=1, heads=1, tokens=1, prompt=40, kept=10, share=0.3)
def test_any_uniform_schedule_is_a_possible_trace(
    tmp_path_factory: pytest.TempPathFactory, layers: int, heads: int, tokens: int, prompt: int, kept: int, share: float
) -> None:
    def change(data: dict[str, Any]) -> None:
        last = f"0-{layers - 1}"
        data["model"] = {"layers": layers, "head_dim": 64, "heads": [{"layers": last, "heads": heads}]}
        data["context"] = {"prompt_tokens": prompt, "generated_tokens": tokens, "full_tokens": 64}
        data["keys"] = {"kept": [{"layers": last, "tokens": kept}]}
        data["values"] = {"kept_share": share}
        for key in ("token_topk", "importance", "lsb_passes", "totals"):
            del data[key]

    path = written(tmp_path_factory.mktemp("uniform"), change)
    if Decimal(str(share)) * kept < 1:
        assert "leaves none" in refusal(path)
        return
    trace = load_schedule(path)
    assert trace.rows == tokens * layers * heads
    assert (trace.values >= 1).all()
    wanted = int(Decimal(str(share)) * kept)  # 0.3 of 10 is 3, though the double nearest to 0.3 is less than 0.3
    assert trace.values.tolist() == np.minimum(wanted, trace.keys).tolist()
    assert (trace.values <= trace.keys).all()
    assert (trace.keys <= trace.live_tokens).all()
    order = np.lexsort((trace.head, trace.layer, trace.iteration))
    np.testing.assert_array_equal(order, np.arange(trace.rows))


def put(*steps: Any) -> Callable[[dict[str, Any]], None]:
    """A change that sets the value at a place: put("model", "layers", 3)."""
    *place, key, value = steps

    def change(data: Any) -> None:
        for step in place:
            data = data[step]
        data[key] = value

    return change


@pytest.mark.parametrize(("change", "fault"), [
    (put("modle", {}), "unknown key modle; did you mean model?"),
    (put("widths", "value_bit", 6), "unknown key widths.value_bit; did you mean value_bits?"),
    (put("lsb_passes", 1, "head", 0), "unknown key lsb_passes.1.head; did you mean heads?"),
    (put("importance", "xyz", 0), "unknown key importance.xyz; known here: not_accumulated, rescaled"),
    (lambda d: d.pop("widths"), "widths is missing"),
    (lambda d: d["model"].pop("layers"), "model.layers is missing"),
    (put("kind", "kernel"), "kind is 'kernel'; a schedule of rows is of kind token_schedule"),
    (put("model", "layers", "2"), "model.layers: '2' is not possible"),
    (put("model", "layers", True), "model.layers: True is not possible"),
    (put("model", "head_dim", 0), "model.head_dim: 0 is not possible"),
    (put("model", "layers", 3), "model.heads wants every layer 0-2 exactly once, it has [0, 1]"),
    (put("keys", "kept", 1, "layers", 0), "keys.kept wants every layer 0-1 exactly once, it has [0, 0]"),
    (put("keys", "kept", 1, "layers", "1-x"), 'a number, or a range such as "2-5" or "0-3,7", is right'),
    (put("keys", "kept", 1, "layers", "1-0"), 'a number, or a range such as "2-5" or "0-3,7", is right'),
    (put("keys", "kept", 1, "layers", -1), 'a number, or a range such as "2-5" or "0-3,7", is right'),
    (put("keys", "kept", 1, "layers", "1,1"), "each number once is right"),
    (put("keys", "kept", 1, "tokens", 0), "keys.kept.1.tokens: 0 is not possible"),
    (put("keys", "kept", 1, "tokens", 8), "token_topk after layer 0 keeps 9, layer 1 reads 8"),
    (put("values", "kept_share", 0.01), "values.kept_share: 0.01 of 9 kept tokens leaves none"),
    (put("values", "kept_share", 1.5), "values.kept_share: 1.5 is not possible"),
    (put("values", "kept_share", float("nan")), "values.kept_share: nan is not possible"),
    (put("widths", "key_lsb_bits", 8), "key_msb_bits and key_lsb_bits exceed 12 bit together"),
    (put("widths", "key_lsb_bits", 0), "lsb_passes wants a key_lsb_bits of 1 or more"),
    (put("context", "generated_tokens", 9_000_000), "rows are too many"),
    (put("token_topk", 0, "after_layer", 7), "token_topk: after_layer 7 is not there, 0 to 1 are"),
    (put("lsb_passes", 1, "heads", "0-3"), "lsb_passes: heads 3 is not there, 0 to 2 are"),
    (put("lsb_passes", 1, "layers", 0), "lsb_passes: two rules name the same row"),
    (put("importance", "rescaled", 0, "iterations", 2), "importance.rescaled: iterations 2 is not there, 0 to 1 are"),
    (put("totals", "lsb_passes", 8), "totals.lsb_passes: the rows add up to 7, the file says 8"),
    (put("totals", "value_lines", 19), "totals.value_lines: the rows add up to 18, the file says 19"),
])  # fmt: skip
def test_a_wrong_schedule_is_refused(tmp_path: Path, change: Callable[[Any], Any], fault: str) -> None:
    path = written(tmp_path, change)
    assert refusal(path).startswith(f"{path}: ")
    assert fault in refusal(path)


def test_a_selection_of_more_than_there_is(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        put("keys", "kept", 0, "tokens", 22)(data)
        put("token_topk", 0, "keep", 22)(data)

    assert "token_topk: keep 22 is more than the live tokens" in refusal(written(tmp_path, change))


@pytest.mark.parametrize(("text", "fault"), [
    ("kind: a\nkind: b\n", "key 'kind' is given twice"),
    ("kind: [", "not valid YAML"),
    ("- 1\n- 2\n", "a workload is a mapping"),
    ("", "a workload is a mapping"),
    ("kind: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ("about: \udcff", "not valid YAML"),
    ("about: 2001-99-99", "not valid YAML"),
    ("? [a]\n: b", "not valid YAML"),
    ("[" * 5000, "not valid YAML: nested too deeply"),
])  # fmt: skip
def test_files_that_are_no_schedule(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert fault in refusal(path)


def test_paths_and_names_that_are_not_there(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.yaml")
    assert "this is a directory" in refusal(tmp_path)
    assert "did you mean gpt2-small-wikitext2?" in refusal("gpt2-smal-wikitext2")
    assert "did you mean gpt2-medium-wikitext2?" in refusal("GPT2-medium")
    assert "there are: " in refusal("qqqqqq")


def test_the_catalog_lists_what_lies_in_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [entry.name for entry in catalog.workloads("token_schedule")]
    assert {"gpt2-small-wikitext2", "gpt2-medium-wikitext2"} <= set(names)
    assert names == sorted(names)
    for name in names:
        assert load_schedule(name).name == name
    assert all(entry.about and "\n" not in entry.about for entry in catalog.workloads())

    monkeypatch.setattr(catalog, "ZOO", tmp_path)
    assert catalog.workloads() == []
    (tmp_path / "mine.yaml").write_text("kind: something_else\nabout: a kind\n  of its own\n")
    assert catalog.workloads() == [("mine", "something_else", "a kind of its own", tmp_path / "mine.yaml")]
    assert catalog.workloads("token_schedule") == []
    assert catalog.find("mine.yaml").kind == "something_else"
    assert "kind is 'something_else'" in refusal("mine")
    (tmp_path / "bad.yaml").write_text("about: no kind\n")
    with pytest.raises(UserError, match=r"bad\.yaml: kind is missing"):
        catalog.workloads()
