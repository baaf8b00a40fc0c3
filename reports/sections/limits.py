"""The roofline of everything that was run: runs and benchmarks together."""

from collections.abc import Sequence
from typing import Any

from reports.document import Figure, Section
from reports.figures.roofline import Point, Roof, point, roof, roofline
from reports.sections.benchmarks import moved_bytes
from reports.sources import Source

Data = dict[str, Any]


def section(sources: Sequence[Source]) -> Section | None:
    """The section; None if nothing has operations, bytes and time."""
    points: list[Point | None] = []
    roofs: list[Roof | None] = []
    used = []
    for source in sources:
        if source.kind not in ("run", "bench"):
            continue
        arch, before = source.data["arch"], len(points)
        if source.kind == "run":
            points.append(point(source.label, arch["name"], source.data, moved_bytes(source.data)))
        else:
            points += [
                point(row["name"], arch["name"], row, moved_bytes(row))
                for row in source.data["rows"]
                if not row.get("without")
            ]
        if any(points[before:]):
            roofs.append(roof(arch))
            used.append(source.name)
    found = [one for one in points if one is not None]
    if not found:
        return None
    limits = list(dict.fromkeys(one for one in roofs if one is not None))
    caption = (
        "Operations done (second passes included) per second over operations per byte moved. A roof is a machine's "
        "peak: both arrays busy in every cycle, and all channels transferring. A point far below its roof waits for "
        "something else; the tables name it."
    )
    return Section("limits", "Roofline", (), (Figure("roofline", roofline(found, limits), caption, tuple(used)),))
