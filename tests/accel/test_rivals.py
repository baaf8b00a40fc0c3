"""``accel rivals``: settings, rows of rivals and engine, the network hook, energy, published figures, the command."""

import json
from pathlib import Path

import numpy as np
import pytest

from accel.arch import load_arch
from accel.lower.plan import Plan
from accel.rivals import published, store
from accel.rivals.energy import event_pJ
from accel.rivals.engine import run_engine
from accel.rivals.hook import RivalAttention
from accel.rivals.published import Book, validation
from accel.rivals.report import rivals_report
from accel.rivals.rows import BANDWIDTH, MULTIPLIERS, OWN, SETTINGS, configured, rows
from accel.rivals.workloads import Workload, seeded
from reports.rivals_table import rivals_markdown
from sim.rivals import rival_class, rival_names
from tests.accel.cli_case import accel
from workloads.nets.attention import dense_attend

KEYS = {
    "machine", "setting", "workload", "queries", "keys", "head_dim", "cycles", "latency_s", "gops_dense_equivalent",
    "dram_bytes", "energy_pJ", "kept_keys_share", "kept_values_share", "output_error", "bound", "notes",
}  # fmt: skip


def small(prompt: int = 0, kv_heads: int = 2) -> Workload:
    rng = np.random.default_rng(5)
    layers = []
    for _ in range(2):
        k, v = rng.standard_normal((2, kv_heads, 24, 64)).astype(np.float32)
        layers.append((rng.standard_normal((4, 24, 64)).astype(np.float32), k, v))
    return Workload("small", tuple(layers), prompt)


def test_settings_make_equal_what_they_say() -> None:
    arch = load_arch("spatten")
    for name in rival_names():
        rival = rival_class(name)
        variant = next(iter(rival.VARIANTS))
        own, multipliers, bandwidth = (configured(rival, variant, setting, arch) for setting in SETTINGS)
        assert own == rival.VARIANTS[variant]
        assert multipliers.multipliers == bandwidth.multipliers == 1024
        assert multipliers.clock_MHz == bandwidth.clock_MHz == 1000
        assert (multipliers.channels, multipliers.bandwidth_GBps) == (own.channels, own.bandwidth_GBps)
        assert (bandwidth.channels, bandwidth.memory, bandwidth.bandwidth_GBps) == (16, "hbm2", None)


def test_work_of_an_encoder_and_of_decode_steps() -> None:
    assert [(w.layer, w.head, len(w.q), len(w.k)) for w in small(kv_heads=4).works()] == [
        (layer, head, 24, 24) for layer in range(2) for head in range(4)
    ]
    work = small(prompt=22)
    steps = work.works()
    assert [(w.layer, w.head, len(w.q), len(w.k)) for w in steps] == [
        (layer, head, 2, seen) for seen in (23, 24) for layer in range(2) for head in range(2)
    ]
    assert all(w.decode for w in steps)
    assert (steps[1].q == work.layers[0][0][2:4, 22]).all()


@pytest.mark.parametrize("prompt", [0, 20])
def test_the_unpruned_engine_computes_and_moves_what_dense_attention_does(prompt: int) -> None:
    work = small(prompt, 2 if prompt else 4)
    done = run_engine(load_arch("spatten-1-8"), work, Plan())
    assert done.output_error < 0.01
    pairs = sum(one.pairs for one in work.works())
    assert done.counts["keys"] == done.counts["values_used"] == pairs
    kept = sum(2 * len(one.k) + 2 * len(one.q) for one in work.works()) * 96
    assert done.dram_bytes == pytest.approx(kept, rel=0.35)  # outputs are wider, tensors end in part-used accesses
    assert done.cycles >= pairs / 1


def test_rows_of_all_settings_have_the_documented_keys() -> None:
    arch = load_arch("spatten-1-8")
    found = rows(["dense", "energon", "spatten"], [small(kv_heads=4)], arch, 1, lambda text, share: None)
    assert [(row["machine"], row["setting"]) for row in found] == [
        (name, setting) for name in ("dense", "energon", "spatten") for setting in SETTINGS
    ]
    for row in found:
        assert set(row) >= KEYS
        assert row["queries"] == 2 * 4 * 24
        operations = 4 * 64 * 24 * row["queries"]
        assert row["gops_dense_equivalent"] == pytest.approx(operations / row["latency_s"] / 1e9)
        assert row["energy_pJ"] == pytest.approx(row["energy_parts_pJ"]["total"])
    dense, energon = found[0], found[3]
    assert energon["kept_keys_share"] < 0.5 < dense["kept_keys_share"] == 1


