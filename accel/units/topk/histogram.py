"""Histogram (radix) select: digits of the values are counted, from the top, and the bin of the k-th value is found.

The first digit is counted while the row is taken in. Each further digit takes one pass over the row in its source bank,
in which the values are counted that lie in the bin found so far. Nothing depends on the values but the answer.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.units.topk import TopKUnit

#: Two digits for the 12 bits of a weight; 64 bins each (own choice: 16 bins would take another pass, 256 four times the
#: counters).
DIGIT_BITS = 6
#: Bins are walked in two steps, groups of them and then those of one group: the square root of 64.
GROUP_BITS = 3
#: From complete counts to the bin: sums of the groups, the group, the bin in it.
WALK_CYCLES = 3
#: A pass reads its first word in the walk's last cycle; two cycles lie between a word's read and the counts with it.
PASS_OVERHEAD_CYCLES = 1
#: Counting arrays: one for the row that is taken in, one for the passes.
COUNTERS = 2


def digits(unit: "TopKUnit") -> int:
    """Digits of a value; of the lowest some bits may be missing."""
    return -(-unit.value_bits // DIGIT_BITS)


def select_cycles(unit: "TopKUnit", words: int) -> int:
    """From ``take + handoff_cycles`` to the handoff of a row of so many words that is selected from."""
    n = digits(unit)
    return n * WALK_CYCLES + (n - 1) * (words + PASS_OVERHEAD_CYCLES)


def counter_arrays(unit: "TopKUnit") -> int:
    """Values of one digit need no pass."""
    return COUNTERS if digits(unit) > 1 else 1


def memory_bits(unit: "TopKUnit") -> int:
    """Counters are registers."""
    return 0


def operations(unit: "TopKUnit") -> Mapping[str, float]:
    """Operations that one engine does at a time, filter not included."""
    return {
        "topk_count_lane": counter_arrays(unit) * unit.lanes,
        "topk_counter_bit": counter_arrays(unit) * unit.size_bits << DIGIT_BITS,
    }
