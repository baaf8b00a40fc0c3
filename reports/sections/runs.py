"""Single runs: what each took, moved and cost, and where its bytes, energy and cycles went."""

from collections.abc import Sequence
from typing import Any

from accel.errors import UserError
from reports.document import Cell, Column, Figure, Row, Section, Table, number, percent, text, times
from reports.figures.busy import MOST_RUNS, busy
from reports.figures.energy import energy
from reports.figures.stages import stages
from reports.figures.waterfall import Step, steps, waterfall
from reports.run_table import limit_sentence
from reports.sources import Source

Report = dict[str, Any]

COLUMNS = (
    Column("run", is_number=False),
    Column("cycles"),
    Column("time", "µs"),
    Column("done", "GOP/s"),
    Column("of peak", "%"),
    Column("dense-equivalent", "GOP/s"),
    Column("DRAM moved", "MB"),
    Column("dense fp32", "÷ moved"),
    Column("dense fp16", "÷ moved"),
    Column("dense int8", "÷ moved"),
    Column("energy", "µJ"),
    Column("power", "W"),
    Column("area", "mm²"),
    Column("limit", is_number=False),
)
ENERGY_CAPTION = (
    "Energy by part: counted events times printed factors (docs/cost.md); no leakage, clock tree or control."
)
BUSY_CAPTION = "Cycles in which each unit worked. Memory: what all bytes would take at peak rate."


def section(sources: Sequence[Source], timeline: Report | None = None) -> Section | None:
    """The section; None without runs and timeline.

    Raises:
        UserError: a run that another version wrote and that lacks numbers.
    """
    runs = [source for source in sources if source.kind == "run"]
    if not runs and timeline is None:
        return None
    try:
        return _section(runs, timeline)
    except (KeyError, TypeError, ZeroDivisionError, AttributeError) as error:
        raise UserError(f"report: a run lacks numbers that this version shows ({error}); run it again") from error


def _section(runs: Sequence[Source], timeline: Report | None) -> Section:
    labelled, names = [(source.label, source.data) for source in runs], tuple(source.name for source in runs)
    figures = _waterfalls(runs)
    if runs:
        figures += [
            Figure("energy", energy(labelled), ENERGY_CAPTION, names),
            Figure("busy", busy(labelled), BUSY_CAPTION + _only(runs), names[:MOST_RUNS]),
        ]  # fmt: skip
    if timeline is not None:
        about = timeline.get("otherData", {})
        said = f"{about.get('workload', 'a run')} on {about.get('machine', 'a machine')}, {about.get('rows', 'rows')}"
        caption = f"The first rows: {said}. A bar lasts as long as the unit belongs to the row, waiting included."
        figures.append(Figure("stages", stages(timeline), caption, ()))
    sentences = tuple(f"{source.label}. {limit_sentence(source.data)}" for source in runs)
    tables = (Table("runs", "Runs", COLUMNS, tuple(map(row, runs))),) if runs else ()
    return Section("runs", "Runs", sentences, (*tables, *figures))


def _waterfalls(runs: Sequence[Source]) -> list[Figure]:
    """One figure for all runs whose bytes are the same, as those of one workload on two sizes of a machine may be."""
    alike: dict[tuple[Step, ...], list[Source]] = {}
    for source in runs:
        alike.setdefault(tuple(steps(source.data)), []).append(source)
    return [
        Figure(
            f"waterfall-{group[0].name}",
            waterfall(group[0].data, f"waterfall-{at}"),
            f"DRAM traffic of {' and, equally, '.join(source.label for source in group)}: what each technique leaves "
            "of the dense network's bytes.",
            tuple(source.name for source in group),
        )
        for at, group in enumerate(alike.values())
    ]


def _only(runs: Sequence[Source]) -> str:
    return f" The first {MOST_RUNS} of {len(runs)} runs are drawn." if len(runs) > MOST_RUNS else ""


def row(source: Source) -> Row:
    """The run's line of the table."""
    report = source.data
    counts, rate, reduction = report["counts"], report["throughput_ops_per_s"], report["dram_reduction"]
    moved = sum(counts["dram_read_bytes"].values()) + counts["dram_write_bytes"]
    joules = report["energy_pJ"]["total"] * 1e-12
    cells: tuple[Cell, ...] = (
        text(source.label), number(report["cycles"]), number(report["latency_s"] * 1e6, 4),
        number(rate["done"] / 1e9, 4),
        percent(rate["done"] / rate["peak"]), number(rate["dense_equivalent"] / 1e9, 4), number(moved / 1e6, 4),
        *(times(reduction[name]) for name in ("fp32", "fp16", "int8")), number(joules * 1e6, 4),
        number(joules / report["latency_s"]), number(report["area_mm2"]["total"]), text(report["bound"]["limit"]),
    )  # fmt: skip
    return Row(cells, source.name, "", source.command)
