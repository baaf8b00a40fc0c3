"""The published shape of a pruning cascade: first layers that keep everything, then a straight line."""

import math

UNPRUNED_FOR_TOKENS = 0.15  # share of the first layers that keep every token (SpAtten, HPCA 2021, section III)
UNPRUNED_FOR_HEADS = 0.30  # the same for heads


def unpruned_layers(layers: int, share: float) -> int:
    """How many of the first layers a rule of that share leaves alone."""
    return min(layers, math.ceil(round(share * layers, 9)))


def layer_shares(layers: int, average: float, unpruned: float) -> list[float]:
    """Share kept in each layer: 1 in the first ``ceil(unpruned * layers)``, then a straight line with that average.

    The paper gives the average of both ends and says that how it is split matters little; here the line spans half of
    what is possible on either side of the average.
    """
    free = unpruned_layers(layers, unpruned)
    span = min(1 - average, average) / 2
    steps = max(1, layers - free - 1)
    rest = [average + span * (1 - 2 * i / steps) for i in range(layers - free)] if layers - free > 1 else [average]
    return [1.0] * free + rest[: layers - free]


def count_of(share: float, of: int) -> int:
    """A share as a count: rounded, at least 1, all of them only for 1."""
    return of if share == 1 else min(of, max(1, math.floor(share * of + 0.5)))
