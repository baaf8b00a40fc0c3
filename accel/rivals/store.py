"""Rows and curves of the comparison on disk (:mod:`accel.row_store`), so that an interrupted command goes on later."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accel import row_store
from accel.arch import Arch
from accel.rivals.rows import Row, machine_rows
from accel.rivals.workloads import Workload

FORMAT = 1
_CODE = ("accel/arch.py", "accel/cost", "accel/lower", "accel/memory.py", "accel/network.py", "accel/numerics",
         "accel/presets", "accel/program.py", "accel/rivals", "accel/session.py", "accel/units",
         "accel/zoo/attention_time.py", "sim", "workloads/kernels", "workloads/nets",
         "workloads/nets/darwin_origin.txt")  # fmt: skip


def code_digest() -> str:
    """Hash of the sources that a row's numbers come from."""
    return row_store.code_digest(_CODE)


def key_of(*asked: Any) -> str:
    """Short hash of what is asked for and of the code."""
    return row_store.key_of([FORMAT, *asked, code_digest()])


class Store:
    """``folder``: where rows are kept, in ``rows``; without one they are made each time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def rows(self, name: str, work: Workload, arch: Arch, seed: int) -> list[Row]:
        """:func:`accel.rivals.rows.machine_rows`."""
        found = self._kept("rows", name, work, arch, seed, lambda: {"rows": machine_rows(name, work, arch, seed)})
        return list(found["rows"])

    def curve(self, name: str, work: Workload, arch: Arch, make: Callable[[], Row]) -> Row:
        """What ``make`` gives for a machine in the network that the tensors are of."""
        return dict(self._kept("curve", name, work, arch, 0, lambda: {"curve": make()})["curve"])

    def _kept(self, kind: str, name: str, work: Workload, arch: Arch, seed: int, make: Callable[[], Row]) -> Row:
        if self.folder is None:
            return make()
        key = key_of(kind, name, work.name, _tensors(work), arch.model_dump(mode="json"), seed)
        return row_store.kept(self.folder / "rows" / f"{name}-{work.name}-{arch.name}-{key}.json", FORMAT, make)


def _tensors(work: Workload) -> str:
    """Hash of the numbers; those of a network change with its weights and its text."""
    found = hashlib.sha256(str(work.prompt).encode())
    for layer in work.layers:
        for tensor in layer:
            found.update(str(tensor.shape).encode() + tensor.tobytes())
    return found.hexdigest()
