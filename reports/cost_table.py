"""Area of a machine by part, and what each counted event costs in it."""

from rich.console import Console, Group
from rich.text import Text

from accel.arch import Arch
from accel.cost.area import AreaReport
from accel.cost.factors import load_memory_energy, load_technology
from reports.page import add, share, show, table


def print_cost(arch: Arch, area: AreaReport, out: Console) -> None:
    """Print area and factors. Sources are in docs/cost.md and in the YAML files it names.

    Raises:
        UserError: no factors for the technology or the memory.
    """
    parts = area.area_mm2
    total = parts.pop("total")
    sizes = table(f"{arch.name}, {arch.technology_nm} nm", "mm2", "share")
    for part, mm2 in parts.items():
        add(sizes, part.replace("_", " "), f"{mm2:.4f}", share(mm2, total))
    add(sizes, "total", f"{total:.4f}", "", style="bold")
    if area.published is not None:
        add(sizes, "published", f"{area.published.value:.2f}", "")

    technology, memory = load_technology(arch.technology_nm), load_memory_energy(arch.memory.unit)
    costs = table("one ...", "pJ", "second opinion", "of what")
    costs.columns[-1].justify, costs.columns[-1].no_wrap = "left", False
    for name, operation in technology.operations.items():
        nominal, second = (technology.operation_pJ(name, variant)[0] for variant in ("nominal", "aladdin"))
        add(
            costs,
            name.replace("_", " "),
            f"{nominal:.3f}",
            f"{second:.3f}" if second != nominal else "",
            operation.about,
        )
    add(
        costs,
        f"{arch.memory.unit} activation",
        f"{memory.activation.value:,.1f}",
        "",
        f"one row of {memory.row_bytes} B",
    )
    add(costs, f"{arch.memory.unit} read", f"{memory.read.value:.3f}", "", "per bit")
    add(costs, f"{arch.memory.unit} write", f"{memory.write.value:.3f}", "", "per bit")
    show(out, Group(sizes, Text(), costs))
