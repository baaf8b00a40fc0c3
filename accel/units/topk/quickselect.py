"""Quick-select (the published engine): what it has besides source banks and filter. Its latencies: ``TopKUnit``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.units.topk import TopKUnit

#: Smaller than the pivot, larger than the pivot: an array of comparators, a zero eliminator and a memory each.
PARTS = 2


def memory_bits(unit: "TopKUnit") -> int:
    """The smaller and the larger part, each as long as a row."""
    return PARTS * unit.max_words * unit.lanes * unit.value_bits


def operations(unit: "TopKUnit") -> Mapping[str, float]:
    """Operations that one engine does at a time, filter not included."""
    return {"topk_comparison": PARTS * unit.lanes, "topk_element": PARTS * unit.lanes}
