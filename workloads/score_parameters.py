"""Parameters of the drawn scores, and the file of fitted ones; what each means to a score: `workloads.draw`."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from accel.errors import UserError

DISTRIBUTION_PATH = Path(__file__).with_name("score_distribution.yaml")
DEFAULT_NETWORK = "smollm2"


@dataclass(frozen=True)
class ScoreParameters:
    """One network's distribution. Raises UserError for a value that is no number or out of range."""

    spread_log2: float  # standard deviation of a row's scores around their level, mean over heads; > 0
    recency_log2_per_doubling: float  # fall of the level when 1 + distance doubles, mean over heads
    head_variation: float  # of spread and recency together, between heads: standard deviation / mean; >= 0
    sink_log2_odds: float  # log2(p / (1 - p)), p: probability of token 0; middle of the heads
    sink_variation_log2: float  # its standard deviation between heads; >= 0
    sink_from_layer: int  # layers before this one treat token 0 like any other; >= 0
    network_share: float  # of the variance around the level: common to a token in all layers and heads
    layer_share: float  # the same, common to a token in the heads of one layer
    head_share: float  # the same, common to a token in the rows of one head; the row's own noise has the rest
    token_skew: float  # skewness of each of these three parts; 0 .. 4
    run_strength: float  # correlation of neighbouring tokens as the gap goes to 0; 0 .. 1
    run_length_tokens: float  # gap at which it has fallen to 1/e; > 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number:
                raise UserError(f"score distribution: {name} = {value!r}: must be a finite number")
        for name in ("head_variation", "sink_variation_log2"):
            if getattr(self, name) < 0:
                raise UserError(f"score distribution: {name} = {getattr(self, name)}: must be 0 or more")
        for name in ("spread_log2", "run_length_tokens"):
            if getattr(self, name) <= 0:
                raise UserError(f"score distribution: {name} = {getattr(self, name)}: must be above 0")
        for name in ("network_share", "layer_share", "head_share", "run_strength"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"score distribution: {name} = {getattr(self, name)}: must be 0 to 1")
        if not 0 <= self.token_skew <= 4:
            raise UserError(f"score distribution: token_skew = {self.token_skew}: must be 0 to 4")
        if self.network_share + self.layer_share + self.head_share > 1:
            raise UserError("score distribution: network_share + layer_share + head_share: must be at most 1")
        if self.sink_from_layer != int(self.sink_from_layer) or self.sink_from_layer < 0:
            raise UserError(f"score distribution: sink_from_layer = {self.sink_from_layer}: must be a layer, 0 or more")


def parameters_of(values: Mapping[str, Any]) -> ScoreParameters:
    """Parameters from a mapping of their names. Raises UserError for an unknown, missing or impossible one."""
    known = [f.name for f in fields(ScoreParameters)]
    for name in values:
        if name not in known:
            close = [k for k in known if k.startswith(str(name))] or difflib.get_close_matches(str(name), known, n=1)
            raise UserError(
                f"score distribution: no parameter {name!r}; " + (f"did you mean {close[0]}?" if close else f"{known}")
            )
    missing = [name for name in known if name not in values]
    if missing:
        raise UserError(f"score distribution: parameter {missing[0]} is missing")
    return ScoreParameters(**values)


def load_distribution(network: str = DEFAULT_NETWORK, path: Path | None = None) -> dict[str, Any]:
    """A network's entry of the YAML file: ``parameters`` (ScoreParameters), ``provenance``, ``recorded``, ``drawn``.

    Raises:
        UserError: file unreadable, unknown network, or bad parameters.
    """
    source = path or DISTRIBUTION_PATH
    try:
        networks = yaml.safe_load(source.read_text(encoding="utf-8"))["networks"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: not a readable score distribution ({reason})") from error
    if not isinstance(networks, dict) or network not in networks:
        names = ", ".join(map(str, networks)) if isinstance(networks, dict) else "none"
        raise UserError(f"{source}: no network {network!r}; there are: {names}")
    entry = networks[network]
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters"), dict):
        raise UserError(f"{source}: network {network} has no parameters; expected name: number lines")
    return {**entry, "parameters": parameters_of(entry["parameters"])}
