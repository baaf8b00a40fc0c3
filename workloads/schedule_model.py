"""What a token schedule file may say: the kept tokens, widths and flags of one network as ranges, strictly checked."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from workloads.trace_checks import HEAD_DIM, KEY_BITS, LSB_BITS, QUERY_BITS, VALUE_BITS

# Longest run that is unrolled into rows; a row takes about 70 bytes.
MOST_ROWS = 10_000_000


def _numbers(said: Any) -> tuple[int, ...]:
    """3, "0-5" or "0-5,8" -> the numbers it stands for."""
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        return (said,)
    found: list[int] = []
    for part in str(said).split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < MOST_ROWS):
            raise ValueError('a number, or a range such as "2-5" or "0-3,7", is right')
        found += range(int(first), int(last or first) + 1)
    if len(set(found)) != len(found):
        raise ValueError("each number once is right")
    return tuple(found)


Numbers = Annotated[tuple[int, ...], BeforeValidator(_numbers)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Rows(_Part):
    """A selection of rows; what is left out is not restricted."""

    iterations: Numbers | None = None
    layers: Numbers | None = None
    heads: Numbers | None = None


class Heads(_Part):
    layers: Numbers
    heads: PositiveInt


class Kept(_Part):
    layers: Numbers
    tokens: PositiveInt


class LayerEnd(_Part):
    """The last head of a layer, in some iterations."""

    iterations: Numbers | None = None
    after_layer: Annotated[int, Field(ge=0)]


class TokenTopk(LayerEnd):
    keep: PositiveInt


class Model(_Part):
    layers: Annotated[int, Field(ge=1, le=4096)]
    head_dim: Annotated[int, Field(ge=HEAD_DIM[0], le=HEAD_DIM[1])]
    heads: tuple[Heads, ...] = Field(strict=False)


class Context(_Part):
    prompt_tokens: Annotated[int, Field(ge=0, lt=2**31)]
    generated_tokens: Annotated[int, Field(ge=1, lt=MOST_ROWS)]
    full_tokens: Annotated[int, Field(ge=1, lt=2**31)]


class Widths(_Part):
    key_msb_bits: Annotated[int, Field(ge=KEY_BITS[0], le=KEY_BITS[1])]
    key_lsb_bits: Annotated[int, Field(ge=LSB_BITS[0], le=LSB_BITS[1])] = 0
    query_bits: Annotated[int, Field(ge=QUERY_BITS[0], le=QUERY_BITS[1])]
    value_bits: Annotated[int, Field(ge=VALUE_BITS[0], le=VALUE_BITS[1])]
    lsb_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class Keys(_Part):
    dense_iterations: Numbers = ()
    kept: tuple[Kept, ...] = Field(strict=False)


class Values(_Part):
    kept_share: Annotated[float, Field(gt=0, le=1)] = 1


class Importance(_Part):
    not_accumulated: tuple[Rows, ...] = Field((), strict=False)
    rescaled: tuple[LayerEnd, ...] = Field((), strict=False)


class Totals(_Part):
    """What the rows must add up to; None is not checked. Lines hold 8 rows."""

    rows: int | None = None
    lsb_passes: int | None = None
    token_topk_runs: int | None = None
    not_accumulated: int | None = None
    key_lines: int | None = None
    lsb_key_lines: int | None = None
    value_lines: int | None = None


class TokenSchedule(_Part):
    """A file of `kind: token_schedule`. docs/traces.md explains the keys."""

    kind: Literal["token_schedule"]
    name: Annotated[str, Field(min_length=1)]
    about: str
    sources: dict[str, str]
    notes: tuple[str, ...] = Field((), strict=False)
    config: str = ""
    model: Model
    context: Context
    widths: Widths
    keys: Keys
    values: Values = Values()
    token_topk: tuple[TokenTopk, ...] = Field((), strict=False)
    importance: Importance = Importance()
    lsb_passes: tuple[Rows, ...] = Field((), strict=False)
    totals: Totals = Totals()

    @model_validator(mode="after")
    def _fits_together(self) -> "TokenSchedule":
        by_layer: list[tuple[str, Sequence[Heads | Kept]]]
        by_layer = [("model.heads", self.model.heads), ("keys.kept", self.keys.kept)]
        for what, rules in by_layer:
            covered = sorted(layer for rule in rules for layer in rule.layers)
            if covered != list(range(self.model.layers)):
                raise ValueError(f"{what} wants every layer 0-{self.model.layers - 1} exactly once, it has {covered}")
        rows = self.context.generated_tokens * sum(len(rule.layers) * rule.heads for rule in self.model.heads)
        if rows > MOST_ROWS:
            raise ValueError(f"{rows} rows are too many, {MOST_ROWS} are possible")
        if self.widths.key_lsb_bits + self.widths.key_msb_bits > KEY_BITS[1]:
            raise ValueError(f"widths: key_msb_bits and key_lsb_bits exceed {KEY_BITS[1]} bit together")
        if self.lsb_passes and not self.widths.key_lsb_bits:
            raise ValueError("lsb_passes wants a key_lsb_bits of 1 or more in widths")
        for rule in self.token_topk:
            self._check_topk(rule)
        return self

    def _check_topk(self, rule: TokenTopk) -> None:
        """A top-k keeps what the next layer reads: the next one in order, layer 0 of the next token after the last."""
        following = (rule.after_layer + 1) % self.model.layers
        reads = next((kept.tokens for kept in self.keys.kept if following in kept.layers), None)
        if rule.after_layer < self.model.layers and reads != rule.keep:
            raise ValueError(
                f"token_topk after layer {rule.after_layer} keeps {rule.keep}, layer {following} reads {reads}"
            )
