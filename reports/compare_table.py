"""Runs side by side: the same figures of each, and the ratio to the first run."""

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from accel.errors import UserError
from accel.runs import is_row
from reports.page import PIPED_COLUMNS, add, console, show, table
from reports.run_table import Report, limit_sentence
from reports.zoo_row import limit_sentence as row_limit

LABEL_COLUMNS, RUN_COLUMNS = 24, 22  # width that a comparison wants, whatever the terminal has

FIGURES: dict[str, tuple[str, Callable[[Report], float], int]] = {
    "cycles": ("", lambda r: r["cycles"], 0),
    "latency": ("us", lambda r: r["latency_s"] * 1e6, 2),
    "done": ("GOP/s", lambda r: r["throughput_ops_per_s"]["done"] / 1e9, 1),
    "without second passes": ("GOP/s", lambda r: r["throughput_ops_per_s"]["without_second_passes"] / 1e9, 1),
    "dense-equivalent": ("GOP/s", lambda r: r["throughput_ops_per_s"]["dense_equivalent"] / 1e9, 1),
    "DRAM moved": ("MB", lambda r: _moved(r) / 1e6, 2),
    "DRAM dense fp16": ("MB", lambda r: r["baseline_bytes"]["fp16"] / 1e6, 2),
    "rows": ("", lambda r: r["counts"]["rows"], 0),
    "LSB second passes": ("", lambda r: r["counts"]["lsb_refetch_rows"], 0),
    "needs alone: dram": ("cycles", lambda r: r["bound"]["dram"], 0),
    "needs alone: qk": ("cycles", lambda r: r["bound"]["qk"], 0),
    "needs alone: softmax": ("cycles", lambda r: r["bound"]["softmax"], 0),
    "needs alone: topk": ("cycles", lambda r: r["bound"]["topk"], 0),
    "needs alone: pv": ("cycles", lambda r: r["bound"]["pv"], 0),
    "needs alone: writer": ("cycles", lambda r: r["bound"]["writer"], 0),
    "energy": ("uJ", lambda r: r["energy_pJ"]["total"] / 1e6, 2),
    "average power": ("W", lambda r: r["energy_pJ"]["total"] * 1e-12 / r["latency_s"], 2),
    "area": ("mm2", lambda r: r["area_mm2"]["total"], 2),
}
"""Label -> (unit, the figure, digits behind the point)."""

ROW_FIGURES: dict[str, tuple[str, Callable[[Report], float], int]] = {
    "cycles": ("", lambda r: r["cycles"], 0),
    "latency": ("us", lambda r: r["latency_s"] * 1e6, 2),
    "macs": ("M", lambda r: r["row"]["macs"] / 1e6, 1),
    "DRAM moved": ("MB", lambda r: r["row"]["dram_bytes"] / 1e6, 2),
    "DRAM moved, mixer": ("MB", lambda r: r["row"]["dram_bytes_mixer"] / 1e6, 2),
    "DRAM dense fp16": ("MB", lambda r: r["row"]["baseline_bytes"]["fp16"]["whole"] / 1e6, 2),
    "all techniques, bytes": ("x", lambda r: r["row"]["together"]["gain_step"] or 1.0, 3),
    "all techniques, time": ("x", lambda r: r["row"]["together"]["gain_time"] or 1.0, 3),
    "worst error": ("%", lambda r: 100 * (r["row"]["error"]["worst"] or 0.0), 3),
    "energy": ("uJ", lambda r: r["energy_pJ"]["total"] / 1e6, 2),
    "average power": ("W", lambda r: r["energy_pJ"]["total"] * 1e-12 / r["latency_s"], 2),
    "area": ("mm2", lambda r: r["area_mm2"]["total"], 2),
}
"""The same for rows of the zoo."""


def _moved(report: Report) -> int:
    counts = report["counts"]
    return sum(counts["dram_read_bytes"].values()) + counts["dram_write_bytes"]


def print_comparison(reports: list[Report], out: Console) -> None:
    """Print the comparison; as wide as it needs to be where the output is not a terminal.

    Raises:
        UserError: a report lacks a figure, as one written by another version may.
    """
    if not out.is_terminal:
        out = console(out.file, max(PIPED_COLUMNS, LABEL_COLUMNS + RUN_COLUMNS * len(reports)))
    try:
        show(out, compare_table(reports))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise UserError(f"compare: a report lacks {error}; it was written by another version, run it again") from error


def compare_table(reports: list[Report]) -> RenderableType:
    """What differs between the machines first, then the figures."""
    rows = [is_row(report) for report in reports]
    if any(rows) and not all(rows):
        a, b = (reports[rows.index(which)]["workload"]["name"] for which in (False, True))
        raise UserError(f"compare: {a} is a run of attention, {b} a row of the zoo; compare runs of one kind")
    limit_of = row_limit if all(rows) else limit_sentence
    letters = [chr(ord("A") + at) if at < 26 else str(at) for at in range(len(reports))]
    head = table("run", "workload", "machine", "seed", "code", left=5)
    for letter, report in zip(letters, reports, strict=True):
        add(head, letter, report["workload"]["name"], report["arch"]["name"], report["seed"], report["code_version"])

    made = table("", *letters)
    for label, values in _differences([report["arch"] for report in reports]):
        add(made, label, *values)
    for label, (unit, figure, digits) in (ROW_FIGURES if all(rows) else FIGURES).items():
        numbers = [figure(report) for report in reports]
        add(made, f"{label}, {unit}" if unit else label, *_cells(numbers, digits))
    if all(rows):
        add(made, "time", *(report["row"]["time"] for report in reports))
    for name in _common_quality(reports):
        add(made, name.replace("_", " "), *_cells([report["quality"][name] for report in reports], 4))
    if not any(rows):
        add(made, "limit", *(report["bound"]["limit"] for report in reports))

    notes = []
    if len({report["workload"].get("sha256") for report in reports}) > 1:
        notes.append(Text("These runs are of different workloads: the ratios compare different work."))
    if len({report["code_version"] for report in reports}) > 1:
        notes.append(Text("These runs were made by different versions of the code."))
    limits = [Text(f"{letter}: {limit_of(report)}") for letter, report in zip(letters, reports, strict=True)]
    return Group(head, Text(), made, Text(), *notes, *limits)


def _cells(numbers: list[float], digits: int) -> Iterator[str]:
    """Each figure, and behind all but the first the ratio to the first."""
    first = numbers[0]
    for at, number in enumerate(numbers):
        ratio = f"  {number / first:.3f} x" if at and first else "" if not at else "  -"
        yield f"{number:,.{digits}f}{ratio}"


def _differences(archs: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Dotted machine keys whose values are not the same in all runs."""
    flat = [dict(_leaves(arch)) for arch in archs]
    for key in dict.fromkeys(key for arch in flat for key in arch):
        values = [arch.get(key, "-") for arch in flat]
        if key not in ("name", "about") and any(value != values[0] for value in values):
            yield key, [str(value) for value in values]


def _leaves(arch: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in arch.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _common_quality(reports: list[Report]) -> list[str]:
    measured = [report.get("quality") or {} for report in reports]
    return [
        name
        for name, value in measured[0].items()
        if isinstance(value, float) and all(name in other for other in measured)
    ]
