"""What a system file may say; everything is checked when the file is loaded, down to the shape of every kernel."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workloads.refusal import suggestion
from workloads.systems.arithmetic import evaluate
from workloads.systems.calls import Call, SaidKernel
from workloads.systems.totals import Totals, totals_of

Confidence = Literal["high", "medium", "low", "memory", "stand-in"]
"""high: read in code or a published file. medium: published, but one number that matters is not certain. low: second
hand. memory: recalled, not looked up. stand-in: chosen here because nothing is published."""

Family = Literal[
    "softmax attention",
    "retention",
    "gated linear recurrence",
    "state space",
    "recurrent cell",
    "recurrent cell and attention",
    "convolutional recurrence",
    "convolution and gate",
    "test-time memory",
    "hypernetwork",
    "bandit",
    "several",
]

Text = Annotated[str, Field(min_length=1)]
RUN_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Technique(_Part):
    """What one of SpAtten's techniques becomes in this system.

    `as_is`: the rule and the hardware path unchanged. `modified`: another rule with its own `name`, and what bounds its
    error in `bound`. `none`: no honest counterpart, the ratio is exactly 1; `how` says why.
    """

    mode: Literal["as_is", "modified", "none"]
    how: Text
    name: Text | None = None
    bound: Text | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.mode == "modified" and not (self.name and self.bound):
            raise ValueError("a modified technique has a name of its own and says what bounds its error in bound")
        if self.mode != "modified" and (self.name or self.bound):
            raise ValueError(f"{self.mode}: name and bound belong to a modified technique")
        return self


class Techniques(_Part):
    token_pruning: Technique
    head_pruning: Technique
    progressive_quantisation: Technique


class Configuration(_Part):
    """One shape of a system; the unit of all its counts is `unit`, at batch 1."""

    name: Text
    unit: Text
    sources: tuple[str, ...] = Field(min_length=1)
    confidence: Confidence
    confidence_of: dict[str, Confidence] = {}
    parameters: dict[str, int | str]
    on_chip: tuple[str, ...] = ()
    kernels: tuple[SaidKernel, ...] = Field(min_length=1)
    notes: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _has_a_shape(self) -> Self:
        if not RUN_NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: small letters, digits and single hyphens are right")
        self.calls()
        for name in self.confidence_of:
            if name not in self.parameters:
                known = suggestion(name, list(self.parameters), "there are")
                raise ValueError(f"{self.name}: confidence_of: no parameter is called {name}; {known}")
        return self

    def sizes(self) -> dict[str, int]:
        """The parameters as numbers; later ones may use earlier ones."""
        found: dict[str, int] = {}
        for name, said in self.parameters.items():
            try:
                found[name] = evaluate(said, found)
            except ValueError as error:
                raise ValueError(f"{self.name}: parameters: {name}: {error}") from None
        return found

    def calls(self) -> tuple[Call, ...]:
        """The kernels of one unit of work."""
        names, stays = self.sizes(), frozenset(self.on_chip)
        try:
            return tuple(said.build(names, stays) for said in self.kernels)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def totals(self, bits: int = 16) -> Totals:
        """Counts of one unit of work by the closed forms, all numbers at one width."""
        return totals_of(self.calls(), bits)


class NamedOnly(_Part):
    """A configuration that is known to exist but not by shape."""

    name: Text
    why: Text
    confidence: Confidence


class System(_Part):
    """One system. `seed` is its place in the listing of the 37 systems, None for rows beside them."""

    kind: Literal["system"]
    name: Text
    title: Text
    about: Text
    paper: Annotated[str, Field(pattern=r"^(\d{4}\.\d{4,5}|none)$")]
    family: Family
    seed: Annotated[int, Field(ge=1, le=37)] | None = None
    computes: tuple[Text, ...] = Field(min_length=1)
    sources: dict[str, Text] = Field(min_length=1)
    kernels: tuple[SaidKernel, ...] = ()
    configurations: tuple[Configuration, ...] = Field(min_length=1)
    named_only: tuple[NamedOnly, ...] = ()
    techniques: Techniques
    notes: tuple[Text, ...] = ()
    uncertain: tuple[Text, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _share_kernels(cls, data: Any) -> Any:
        """A configuration that lists no kernels has those of the system."""
        configurations = data.get("configurations") if isinstance(data, dict) else None
        if not isinstance(configurations, list) or "kernels" not in data:
            return data
        return data | {
            "configurations": [
                {"kernels": data["kernels"]} | one if isinstance(one, dict) else one for one in configurations
            ]
        }

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [one.name for one in self.configurations]
        for one in self.configurations:
            if not one.name.startswith(f"{self.name}-"):
                raise ValueError(f"configuration {one.name}: its name must start with {self.name}-")
            for key in one.sources:
                if key not in self.sources:
                    known = suggestion(key, list(self.sources), "there are")
                    raise ValueError(f"{one.name}: no source is called {key}; {known}")
        if len(set(names)) < len(names):
            raise ValueError(f"configurations: {', '.join(names)}: each name once is right")
        return self

    def configuration(self, name: str) -> Configuration:
        """The configuration of that name; the system's own name means its first one. Raises KeyError."""
        if name == self.name:
            return self.configurations[0]
        return next(one for one in self.configurations if one.name == name)
