"""What a score distribution is judged by, computed alike from recorded and from drawn scores.

A `ScoreSample` holds the scores of one text. `moments` reads the parameters of `workloads.draw` off it; `effects`
computes what the scores do to the machine: how flat rows are, how long quick-select takes, which tokens survive.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.numerics.softmax import exponent
from accel.program import jobs_of
from accel.units.softmax import EXPONENT_BITS, SCORE_FRACTION_BITS, WEIGHT_BITS
from workloads.draw import DrawnScores

Floats = NDArray[np.float64]

# Top-k engine of the published machine: 16 values per word; the traces keep a fifth of the values of a row.
LANES = 16
KEPT_SHARE = 0.2
# Rows that the slow, row-by-row statistics look at, evenly spread over the sample.
SAMPLED_ROWS = 480
_LAGS = (1, 2, 4, 8, 16, 32)
# Tokens that are neighbours in memory, for the share of blocks that a gather touches.
_BLOCK_TOKENS = 8


class ScoreSample(NamedTuple):
    """``scores`` float (layers, heads, queries, tokens) in log2 units, -inf where a query does not see a token.

    ``places``: token number of each query, ascending.
    """

    scores: NDArray[np.floating]
    places: NDArray[np.int64]


def draw_sample(like: ScoreSample, source: DrawnScores) -> ScoreSample:
    """Drawn scores of the same shape: a call per decode step, or one call where every query sees all tokens."""
    layers, heads, queries, length = like.scores.shape
    out = np.full(like.scores.shape, -np.inf)
    pairs = [{"layer": layer, "head": head, "group": 1} for layer in range(layers) for head in range(heads)]
    one = 1 << SCORE_FRACTION_BITS
    if np.isfinite(like.scores).all():
        jobs = jobs_of([{**pair, "queries": queries} for pair in pairs])
        drawn = source.scores(jobs, np.arange(length, dtype=np.int32), queries * len(jobs))
        return ScoreSample(drawn.reshape(out.shape) / one, like.places)
    jobs = jobs_of([{**pair, "queries": 1} for pair in pairs])
    for query, place in enumerate(like.places.tolist()):
        drawn = source.scores(jobs, np.arange(place + 1, dtype=np.int32), len(jobs))
        out[:, :, query, : place + 1] = drawn.reshape(layers, heads, -1) / one
    return ScoreSample(out, like.places)


# ---- moments -------------------------------------------------------------------------------------------------------
def moments(sample: ScoreSample) -> tuple[dict[str, float], Floats]:
    """`ScoreParameters` by name, without the two of runs, and the correlation at `_LAGS` for `fit_runs`."""
    scores, places = sample.scores.astype(np.float64), sample.places
    tokens = np.arange(scores.shape[-1])
    distance = np.abs(places[:, None] - tokens)
    body = np.isfinite(scores[0, 0]) & (tokens > 0)
    doublings = np.log2(1 + distance)
    scores = np.where(np.isfinite(scores), scores, 0)
    # A weight of 1 / distance gives every doubling of the distance the same say in the straight line.
    weight = np.where(body, 1 / (1 + distance), 0)
    weight /= weight.sum()
    centred = doublings - (weight * doublings).sum()
    slope = np.einsum("qt,lhqt->lh", weight * centred, scores) / (weight * centred**2).sum()
    # One factor stands for spread and recency, so it is read off the deviation that both make together.
    mean = (scores * body).sum(-1, keepdims=True) / body.sum(-1)[:, None]
    whole = np.sqrt((((scores - mean) ** 2 * body).sum(-1) / body.sum(-1)).mean(-1))
    rest = scores - slope[..., None, None] * doublings
    rest -= (rest * body).sum(-1, keepdims=True) / body.sum(-1)[:, None]
    # Only tokens that every query sees can be compared between queries.
    common = rest[..., body.all(0)]
    common -= common.mean(-1, keepdims=True)
    spread = np.sqrt((common**2).mean((2, 3)))
    elevated = rest[..., 0].mean((1, 2)) > spread.mean(1)
    first = int(elevated.argmax()) if elevated.any() else len(elevated)
    common /= spread[..., None, None]
    network, layer, head = _shared(common)
    # The upper side only: rows in which the sink hardly counts pull the lower side down, without any effect.
    odds = _log2_odds(sample.scores[first:]) if elevated.any() else np.zeros(1)
    middle, high = np.quantile(odds, (0.5, 0.9))
    row_variance = spread.mean() ** 2 * (1 - head)
    found = {
        "spread_log2": spread.mean(),
        "recency_log2_per_doubling": -slope.mean(),
        "head_variation": whole.std() / whole.mean(),
        "sink_log2_odds": middle,
        # Nine tenths of a normal distribution lie below 1.2816 standard deviations.
        "sink_variation_log2": np.sqrt(max(0.0, ((high - middle) / 1.2816) ** 2 - row_variance)),
        "sink_from_layer": first,
        "network_share": max(0.0, network),
        "layer_share": max(0.0, layer - network),
        "head_share": max(0.0, head - layer),
        "token_skew": _part_skew(common, np.array([network, layer - network, head - layer])),
    }
    lagged = [(common[..., :-lag] * common[..., lag:]).mean() for lag in _LAGS]
    return {name: float(value) for name, value in found.items()}, np.array(lagged)


def _part_skew(unit: Floats, shares: Floats) -> float:
    """Skewness of each of independent parts with these shares of the variance, of which a token's worth to a head is
    the sum; mean over heads.
    """
    worth = unit.mean(2)
    measured = ((worth**3).mean(-1) / (worth**2).mean(-1) ** 1.5).mean()
    parts = np.maximum(shares, 0)
    return float(np.clip(measured / ((parts / parts.sum()) ** 1.5).sum(), 0, 4))


def _log2_odds(scores: NDArray[np.floating]) -> Floats:
    """log2(p / (1 - p)) with p the probability of token 0, per row."""
    others = scores[..., 1:].astype(np.float64)
    top = others.max(-1)
    return scores[..., 0] - top - np.log2(np.exp2(others - top[..., None]).sum(-1))


def _shared(unit: Floats) -> tuple[float, float, float]:
    """Correlation of a token's residual between two layers, two heads of a layer, two queries of a head."""

    def between(parts: Floats) -> float:
        """Mean product of two different entries along the first axis."""
        n = len(parts)
        return float(((parts.sum(0) ** 2).mean() - (parts**2).sum(0).mean()) / (n * (n - 1)))

    by_head = unit.mean(2)
    by_layer = by_head.mean(1)
    heads = [between(layer) for layer in by_head]
    queries = [between(head) for layer in unit for head in layer]
    return between(by_layer), float(np.mean(heads)), float(np.mean(queries))


