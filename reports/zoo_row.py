"""One row of the zoo on one page. Everything printed here is a key of the report's ``row``."""

from collections import Counter
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from accel.errors import UserError
from reports.page import add, bar, fields, prefix_of, quantity, share, show, table
from reports.run_table import BAR_COLUMNS, changes_text

Report = dict[str, Any]
MOST_OF_A_UNIT = 50
CALLED = {
    "token_pruning": "tokens and values",
    "head_pruning": "heads",
    "progressive_quantisation": "progressive quantisation",
}


def print_row(report: Report, out: Console) -> None:
    """Print the page.

    Raises:
        UserError: the report lacks something, as one written by another version may.
    """
    try:
        show(out, row_page(report))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        lacking = f"lacks {error.args[0]}" if isinstance(error, KeyError) else f"cannot be shown ({error})"
        raise UserError(
            f"this report {lacking}; it was written by version {report.get('code_version', 'unknown')}, run it again"
        ) from error


def row_page(report: Report) -> RenderableType:
    """All blocks, one under the other."""
    row = report["row"]
    blocks = (
        _header(report), _phases(row), _decisions(row), _streams(row), _ratios(row), _energy(report), _errors(row),
        _techniques(row), Text(limit_sentence(report), style="bold"),
    )  # fmt: skip
    spaced: list[RenderableType] = [part for block in blocks for part in (block, Text())]
    return Group(*spaced[:-1])


def _header(report: Report) -> RenderableType:
    row, arch = report["row"], report["arch"]
    place = f"number {row['seed_system']} of the 37" if row["seed_system"] else "beside the 37"
    paper = "" if row["paper"] == "none" else f", arXiv {row['paper']}"
    about = {
        "workload": f"{row['name']}: {row['title']} ({place}{paper})",
        "what it is": row["about"],
        "computes": "; ".join(row["computes"]),
        "one unit": f"{row['unit']}, batch 1: {row['macs'] / 1e9:,.3g} GMAC",
        "confidence": row["confidence"] + "".join(f"; {name}: {said}" for name, said in row["confidence_of"].items()),
    }
    for at, source in enumerate(row["sources"].values()):
        about["sources" if not at else " " * at] = source
    about["machine"] = f"{arch['name']}{changes_text(report)}" + (f": {arch['about']}" if arch.get("about") else "")
    about["code"] = f"accel {report['code_version']}"
    about["repeat with"] = report["command"]
    watts = row["energy_pJ"]["total"] * 1e-12 / row["latency_s"]
    about["time"] = (
        f"{row['cycles']:,} cycles = {quantity(row['latency_s'], 's')} at {arch['clock_MHz']} MHz ({row['time']})"
    )
    about["energy"] = f"{quantity(row['energy_pJ']['total'] * 1e-12, 'J')}, {watts:,.2f} W"
    for at, note in enumerate((*row["notes"], *(f"uncertain: {said}" for said in row["uncertain"]))):
        about["notes" if not at else f"{' ' * (at + 20)}"] = note
    return fields(about)


def _phases(row: Report) -> RenderableType:
    made = table("Phase", "mode", "time is", "x", "cycles", "of row", "", "limit", "MB", left=3)
    for part in row["phases"]:
        add(
            made, part["name"], part["mode"], part["time"], part["repeats"], f"{part['cycles']:,.0f}",
            share(part["cycles"], row["cycles"]), bar(part["cycles"] / max(1, row["cycles"]), BAR_COLUMNS),
            part["limit"], f"{part['dram_bytes'] / 1e6:,.2f}",
        )  # fmt: skip
    made.columns[-3].justify = made.columns[-2].justify = "left"
    return made


def _decisions(row: Report) -> RenderableType:
    """How each phase was lowered, and what its time stands on."""
    made = table("Lowering", "", left=2)
    for part in row["phases"]:
        sample = f". Sampled: {part['sample']}" if part["sample"] else ""
        add(made, part["name"], f"{part['decision']}{sample}")
    return made


