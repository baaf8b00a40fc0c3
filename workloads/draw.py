"""Drawn attention scores: what a trace that has only counts does not say, from a distribution fitted to real networks.

The score of query q for token t, in log2 units, in query head h of layer l, is

    level(l, h, distance) + spread(l, h) * (token effect(l, h, t) + row noise(q, t))

* level: ``-recency(l, h) * log2(1 + distance)``.
* token effect: fixed for a sequence; the sum of parts of the network, the layer and the head, each log-normal with skew
  ``token_skew``: some tokens, such as articles and full stops, draw more than a normal distribution allows.
* row noise: normal, new for every row. Effect and noise together have variance 1.
* both are alike for neighbouring tokens: correlation ``run_strength * exp(-gap / run_length_tokens)``.
* spread and recency differ between heads by one log-normal factor, the sharpness of the head.

Token 0 is the attention sink from layer ``sink_from_layer`` on: there its probability is drawn instead, as log2 of the
odds against all other tokens of the row: a normal value of the head plus row noise. (A score of its own, drawn apart
from the others, makes the largest probabilities far too large: heads with high scores elsewhere have a high sink too.)

The parameters are moments of recorded scores (``workloads.fit_draw``); docs/drawn-scores.md says how well they fit.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.errors import UserError
from accel.program import Flag, Jobs
from accel.units.softmax import SCORE_BITS, SCORE_FRACTION_BITS
from workloads.score_parameters import ScoreParameters, load_distribution

Float32 = NDArray[np.float32]

_ONE = np.float32(1 << SCORE_FRACTION_BITS)
_TOP = (1 << (SCORE_BITS - 1)) - 1
# Independent random streams of one seed.
_ROWS, _HEAD_SHAPE, _NETWORK_EFFECT, _LAYER_EFFECT, _HEAD_EFFECT = range(5)


class DrawnScores:
    """Source of scores for rows whose tensors are not known.

    One object is one text: what a token is worth to the network, a layer and a head does not change over its life and
    does not depend on the calls; the noise of the rows follows the order of the calls. Same seed and calls, same
    numbers.

    Args:
        seed: 0 or more.
        parameters: None: those fitted to SmolLM2.

    Raises:
        UserError: a negative seed.
    """

    def __init__(self, seed: int, parameters: ScoreParameters | None = None) -> None:
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise UserError(f"seed of the drawn scores = {seed!r}: must be a whole number, 0 or more")
        self.parameters = parameters or load_distribution()["parameters"]
        self._seed = int(seed)
        self._rows = self._generator(_ROWS)
        self._effects = _TokenEffects(self)
        self._log2 = np.zeros(0, np.float32)

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence([self._seed, *stream])))

    def scores(self, jobs: Jobs, tokens: NDArray[np.int32], rows: int) -> NDArray[np.int64]:
        """Scores int64 (rows, len(tokens)), ``SCORE_FRACTION_BITS`` fraction bits, saturated to ``SCORE_BITS``.

        ``jobs`` (dtype JOB) all see ``tokens`` (int32, ascending); rows are those of the jobs in order, in a job
        ``query * group + member``. A single query is the newest token, the last one; the queries of a causal job are
        those from ``first_visible`` on; those of any other job are spread evenly over the tokens.

        Raises:
            UserError: ``rows`` is not what the jobs have, or the tokens are not ascending from 0 on.
        """
        per_job = jobs["queries"].astype(np.int64) * jobs["group"]
        if rows != per_job.sum():
            raise UserError(f"drawn scores: {rows} rows asked for, the jobs have {per_job.sum()}")
        if tokens.ndim != 1 or not len(tokens) or tokens[0] < 0 or np.any(tokens[1:] <= tokens[:-1]):
            raise UserError("drawn scores: tokens must be at least one token number, 0 or more, ascending")
        gaps = np.diff(tokens.astype(np.int64), prepend=tokens[0])
        job = np.repeat(np.arange(len(jobs)), per_job)
        in_job = np.arange(rows) - np.repeat(np.cumsum(per_job) - per_job, per_job)
        group = jobs["group"][job].astype(np.int64)
        head = jobs["head"][job] * group + in_job % group
        table = self._effects.rows(jobs["layer"][job], head, int(tokens[-1]) + 1)
        p, effects = self.parameters, self._effects
        own = self._noise(rows, gaps)
        own *= np.float32(math.sqrt(max(0.0, 1 - p.network_share - p.layer_share - p.head_share)))
        own += effects.table[table[:, None], tokens]
        own *= effects.spread[table, None]
        sink = effects.sink[table] + own[:, 0]
        own -= self._log2_distance(jobs, tokens, job, in_job // group) * effects.recency[table, None]
        if tokens[0] == 0 and len(tokens) > 1:
            np.copyto(own[:, 0], sink + _log2_sum(own[:, 1:]), where=np.isfinite(sink))
        own *= _ONE
        return np.clip(np.rint(own, out=own), -_TOP - 1, _TOP).astype(np.int64)

    def _noise(self, rows: int, gaps: NDArray[np.int64]) -> Float32:
        """Row noise (rows, keys), variance 1."""
        p = self.parameters
        normal = self._rows.standard_normal((2, rows, len(gaps)), np.float32)
        _run(normal[0], np.exp(-gaps / p.run_length_tokens).astype(np.float32))
        return _mix(normal[0], normal[1], p.run_strength)

    def _log2_distance(
        self, jobs: Jobs, tokens: NDArray[np.int32], job: NDArray[np.int64], query: NDArray[np.int64]
    ) -> Float32:
        """log2(1 + distance) of every row and token, (1 or rows, keys)."""
        longest = int(tokens[-1]) + 1
        if longest > len(self._log2):
            self._log2 = np.log2(np.arange(1, 2 * longest + 1)).astype(np.float32)
        if (jobs["queries"] == 1).all():
            return self._log2[tokens[-1] - tokens][None]
        last = len(tokens) - 1
        causal = (jobs["flags"][job] & Flag.CAUSAL) != 0
        spread_over = np.maximum(1, jobs["queries"][job].astype(np.int64) - 1)
        place = np.where(causal, jobs["first_visible"][job].astype(np.int64) + query - 1, query * last // spread_over)
        place[jobs["queries"][job] == 1] = last
        return self._log2[np.abs(tokens[np.clip(place, 0, last), None] - tokens)]


class _TokenEffects:
    """What stays for a text: per (layer, head) the head's shape and its effect on every token, drawn when first needed.

    ``table`` float32 (pairs, tokens): network, layer and head effects, summed; 0 for token 0 where that is a sink.
    ``spread``, ``recency``, ``sink`` float32 (pairs,); ``sink`` is NaN where there is none.
    """

    def __init__(self, owner: DrawnScores) -> None:
        self._p, self._generator = owner.parameters, owner._generator
        self._pairs: dict[tuple[int, int], int] = {}
        self._streams: dict[tuple[int, ...], _Stream] = {}
        self.table = np.zeros((0, 0), np.float32)
        self.spread: Float32 = np.zeros(0, np.float32)
        self.recency: Float32 = np.zeros(0, np.float32)
        self.sink: Float32 = np.zeros(0, np.float32)

    def rows(self, layer: NDArray[Any], head: NDArray[Any], length: int) -> NDArray[np.int64]:
        """Table row of each (layer, head), after growing the table to ``length`` tokens."""
        wanted = list(zip(layer.tolist(), head.tolist(), strict=True))
        new = [pair for pair in dict.fromkeys(wanted) if pair not in self._pairs]
        if new or length > self.table.shape[1]:
            self._grow(new, length)
        return np.array([self._pairs[pair] for pair in wanted], np.int64)

    def _grow(self, new: list[tuple[int, int]], length: int) -> None:
        for pair in new:
            self._pairs[pair] = len(self._pairs)
        # A text grows by a token at a time: leave room.
        length = max(self.table.shape[1], 1 << (length - 1).bit_length())
        old = self.table
        self.table = np.empty((len(self._pairs), length), np.float32)
        for (layer, head), row in self._pairs.items():
            if row < old.shape[0] and length == old.shape[1]:
                self.table[row] = old[row]
            else:
                self.table[row] = self._effect(layer, head, length)
        shapes = np.array([self._shape(*pair) for pair in new], np.float32).reshape(len(new), 3)
        self.spread = np.append(self.spread, shapes[:, 0])
        self.recency = np.append(self.recency, shapes[:, 1])
        self.sink = np.append(self.sink, shapes[:, 2])

    def _shape(self, layer: int, head: int) -> tuple[float, float, float]:
        """Spread, recency and sink of a head."""
        p = self._p
        sharp, sink = self._generator(_HEAD_SHAPE, layer, head).standard_normal(2)
        log_variance = math.log1p(p.head_variation**2)
        factor = math.exp(sharp * math.sqrt(log_variance) - log_variance / 2)
        level = p.sink_log2_odds + p.sink_variation_log2 * sink if layer >= p.sink_from_layer else math.nan
        return p.spread_log2 * factor, p.recency_log2_per_doubling * factor, level

    def _effect(self, layer: int, head: int, length: int) -> Float32:
        p = self._p
        effect = (
            math.sqrt(p.network_share) * self._stream(length, _NETWORK_EFFECT)
            + math.sqrt(p.layer_share) * self._stream(length, _LAYER_EFFECT, layer)
            + math.sqrt(p.head_share) * self._stream(length, _HEAD_EFFECT, layer, head)
        )
        if layer >= p.sink_from_layer:
            effect[0] = 0
        return effect.astype(np.float32)

    def _stream(self, length: int, *stream: int) -> Float32:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._generator(*stream), self._p)
        return self._streams[stream].first(length)


class _Stream:
    """A sequence over token numbers, mean 0, variance 1, skewed, with runs; grows at its end."""

    def __init__(self, generator: np.random.Generator, parameters: ScoreParameters) -> None:
        self._generator, self._p = generator, parameters
        self._last: Float32 = np.zeros(0, np.float32)
        self._values: Float32 = np.zeros(0, np.float32)

    def first(self, length: int) -> Float32:
        """The first ``length`` values; the same ones whatever was asked for before."""
        missing = length - len(self._values)
        if missing > 0:
            normal = self._generator.standard_normal((missing, 2), np.float32).T
            run = np.concatenate([self._last, normal[0]])[None]
            _run(run, np.full(run.shape[1], math.exp(-1 / self._p.run_length_tokens), np.float32))
            fresh = _mix(run[0, len(self._last) :], normal[1], self._p.run_strength)
            self._last = run[0, -1:]
            self._values = np.append(self._values, _skewed(fresh, self._p.token_skew))
        return self._values[:length]


def _skewed(normal: Float32, skew: float) -> Float32:
    """The log-normal of standard normal numbers that has this skewness, brought to mean 0 and variance 1."""
    if skew == 0:
        return normal
    # Its skewness is (w + 2) sqrt(w - 1), w = exp(variance of the logarithm): a cubic in w with one root above 1.
    w = float(np.roots([1.0, 3.0, 0.0, -4.0 - skew * skew]).real.max())
    scaled = np.exp(np.float32(math.sqrt(math.log(w))) * normal)
    return ((scaled - math.sqrt(w)) / math.sqrt(w * (w - 1))).astype(np.float32)


def _log2_sum(scores: Float32) -> Float32:
    """log2 of the sum of 2^score of each row."""
    top = scores.max(axis=1)
    return top + np.log2(np.exp2(scores - top[:, None]).sum(axis=1))


@njit(cache=True)
def _run(normal: Float32, correlation: Float32) -> None:
    """Turn independent normals (rows, n) into first-order sequences; ``correlation`` (n,) with the value before it."""
    fresh = np.sqrt(np.float32(1) - correlation * correlation)
    for r in range(normal.shape[0]):
        for i in range(1, normal.shape[1]):
            normal[r, i] = correlation[i] * normal[r, i - 1] + fresh[i] * normal[r, i]


def _mix(run: Float32, alone: Float32, strength: float) -> Float32:
    return np.float32(math.sqrt(strength)) * run + np.float32(math.sqrt(1 - strength)) * alone