def fit_runs(lagged: Floats, tokens: int) -> tuple[float, float]:
    """``run_strength`` and ``run_length_tokens``: least squares of the correlation at the lags, on a grid.

    Rows of ``tokens`` were brought to mean 0, which takes the mean correlation, about 2 strength length / tokens, away.
    """
    lags = np.array(_LAGS)
    grid = [(s, float(t)) for s in np.arange(0, 1.005, 0.01) for t in np.geomspace(1, 64, 61)]
    misfit = [np.square(s * (np.exp(-lags / t) - 2 * t / tokens) - lagged).sum() for s, t in grid]
    strength, length = grid[int(np.argmin(misfit))]
    return float(strength), length


# ---- effects on the machine ----------------------------------------------------------------------------------------
def weights_of(scores: Floats) -> NDArray[np.int64]:
    """12-bit weights of one row of log2 scores (n,), relative to the row's integer maximum, as the softmax unit has."""
    words = np.rint(scores * (1 << SCORE_FRACTION_BITS)).astype(np.int64)
    maximum = -(-int(words.max()) >> SCORE_FRACTION_BITS)
    shift = EXPONENT_BITS - WEIGHT_BITS
    return np.minimum((exponent(words, maximum) + (1 << (shift - 1))) >> shift, (1 << WEIGHT_BITS) - 1)


