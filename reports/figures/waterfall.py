"""DRAM bytes of a run, from the dense network in 32-bit floats down to what was moved, technique by technique."""

from typing import Any, NamedTuple

from matplotlib.axes import Axes

from reports.figures.canvas import Canvas, EDGE_pt, SMALL_pt
from reports.page import prefix_of, quantity
from reports.palette import light

Report = dict[str, Any]
NAME = "waterfall"
_NARROWEST_bits, _WIDEST_bits = 2, 16
_ROOM_BEHIND, _ROOM_INSIDE = 0.6, 0.43  # of the widest bar: up to where a note fits behind, from where inside


class Step(NamedTuple):
    """What is left after a technique."""

    name: str
    bytes: float
    cause: str


def steps(report: Report) -> list[Step]:
    """Bytes after each technique, all from the run's counters; the first is dense, the last what crossed the bus.

    Where each query reads keys of its own (traces of decoding), pruned tokens, pruned values and narrower words can be
    told apart: keys times head dimension is what K would be without pruning of values and with 4-byte words. Where
    queries share keys, only their product is known, and one step says so.
    """
    counts = report["counts"]
    useful, moved = counts["dram_useful_bytes"], counts["dram_read_bytes"]
    written = counts["dram_write_bytes"]
    total = sum(moved.values()) + written
    first_plane = sum(useful.values()) - useful["k_lsb"] + written
    found = [Step("dense, fp32", report["baseline_bytes"]["fp32"], "the unpruned network, 4-byte words")]
    if head_dim := _head_dim(report):
        numbers = report["workload"]["rows"] * head_dim  # of Q, and of the output
        keys, values = counts["keys"] * head_dim, counts["macs"]["pv"]
        found += [
            Step("token and head pruning", 4 * (2 * numbers + 2 * keys), "only kept tokens and heads"),
            Step("value pruning", 4 * (2 * numbers + keys + values), "only values with a large probability"),
            Step("narrower words", first_plane, f"first plane of K {_bits(useful['k_msb'], keys)} bit, "
                 f"V {_bits(useful['v'], values)} bit"),
        ]  # fmt: skip
    else:
        found.append(Step("pruning, narrower words", first_plane, "both, of K, V, Q and output"))
    if useful["k_lsb"]:
        again = sum(useful.values()) + written
        found.append(Step("LSB refetch", again, f"{counts['lsb_refetch_rows']:,} of {counts['rows']:,} rows"))
    if total != found[-1].bytes:
        found.append(Step("whole bursts", total, "what memory accesses carry in vain"))
    return found


def _bits(size: float, numbers: float) -> str:
    return f"{8 * size / numbers:.3g}" if numbers else "-"


def _head_dim(report: Report) -> int | None:
    """Head dimension of a trace whose rows read keys each for itself; None if the counters say anything else."""
    counts = report["counts"]
    passes = counts["softmax"]["exponentials"]
    if report["workload"].get("kind") != "trace" or not passes or counts["macs"]["qk"] % passes:
        return None
    found = counts["macs"]["qk"] // passes
    bits = 8 * counts["dram_useful_bytes"]["k_msb"] / (counts["keys"] * found)
    return found if bits == int(bits) and _NARROWEST_bits <= bits <= _WIDEST_bits else None


def waterfall(report: Report, name: str = NAME) -> str:
    """The figure. ``name``: another one, where several stand in one page."""
    found = steps(report)
    scale, prefix = prefix_of(found[0].bytes)
    unit = f"{prefix}B"
    with Canvas(name, 0.55 + 0.36 * (len(found) + 1)) as canvas:
        axes = canvas.axes
        before, widest = 0.0, found[0].bytes / scale
        for at, step in enumerate(found):
            size = step.bytes / scale
            if at == 0:
                axes.barh(at, size, color=light("published"), height=0.62)
                _note(axes, 0, size, at, quantity(step.bytes, "B"), widest)
            else:
                low, high = sorted((size, before))
                fill, edge = ("other", "other") if size > before else ("ours-soft", "ours")
                axes.barh(at, high - low, left=low, height=0.62, facecolor=light(fill), edgecolor=light(edge),
                          linewidth=EDGE_pt)  # fmt: skip
                axes.plot([before, before], [at - 0.69, at + 0.31], color=light("axis"), linewidth=0.7)
                _note(axes, low, high, at, f"{_factor(before, size)}: {step.cause}", widest)
            before = size
        last = len(found)
        axes.plot([before, before], [last - 0.69, last + 0.31], color=light("axis"), linewidth=0.7)
        axes.barh(last, before, color=light("ours"), height=0.62)
        less = found[0].bytes / found[-1].bytes
        note = f"{quantity(found[-1].bytes, 'B')}, {less:.1f} times less than dense fp32"
        _note(axes, 0, before, last, note, widest, strong=True)
        axes.set_yticks(range(last + 1), [*(step.name for step in found), "moved"])
        axes.invert_yaxis()
        axes.set_xlim(0, found[0].bytes / scale * 1.18)
        axes.set_xlabel(f"DRAM traffic, {unit}")
        axes.grid(axis="x")
        return canvas.svg(
            f"DRAM bytes of {report['workload']['name']} on {report['arch']['name']}, technique by technique",
            "; ".join(f"{step.name}: {quantity(step.bytes, 'B')}" for step in found),
        )


def _factor(before: float, after: float) -> str:
    return f"× {after / before:.3f}" if after >= before else f"÷ {before / after:.2f}"


def _note(axes: Axes, low: float, high: float, at: int, note: str, widest: float, strong: bool = False) -> None:
    """Behind the bar; where that leaves no room, inside it or before it."""
    behind, inside = high < _ROOM_BEHIND * widest or not at, high - low > _ROOM_INSIDE * widest
    place, shift = (high, 4) if behind else (high, -5) if inside else (low, -5)
    axes.annotate(
        note, (place, at), (shift, 0), textcoords="offset points", va="center", ha="left" if behind else "right",
        fontsize=SMALL_pt, fontweight="bold" if strong else "normal",
    )  # fmt: skip
