"""The first rows of a run in its units, from the timeline that ``accel run --timeline`` writes."""

from typing import Any

from reports.figures.canvas import Canvas, SMALL_pt
from reports.palette import light

NAME = "stages"
MOST_SLICES = 320


def stages(timeline: dict[str, Any]) -> str:
    """The figure. ``timeline``: the parsed file; its first slices are drawn, and the title says up to which time."""
    events = timeline["traceEvents"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event.get("name") == "thread_name"}
    slices = sorted((event for event in events if event["ph"] == "X"), key=lambda event: (event["ts"], event["tid"]))
    slices = slices[:MOST_SLICES]
    end = max(event["ts"] + event["dur"] for event in slices)
    about = timeline.get("otherData", {})
    places = list(dict.fromkeys(_place(event["name"]) for event in slices))
    with Canvas(NAME, 0.75 + 0.32 * len(tracks)) as canvas:
        axes = canvas.axes
        for at, number in enumerate(sorted(tracks)):
            for colour in ("ours", "ours-soft", "other"):
                spans = [
                    (event["ts"], event["dur"])
                    for event in slices
                    if event["tid"] == number and _colour(event["name"], places) == colour
                ]
                if spans:
                    axes.broken_barh(spans, (at - 0.36, 0.72), facecolor=light(colour), linewidth=0)
        axes.set_yticks(range(len(tracks)), [tracks[number] for number in sorted(tracks)])
        axes.invert_yaxis()
        axes.set_xlim(0, end)
        axes.set_xlabel("time, µs")
        axes.grid(axis="x")
        for name, colour in (("one head, the next", "ours"), ("", "ours-soft"), ("second pass (LSB refetch)", "other")):
            axes.barh(0, 0, color=light(colour), label=name or " ")
        canvas.figure.legend(loc="outside upper left", ncols=3, handlelength=1, handleheight=1, columnspacing=0.4,
                             fontsize=SMALL_pt)  # fmt: skip
        return canvas.svg(
            f"The first rows of {about.get('workload', 'a run')} on {about.get('machine', 'a machine')}, unit by unit",
            f"{len(slices)} intervals of {len(places)} heads in {len(tracks)} units over {end:.2f} microseconds; "
            "an interval lasts as long as the unit belongs to the row, waiting included",
        )


def _place(name: str) -> str:
    """Layer and head of a slice, such as ``L0 H3``."""
    return " ".join(word for word in name.split() if word[0] in "LH" and word[1:].isdigit())


def _colour(name: str, places: list[str]) -> str:
    if name.endswith("LSB"):
        return "other"
    return ("ours", "ours-soft")[places.index(_place(name)) % 2]
