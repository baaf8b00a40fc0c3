"""What a benchmark file may say, strictly checked. docs/benchmarks.md explains the inputs."""

import itertools
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Label = Literal["published", "trace", "derived", "calibrated", "memory"]
LABELS: tuple[Label, ...] = ("published", "trace", "derived", "calibrated", "memory")
FAMILIES = ("bert-base", "bert-large", "gpt2-small", "gpt2-medium")
Stage = Literal["summarization", "generation"]
LINEAR = "linear"  # the published rule; any other token schedule is the name of a workload of kind token_schedule


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Given(_Part):
    """One input: its value, what it rests on, and where it comes from in words.

    published: printed in the paper. trace: read off a published per-row trace. derived: follows from those by a rule
    that ``source`` says. calibrated: set by ``python -m workloads.benchmarks.calibrate`` so that a published average
    comes out. memory: recalled, not looked up.
    """

    value: Any
    label: Label
    source: Annotated[str, Field(min_length=1)]


class Whole(Given):
    value: Annotated[int, Field(ge=0, le=4096)]


class Positive(Given):
    value: Annotated[int, Field(ge=1, le=4096)]


class Bits(Given):
    value: Literal[0, 4, 6, 8, 10, 12, 16]


class Share(Given):
    value: Annotated[float, Field(gt=0, le=1)]


class Number(Given):
    value: Annotated[float, Field(ge=0, le=8)]


class Text(Given):
    value: Annotated[str, Field(min_length=1)]


class Threshold(Given):
    value: Annotated[float, Field(ge=0, le=1)] | None


class Counts(Given):
    value: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]


class Places(Given):
    value: Literal["none", "pattern", "first"]


class Inputs(_Part):
    """Everything that decides a benchmark.

    Attributes:
        layers, heads, head_dim: of the network.
        length: tokens of the sentence, or of the prompt where tokens are generated. generated: new tokens.
        token_schedule: ``linear`` (first 15 % of layers keep all, then a straight line) or a schedule of rows.
        tokens: linear: average share kept behind those first layers; else the power that each share of the schedule
            is raised to, so 1 is the schedule itself.
        heads_kept: heads that run in each layer. value_share: V rows kept of the tokens kept.
        key_msb_bits, key_lsb_bits, value_bits, query_bits: widths. threshold: largest probability below which the
            second plane of keys is fetched. second_pass_share: rows in which that happens. second_passes: which rows:
            those of the schedule, or the first rows of layers 0 and 1.
    """

    layers: Positive
    heads: Positive
    head_dim: Positive
    length: Positive
    generated: Whole
    token_schedule: Text
    tokens: Number
    heads_kept: Counts
    value_share: Share
    key_msb_bits: Bits
    key_lsb_bits: Bits
    value_bits: Bits
    query_bits: Bits
    threshold: Threshold
    second_pass_share: Number
    second_passes: Places

    @model_validator(mode="after")
    def _fits_together(self) -> "Inputs":
        kept = self.heads_kept.value
        if len(kept) != self.layers.value:
            raise ValueError(f"heads_kept has {len(kept)} entries, the network {self.layers.value} layers")
        if max(kept) > self.heads.value or any(b > a for a, b in itertools.pairwise(kept)):
            raise ValueError(f"heads_kept starts at most at {self.heads.value} and never grows, it is {list(kept)}")
        if self.key_msb_bits.value not in (4, 6, 8, 10, 12) or self.value_bits.value not in (4, 6, 8, 10, 12):
            raise ValueError("key_msb_bits and value_bits must be 4, 6, 8, 10 or 12")
        if self.key_lsb_bits.value not in (0, 4) or self.key_msb_bits.value + self.key_lsb_bits.value > 12:
            raise ValueError("key_lsb_bits must be 0 or 4, and both planes at most 12 bit together")
        if (self.second_passes.value == "none") != (self.second_pass_share.value == 0):
            raise ValueError("second_passes none goes with a second_pass_share of 0, and only with it")
        if (self.token_schedule.value == LINEAR) != (self.generated.value == 0):
            raise ValueError("token_schedule is linear for a sentence, a schedule of rows where tokens are generated")
        if self.token_schedule.value == LINEAR and not 0 < self.tokens.value <= 1:
            raise ValueError(f"tokens = {self.tokens.value}: a share is above 0 and at most 1")
        return self

    def labelled(self) -> dict[str, Given]:
        """All inputs by name."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class Benchmark(_Part):
    """One network on one task."""

    name: str
    title: str
    family: Literal["bert-base", "bert-large", "gpt2-small", "gpt2-medium"]
    task: str
    stage: Stage
    inputs: Inputs
    notes: tuple[str, ...] = ()

    @property
    def is_bert(self) -> bool:
        """Summarization of a sentence, not generation."""
        return self.stage == "summarization"