@pytest.mark.parametrize("name", ["dense", "mnnfast"])
def test_the_hook_gives_a_network_the_rivals_attention(name: str) -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((4, 6, 32)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, 6, 32)).astype(np.float32)
    rival = rival_class(name)
    hook = RivalAttention(rival(rival.VARIANTS[name]))
    out = hook(0, q, k, v, causal=True, q_start=0)
    assert hook.dram_bytes == 0  # a decoder's prefill does not count
    np.testing.assert_allclose(
        out, dense_attend(0, q, k, v, causal=True, q_start=0), atol=0.01 if name == "dense" else 0.2
    )
    hook(0, q[:, 5:], k, v, causal=True, q_start=5)
    # K and V of six keys, Q and output of two rows, 48 bytes each, for both K/V heads.
    assert hook.dram_bytes == 2 * (2 * 288 + 2 * 96)


def test_products_cost_more_the_wider_they_are() -> None:
    eight, twelve, sixteen = (event_pJ(f"mac_{bits}", 40) for bits in (8, 12, 16))
    assert eight < twelve < sixteen
    assert twelve == pytest.approx(0.3843 + 0.08619 + 36 * 0.009, rel=1e-3)


def test_published_figures_that_are_missed_have_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_THIRD_PARTY", {})  # these run the engine on 512 tokens
    found = validation(["a3", "mnnfast"], Book(1))
    by_figure = {row["figure"]: row for row in found}
    assert by_figure["MNNFast throughput"]["ratio"] == pytest.approx(1, abs=0.1)
    assert by_figure["A3 throughput"]["ratio"] == pytest.approx(1.125, abs=0.02)
    for row in found:
        assert row["ratio"] == pytest.approx(row["ours"] / row["published"])
        assert row["cause"] or 0.9 <= row["ratio"] <= 1.1
        assert row["label"] in ("published", "derived", "calibrated", "memory")


def test_seeded_tensors_are_the_seeds() -> None:
    first, again, other = seeded("seeded-320", 1), seeded("seeded-320", 1), seeded("seeded-320", 2)
    assert all(
        (a == b).all() for x, y in zip(first.layers, again.layers, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert (first.layers[0][0] != other.layers[0][0]).any()
    assert first.layers[0][0].shape == (2, 320, 64)


def test_the_command_writes_the_same_bytes_twice_and_goes_on_where_it_stopped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("rivals", "dense", "roofline", "--workload", "seeded-320", "-o", tmp_path)
    first = accel(capsys, *words)
    assert first.code == 0, first.err
    assert "iso-bandwidth" in first.out
    report = json.loads((tmp_path / "rivals-spatten-1-8.json").read_text())
    assert (report["kind"], report["format"], report["curves"]) == ("rivals", 1, [])
    assert {row["setting"] for row in report["rows"]} == {OWN, MULTIPLIERS, BANDWIDTH}
    assert "thermal design power" in (tmp_path / "rivals-spatten-1-8.md").read_text()
    text = (tmp_path / "rivals-spatten-1-8.json").read_text()
    assert accel(capsys, *words, "--json", "-", "-o", tmp_path / "anew").out == text

    def never(*_: object) -> None:
        raise AssertionError("a row that is there was made again")

    monkeypatch.setattr(store, "machine_rows", never)
    assert accel(capsys, *words, "--json", "-").out == text


def test_networks_that_are_not_there_are_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCEL_MODELS", str(tmp_path))
    report = rivals_report(["dense"], load_arch("spatten-1-8"), 1, "x", workloads=["minilm", "smollm2"], quality=True)
    assert report["rows"] == report["curves"] == []
    assert [line.split(":")[0] for line in report["skipped"]] == ["minilm", "smollm2"]
    assert all("accel models get" in line for line in report["skipped"])
    assert "left out: minilm" in rivals_markdown(report)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("elssa",), "did you mean elsa"),
        (("a3", "--workload", "seeded-321"), "did you mean seeded-320"),
        (("--seed", "0"), "--seed 0: must be 1 to 65535"),
        (("a3", "--arch", "spaten"), "spatten"),
        (("a3", "--json", "no/such/folder.json"), "there is no folder"),
    ],
)
def test_refusals_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    done = accel(capsys, "rivals", *words)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