def _streams(row: Report) -> RenderableType:
    """All phases' streams by name; what is beyond the closed form apart."""
    once: Counter[str] = Counter()
    again: Counter[str] = Counter()
    for part in row["phases"]:
        for stream in part["streams"]:
            once[stream["name"]] += (stream["read"] + stream["write"]) * part["repeats"]
            again[stream["name"]] += (stream["read_again"] + stream["write_again"]) * part["repeats"]
    moved = sum(once.values()) + sum(again.values())
    step, prefix = prefix_of(max(moved, row["dram_bytes"]) / MOST_OF_A_UNIT)
    made = table("DRAM stream", f"once, {prefix}B", "again", "share")
    for name in sorted(once, key=lambda name: -(once[name] + again[name])):
        cells = (f"{once[name] / step:,.2f}", f"{again[name] / step:,.2f}" if again[name] else "-")
        add(made, name, *cells, share(once[name] + again[name], moved))
    add(made, "in whole accesses", f"{row['dram_bytes'] / step:,.2f}", "", "", style="bold")
    return made


def _ratios(row: Report) -> RenderableType:
    made = table("Dense moves", "mixer, MB", "/engine", "step, MB", "/engine")
    for name, size in row["baseline_bytes"].items():
        ratio = row["ratio"][name]
        add(
            made, name, f"{size['mixer'] / 1e6:,.2f}", _times(ratio["mixer"]), f"{size['whole'] / 1e6:,.2f}",
            _times(ratio["whole"]),
        )  # fmt: skip
    unbuilt = row["unbuilt"]["ratio"]["fp16"]
    if row["unbuilt"]["dram_bytes"] < row["dram_bytes"]:
        add(made, "fp16, if better tilings were built", "", _times(unbuilt["mixer"]), "", _times(unbuilt["whole"]))
    most = _times(row["ceiling"]) if row["ceiling"] else "none"
    add(made, f"ceiling 1/(1-f), f = {row['mixer_share']:.3f}", "", "", "", most)
    return made


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} x"


def _energy(report: Report) -> RenderableType:
    energy = dict(report["energy_pJ"])
    total = energy.pop("total")
    step, prefix = prefix_of(total * 1e-12 / MOST_OF_A_UNIT)
    made = table("Energy", f"{prefix}J", "share", "")
    for name, pJ in energy.items():
        if pJ:
            add(made, name.replace("_", " "), f"{pJ * 1e-12 / step:,.2f}", share(pJ, total), bar(pJ / total, 20))
    made.columns[-1].justify = "left"
    add(made, "total", f"{total * 1e-12 / step:,.2f}", "", "", style="bold")
    return made


def _errors(row: Report) -> RenderableType:
    made = table("Error against float64", "RMS", "measured on", "")
    made.columns[-2].justify = made.columns[-1].justify = "left"
    made.columns[-2].no_wrap = made.columns[-1].no_wrap = False
    for one in row["error"]["kernels"]:
        add(made, one["kernel"], f"{100 * one['error']:.2f} %", one["measured_on"], one["why"])
    add(made, "bound", f"{100 * row['error']['bound']:.0f} %", "", "")
    return made


def _techniques(row: Report) -> RenderableType:
    made = table("Technique", "rule", "bytes mixer", "step", "time", "energy", "error", left=2)
    every = row["techniques"] | {"together": row["together"]}
    for name, said in every.items():
        error = "-" if said["error"] is None else f"{100 * said['error']:.2g} %"
        rule = said["name"] + ("" if said["measured"] or said["mode"] == "none" else ", not measured")
        gains = (_times(said[key]) for key in ("gain_mixer", "gain_step", "gain_time", "gain_energy"))
        add(made, CALLED.get(name, name), rule, *gains, error, style="bold" if name == "together" else "")
    said_of = table("", "", left=2)
    for name, said in every.items():
        add(said_of, CALLED.get(name, name), "; ".join(said["said"]))
    said_of.show_header = False
    return Group(made, Text(), said_of)


def limit_sentence(report: Report) -> str:
    """What limits the row, in one sentence."""
    row = report["row"]
    cycles = row["cycles"]
    if not cycles:
        return "What limits this row: nothing that is timed; all of its work is the host's."
    by: Counter[str] = Counter()
    for part in row["phases"]:
        by[part["limit"]] += part["cycles"]
    (what, most), longest = by.most_common(1)[0], max(row["phases"], key=lambda part: part["cycles"])
    words = {
        "memory": "the memory (memory.channels is the number to look at first)",
        "arrays": "the arrays (pv.multipliers, qk.multipliers are the numbers to look at first)",
        "waiting": "parts waiting for each other",
    }
    return (
        f"What limits this row: {words.get(what, what)}, in {100 * most / cycles:.0f} % of its cycles; the longest "
        f"phase is {longest['name']}, {100 * longest['cycles'] / cycles:.0f} %."
    )
