"""The table of the zoo, for a terminal and as Markdown. All in it is a key of the zoo's report."""

from typing import Any

from rich.console import RenderableType

from reports.page import add, table

Report = dict[str, Any]

COLUMNS = ("row", "modes", "time", "ms", "DRAM MB", "mJ", "mixer", "step", "if built", "most", "T", "H", "Q",
           "together", "time", "energy", "error")  # fmt: skip
_SHORT = {"softmax": "A", "decay": "D", "linear": "L", "state": "S", "scan": "C", "host": "h", "refused": "x"}
_TIME = {"simulated": "sim", "sampled": "samp", "modelled": "mod", "host": "host"}
_TECHNIQUES = ("token_pruning", "head_pruning", "progressive_quantisation")

LEGEND = (
    "modes: A softmax attention, D decay, L linear, S state, C scan, h host (not timed), x refused. "
    "time: sim = cycle simulator, samp = a stated part of it scaled, mod = the longer of array cycles (docs/modes.md) "
    "and simulated DRAM time. "
    "mixer, step: bytes of an unpruned fp16 machine over the engine's, unpruned, 12 bit. "
    "if built: step with the best tiling of products that SRAMs of this size allow; no engine here has it, nothing "
    "else in the table counts on it. "
    "most: ceiling 1/(1-f) of any technique that only touches the mixer. "
    "T tokens and values, H heads, Q progressive quantisation: gain in bytes of mixer/step and RMS output error, "
    "both measured on random tensors, in which nothing is redundant; * modified technique under its own name; "
    "? not measured, counted as 1.00x; - none. together: all of them at once, and how much less time and energy the "
    "step then takes. "
    "error: worst RMS error of a kernel against float64, all words 12 bit."
)


def cells(row: Report) -> tuple[str, ...]:
    """One line of the table."""
    modes = "".join(_SHORT[part.split()[0]] for part in row["lowering"].split(", "))
    time = "+".join(_TIME[part] for part in row["time"].split(" + "))
    ratio = row["ratio"]["fp16"]
    return (
        row["name"], modes, time, figure(row["latency_s"] * 1e3), figure(row["dram_bytes"] / 1e6),
        figure(row["energy_pJ"]["total"] / 1e9), times(ratio["mixer"]), times(ratio["whole"]),
        times(row["unbuilt"]["ratio"]["fp16"]["whole"]), times(row["ceiling"]) if row["ceiling"] else "none",
        *(technique(row["techniques"][name]) for name in _TECHNIQUES), technique(row["together"]),
        *(times(row["together"][name]) for name in ("gain_time", "gain_energy")),
        "-" if row["error"]["worst"] is None else f"{100 * row['error']['worst']:.2f} %",
    )  # fmt: skip


def technique(said: Report) -> str:
    """``2.00/1.04x* 41%``: gains of mixer and step and measured error; 1.00x where there is no counterpart."""
    if said["mode"] == "none":
        return "1.00x-"
    mark = "*" if said["mode"] == "modified" else ""
    if not said["measured"]:
        return f"1.00x{mark}?"
    mixer, step = (1.0 if said[name] is None else said[name] for name in ("gain_mixer", "gain_step"))
    gain = "1.00x" if max(mixer, step) < 1.005 else f"{mixer:.2f}/{step:.2f}x"
    return f"{gain}{mark}" if said["error"] is None else f"{gain}{mark} {percent(said['error'])}"


def percent(error: float) -> str:
    """Two digits, no exponent."""
    return f"{100 * error:.0f}%" if error >= 0.1 else f"{100 * error:.2g}%"


def times(value: float | None) -> str:
    """A ratio, or a dash where nothing moves."""
    return "-" if value is None else f"{value:.2f}x" if value < 100 else f"{value:,.0f}x"


def figure(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def zoo_table(report: Report) -> RenderableType:
    """The table for a console."""
    made = table(*COLUMNS, left=3)
    for column in made.columns:
        column.no_wrap = True
    for row in report["rows"]:
        add(made, *cells(row))
    return made


def zoo_markdown(report: Report) -> str:
    """The same as Markdown, with what each row is and where its numbers come from."""
    lines = [
        f"# The zoo on {report['arch']['name']}\n",
        f"`{report['command']}`, code {report['code_version']}.\n",
        f"{LEGEND}\n",
        f"| {' | '.join(('#', *COLUMNS, 'confidence', 'unit of work'))} |",
        f"|{'---|' * (len(COLUMNS) + 3)}",
    ]
    for row in report["rows"]:
        seed = str(row["seed_system"] or "")
        shown = (cell.replace("*", r"\*") for cell in cells(row))
        lines.append(f"| {' | '.join((seed, *shown, row['confidence'], row['unit']))} |")
    for row in report["rows"]:
        lines += ["", *_entry(row)]
    return "\n".join(lines) + "\n"


def _entry(row: Report) -> list[str]:
    lines = [f"## {row['name']}: {row['title']}\n", f"Sources: {'; '.join(row['sources'].values())}.\n"]
    for part in row["phases"]:
        sample = f" ({part['sample']})" if part["sample"] else ""
        lines.append(
            f"* {part['name']} [{part['mode']}, {part['time']}{sample}] x {part['repeats']}: {part['decision']}"
        )
    for name, said in (*row["techniques"].items(), ("together", row["together"])):
        lines.append(f"* {name.replace('_', ' ')}, *{said['name']}*: {'; '.join(said['said'])}")
    return lines
