"""Sorting networks of Batcher's, largest value first, with a register after every few levels."""

from collections.abc import Iterable, Sequence

from amaranth.hdl import Module, Mux, Signal, Value

from accel.units.topk.sorter import LEVELS_PER_STAGE

__all__ = ["half_cleaners", "network", "odd_even_merge_sort"]

Level = list[tuple[int, int]]  # pairs of places; the larger value goes to the first


def odd_even_merge_sort(places: int) -> list[Level]:
    """Levels that sort any values; places is a power of two."""
    levels = []
    sorted_ = 1  # length of the runs so far, of which two are merged
    while sorted_ < places:
        distance = sorted_
        while distance:
            first = distance % sorted_
            levels.append(
                [
                    (low, low + distance)
                    for block in range(first, places - distance, 2 * distance)
                    for low in range(block, min(block + distance, places - distance))
                    if low // (2 * sorted_) == (low + distance) // (2 * sorted_)
                ]
            )
            distance //= 2
        sorted_ *= 2
    return levels


def half_cleaners(places: int) -> list[Level]:
    """Levels that sort any rotation of a bitonic sequence; places is a power of two."""
    levels = []
    distance = places // 2
    while distance:
        levels.append([(low, low + distance) for low in range(places) if not low & distance])
        distance //= 2
    return levels


def network(m: Module, name: str, values: Iterable[Value], levels: Sequence[Level]) -> list[Value]:
    """The values after all levels. A register follows every ``LEVELS_PER_STAGE`` levels, but not the last ones."""
    word = list(values)
    for number, level in enumerate(levels):
        if number and number % LEVELS_PER_STAGE == 0:
            stage = [Signal(len(value), name=f"{name}_{number}_{lane}") for lane, value in enumerate(word)]
            m.d.sync += [register.eq(value) for register, value in zip(stage, word, strict=True)]
            word = list(stage)
        for low, high in level:
            a, b = word[low], word[high]
            larger, smaller = (Signal(len(a), name=f"{name}_{number}_{lane}_out") for lane in (low, high))
            in_order = Signal(name=f"{name}_{number}_{low}_in_order")
            m.d.comb += [in_order.eq(a >= b), larger.eq(Mux(in_order, a, b)), smaller.eq(Mux(in_order, b, a))]
            word[low], word[high] = larger, smaller
    return word
