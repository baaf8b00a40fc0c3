"""The top-k engines alone on random rows, with their energy, and the published comparison with a full sorter."""

from typing import Any, NamedTuple

from accel.cost.energy import TOPK_OPERATIONS
from accel.cost.factors import load_technology
from accel.units.topk import TopKUnit
from sim.topk_survey import Survey, survey

#: Comparison of the published engine with a full sorter: 1024 values, selecting the median.
KEYS, LANES = 1024, 16
OWN, SORTER = "quickselect", "sorter"
THROUGHPUT, POWER = 1.4, 3.5


class Surveyed(NamedTuple):
    """Of many rows. ``parts_pJ``: of one row, by event; memories are in the factors."""

    found: Survey
    parts_pJ: dict[str, float]

    @property
    def energy_pJ(self) -> float:
        """Of one row."""
        return sum(self.parts_pJ.values())


def surveyed(engine: str, lanes: int, keys: int, kept: int, rows: int, seed: int, technology_nm: int) -> Surveyed:
    """Rows of ``keys`` random values, of which ``kept`` are kept."""
    found = survey(TopKUnit(lanes, max_n=max(keys, 2 * lanes), engine=engine), keys, kept, rows, seed)
    technology = load_technology(technology_nm)
    parts = {event: found.events[event] * technology.operation_pJ(op)[0] for event, op in TOPK_OPERATIONS.items()}
    return Surveyed(found, parts)


def published_figures(rows: int, seed: int, technology_nm: int, command: str) -> list[dict[str, Any]]:
    """Throughput and power of quick-select against a full sorter, published and ours, with the measured cause."""
    own, sorter = (surveyed(name, LANES, KEYS, KEYS // 2, rows, seed, technology_nm) for name in (OWN, SORTER))
    cycles = {name: one.found.interval_cycles for name, one in ((OWN, own), (SORTER, sorter))}
    faster = cycles[SORTER] / cycles[OWN]
    more_energy = sorter.energy_pJ / own.energy_pJ
    said = (
        (
            "throughput of quick-select over a full sorter", THROUGHPUT, faster,
            f"a row takes {cycles[OWN]:.0f} cycles of quick-select and {cycles[SORTER]:.0f} of our sorter, one merger "
            f"of {LANES} lanes in six passes, the last as far as the median; the published sorter's organisation is "
            f"not known, its cycles would be {THROUGHPUT * cycles[OWN]:.0f}",
        ),
        (
            "power of a full sorter over quick-select", POWER, more_energy / faster,
            f"a row costs {_nJ(own)}, in the sorter {_nJ(sorter)}: {more_energy:.2f} times the energy in {faster:.2f} "
            f"times the time, where {POWER} in {THROUGHPUT} times the time would be {POWER * THROUGHPUT:.1f} times the "
            "energy; events times factors of accel/cost, memories included; the published sorter's size is not known",
        ),
    )  # fmt: skip
    return [
        {
            "figure": f"top-k of {KEYS}, median, {LANES} lanes: {figure}", "where": "1.7", "unit": "x",
            "published": published, "ours": ours, "ratio": ours / published, "label": "derived", "cause": cause,
            "command": command,
        }
        for figure, published, ours, cause in said
    ]  # fmt: skip


def _nJ(one: Surveyed) -> str:
    """``10.36 nJ (4,531 elements 10.26, 9,061 comparisons 0.10)``."""
    parts = [f"{one.found.events[event]:,.0f} {event} {pJ / 1e3:.2f}" for event, pJ in one.parts_pJ.items() if pJ]
    return f"{one.energy_pJ / 1e3:.2f} nJ ({', '.join(parts)})"
