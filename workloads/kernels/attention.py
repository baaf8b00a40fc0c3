"""Attention in which every query meets every key that it may see: with softmax, and with a decay in its place."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

from workloads.kernels.base import Kernel, causal_pairs, check_gammas

Mask = Literal["none", "causal"]


@dataclass(frozen=True)
class SoftmaxAttention(Kernel):
    """Softmax attention of one layer.

    Query head h reads K/V head ``h // group``. With ``mask`` causal, query i sees keys 0 ... ``query_start`` + i,
    else all. So an encoder is (queries = keys, none), a prefill (queries = keys, causal), one decode step (queries =
    1, causal, query_start = keys - 1), a later chunk of a prefill (causal, query_start = keys - queries).

    ``cross``: the queries belong to another sequence than the keys, so a pruned token takes no query with it.
    ``value_dim``: numbers per value and per output head, ``head_dim`` if None; 0: only the scores are wanted.
    ``window``: a causal query sees its own key and the ``window`` - 1 before it; 0: all before it.
    ``iterations``: the whole is done so often, each time with the last output as query (Hopfield, beta folded into q).
    ``shared_kv``: the value of a key is its first ``value_dim`` numbers, so V is not fetched (MLA, Hopfield K = V).
    ``blocks`` of ``block_keys``: grouped softmax (landmark attention). The first blocks * block_keys keys are blocks
    whose last key is the block's landmark; landmarks and all later keys share one softmax, and what a landmark gets
    is shared out inside its block by a softmax of its own.

    With P = batch * query_heads * pairs * iterations, pairs = queries * keys or the causal sum over i of
    min(window, query_start + i + 1):

    * macs = P * (head_dim + value_dim); exponentials = P; elementwise = scores of block keys times their landmark's
    * q = batch * query_heads * queries * head_dim, output the same with value_dim; k = batch * kv_heads * keys *
      head_dim * iterations, v the same with value_dim, 0 with shared_kv (each K/V head is read once per iteration)

    Source of the forms: Vaswani et al. 2017 (1706.03762), section 3.2; grouped softmax: Mohtashami and Jaggi 2023
    (2305.16300), section 3.1; iterations: Ramsauer et al. 2020 (2008.02217), equation 3.

    Raises:
        UserError: a size below 1, heads that do not divide into groups, queries behind the last key, a window
            without a causal mask, shared values wider than keys, or more block keys than keys.
    """

    called: ClassVar[str] = "attention"
    may_be_zero: ClassVar[frozenset[str]] = frozenset({"query_start", "window", "blocks", "block_keys"})
    cached: ClassVar[frozenset[str]] = frozenset({"k", "v"})

    query_heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    mask: Mask = "causal"
    query_start: int = 0
    batch: int = 1
    cross: bool = False
    _: KW_ONLY
    value_dim: int | None = None
    window: int = 0
    iterations: int = 1
    shared_kv: bool = False
    blocks: int = 0
    block_keys: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.value_dim
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise self._error(f"value_dim = {value!r}: must be a whole number, 0 or more, or None for head_dim")
        if self.query_heads % self.kv_heads:
            raise self._error(f"query_heads = {self.query_heads}: must be a multiple of kv_heads = {self.kv_heads}")
        if self.mask == "causal" and self.query_start + self.queries > self.keys:
            raise self._error(
                f"query_start = {self.query_start} with {self.queries} queries: a causal query needs a key "
                f"of its own place, so keys = {self.keys} must be {self.query_start + self.queries} or more"
            )
        if self.mask == "causal" and self.cross:
            raise self._error("cross = True with a causal mask: queries of another sequence have no place in it")
        if self.mask == "none" and (self.query_start or self.window):
            name = "query_start" if self.query_start else "window"
            raise self._error(f"{name} = {getattr(self, name)}: only a causal mask has one")
        if self.shared_kv and self.dv > self.head_dim:
            raise self._error(f"value_dim = {self.dv} with shared_kv: a value is part of a key of {self.head_dim}")
        if self.iterations > 1 and self.dv != self.head_dim:
            raise self._error(
                f"iterations = {self.iterations}: the output is the next query, so value_dim = {self.dv} must be "
                f"head_dim = {self.head_dim}"
            )
        if (self.blocks > 0) != (self.block_keys > 0) or self.blocks * self.block_keys > self.keys:
            raise self._error(
                f"blocks = {self.blocks} of block_keys = {self.block_keys}: both or neither, and no more than keys = "
                f"{self.keys} together"
            )
        if self.blocks and (self.block_keys < 2 or self.queries > 1):
            raise self._error(
                f"blocks of {self.block_keys} keys for {self.queries} queries: a block is 2 keys or more, a landmark "
                "and what it stands for, chosen for 1 query"
            )

    @property
    def group(self) -> int:
        """Query heads per K/V head."""
        return self.query_heads // self.kv_heads

    @property
    def dv(self) -> int:
        """Numbers per value: `value_dim`, or `head_dim` if that is None."""
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def pairs(self) -> int:
        """(query, key) pairs of one head of one sequence."""
        if self.mask == "none":
            return self.queries * self.keys
        return causal_pairs(self.queries, self.keys, self.query_start, self.window)

    @property
    def _scores(self) -> int:
        return self.batch * self.query_heads * self.pairs * self.iterations

    @property
    def macs(self) -> int:
        return self._scores * (self.head_dim + self.dv)

    @property
    def exponentials(self) -> int:
        return self._scores

    @property
    def elementwise_ops(self) -> int:
        return self.batch * self.query_heads * self.iterations * self.blocks * max(0, self.block_keys - 1)

    def tensors(self) -> dict[str, int]:
        query_rows = self.batch * self.query_heads * self.queries
        key_rows = self.batch * self.kv_heads * self.keys * self.iterations
        return {
            "q": query_rows * self.head_dim,
            "k": key_rows * self.head_dim,
            "v": 0 if self.shared_kv else key_rows * self.dv,
            "output": query_rows * self.dv,
        }


def geometric_gammas(heads: int, first: float, last: float) -> tuple[float, ...]:
    """Decays 1 - r with r in even ratios from `first` (head 0) to `last` (the last head).

    ViR (2310.19731): first = 1/32, last = 1/512; RetNet (2307.08621), section 3.1: 1 - 2^(-5-h), so 1/32 to
    2^(-4-heads).
    """
    if heads == 1:
        return (1 - first,)
    step = (math.log(last) - math.log(first)) / (heads - 1)
    return tuple(1 - math.exp(math.log(first) + step * head) for head in range(heads))


@dataclass(frozen=True)
class DecayAttention(Kernel):
    """Retention of one layer in its parallel form: O = (Q K^T . D) V with D[n, m] = gamma_h^(n-m) for n >= m, else 0.

    ``gammas`` has one decay per head, 1 - 1/32 everywhere if None. No softmax: scores may have either sign.

    * macs = heads * length (length + 1) / 2 * (key_dim + value_dim); elementwise = one decay per pair, no exponentials
      (the powers of gamma are a table)
    * q = k = heads * length * key_dim, v = output = heads * length * value_dim

    `chunkwise` and `recurrent` give the other two forms of the same function. Source: Sun et al. 2023 (2307.08621),
    equations 5 to 7.

    Raises:
        UserError: a size below 1, or gammas that are not one number in (0, 1] per head.
    """

    called: ClassVar[str] = "retention"

    heads: int
    length: int
    key_dim: int
    value_dim: int
    gammas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gammas is not None and (wrong := check_gammas(self.gammas, self.heads, "head")):
            raise self._error(wrong)

    @property
    def decays(self) -> tuple[float, ...]:
        """One decay per head."""
        return self.gammas or (1 - 1 / 32,) * self.heads

    @property
    def pairs(self) -> int:
        """(query, key) pairs of one head."""
        return causal_pairs(self.length, self.length, 0)

    def windows(self, epsilon: float) -> tuple[int, ...]:
        """Per head, how many keys back a pair is kept when pairs with gamma^(n-m) < epsilon are dropped (decay window).

        The output of a query changes by at most gamma^w / (1 - gamma) * max |q k| * max |v|. Raises UserError for an
        epsilon that is not between 0 and 1.
        """
        if not 0 < epsilon < 1:
            raise self._error(f"epsilon = {epsilon}: must be between 0 and 1")
        return tuple(
            self.length if gamma == 1 else max(1, min(self.length, math.ceil(math.log(epsilon) / math.log(gamma))))
            for gamma in self.decays
        )

    def kept_pairs(self, epsilon: float) -> int:
        """Pairs of all heads inside the decay windows of `windows(epsilon)`."""
        return sum(causal_pairs(self.length, self.length, 0, window) for window in self.windows(epsilon))

    @property
    def macs(self) -> int:
        return self.heads * self.pairs * (self.key_dim + self.value_dim)

    @property
    def elementwise_ops(self) -> int:
        return self.heads * self.pairs

    def tensors(self) -> dict[str, int]:
        keys, values = (self.heads * self.length * size for size in (self.key_dim, self.value_dim))
        return {"q": keys, "k": keys, "v": values, "output": values}
