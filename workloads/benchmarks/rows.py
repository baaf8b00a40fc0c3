"""What a benchmark and a variant of it come to: tokens per layer of a sentence, rows of a generation."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import Any

from workloads.benchmarks.model import Benchmark
from workloads.benchmarks.variants import Variant
from workloads.cascade import UNPRUNED_FOR_TOKENS, count_of, layer_shares
from workloads.catalog import find, read_yaml
from workloads.row_trace import RowTrace, TraceSource
from workloads.schedule import unroll
from workloads.schedule_model import Heads, Importance, Kept, Rows, TokenSchedule, TokenTopk, Totals, Values, Widths

WIDEST_BITS = 12  # of the datapath
PASS_LAYERS = (0, 1)  # where 92 % of the second passes of the published trace lie


def heads_per_layer(one: Benchmark, variant: Variant) -> tuple[int, ...]:
    """Heads that run in each layer."""
    return (
        one.inputs.heads_kept.value
        if variant.has("head-pruning")
        else (one.inputs.heads.value,) * one.inputs.layers.value
    )


def tokens_per_layer(one: Benchmark, variant: Variant) -> tuple[int, ...]:
    """Tokens of a sentence that are alive in each layer."""
    given = one.inputs
    share = given.tokens.value if variant.has("token-pruning") else 1.0
    shares = layer_shares(given.layers.value, share, UNPRUNED_FOR_TOKENS)
    return tuple(count_of(one_share, given.length.value) for one_share in shares)


def pattern(name: str) -> TokenSchedule:
    """The schedule of rows that a benchmark starts from. Raises UserError for an unknown name."""
    return TokenSchedule.model_validate(read_yaml(find(name).path))


def row_schedule(one: Benchmark, variant: Variant) -> TokenSchedule:
    """The schedule of a generation."""
    given, base = one.inputs, pattern(one.inputs.token_schedule.value)
    full = base.context.full_tokens
    kept = [next(rule.tokens for rule in base.keys.kept if layer in rule.layers) for layer in range(base.model.layers)]
    if given.tokens.value != 1:
        kept = [
            tokens if tokens == full else max(1, math.floor(full * (tokens / full) ** given.tokens.value))
            for tokens in kept
        ]
    if not variant.has("token-pruning"):
        kept = [full] * base.model.layers
    heads = heads_per_layer(one, variant)
    exact = given.tokens.value == 1 and variant.has("token-pruning")
    narrow = variant.has("quantisation")
    passes: tuple[Rows, ...] = ()
    if narrow and given.second_passes.value == "pattern":
        passes = base.lsb_passes
    elif narrow and given.second_passes.value == "first":
        passes = tuple(_first_passes(given.second_pass_share.value, heads, given.generated.value))
    # Importance that nothing is selected by is not added up.
    idle = Importance(not_accumulated=(Rows(),))
    return base.model_copy(
        update={
            "name": one.name,
            "model": base.model.model_copy(
                update={
                    "heads": tuple(
                        Heads.model_validate({"layers": layers, "heads": count}) for layers, count in _ranges(heads)
                    )
                }
            ),
            "context": base.context.model_copy(
                update={"prompt_tokens": given.length.value, "generated_tokens": given.generated.value}
            ),
            "widths": Widths(
                key_msb_bits=given.key_msb_bits.value if narrow else WIDEST_BITS,
                key_lsb_bits=given.key_lsb_bits.value if narrow else 0,
                query_bits=given.query_bits.value,
                value_bits=given.value_bits.value if narrow else WIDEST_BITS,
                lsb_threshold=given.threshold.value,
            ),
            "keys": base.keys.model_copy(
                update={
                    "kept": tuple(
                        Kept.model_validate({"layers": layers, "tokens": count}) for layers, count in _ranges(kept)
                    )
                }
            ),
            "values": Values(kept_share=given.value_share.value if variant.has("value-pruning") else 1),
            "token_topk": base.token_topk if exact else tuple(_topk_runs(base, kept)),
            "importance": base.importance if variant.has("token-pruning") else idle,
            "lsb_passes": passes,
            "totals": Totals(),
        }
    )


def row_trace(one: Benchmark, variant: Variant) -> RowTrace:
    """The rows of a generation. Raises UserError for rules that select no row."""
    schedule = row_schedule(one, variant)
    digest = find(one.inputs.token_schedule.value).path.name
    return unroll(schedule, TraceSource(digest, ""))


def work_of(one: Benchmark, variant: Variant) -> dict[str, Any]:
    """All that a machine sees of a benchmark, for telling whether two come to the same work."""
    if not one.is_bert:
        names = {"name", "about", "sources", "notes", "config", "totals"}
        found = row_schedule(one, variant).model_dump(mode="json", exclude=names)
        found["widths"].pop("lsb_threshold")  # which rows make a second pass is said by lsb_passes
        return found
    narrow = variant.has("quantisation")
    return {
        "heads": one.inputs.heads.value,
        "head_dim": one.inputs.head_dim.value,
        "length": one.inputs.length.value,
        "tokens_per_layer": tokens_per_layer(one, variant),
        "heads_per_layer": heads_per_layer(one, variant),
        "key_bits": one.inputs.key_msb_bits.value if narrow else WIDEST_BITS,
        "value_bits": one.inputs.value_bits.value if narrow else WIDEST_BITS,
        "value_share": one.inputs.value_share.value if variant.has("value-pruning") else 1,
        "queries_kept": not variant.has("query-pruning"),
        "prunes": [variant.has("token-pruning"), variant.has("head-pruning")],
    }


def _topk_runs(base: TokenSchedule, kept: list[int]) -> Iterator[TokenTopk]:
    """The selections of the pattern, with the counts that the layers behind them now have."""
    full = base.context.full_tokens
    for rule in base.token_topk:
        following = (rule.after_layer + 1) % base.model.layers
        if kept[following] < full:
            yield rule.model_copy(update={"keep": kept[following]})


def _first_passes(share: float, heads: tuple[int, ...], generated: int) -> Iterator[Rows]:
    """That share of all rows, from the first generated token on, in the first two layers."""
    left = round(Fraction(str(share)) * sum(heads) * generated)
    for iteration in range(generated):
        for layer in PASS_LAYERS:
            count = min(left, heads[layer])
            if count:
                yield Rows.model_validate({"iterations": iteration, "layers": layer, "heads": f"0-{count - 1}"})
            left -= count


def _ranges(values: list[int] | tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Equal neighbours as ranges: (5, 5, 3) -> ("0-1", 5), ("2-2", 3)."""
    at = 0
    for value, group in groupby(values):
        length = len(list(group))
        yield f"{at}-{at + length - 1}", value
        at += length
