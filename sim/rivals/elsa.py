"""ELSA: sign random projection hashes stand for angles; keys whose estimated similarity is high enough are attended to.

The projection is an orthogonal matrix that is the Kronecker product of small ones, so a hash costs d times the sum of
their sizes instead of d squared multiplications. The Hamming distance of two hashes of b bits is b/pi times their
angle; a bias is taken off, so that few similar keys are missed. A key is a candidate when its norm times the cosine of
that angle is above a learned threshold times the largest norm (the query's norm is on both sides).
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from accel.errors import UserError
from sim.rivals._attention import Mask, Real, fixed, scores, softmax, visible, with_best
from sim.rivals._memory import whole
from sim.rivals.base import Config, Constant, Cost, Rival, Selection, Work, array_cycles, at_least

LANE_MULTIPLIERS = 128  # one attention lane: 64 for dot products, 64 for the weighted sum
NORM_BYTES = 1
_BIAS_SAMPLES, _BIAS_SEED = 20000, 20210614
BIAS_PERCENTILE = 80.0


@dataclass(frozen=True)
class ElsaConfig(Config):
    """``strictness``: p of the threshold's learning rule, 0 keeps every key.

    ``selectors_per_lane``: candidate tests per cycle and lane.
    ``hash_multipliers_per_lane``, ``output_multipliers_per_lane``: of the other two stages.
    ``hash_seed``: of the projection.
    """

    bits: int = 9
    strictness: float = 1.0
    selectors_per_lane: int = 8
    hash_multipliers_per_lane: int = 64
    output_multipliers_per_lane: int = 4
    hash_seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("strictness", self.strictness, 0)
        for name in ("selectors_per_lane", "hash_multipliers_per_lane", "output_multipliers_per_lane"):
            at_least(name, getattr(self, name), 1)
        if self.multipliers % LANE_MULTIPLIERS:
            raise UserError(f"rival: elsa: multipliers = {self.multipliers}: must be a multiple of {LANE_MULTIPLIERS}")

    @property
    def lanes(self) -> int:
        """Attention lanes; key i belongs to lane i mod lanes."""
        return self.multipliers // LANE_MULTIPLIERS


def kronecker_sizes(dim: int) -> tuple[int, ...]:
    """Sizes of the small matrices whose product is ``dim``: fours, and a last two or eight.

    Raises:
        UserError: not a power of two from 4 on.
    """
    if dim < 4 or dim & (dim - 1):
        raise UserError(f"rival: elsa: head dimension {dim}: must be a power of two from 4 on")
    fours, twos = divmod(dim.bit_length() - 1, 2)
    return (4,) * fours + (2,) * twos


@functools.cache
def factors(dim: int, seed: int) -> tuple[Real, ...]:
    """Orthogonal matrices (QR of normal numbers) of the sizes of :func:`kronecker_sizes`."""
    rng = np.random.default_rng(seed)
    return tuple(np.linalg.qr(rng.standard_normal((size, size)))[0] for size in kronecker_sizes(dim))


def signs(x: Real, dim: int, seed: int) -> Mask:
    """Hash bits (rows, d): whether each projection is negative; one small matrix after the other."""
    small = factors(dim, seed)
    shaped: NDArray = x.reshape(len(x), *(len(f) for f in small))
    for axis, factor in enumerate(small, start=1):
        shaped = np.moveaxis(np.tensordot(shaped, factor, axes=([axis], [1])), -1, axis)
    return shaped.reshape(len(x), dim) < 0


@functools.cache
def angle_bias(dim: int) -> float:
    """Radians by which 80 % of estimated angles do not exceed the true one, from random pairs of directions."""
    rng = np.random.default_rng(_BIAS_SEED)
    x, y = rng.standard_normal((2, _BIAS_SAMPLES, dim))
    cosine = (x * y).sum(axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    distance = (signs(x, dim, _BIAS_SEED) != signs(y, dim, _BIAS_SEED)).sum(axis=1)
    return float(np.percentile(distance * math.pi / dim - np.arccos(cosine), BIAS_PERCENTILE))


def similarity(q: Real, k: Real, seed: int) -> Real:
    """(rows, keys): estimated q.k over the query's norm."""
    dim = q.shape[1]
    # With bits as +1 and -1, a dot product is the bits that agree less those that differ.
    bits_q, bits_k = (np.where(signs(x, dim, seed), -1.0, 1.0) for x in (q, k))
    distance = (dim - bits_q @ bits_k.T) / 2
    angle = np.clip(distance * math.pi / dim - angle_bias(dim), 0, math.pi)
    return np.linalg.norm(k, axis=1) * np.cos(angle)


def hash_multiplications(dim: int) -> int:
    """Of one hash: each small matrix of size s costs d s."""
    return dim * sum(kronecker_sizes(dim))


