"""Drawn scores: the source's contract; the parameters come out again; rows do to the machine what recorded ones do.

The recorded figures are those in score_distribution.yaml; no weights are needed.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import UserError
from accel.program import Flag, Jobs, jobs_of
from accel.units.softmax import SCORE_BITS
from sim.topk.quickselect import partition_rows
from workloads.draw import DrawnScores
from workloads.score_parameters import ScoreParameters, load_distribution, parameters_of
from workloads.score_statistics import ScoreSample, draw_sample, effects, fit_runs, moments, selection_work, weights_of

FITTED = load_distribution()["parameters"]
ONE = 4096

# Largest relative difference between recorded rows and drawn ones (mean of three seeds): the promise of
# docs/drawn-scores.md. The first name that a figure begins with counts.
TOLERANCE = {
    "largest_probability_p10": 0.45,
    "largest_probability_p25": 0.40,
    "largest_probability": 0.20,
    "zero_weights": 0.12,
    "tied_weights": 0.05,
    "quickselect_rounds": 0.25,
    "quickselect_words": 0.15,
    "value_run_length": 0.50,
    "pruned_zero_weights": 0.25,
    "pruned_tied_weights": 0.10,
    "pruned_quickselect": 0.10,
    "pruned_value_run_length": 0.40,
    "importance_of_survivors": 0.12,
    "survivor_run_length": 0.30,
    "survivor": 0.25,
}


def decode_jobs(layers: int = 1, heads: int = 12) -> Jobs:
    return jobs_of(
        [
            {"layer": layer, "head": head, "group": 1, "queries": 1, "keys": 8}
            for layer in range(layers)
            for head in range(heads)
        ]
    )


def tokens_to(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


def decode_sample(parameters: ScoreParameters, seed: int, shape: tuple[int, int, int, int]) -> ScoreSample:
    queries, length = shape[2:]
    places = np.arange(length - queries, length)
    seen = np.where(np.arange(length) <= places[:, None], 0.0, -np.inf)
    return draw_sample(ScoreSample(np.broadcast_to(seen, shape), places), DrawnScores(seed, parameters))


@pytest.fixture(scope="module", params=[1024, 256])
def drawn(request: pytest.FixtureRequest) -> tuple[int, list[ScoreSample]]:
    return request.param, [decode_sample(FITTED, seed, (30, 9, 32, request.param)) for seed in (11, 12, 13)]


# ---- contract ------------------------------------------------------------------------------------------------------
def test_same_seed_and_calls_give_the_same_numbers_and_another_seed_others() -> None:
    def run(seed: int) -> list[np.ndarray]:
        source = DrawnScores(seed)
        calls = [source.scores(decode_jobs(2), tokens_to(40 + i), 24) for i in range(3)]
        return [*calls, source.scores(decode_jobs(), np.array([0, 3, 900], np.int32), 12)]

    first, again, other = run(3), run(3), run(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0][:, :40], first[1][:, :40])  # every row has noise of its own


@settings(max_examples=30)
@given(st.data())
def test_shape_and_type_for_any_batch(data: st.DataObject) -> None:
    queries, group = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    flags = data.draw(st.sampled_from([0, int(Flag.CAUSAL)]))
    tokens = sorted(data.draw(st.sets(st.integers(0, 3000), min_size=1, max_size=40)))
    jobs = jobs_of(
        [
            {"layer": la, "head": la % 3, "group": group, "queries": queries, "flags": flags, "first_visible": 2}
            for la in range(data.draw(st.integers(1, 6)))
        ]
    )
    rows = len(jobs) * queries * group
    scores = DrawnScores(0).scores(jobs, np.array(tokens, np.int32), rows)
    assert scores.shape == (rows, len(tokens))
    assert scores.dtype == np.int64
    assert np.abs(scores).max() < 1 << (SCORE_BITS - 1)


def test_saturates_to_the_score_format() -> None:
    scores = DrawnScores(1, replace(FITTED, spread_log2=500.0)).scores(decode_jobs(), tokens_to(400), 12)
    assert scores.max() == (1 << (SCORE_BITS - 1)) - 1
    assert scores.min() == -(1 << (SCORE_BITS - 1))


def test_a_token_keeps_its_worth_whatever_was_asked_before() -> None:
    """Pruned or not, grown or not, seen by another head first or not: the effects are the text's, not the call's."""
    silent = replace(FITTED, network_share=0.3, layer_share=0.3, head_share=0.4, sink_from_layer=99)
    whole = DrawnScores(5, silent).scores(decode_jobs(3), tokens_to(700), 36)
    source = DrawnScores(5, silent)
    source.scores(decode_jobs(1, 2)[1:], tokens_to(3), 1)
    source.scores(decode_jobs(2), tokens_to(130), 24)
    some = np.array([0, 5, 6, 300, 698, 699], np.int32)
    assert np.array_equal(source.scores(decode_jobs(3), some, 36), whole[:, some])


def test_members_of_a_group_are_heads_of_their_own() -> None:
    silent = replace(FITTED, network_share=0.3, layer_share=0.3, head_share=0.4)
    grouped = jobs_of([{"layer": 4, "head": h, "group": 3, "queries": 1} for h in range(2)])
    single = jobs_of([{"layer": 4, "head": h, "group": 1, "queries": 1} for h in range(6)])
    a = DrawnScores(2, silent).scores(grouped, tokens_to(60), 6)[:, 1:]
    assert np.array_equal(a, DrawnScores(2, silent).scores(single, tokens_to(60), 6)[:, 1:])


@pytest.mark.parametrize(("flags", "places"), [(Flag.CAUSAL, [1, 2, 3, 4]), (Flag.NONE, [0, 2, 5, 8])])
def test_level_falls_with_the_distance_from_the_querys_own_token(flags: Flag, places: list[int]) -> None:
    level_only = replace(FITTED, spread_log2=1e-9, head_variation=0.0, sink_from_layer=1, recency_log2_per_doubling=2.0)
    jobs = jobs_of([{"queries": 4, "group": 1, "flags": flags, "first_visible": 2}])
    tokens = np.arange(0, 18, 2, dtype=np.int32)
    scores = DrawnScores(1, level_only).scores(jobs, tokens, 4)
    distance = np.abs(tokens[places][:, None] - tokens)
    assert np.abs(scores / ONE + 2 * np.log2(1 + distance)).max() < 1e-3


def test_sink_has_its_odds_whatever_the_other_tokens_score() -> None:
    still = replace(
        FITTED, sink_log2_odds=1.0, sink_variation_log2=0.0, network_share=0.3, layer_share=0.3, head_share=0.4
    )
    tokens = np.array([0, 20, 21, 400, 900], np.int32)
    scores = DrawnScores(1, still).scores(decode_jobs(4), tokens, 48) / ONE
    odds = scores[:, 0] - np.log2(np.exp2(scores[:, 1:]).sum(1))
    assert np.allclose(odds[24:], 1, atol=2e-3)  # from layer 2 on
    assert np.abs(odds[:24] - 1).min() > 2e-3


@pytest.mark.parametrize("gap", [1, 20])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_neighbours_are_alike_by_their_distance_in_tokens(gap: int, share: float) -> None:
    """Row noise (share 0) is drawn for the tokens of the call, effects (share 1) for all tokens: same correlation."""
    runs = ScoreParameters(1.0, 0.0, 0.0, 0.0, 0.0, 99, 0.0, 0.0, share, 0.0, 0.8, 10.0)
    tokens = np.arange(0, 500 * gap, gap, dtype=np.int32)
    scores = DrawnScores(1, runs).scores(decode_jobs(10), tokens, 120) / ONE
    assert scores.std() == pytest.approx(1, abs=0.03)
    assert (scores[:, :-1] * scores[:, 1:]).mean() / scores.var() == pytest.approx(0.8 * np.exp(-gap / 10), abs=0.03)


@pytest.mark.parametrize("tokens", [[], [3, 3], [4, 2], [-1, 2]])
def test_bad_tokens_and_rows_are_refused(tokens: list[int]) -> None:
    with pytest.raises(UserError, match="ascending"):
        DrawnScores(0).scores(decode_jobs(), np.array(tokens, np.int32), 12)
    with pytest.raises(UserError, match="13 rows"):
        DrawnScores(0).scores(decode_jobs(), tokens_to(2), 13)
    with pytest.raises(UserError, match="seed"):
        DrawnScores(-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spread_log2": 0.0}, "spread_log2"),
        ({"spread_log2": float("nan")}, "finite"),
        ({"head_share": "much"}, "finite"),
        ({"head_variation": -0.1}, "head_variation"),
        ({"token_skew": -1.0}, "token_skew"),
        ({"run_strength": 1.5}, "run_strength"),
        ({"network_share": 0.9}, "at most 1"),
        ({"sink_from_layer": 1.5}, "sink_from_layer"),
        ({"recency": 1.0}, "did you mean recency_log2_per_doubling"),
    ],
)
def test_bad_parameters_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parameters_of({**vars(FITTED), **change})


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        parameters_of({k: v for k, v in vars(FITTED).items() if k != "head_share"})
    with pytest.raises(UserError, match="smollm2, minilm"):
        load_distribution("gpt2")
    broken = tmp_path / "scores.yaml"
    for content in ("networks: [", "nothing", "networks: {smollm2: {}}"):
        broken.write_text(content)
        with pytest.raises(UserError, match=r"scores\.yaml"):
            load_distribution(path=broken)
    with pytest.raises(UserError, match="not a readable"):
        load_distribution(path=tmp_path / "none.yaml")


# ---- statistics ----------------------------------------------------------------------------------------------------
def test_fitting_drawn_scores_gives_the_parameters_back() -> None:
    """Generator and fit are two readings of one model: a slip in either shows here."""
    samples = [decode_sample(FITTED, seed, (30, 9, 32, 1024)) for seed in (1, 2)]
    fitted = [moments(sample) for sample in samples]
    found = {name: np.mean([values[name] for values, _ in fitted]) for name in fitted[0][0]}
    strength, length = fit_runs(np.mean([lags for _, lags in fitted], axis=0), 993)
    for name in ("spread_log2", "recency_log2_per_doubling", "head_variation", "sink_variation_log2"):
        assert found[name] == pytest.approx(getattr(FITTED, name), rel=0.15), name
    for name in ("network_share", "layer_share", "head_share"):
        assert found[name] == pytest.approx(getattr(FITTED, name), abs=0.03), name
    assert found["token_skew"] == pytest.approx(FITTED.token_skew, abs=0.15)
    assert found["sink_log2_odds"] == pytest.approx(FITTED.sink_log2_odds, abs=0.5)
    assert found["sink_from_layer"] == FITTED.sink_from_layer
    assert strength == pytest.approx(FITTED.run_strength, abs=0.06)
    assert length == pytest.approx(FITTED.run_length_tokens, rel=0.35)


def test_drawn_rows_do_to_the_machine_what_recorded_rows_do(drawn: tuple[int, list[ScoreSample]]) -> None:
    context, samples = drawn
    recorded = load_distribution()["recorded"][f"context_{context}"]
    each = [effects(sample) for sample in samples]
    assert each[0].keys() == recorded.keys()
    for name in recorded:
        limit = next(limit for prefix, limit in TOLERANCE.items() if name.startswith(prefix))
        assert np.mean([figures[name] for figures in each]) == pytest.approx(recorded[name], rel=limit), name


def test_the_engines_own_rounds_agree_with_the_recorded_ones(drawn: tuple[int, list[ScoreSample]]) -> None:
    """The figures in the file come from a plain quick-select; the engine's pivot generator must see the same work."""
    context, samples = drawn
    recorded = load_distribution()["recorded"][f"context_{context}"]
    # The newest query sees every token.
    rows = [row for sample in samples for row in sample.scores[:, :, -1].astype(np.float64).reshape(-1, context)]
    values = np.concatenate([weights_of(row) for row in rows])
    starts = np.arange(len(rows) + 1) * context
    found = partition_rows(values, starts, np.full(len(rows), context // 5), 16, 1)
    assert found.rounds.mean() == pytest.approx(recorded["quickselect_rounds"], rel=0.25)
    assert found.round_words.mean() == pytest.approx(recorded["quickselect_words"], rel=0.15)


def test_second_network_is_a_usable_distribution() -> None:
    entry = load_distribution("minilm")
    shape = (6, 12, 32, 256)
    sample = draw_sample(ScoreSample(np.zeros(shape), np.arange(32) * 255 // 31), DrawnScores(3, entry["parameters"]))
    found, recorded = effects(sample), entry["recorded"]["context_256"]
    for name in ("quickselect_words", "pruned_quickselect_words", "tied_weights", "survivor_run_length"):
        assert found[name] == pytest.approx(recorded[name], rel=0.25), name


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.data())
def test_plain_quick_select_ends_and_reads_every_value_once_at_least(values: list[int], data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, len(values)))
    rounds, words = selection_work(np.array(values), keep, np.random.default_rng(0))
    if keep in (0, len(values)):
        assert (rounds, words) == (0, 0)
    else:
        assert 1 <= rounds <= 10  # ten different values
        assert -(-len(values) // 16) <= words <= rounds * -(-len(values) // 16)
