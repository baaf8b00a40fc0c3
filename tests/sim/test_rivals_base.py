"""What all rivals promise: dense when nothing is pruned, exact over what they keep, traffic and time that add up."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from accel.memory import load_memory
from sim.rivals import measure, rival_class, rival_names, select_all
from sim.rivals._attention import pipeline_cycles
from sim.rivals._memory import chosen_rows, memory_use, whole
from sim.rivals.base import Config, array_cycles, work_of
from tests.sim.rivals_case import plain_attention, tensors

LOOSEST = {
    "a3": {"search_share": 0.0, "post_threshold": 0.0},
    "dense": {},
    "elsa": {"strictness": 0.0},
    "energon": {"filters": False},
    "mnnfast": {"skip_below": 0.0},
    "roofline": {},
    "sanger": {"mask_above": 0.0},
}


def machine(name: str, **changes: object):  # type: ignore[no-untyped-def]
    found = rival_class(name)
    return found(dataclasses.replace(next(iter(found.VARIANTS.values())), **changes))


@pytest.mark.parametrize("name", sorted(LOOSEST))
def test_nothing_pruned_is_dense_attention(name: str) -> None:
    work = tensors(12, 40, 32, causal=True)
    bits = {} if name == "roofline" else {"bits": 16}
    (done,) = select_all(machine(name, **LOOSEST[name], **bits), [work])
    seen = np.arange(40) < work.seen[:, None]
    assert (done.keys == seen).all()
    assert (done.values == seen).all()
    np.testing.assert_allclose(done.output, plain_attention(work, seen), atol=2e-3)


@pytest.mark.parametrize("name", sorted(LOOSEST))
def test_a_selection_is_causal_never_empty_and_its_output_is_of_what_it_keeps(name: str) -> None:
    work = tensors(20, 48, 32, seed=3, causal=True)
    bits = {} if name == "roofline" else {"bits": 16}
    rival = machine(name, **bits)
    (done,) = select_all(rival, [work])
    seen = np.arange(48) < work.seen[:, None]
    assert not (done.keys & ~seen).any()
    assert not (done.values & ~done.keys).any()
    assert done.values.any(axis=1).all()
    if name != "mnnfast":  # its denominator holds what it skips
        np.testing.assert_allclose(done.output, plain_attention(work, done.values), atol=2e-3)


def test_every_rival_is_tested_and_documents_its_constants() -> None:
    assert rival_names() == sorted(LOOSEST)
    for name in rival_names():
        rival = rival_class(name)
        fields = {field.name for config in rival.VARIANTS.values() for field in dataclasses.fields(config)}
        assert {"multipliers", "clock_MHz"} <= set(rival.CONSTANTS)
        for key, constant in rival.CONSTANTS.items():
            assert key in fields or key == "bias"
            assert len(constant.source) >= 3
            assert constant.label in ("published", "derived", "calibrated", "memory", "assumed")
        for changes in rival.SWEEP:
            machine(name, **changes)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 12))
@settings(max_examples=40)
def test_the_pipeline_is_never_faster_than_its_slowest_stage(seed: int, depth: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    stages = rng.integers(0, 9, (depth, rows)).astype(float)
    prepare, begins = np.zeros(rows), np.zeros(rows, bool)
    begins[0] = True
    cycles = pipeline_cycles(stages, prepare, begins)
    assert cycles >= stages.sum(axis=1).max()
    assert cycles <= stages.sum()
    # With equal rows it is the fill and then the slowest stage once per row.
    even = np.repeat(stages[:, :1], rows, axis=1)
    assert pipeline_cycles(even, prepare, begins) == even[:, 0].sum() + (rows - 1) * even[:, 0].max()


def test_keys_are_prepared_beside_the_head_before() -> None:
    stages = np.full((1, 6), 10.0)
    begins = np.array([True, False] * 3)
    prepare = np.where(begins, 15.0, 0.0)
    assert pipeline_cycles(stages, prepare, begins) == 15 + 60
    assert pipeline_cycles(stages, prepare * 2, begins) == 3 * 30 + 20  # now the keys are the limit


@given(st.integers(1, 60), st.floats(1, 100), st.integers(0, 10_000))
@settings(max_examples=60)
def test_chosen_rows_touch_exactly_the_accesses_of_their_bytes(rows: int, row_bytes: float, seed: int) -> None:
    row_bytes = round(row_bytes * 8) / 8
    chosen = np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.4)
    wanted = set()
    for row in chosen.tolist():
        for bit in range(round(row * row_bytes * 8), round((row + 1) * row_bytes * 8)):
            wanted.add(bit // 8 // 32)
    stream = chosen_rows("k", chosen, rows, row_bytes, 32)
    assert stream.places.tolist() == sorted(wanted)
    assert stream.size == -(-rows * row_bytes // 32)


def test_the_memory_moves_whole_accesses_and_takes_at_least_the_peak_time() -> None:
    spec = load_memory("hbm2").with_channels(2)
    use = memory_use(spec, [whole("k", 100_000, 32), whole("o", 1000, 32, write=True)])
    assert (use.read_bytes, use.write_bytes) == (100_000, 1024)
    assert (use.read_bytes + use.write_bytes) / 64 <= use.ticks <= 1.3 * (use.read_bytes + use.write_bytes) / 64
    assert memory_use(spec, []).ticks == 0


def test_time_is_the_longer_of_memory_and_arithmetic() -> None:
    work = tensors(4, 256, 64)
    bound_by = {}
    for multipliers in (128, 16384):
        rival = machine("dense", multipliers=multipliers)
        found = measure(rival, [work], select_all(rival, [work]))
        bound_by[multipliers] = found.bound
        assert found.cycles >= max(found.compute_cycles, found.dram_cycles)
        assert found.dram_bytes == (2 * 256 + 2 * 4) * 64 * 12 // 8
        assert found.gops_dense_equivalent == pytest.approx(4 * 4 * 256 * 64 / found.latency_s / 1e9)
    assert bound_by == {128: "qk", 16384: "dram"}


def test_an_array_takes_a_key_per_slice_and_turn() -> None:
    assert array_cycles(np.array([10]), 64, 64)[0] == 10
    assert array_cycles(np.array([10]), 32, 64)[0] == 10
    assert array_cycles(np.array([10]), 128, 64)[0] == 20
    assert array_cycles(np.array([10]), 64, 256)[0] == 3


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("a3", {"post_threshold": 2.0}, "post_threshold = 2.0: must be 0 to 1"),
        ("a3", {"search_share": -1.0}, "search_share"),
        ("elsa", {"multipliers": 100}, "multiple of 128"),
        ("sanger", {"multipliers": 100}, "multiple of pe_columns = 16"),
        ("energon", {"alpha_1": 3.0}, "alpha_1 = 3.0: must be -1 to 1"),
        ("mnnfast", {"chunk_keys": 0}, "chunk_keys = 0: must be 1 or more"),
        ("dense", {"bits": 1}, "bits = 1"),
        ("dense", {"memory": "hbm9"}, "did you mean 'hbm2'"),
        ("roofline", {"bandwidth_GBps": 0.0}, "bandwidth_GBps = 0.0: must be above 0"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(name: str, changes: dict, said: str) -> None:
    with pytest.raises(UserError) as refused:
        machine(name, **changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean elsa"):
        rival_class("elssa")
    with pytest.raises(UserError, match="its configuration is a"):
        rival_class("a3")(Config(128))
    x = np.zeros((4, 8))
    with pytest.raises(UserError, match="expected"):
        work_of(x, x, x[:3])
    with pytest.raises(UserError, match="seen has to hold"):
        work_of(x, x, x, np.array([1, 2, 3, 9]))
    with pytest.raises(UserError, match="no work"):
        measure(machine("dense"), [], [])