class Machine(Rival):
    """Candidates by hash, exact attention on them."""

    TITLE = "ELSA (ISCA 2021)"
    VARIANTS: ClassVar[Mapping[str, Config]] = {
        "elsa": ElsaConfig(512, channels=0),
        "elsa-base": ElsaConfig(512, channels=0, strictness=0.0),
        "elsa-moderate": ElsaConfig(512, channels=0, strictness=2.0),
        "elsa-aggressive": ElsaConfig(512, channels=0, strictness=4.0),
    }
    CONSTANTS: ClassVar[Mapping[str, Constant]] = {
        "multipliers": Constant("one of 12 units: four lanes of 64 + 64", "memory"),
        "clock_MHz": Constant("1 GHz (SOFA's comparison table)", "published"),
        "channels": Constant(
            "K and V are on chip before the measurement begins; DRAM is not in the paper's time", "memory"
        ),
        "bits": Constant("own choice: 9, as in A3 of the same group", "assumed"),
        "strictness": Constant("p = 1, 2, 4 for conservative, moderate, aggressive", "memory"),
        "selectors_per_lane": Constant("8 candidate selection modules per lane", "memory"),
        "hash_multipliers_per_lane": Constant("256 for four lanes", "memory"),
        "output_multipliers_per_lane": Constant("16 for four lanes", "memory"),
        "bias": Constant("80th percentile over random pairs, computed here; 0.127 at d = 64 is recalled", "derived"),
    }
    SWEEP = ({"strictness": 0.0}, {"strictness": 0.5}, {"strictness": 1.0}, {"strictness": 2.0}, {"strictness": 4.0})
    NOTE = "the threshold is learned on rows of the same tensors, which favours it"
    config: ElsaConfig

    def helpers(self) -> tuple[tuple[float, int], ...]:
        """Multipliers of the hashes and of the output's division."""
        number = self.config.lanes * (self.config.hash_multipliers_per_lane + self.config.output_multipliers_per_lane)
        return ((number, self.config.bits),)

    def learn(self, q: NDArray, k: NDArray, seen: NDArray[np.int64]) -> float | None:
        """Mean over rows of the smallest score that a key with more than p / n of the softmax has, over the norms."""
        p = self.config.strictness
        if not p:
            return None
        mask = visible(seen, len(k))
        score = scores(np.asarray(q, np.float64), np.asarray(k, np.float64))
        heavy = mask & (softmax(score, mask) > p / seen[:, None])
        heavy = with_best(heavy, score, mask)
        least = np.where(heavy, score, np.inf).min(axis=1) * math.sqrt(q.shape[1])
        norms = np.linalg.norm(q, axis=1) * np.linalg.norm(k, axis=1).max()
        return float(np.mean(least / norms))

    def select_and_run(
        self, q: NDArray, k: NDArray, v: NDArray, seen: NDArray[np.int64], learned: float | None = None
    ) -> Selection:
        """Candidates, and exact attention over them. Without ``learned`` the threshold is learned from these rows."""
        config = self.config
        allowed = visible(seen, len(k))
        q9, k9, v9 = fixed(q, config.bits), fixed(k, config.bits), fixed(v, config.bits)
        kept = allowed
        if config.strictness:
            threshold = self.learn(q, k, seen) if learned is None else learned
            estimated = similarity(q9, k9, config.hash_seed)
            largest = np.where(allowed, np.linalg.norm(k9, axis=1), 0).max(axis=1, keepdims=True)
            kept = with_best(allowed & (estimated > threshold * largest), estimated, allowed)
        return Selection(softmax(scores(q9, k9), kept) @ v9, kept, kept)

    def cost(self, work: Work, selection: Selection) -> Cost:
        """Hash (keys once), selection, attention in the fullest lane, division of the output."""
        config, (rows, dim) = self.config, work.q.shape
        lanes, keys = config.lanes, len(work.k)
        per_hash = hash_multiplications(dim) / (lanes * config.hash_multipliers_per_lane)
        hashing = np.zeros(rows)
        choosing: NDArray[np.float64] = np.zeros(rows)
        searched = bool(config.strictness)
        prepare = (1 if work.decode else keys) * per_hash if searched else 0.0
        if searched:
            hashing += math.ceil(per_hash)
            choosing = np.ceil(work.seen / (lanes * config.selectors_per_lane))
        fullest = np.max([selection.keys[:, lane::lanes].sum(axis=1) for lane in range(lanes)], axis=0)
        attending = array_cycles(fullest, dim, LANE_MULTIPLIERS / 2)
        output = np.full(rows, math.ceil(dim / (lanes * config.output_multipliers_per_lane)))
        parts = self.operands(work)
        streams = [parts[name] for name in ("q", "k", "v", "output")]
        events = self.events(work, selection)
        if searched:
            hash_bytes = keys * (dim / 8 + NORM_BYTES)
            streams.insert(1, whole("hashes", hash_bytes, config.spec.access_bytes, write=False))
            new_keys = 1 if work.decode else keys
            events[f"mac_{config.bits}"] += (rows + new_keys) * hash_multiplications(dim) + new_keys * dim
            events["bit_count"] = float(work.pairs * dim)
            events["compare_12"] = float(work.pairs)
            events[f"mac_{config.bits}"] += work.pairs  # norm times cosine
            events["sram_read_bytes"] += work.pairs * (dim / 8 + NORM_BYTES)
            events["sram_write_bytes"] += hash_bytes
        return Cost(
            {"hash": hashing, "selection": choosing, "attention": attending, "division": output},
            streams,
            events,
            prepare,
        )
