"""The report of one run on one screen. Everything printed here is a key of the report (``docs/counters.md``)."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from accel.cost.factors import Figure, published
from accel.errors import UserError
from reports.page import add, bar, beside, fields, prefix_of, quantity, share, show, table

Report = dict[str, Any]

# Wang, Zhang, Han, "SpAtten", HPCA 2021: average over its eight GPT-2 benchmarks, full-size machine.
PUBLISHED_GPT2_OPS_PER_S = 0.43e12

STREAMS = {"q": "Q", "k_msb": "K plane 1", "k_lsb": "K LSB plane", "v": "V", "weights": "weights"}
PARTS = {
    "dram": ("the memory", "memory.channels"),
    "qk": ("the QK array", "qk.multipliers"),
    "softmax": ("the softmax", "softmax.lanes"),
    "topk": ("the top-k selection", "topk.lanes"),
    "pv": ("the PV array", "pv.multipliers"),
    "writer": ("the result writer", ""),
}
"""Part of the bound table: what it is called in a sentence, and the machine key that sizes it, if one does."""

BAR_COLUMNS = 10
MOST_OF_A_UNIT = 50  # totals up to this many thousand are written in the smaller unit, so that the parts show digits
EXPLAINS = 0.5  # a part that needs less than this by itself is not called the limit: waiting takes longer


def print_run(report: Report, out: Console) -> None:
    """Print the whole report.

    Raises:
        UserError: the report lacks something, as one written by another version may.
    """
    try:
        show(out, run_table(report, out))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        lacking = f"lacks {error.args[0]}" if isinstance(error, KeyError) else f"cannot be shown ({error})"
        raise UserError(
            f"this report {lacking}; it was written by version {report.get('code_version', 'unknown')}, run it again"
        ) from error


def run_table(report: Report, out: Console) -> RenderableType:
    """All blocks of the report, for a page as wide as ``out``."""
    blocks: list[RenderableType] = [_header(report), Text(), _speed(report)]
    left = Group(_traffic(report), Text(), _baselines(report), Text(), _bound(report))
    blocks += [Text(), beside(out, left, _energy(report))]
    if report.get("quality"):
        blocks += [Text(), _quality(report["quality"])]
    return Group(*blocks, Text(), Text(limit_sentence(report), style="bold"))


def changes_text(report: Report) -> str:
    """``, topk.lanes = 32`` for a machine that is not its preset."""
    changed = report.get("options", {}).get("set", {})
    return "".join(f", {key} = {value}" for key, value in changed.items())


def _header(report: Report) -> RenderableType:
    workload, arch = report["workload"], report["arch"]
    about = {"workload": str(workload["name"]), "machine": f"{arch['name']}{changes_text(report)}"}
    if arch.get("about"):
        about["machine"] += f": {arch['about']}"
    notes = list(report.get("notes", []))
    about["seed, code"] = f"{report['seed']}, accel {report['code_version']}"
    if report.get("command"):
        about["repeat with"] = report["command"]
    for at, note in enumerate(notes):
        about[f"note{'' if len(notes) == 1 else f' {at + 1}'}"] = note
    return fields(about)


def _speed(report: Report) -> RenderableType:
    counts, issue = report["counts"], report["counts"]["issue_cycles"]
    cycles = f"{report['cycles']:,} cycles = {quantity(report['latency_s'], 's')} at {report['arch']['clock_MHz']} MHz"
    lines = {"time": cycles}
    spread = report.get("spread", {"seeds": 1})
    if spread["seeds"] > 1:
        low, mid, high = (spread["cycles"][name] for name in ("least", "median", "most"))
        lines["over seeds"] = f"{low:,} to {high:,} cycles, median {mid:,} ({spread['seeds']} seeds)"
    rate = report["throughput_ops_per_s"]
    peak = rate["peak"]
    lines["throughput"] = (
        f"{rate['done'] / 1e9:,.1f} GOP/s done, {share(rate['done'], peak)} of the peak of {peak / 1e9:,.1f}"
    )
    lines[" "] = f"{rate['without_second_passes'] / 1e9:,.1f} GOP/s without second passes"
    lines["  "] = f"{rate['dense_equivalent'] / 1e9:,.1f} GOP/s dense-equivalent (as if nothing were pruned)"
    if _is_gpt2_trace(report) and report["arch"]["name"] == "spatten":
        lines["published"] = f"{PUBLISHED_GPT2_OPS_PER_S / 1e9:,.1f} GOP/s, average of the 8 GPT-2 benchmarks [HPCA'21]"
    rows, again = counts["rows"], counts["lsb_refetch_rows"]
    lines["rows"] = f"{rows:,}, of which {again:,} ({share(again, rows)}) fetched LSBs and made a second pass"
    lines["used"] = f"{counts['keys']:,} keys, {counts['values_used']:,} V rows"
    lines["issue cycles"] = f"QK {issue['qk_msb']:,} + second pass {issue['qk_lsb']:,}, PV {issue['pv']:,}"
    return fields(lines)


def _is_gpt2_trace(report: Report) -> bool:
    return report["workload"].get("kind") == "trace" and str(report["workload"]["name"]).startswith("gpt2")


def _traffic(report: Report) -> RenderableType:
    counts = report["counts"]
    moved = {STREAMS[name]: size for name, size in counts["dram_read_bytes"].items()}
    useful = {STREAMS[name]: size for name, size in counts["dram_useful_bytes"].items()}
    moved["output"] = counts["dram_write_bytes"]
    total = sum(moved.values())
    step, prefix = prefix_of(total / 10)
    made = table("DRAM traffic", f"{prefix}B", "useful", "share")
    for name, size in moved.items():
        if size:
            needed = f"{useful[name] / step:,.2f}" if name in useful else "-"
            add(made, name, f"{size / step:,.2f}", needed, share(size, total))
    add(made, "total", f"{total / step:,.2f}", "", "", style="bold")
    return made


def _baselines(report: Report) -> RenderableType:
    baselines = report["baseline_bytes"]
    step, prefix = prefix_of(max(baselines.values()) / MOST_OF_A_UNIT)
    made = table("Dense moves", f"{prefix}B", "/useful", "/moved")
    for name, size in baselines.items():
        useful, moved = report["dram_reduction_useful"][name], report["dram_reduction"][name]
        add(made, name, f"{size / step:,.1f}", f"{useful:.1f} x", f"{moved:.1f} x")
    return made


def _bound(report: Report) -> RenderableType:
    bound, cycles = report["bound"], report["cycles"]
    made = table("Needs alone", "cycles", "of run", "")
    made.columns[-1].justify = "left"
    for name in PARTS:
        alone, limit = bound[name], name == bound["limit"]
        add(
            made, name, f"{alone:,}", share(alone, cycles), bar(alone / cycles, BAR_COLUMNS),
            style="bold" if limit else "",
        )  # fmt: skip
    return made


def _energy(report: Report) -> RenderableType:
    energy = dict(report["energy_pJ"])
    total = energy.pop("total")
    step, prefix = prefix_of(total * 1e-12 / MOST_OF_A_UNIT)
    made = table("Energy", f"{prefix}J", "share")
    for name, pJ in energy.items():
        add(made, name.replace("_", " "), f"{pJ * 1e-12 / step:,.2f}", share(pJ, total))
    add(made, "total", f"{total * 1e-12 / step:,.2f}", "", style="bold")
    watts = total * 1e-12 / report["latency_s"]
    add(made, "average power", f"{watts:,.2f} W", "")
    theirs = _published(report)
    if "power_W" in theirs:
        add(made, "  published", f"{theirs['power_W'].value:,.2f} W", "")
    add(made, f"area, {report['arch']['technology_nm']} nm", f"{report['area_mm2']['total']:,.2f} mm2", "")
    if "area_mm2" in theirs:
        add(made, "  published", f"{theirs['area_mm2'].value:,.2f} mm2", "")
    return made


def _published(report: Report) -> dict[str, Figure]:
    """Published figures of the machine; none for a changed one, which is another machine."""
    return {} if changes_text(report) else dict(published().get(report["arch"]["name"], {}))


def _quality(quality: dict[str, Any]) -> RenderableType:
    made = table("Quality", "")
    for name, value in quality.items():
        add(made, name.replace("_", " "), f"{value:,.4f}" if isinstance(value, float) else value)
    return made


def limit_sentence(report: Report) -> str:
    """What limits the run, in one sentence."""
    bound, cycles = report["bound"], report["cycles"]
    ranked = sorted(PARTS, key=lambda name: -bound[name])
    first, second = ranked[0], ranked[1]
    what, key = PARTS[first]
    percent = 100 * bound[first] / cycles
    next_one = f"next: {PARTS[second][0]}, {100 * bound[second] / cycles:.0f} %"
    if percent >= 100 * EXPLAINS:
        first_look = f"; {key} is the number to look at first" if key else ""
        alone = f"which alone would need {percent:.0f} % of the cycles ({next_one})"
        return f"What limits this run: {what}, {alone}{first_look}."
    return (
        f"What limits this run: no part alone; {what} would need only {percent:.0f} % of the cycles by itself "
        f"({next_one}), the rest is parts waiting for each other."
    )
