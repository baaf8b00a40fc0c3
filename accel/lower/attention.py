"""Softmax attention to jobs: one layer at a time, or a whole program over layers, steps and sequences.

*Rows.* The queries of all heads that share a K/V head make up one job; its K is fetched once. V is fetched once as
well when the rows together need at least as many V rows as there are keys, otherwise each row fetches the ones it
kept.

*Token pruning.* A layer that keeps fewer tokens than there are works on the keep list. In a prefill the pruned
tokens' queries
are gone too: rows stand in keep-list order, and causal row i sees keep positions 0 ... i. In decoding each step
prunes anew among all live tokens, at the first layer that prunes, and only shrinks the list from there to the last
layer.

*Heads.* A job of a pruned head stays in the program; the machine passes over it.

*Tiles.* More keys than ``arch.tile_keys`` are worked on in tiles. Rows go through a tile together; those that see no
later key are finished there, the others leave their sums in memory for the next tile. Local value pruning keeps its
share in each tile, and importance and the maximum-probability test see the sums up to and including the tile.

*Batch.* One sequence after the other, each with its own tensors, and a restart of tokens, scores and heads between
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.layout import Layout
from accel.lower.pairs import fuse_pairs, pair_fits
from accel.lower.plan import Plan
from accel.numerics.attention import values_kept
from accel.program import Flag, Jobs, Opcode, ValueFetch, jobs_of
from workloads.kernels import SoftmaxAttention

Item = dict[str, int]
Scales = Sequence[tuple[int, int]]  # score mantissa and shift per K/V head


class Part(NamedTuple):
    """Queries ``first_query`` ... of one tile, and how many of its keys the first one sees (0: all see all)."""

    first_query: int
    queries: int
    first_key: int
    keys: int
    first_visible: int
    starts: bool
    ends: bool


def parts(queries: int, keys: int, tile: int, query_start: int | None) -> list[Part]:
    """Cut queries x keys into what one job can do; ``query_start`` None: no causal mask."""
    out: list[Part] = []
    for first in range(0, keys, tile):
        count = min(tile, keys - first)
        if query_start is None:
            out.append(Part(0, queries, first, count, 0, first == 0, first + count == keys))
            continue
        reaching = max(0, first - query_start)  # the first query that sees a key of this tile
        ending = min(queries, max(reaching, first + count - query_start))  # the first that sees a key of the next one
        if reaching < ending:
            seen = query_start + reaching + 1 - first
            out.append(Part(reaching, ending - reaching, first, count, seen, first == 0, True))
        if ending < queries:
            out.append(Part(ending, queries - ending, first, count, 0, first == 0, False))
    return out


def _refuse_forms(kernel: SoftmaxAttention) -> None:
    """Forms of softmax attention that no single program has; accel.lower.zoo makes several of them, or products."""
    forms = {
        "value_dim": (kernel.dv, kernel.dv != kernel.head_dim, f"must be head_dim = {kernel.head_dim}; pad with zeros"),
        "window": (kernel.window, kernel.window > 0, "a job has no window; must be 0"),
        "iterations": (kernel.iterations, kernel.iterations > 1, "must be 1; one program per iteration"),
        "shared_kv": (kernel.shared_kv, kernel.shared_kv, "must be False; values are fetched on their own"),
        "blocks": (kernel.blocks, kernel.blocks > 0, "grouped softmax is several programs; must be 0"),
    }
    for name, (value, wrong, right) in forms.items():
        if wrong:
            raise UserError(f"attention: {name} = {value}: {right}")


@dataclass(frozen=True)
class Lowering:
    """One network's attention on one machine: ``kernel`` has its largest shape (all keys that will ever be live).

    Raises:
        UserError: a head wider than the machine's, more heads than it has, or pruning that it cannot do.
    """

    arch: Arch
    plan: Plan
    kernel: SoftmaxAttention
    layers: int

    def __post_init__(self) -> None:
        arch, kernel, plan = self.arch, self.kernel, self.plan
        _refuse_forms(kernel)
        if kernel.head_dim > arch.max_head_dim:
            raise UserError(f"head_dim = {kernel.head_dim}: machine {arch.name} has max_head_dim = {arch.max_head_dim}")
        if kernel.head_dim < 8 or kernel.head_dim % 8:
            raise UserError(f"head_dim = {kernel.head_dim}: must be a multiple of 8")
        if kernel.query_heads > arch.max_heads:
            raise UserError(f"query_heads = {kernel.query_heads}: machine {arch.name} has max_heads = {arch.max_heads}")
        if plan.prunes_tokens and kernel.keys > arch.max_context:
            raise UserError(
                f"keys = {kernel.keys} with token pruning: machine {arch.name} has importance for max_context = "
                f"{arch.max_context} tokens"
            )
        if plan.prunes_tokens and not kernel.cross and kernel.queries > 1 and kernel.query_start:
            raise UserError(
                f"query_start = {kernel.query_start} with token pruning: which queries of a later chunk "
                "survive is not known when the program is written; use query_start = 0"
            )
        if plan.prunes_tokens and kernel.mask == "none" and not kernel.cross and kernel.queries != kernel.keys:
            raise UserError(
                f"queries = {kernel.queries} of {kernel.keys} keys with token pruning: say cross = True for queries "
                "of another sequence"
            )
        if plan.prunes_heads and kernel.group > 1:
            raise UserError(
                f"head pruning with {kernel.group} query heads per K/V head: the heads of a group are one job; "
                "only a network with kv_heads = query_heads can lose single heads"
            )
        for layer in range(self.layers):
            plan.tokens_kept(layer, self.layers, kernel.keys)
            plan.heads_kept(layer, self.layers, kernel.query_heads)

    def check_prefill(self, tokens: int) -> None:
        """Refuse a prefill that would choose before anything is known.

        Raises:
            UserError: layer 0 is to lose tokens or heads.
        """
        kernel, plan = self.kernel, self.plan
        for name, of in (("token", tokens), ("head", kernel.query_heads)):
            counts = plan.token_counts if name == "token" else plan.head_counts
            if counts and counts[0] < of:
                raise UserError(
                    f"plan: {name}_counts = {counts[0]} in layer 0 of {of}: "
                    f"importance is known from layer 1 on; keep {of}"
                )

    @property
    def _tile(self) -> int:
        return self.arch.tile_keys(self.kernel.head_dim)

    @cached_property
    def layout(self) -> Layout:
        """Where the tensors lie; every sequence has its own. Heads lie in pairs only if every job can fetch them so."""
        kernel, plan = self.kernel, self.plan
        tiled = kernel.keys > self._tile
        fits = pair_fits(self.arch, kernel.head_dim, kernel.keys)
        return Layout(
            self.arch,
            self.layers * kernel.batch,
            kernel.kv_heads,
            kernel.head_dim,
            kernel.keys,
            kernel.queries * kernel.group,
            plan.key_msb_bits,
            plan.key_lsb_bits,
            plan.value_bits,
            pair_heads=fits and not tiled and not plan.prunes_heads,
            tiled=tiled,
        )

    # ---- state ----------------------------------------------------------------------------------------------------
    def tokens(self, tokens: int, *, restart: bool) -> list[Item]:
        """So many tokens are live; 0, and no token state, when the context will outgrow the machine's."""
        if self.kernel.keys > self.arch.max_context:
            return [{"opcode": Opcode.TOKENS, "flags": Flag.RESTART}] if restart else []
        return [{"opcode": Opcode.TOKENS, "flags": Flag.RESTART if restart else Flag.NONE, "keys": tokens}]

    def prunes(self, layer: int, tokens: int, *, decode: bool = False) -> list[Item]:
        """The cascade's selections before ``layer``, of a sequence of ``tokens``."""
        items: list[Item] = []
        kernel = self.kernel
        if self.plan.prunes_tokens:
            keep = self.plan.tokens_kept(layer, self.layers, tokens)
            before = self.plan.tokens_kept(layer - 1, self.layers, tokens) if layer else tokens
            if keep < before:
                again = Flag.RESTART if before == tokens else Flag.NONE
                items.append({"opcode": Opcode.PRUNE_TOKENS, "flags": again, "keep_values": keep})
        if self.plan.prunes_heads:
            keep = self.plan.heads_kept(layer, self.layers, kernel.query_heads)
            before = self.plan.heads_kept(layer - 1, self.layers, kernel.query_heads) if layer else kernel.query_heads
            if decode and layer == 0:
                items.append({"opcode": Opcode.PRUNE_HEADS, "flags": Flag.RESTART, "keep_values": keep})
            elif keep < before:
                items.append({"opcode": Opcode.PRUNE_HEADS, "keep_values": keep})
        return items

    # ---- rows -----------------------------------------------------------------------------------------------------
    def attend(
        self,
        layer: int,
        queries: int,
        keys: int,
        query_start: int,
        *,
        listed: bool = False,
        sequence: int = 0,
        iteration: int = 0,
        scales: Scales | None = None,
        halve: bool = False,
    ) -> Jobs:
        """Jobs of one layer of one sequence.

        Args:
            queries, keys: rows per head, and keys, after pruning. query_start: place of the first query among the keys.
            listed: the keys are the keep list's, not simply all tokens. halve: first halve the token scores.
            scales: score mantissa and shift per K/V head; without them the program has traffic and time, but no values.
        """
        kernel, plan, layout = self.kernel, self.plan, self.layout
        place = sequence * self.layers + layer
        start = query_start if kernel.mask == "causal" else None
        flags = (Flag.KEEP_LIST if listed else Flag.NONE) | (Flag.ACCUMULATE if plan.prunes_tokens else Flag.NONE)
        items: list[Item] = []
        for head in range(kernel.kv_heads):
            mantissa, shift = scales[head] if scales is not None else (0, 0)
            where = {
                name: layout.address(name, place, head)
                for name in ("q", "k_msb", "k_lsb", "v", "output", "partial")
                if (name != "k_lsb" or plan.key_lsb_bits) and (name != "partial" or layout.tiled)
            }
            common: Item = {
                "opcode": Opcode.ATTEND,
                "lsb": plan.lsb,
                "msb_bits": plan.key_msb_bits,
                "lsb_bits": plan.key_lsb_bits,
                "value_bits": plan.value_bits,
                "layer": layer,
                "head": head,
                "group": kernel.group,
                "head_dim": kernel.head_dim,
                "keep_ratio": plan.keep_ratio,
                "threshold": plan.threshold_word,
                "score_mantissa": mantissa,
                "score_shift": shift,
                "k_msb_address": where["k_msb"],
                "k_lsb_address": where.get("k_lsb", 0),
                "v_address": where["v"],
                "q_stride": layout.query_stride,
                "output_stride": layout.output_stride,
                "iteration": iteration,
            }
            for part in parts(queries, keys, self._tile, start):
                row = part.first_query * kernel.group
                kept = values_kept(part.keys, 0, plan.keep_ratio)
                items.append(
                    common
                    | {
                        "flags": flags
                        | (Flag.CAUSAL if part.first_visible else Flag.NONE)
                        | (Flag.FIRST_TILE if part.starts else Flag.NONE)
                        | (Flag.LAST_TILE if part.ends else Flag.NONE),
                        "value_fetch": ValueFetch.RESIDENT
                        if part.queries * kernel.group * kept >= part.keys
                        else ValueFetch.SELECTED,
                        "queries": part.queries,
                        "keys": part.keys,
                        "first_key": part.first_key,
                        "first_visible": part.first_visible,
                        "q_address": where["q"] + row * layout.query_stride,
                        "output_address": where["output"] + row * layout.output_stride,
                        "partial_address": where["partial"] + row * layout.partial_stride if layout.tiled else 0,
                    }
                )
        if halve:
            items[0]["flags"] |= Flag.HALVE
        jobs = jobs_of(items)
        fuse_pairs(jobs, layout)
        return jobs