def selection_work(values: NDArray[np.int64], keep: int, rng: np.random.Generator) -> tuple[int, int]:
    """Rounds and words of `LANES` values that a quick-select with random pivots takes to find the ``keep`` largest."""
    rounds = words = 0
    while 0 < keep < len(values):
        pivot = values[rng.integers(len(values))]
        larger, smaller = values[values > pivot], values[values < pivot]
        rounds, words = rounds + 1, words - (-len(values) // LANES)
        at_least = len(values) - len(smaller)
        if len(larger) > keep:
            values = larger
        elif len(larger) == keep or at_least >= keep:
            break
        else:
            values, keep = smaller, keep - at_least
    return rounds, words


def effects(sample: ScoreSample, seed: int = 0) -> dict[str, float]:
    """The figures by name; docs/drawn-scores.md explains each."""
    scores = sample.scores.astype(np.float64)
    length = scores.shape[-1]
    weights = np.exp2(scores - scores.max(-1, keepdims=True))
    probabilities = weights / weights.sum(-1, keepdims=True)
    found: dict[str, float] = {}
    for percent in (10, 25, 50, 75, 90):
        found[f"largest_probability_p{percent}"] = float(np.quantile(probabilities.max(-1), percent / 100))
    importance = probabilities.sum((0, 1))
    keep = int(length * KEPT_SHARE)
    survivors = [np.sort(np.argsort(-query, kind="stable")[:keep]) for query in importance]
    rng = np.random.default_rng(seed)
    found |= _row_figures([row[np.isfinite(row)] for row in _sampled(scores, SAMPLED_ROWS, rng)], rng)
    # What rows look like after cascade pruning: the tokens that the query before found important.
    share = SAMPLED_ROWS // (len(survivors) - 1)
    pairs = zip(survivors[:-1], scores.transpose(2, 0, 1, 3)[1:], strict=True)
    pruned = [row[kept] for kept, query in pairs for row in _sampled(query, share, rng)]
    found |= {f"pruned_{name}": value for name, value in _row_figures(pruned, rng).items()}
    top = np.array([query[kept].sum() / query.sum() for query, kept in zip(importance, survivors, strict=True)])
    after = [len(np.intersect1d(a, b)) / keep for a, b in itertools.pairwise(survivors)]
    # Layer 0 alone decides what the next layers see where a trace prunes after it.
    early = [np.argsort(-query, kind="stable")[:keep] for query in probabilities[0].sum(0)]
    found["importance_of_survivors"] = float(top.mean())
    found["survivor_run_length"] = float(np.mean([_run_length(kept) for kept in survivors]))
    found["survivor_blocks"] = float(np.mean([len(np.unique(kept // _BLOCK_TOKENS)) for kept in survivors])) / (
        length / _BLOCK_TOKENS
    )
    distance = [np.abs(kept - place) for kept, place in zip(survivors, sample.places, strict=True)]
    found["survivors_near"] = float(np.mean([(d < length / 8).mean() for d in distance]))
    found["survivors_kept_by_next_query"] = float(np.mean(after))
    found["survivors_kept_by_layer_0"] = float(
        np.mean([len(np.intersect1d(a, b)) / keep for a, b in zip(survivors, early, strict=True)])
    )
    return found


def _sampled(scores: Floats, count: int, rng: np.random.Generator) -> Floats:
    """``count`` of the rows (n, tokens), or all if there are no more."""
    rows = scores.reshape(-1, scores.shape[-1])
    return rows[rng.choice(len(rows), min(count, len(rows)), replace=False)]


def _row_figures(rows: Iterable[Floats], rng: np.random.Generator) -> dict[str, float]:
    """Means over rows of log2 scores, each of its own length."""
    lines = []
    for row in rows:
        weights = weights_of(row)
        keep = int(len(row) * KEPT_SHARE)
        kept = np.sort(np.argsort(-weights, kind="stable")[:keep])
        tied = 1 - len(np.unique(weights)) / len(row)
        lines.append(((weights == 0).mean(), tied, *selection_work(weights, keep, rng), _run_length(kept)))
    names = ("zero_weights", "tied_weights", "quickselect_rounds", "quickselect_words", "value_run_length")
    return dict(zip(names, (float(x) for x in np.mean(lines, axis=0)), strict=True))


def _run_length(kept: NDArray[np.int64]) -> float:
    """Mean length of the runs of neighbours in ascending positions."""
    return len(kept) / (1 + np.count_nonzero(np.diff(kept) > 1))
