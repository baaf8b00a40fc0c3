"""What other commands measure for the reproduction table: the rivals at an eighth of the size, the top-k engines."""

from pathlib import Path
from typing import Any

from accel import row_store
from accel.arch import Arch
from accel.bench.figure import Row
from accel.rivals.published import A3, MNNFAST, PRESET, SHORT, Book, energy_per_operation, own_figures
from accel.rivals.rows import ENGINE
from accel.rivals.store import code_digest
from accel.topk_figures import published_figures

FORMAT = 1
TOPK_ROWS = 1000


def rivals(seed: int, folder: Path) -> Row:
    """``figures``: rows of ``accel rivals`` by their text. ``energy_fJ_per_op``: by machine, by part. ``command``."""
    key = row_store.key_of([FORMAT, seed, code_digest()])
    return row_store.kept(folder / "rows" / f"rivals-{PRESET}-{key}.json", FORMAT, lambda: _rivals(seed))


def _rivals(seed: int) -> dict[str, Any]:
    book = Book(seed)
    return {
        "figures": {row["figure"]: row for name in (A3, MNNFAST, ENGINE) for row in own_figures(name, book)},
        "energy_fJ_per_op": energy_per_operation(book),
        "command": f"accel rivals {A3} {MNNFAST} {ENGINE} --arch {PRESET} --workload {SHORT} --seed {seed}",
    }


def topk(arch: Arch, seed: int) -> list[Row]:
    """The rows of ``accel topk``: throughput, then power, of quick-select against a full sorter."""
    return published_figures(TOPK_ROWS, seed, arch.technology_nm, f"accel topk --rows {TOPK_ROWS} --seed {seed}")
