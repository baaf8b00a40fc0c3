"""What is pruned and how wide numbers are: one plan for all layers of a network."""

import itertools
from dataclasses import dataclass

from accel.errors import UserError
from accel.numerics.quantise import check_planes
from accel.program import Lsb
from accel.units.softmax import THRESHOLD_BITS
from workloads.cascade import UNPRUNED_FOR_HEADS, UNPRUNED_FOR_TOKENS, count_of, layer_shares

RATIO_BITS = 16  # of ``keep_ratio`` in a job
WIDTHS = (4, 6, 8, 10, 12)


@dataclass(frozen=True)
class Plan:
    """Widths and pruning of a network's attention.

    Attributes:
        key_msb_bits, key_lsb_bits: planes of K; ``lsb`` says when the second one is fetched, ``threshold`` (0 to 1)
        is the
            largest probability below which a row counts as flat.
        value_bits, query_bits: widths of V and Q. A query is stored in a 12-bit word whatever its width.
        local_values: share of its V rows that each query keeps, in every tile.
        tokens, heads: average share kept behind the unpruned first layers (:func:`workloads.cascade.layer_shares`);
            1 prunes nothing.
        halve_every: decode steps after which the token scores are halved, so that old importance fades; 0: never, as in
            the paper. (The published traces have a flag for it on some rows, without a rule.)
        token_counts, head_counts: numbers kept per layer, instead; they may not grow from layer to layer.

    Raises:
        UserError: a width the datapath does not have, a share outside 0 to 1, counts that grow.
    """

    key_msb_bits: int = 12
    key_lsb_bits: int = 0
    value_bits: int = 12
    query_bits: int = 12
    lsb: Lsb = Lsb.NEVER
    threshold: float = 0.0
    local_values: float = 1.0
    tokens: float = 1.0
    heads: float = 1.0
    token_counts: tuple[int, ...] = ()
    head_counts: tuple[int, ...] = ()
    halve_every: int = 0

    def __post_init__(self) -> None:
        check_planes(self.key_msb_bits, self.key_lsb_bits)
        for name in ("value_bits", "query_bits"):
            if getattr(self, name) not in WIDTHS:
                raise UserError(f"plan: {name} = {getattr(self, name)}: must be one of {', '.join(map(str, WIDTHS))}")
        for name in ("local_values", "tokens", "heads"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"plan: {name} = {getattr(self, name)}: a share is above 0 and at most 1")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"plan: threshold = {self.threshold}: a probability is 0 to 1")
        if self.lsb != Lsb.NEVER and not self.key_lsb_bits:
            raise UserError("plan: lsb asks for a second pass, so key_lsb_bits must be 4, as in 6+4")
        for name in ("token_counts", "head_counts"):
            counts = getattr(self, name)
            if any(b > a for a, b in itertools.pairwise(counts)) or min(counts, default=1) < 1:
                raise UserError(
                    f"plan: {name} = {counts}: numbers kept are 1 or more and may not grow from layer to layer"
                )

        if self.halve_every < 0:
            raise UserError(f"plan: halve_every = {self.halve_every}: must be 0 (never) or a number of decode steps")

    @property
    def key_bits(self) -> int:
        """Width of K with both planes."""
        return self.key_msb_bits + self.key_lsb_bits

    @property
    def keep_ratio(self) -> int:
        """``local_values`` as a job carries it."""
        return max(1, round(self.local_values * (1 << RATIO_BITS)))

    @property
    def threshold_word(self) -> int:
        """``threshold`` as a job carries it; 1 is the largest word, a little less."""
        return min(round(self.threshold * (1 << THRESHOLD_BITS)), (1 << THRESHOLD_BITS) - 1)

    @property
    def prunes_tokens(self) -> bool:
        """Whether tokens may go; then every row adds to the token scores."""
        return self.tokens < 1 or bool(self.token_counts)

    @property
    def prunes_heads(self) -> bool:
        """Whether heads may go."""
        return self.heads < 1 or bool(self.head_counts)

    def halves(self, step: int) -> bool:
        """Whether the token scores are halved before decode step ``step`` (0, 1, ...)."""
        return self.prunes_tokens and self.halve_every > 0 and step % self.halve_every == 0

    def tokens_kept(self, layer: int, layers: int, tokens: int) -> int:
        """Tokens that ``layer`` works on, of ``tokens``."""
        return _kept(self.token_counts, self.tokens, UNPRUNED_FOR_TOKENS, layer, layers, tokens, "token_counts")

    def heads_kept(self, layer: int, layers: int, heads: int) -> int:
        """Query heads that ``layer`` works on, of ``heads``."""
        return _kept(self.head_counts, self.heads, UNPRUNED_FOR_HEADS, layer, layers, heads, "head_counts")


def _kept(counts: tuple[int, ...], average: float, unpruned: float, layer: int, layers: int, of: int, name: str) -> int:
    if counts:
        if len(counts) != layers:
            raise UserError(f"plan: {name} has {len(counts)} entries; the network has {layers} layers")
        return min(of, counts[layer])
    return count_of(layer_shares(layers, average, unpruned)[layer], of)
