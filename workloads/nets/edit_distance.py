"""How many insertions, deletions and replacements turn one sequence into another (V. Levenshtein 1965)."""

from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Least number of edits from `a` to `b`; the base of word, token and phoneme error rates."""
    row = list(range(len(b) + 1))
    for done, x in enumerate(a, start=1):
        corner, row[0] = row[0], done
        for place, y in enumerate(b, start=1):
            corner, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, corner + (x != y))
    return row[-1]
