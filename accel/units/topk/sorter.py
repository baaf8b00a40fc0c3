"""Full sorter: words are sorted by Batcher's odd-even merge sort, then merged, pass by pass, one word per cycle.

One merger serves all passes. It compares lane by lane the heads of two sorted runs, one of them backwards: the larger
ones are the next word, a rotated bitonic sequence that Batcher's half cleaners sort (the published FLiMS merger). Only
that first compare lies in a loop, so the rest is pipelined. The last pass ends with the word that holds the k-th value.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.units.topk import TopKUnit

#: Levels of compare-exchange between two registers (own choice: of the length of a zero eliminator's network).
LEVELS_PER_STAGE = 2
#: Reads that fill a run's heads, its next word and the memory's output, before a pass can merge.
PRIME_CYCLES = 3
#: Behind the last word: its register, the k-th value's, how many are larger.
RANK_CYCLES = 3


def merge_levels(lanes: int) -> int:
    """Half cleaners behind the compare of the heads."""
    return (lanes - 1).bit_length()


def sort_levels(lanes: int) -> int:
    """Levels of Batcher's sort of one word."""
    return merge_levels(lanes) * (merge_levels(lanes) + 1) // 2


def _stages(levels: int) -> int:
    return max(1, -(-levels // LEVELS_PER_STAGE))


def sort_cycles(unit: "TopKUnit") -> int:
    """From a source word's read to its sorted word's write."""
    return _stages(sort_levels(unit.lanes))


def merge_cycles(unit: "TopKUnit") -> int:
    """From a compare of heads to the write of the word."""
    return _stages(merge_levels(unit.lanes))


def passes(words: int) -> int:
    """Merge passes until one run is left; at least one, which finds the k-th value."""
    return max(1, (words - 1).bit_length())


def select_cycles(unit: "TopKUnit", words: int, words_to_kth: int) -> int:
    """From ``take + handoff_cycles`` to the handoff of a row of so many words, the k-th value in the last of the first
    ``words_to_kth`` of them.
    """
    merging = PRIME_CYCLES + merge_cycles(unit)
    sorting = words + sort_cycles(unit)
    return sorting + (passes(words) - 1) * (words + merging) + words_to_kth + merging - 1 + RANK_CYCLES


def run_depth(unit: "TopKUnit") -> int:
    """Words of each of the four memories: runs of even and of odd number, read and written in turn."""
    return max(2, 1 << (unit.max_words - 1).bit_length() - 1)


def memory_bits(unit: "TopKUnit") -> int:
    return 4 * run_depth(unit) * unit.lanes * unit.value_bits


def exchanges_of_a_sort(lanes: int) -> int:
    """Compare-exchanges of Batcher's odd-even merge sort of ``lanes`` values: (p^2 - p + 4) 2^(p - 2) - 1, p = log2."""
    p = merge_levels(lanes)
    return ((p * p - p + 4) << p) // 4 - 1


def exchanges_of_a_merge(lanes: int) -> int:
    """Compares of heads and of half cleaners, for one word."""
    return lanes + lanes // 2 * merge_levels(lanes)


def operations(unit: "TopKUnit") -> Mapping[str, float]:
    """Operations that one engine does at a time, filter not included. One exchange of the table is 12 bits wide."""
    exchanges = exchanges_of_a_sort(unit.lanes) + exchanges_of_a_merge(unit.lanes)
    return {
        "topk_exchange": exchanges * unit.value_bits / 12,
        # Heads and the words behind them, of two runs; a 2:1 multiplexer each.
        "topk_head_bit": 4 * unit.lanes * unit.value_bits,
        "topk_comparison": unit.lanes * unit.value_bits / 12,
    }
