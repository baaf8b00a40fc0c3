"""Kernels: what a network asks of the machine, by shape alone. One frozen, validated dataclass per kind of mixer."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from accel.errors import UserError

Mask = Literal["none", "causal"]


@dataclass(frozen=True)
class SoftmaxAttention:
    """Softmax attention of one layer.

    Query head h reads K/V head ``h // group``. With ``mask`` causal, query i sees keys 0 ... ``query_start`` + i,
    else all. So an encoder is (queries = keys, none), a prefill (queries = keys, causal), one decode step (queries =
    1, causal, query_start = keys - 1), a later chunk of a prefill (causal, query_start = keys - queries).

    ``cross``: the queries belong to another sequence than the keys, so a pruned token takes no query with it.

    Raises:
        UserError: a size below 1, heads that do not divide into groups, or queries behind the last key.
    """

    query_heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    mask: Mask = "causal"
    query_start: int = 0
    batch: int = 1
    cross: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "query_start" else 1
            if field.type is int and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise UserError(f"attention: {field.name} = {value!r}: must be a whole number, {least} or more")
        if self.mask not in get_args(Mask):
            raise UserError(f"attention: mask = {self.mask!r}: must be one of {', '.join(get_args(Mask))}")
        if self.query_heads % self.kv_heads:
            raise UserError(
                f"attention: query_heads = {self.query_heads}: must be a multiple of kv_heads = {self.kv_heads}"
            )
        if self.mask == "causal" and self.query_start + self.queries > self.keys:
            raise UserError(
                f"attention: query_start = {self.query_start} with {self.queries} queries: a causal query needs a key "
                f"of its own place, so keys = {self.keys} must be {self.query_start + self.queries} or more"
            )
        if self.mask == "causal" and self.cross:
            raise UserError(
                "attention: cross = True with a causal mask: queries of another sequence have no place in it"
            )
        if self.mask == "none" and self.query_start:
            raise UserError(f"attention: query_start = {self.query_start}: only a causal mask has one")

    @property
    def group(self) -> int:
        """Query heads per K/V head."""
        return self.query_heads // self.kv_heads
