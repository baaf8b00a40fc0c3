"""The page about the zoo, written from its files: `python -m workloads.systems.page > docs/zoo.md`."""

from collections.abc import Iterable

from workloads.systems.loader import load_zoo
from workloads.systems.model import Configuration, System, Technique

_HEAD = """# The zoo: 37 systems as work for one machine

Written by `python -m workloads.systems.page`; a test holds it against `workloads/zoo/*.yaml`.

Every row is one shape of one system. Counts are of one unit of work, unpruned, at batch 1, by the closed forms in
`workloads/kernels`: each tensor moves once, in 16 bits, unless the file says that it stays on chip. What the engine
makes of a row (tiling, spills, second reads) is the lowering's business and not in this table.

* **f** is the share of DRAM bytes in the sequence mixer, all that pruning and K/V quantisation can touch: a whole step
  gains at most 1 / (1 - f). **f+** adds recurrent weights and the softmax output layer, which only modified techniques
  can touch.
* **T H Q**: token and value pruning, head pruning, progressive quantisation. A: as published; M: another rule with its
  own name (below); -: no honest counterpart, 1.00x.
* **Confidence**: *high* is read in code or a published file; *medium* has one number that is not certain; *low* is
  second hand; *memory* is recalled and not looked up; *stand-in* is chosen here because nothing is published. Numbers
  whose confidence is not their row's stand behind it.
* A configuration is run by its name, `accel run vir-s16`; a system's name means its first configuration.
"""

_TABLE = (
    "| run name | class | unit of work | GMAC | DRAM MB | f | f+ | T H Q | confidence |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)
_MARK = {"as_is": "A", "modified": "M", "none": "-"}


def zoo_page() -> str:
    """The page as Markdown. Raises UserError for a zoo file that is wrong."""
    systems = load_zoo()
    seeds = [system for system in systems if system.seed is not None]
    beside = [system for system in systems if system.seed is None]
    parts = [
        _HEAD,
        f"## The {len(seeds)} systems\n\n{_TABLE}{''.join(_rows(seeds))}",
        f"## Rows beside them\n\nCurrent models, for scale.\n\n{_TABLE}{''.join(_rows(beside))}",
        "## What each is, and where its numbers come from\n\n" + "\n".join(_entry(system) for system in systems),
    ]
    return "\n".join(parts)


def _rows(systems: Iterable[System]) -> Iterable[str]:
    for system in systems:
        marks = " ".join(_MARK[technique.mode] for _, technique in _techniques(system))
        for one in system.configurations:
            totals = one.totals()
            figures = (
                _figure(totals.macs / 1e9), _figure(totals.dram_bytes / 1e6), f"{totals.mixer_share:.3f}",
                f"{totals.widest_share:.3f}",
            )  # fmt: skip
            cells = (one.name, system.family, one.unit, *figures, marks, _confidence(one))
            yield f"| {' | '.join(cells)} |\n"


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _confidence(one: Configuration) -> str:
    parts = [f"{name}: {said}" for name, said in one.confidence_of.items()]
    return f"{one.confidence} ({', '.join(parts)})" if parts else one.confidence


def _techniques(system: System) -> list[tuple[str, Technique]]:
    said = system.techniques
    return [
        ("Tokens and values", said.token_pruning),
        ("Heads", said.head_pruning),
        ("Progressive quantisation", said.progressive_quantisation),
    ]


def _entry(system: System) -> str:
    number = f"{system.seed}. " if system.seed else ""
    paper = f" ([{system.paper}](https://arxiv.org/abs/{system.paper}))" if system.paper != "none" else ""
    lines = [f"### {number}{system.title}{paper}\n", f"`{system.name}`: {system.about}.\n"]
    lines += [f"* {text}" for text in system.computes]
    lines.append("* Sources: " + "; ".join(f"[{key}] {text}" for key, text in system.sources.items()))
    for what, technique in _techniques(system):
        name = "as is" if technique.mode == "as_is" else technique.name or "none"
        bound = f" Error bound: {technique.bound}." if technique.bound else ""
        lines.append(f"* {what}, *{name}*: {technique.how}.{bound}")
    lines += [
        f"* Note: {text}" for text in (*system.notes, *(note for one in system.configurations for note in one.notes))
    ]
    lines += [f"* Not run: {one.name}; {one.why} ({one.confidence})" for one in system.named_only]
    lines += [f"* Uncertain: {text}" for text in system.uncertain]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(zoo_page(), end="")
