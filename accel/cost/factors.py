"""Loads the cost factors: `factors_<nm>nm.yaml`, `sram_<nm>nm.yaml`, `operations.yaml`, `memory_energy.yaml`.

A factor without a source does not load. Adding a technology is adding its two files, adding a memory is adding an entry
to `memory_energy.yaml`; no code changes. Energies are pJ, areas um2 (primitives) or mm2 (SRAM macros).
"""

import difflib
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accel.errors import UserError

HERE = Path(__file__).parent

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Source = Annotated[str, Field(min_length=8)]
Parsed = TypeVar("Parsed", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Strict):
    """One number with its unit and source; scaled figures also name the node and value they started from."""

    value: NonNegative
    unit: Literal["pJ", "pJ/bit", "pJ/ns", "um2", "mm2", "W"]
    source: Source
    scaled_from_nm: int | None = None
    scaled_from_value: NonNegative | None = None


class Primitive(_Strict):
    """A building block; `aladdin_energy` is a second opinion where two published tables disagree."""

    energy: Figure
    area: Figure
    aladdin_energy: Figure | None = None


class Scaling(_Strict):
    """How figures were carried from one node to another, in words, and whose rule it is."""

    energy: str
    area: str
    source: Source


class SramRow(_Strict):
    """One CACTI result; energies are per access of the whole width."""

    bytes: int = Field(gt=0)
    width_bits: int = Field(gt=0)
    read_pJ: NonNegative
    write_pJ: NonNegative
    area_mm2: NonNegative
    leakage_mW: NonNegative
    access_ns: NonNegative
    cycle_ns: NonNegative

    @property
    def read_pJ_per_byte(self) -> float:
        return self.read_pJ * 8 / self.width_bits

    @property
    def write_pJ_per_byte(self) -> float:
        return self.write_pJ * 8 / self.width_bits


class _SramUse(_Strict):
    ports: dict[str, int]
    rows: list[SramRow] = Field(min_length=1)


class SramTable(_Strict):
    """CACTI results by use: "kv", "score", "importance", "fifo"."""

    technology_nm: int
    source: Source
    configuration_of_first_macro: str
    macros: dict[str, _SramUse]

    def smallest(self, use: str, capacity_bytes: float) -> SramRow:
        """The smallest macro of that use that holds `capacity_bytes`.

        Raises UserError if even the largest is too small (the table is never extrapolated).
        """
        rows = sorted(self.macros[use].rows, key=lambda row: row.bytes)
        for row in rows:
            if row.bytes >= capacity_bytes:
                return row
        raise UserError(
            f"{use} SRAM macro of {math.ceil(capacity_bytes)} bytes: the {self.technology_nm} nm table ends at "
            f"{rows[-1].bytes} bytes; use more macros or add a row with accel/cost/sram_regenerate.py"
        )


class SmallMemory(_Strict):
    """Traffic of one operation to one small SRAM."""

    use: Literal["score", "importance", "fifo"]
    bytes: int = Field(gt=0)
    read_bytes: NonNegative
    write_bytes: NonNegative


class Operation(_Strict):
    """What one counted event consists of: how many of each primitive, and traffic to a small SRAM."""

    about: str
    primitives: dict[str, NonNegative]
    memory: SmallMemory | None = None


class _Operations(_Strict):
    source: Source
    operations: dict[str, Operation]


class MemoryEnergy(_Strict):
    """Device and pin energy of one memory; `refresh` and `background` are None where no source was found."""

    row_bytes: int = Field(gt=0)
    activation: Figure
    read: Figure
    write: Figure
    refresh: Figure | None = None
    background: Figure | None = None


class _Logic(_Strict):
    technology_nm: int
    scaling: Scaling
    primitives: dict[str, Primitive]


class Technology(_Strict):
    """All on-chip factors of one node."""

    logic: _Logic
    sram: SramTable
    operations: dict[str, Operation]
    operations_source: str

    def operation_pJ(self, name: str, variant: str = "nominal") -> tuple[float, str]:
        """Energy of one operation in pJ, and where it comes from.

        `variant` "aladdin" takes the second opinion where a primitive has one.
        """
        operation = self.operations[name]
        energy_pJ, sources = 0.0, []
        for primitive_name, times in operation.primitives.items():
            primitive = self.logic.primitives[primitive_name]
            second = primitive.aladdin_energy if variant == "aladdin" else None
            figure = second or primitive.energy
            energy_pJ += times * figure.value
            sources.append(f"{times:g} {primitive_name} at {figure.value:g} pJ [{figure.source}]")
        if operation.memory is not None:
            traffic = operation.memory
            row = self.sram.smallest(traffic.use, traffic.bytes)
            energy_pJ += traffic.read_bytes * row.read_pJ_per_byte + traffic.write_bytes * row.write_pJ_per_byte
            sources.append(f"{traffic.use} SRAM {row.bytes} bytes [{self.sram.source}]")
        return energy_pJ, f"{self.operations_source}: {' + '.join(sources)}"

    def operation_um2(self, name: str) -> tuple[float, str]:
        """Area in um2 of the primitives of one operation (its small SRAM is not in it), and where it comes from."""
        parts = self.operations[name].primitives.items()
        area_um2 = sum(times * self.logic.primitives[primitive].area.value for primitive, times in parts)
        sources = [
            f"{times:g} {primitive} [{self.logic.primitives[primitive].area.source}]" for primitive, times in parts
        ]
        return area_um2, f"{self.operations_source}: {' + '.join(sources)}"


def unknown(what: str, given: object, known: Iterable[object]) -> UserError:
    """The one-line error for a name that is not in a list, with the nearest name where there is one."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(given), names, 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return UserError(f"{what} {given}: no cost factors; {hint}available: {', '.join(names)}")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a technology needs factors_<nm>nm.yaml and sram_<nm>nm.yaml")
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def parse(model: type[Parsed], data: Any, where: object) -> Parsed:
    """`data` as `model`; the first thing wrong becomes a one-line UserError that names the key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"]) or "the file"
        raise UserError(f"{where}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def technologies(folder: Path = HERE) -> list[int]:
    """Nodes, in nm, that have a factor file."""
    stems = (path.stem.removeprefix("factors_").removesuffix("nm") for path in folder.glob("factors_*nm.yaml"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


@functools.cache
def load_technology(technology_nm: int, folder: Path = HERE) -> Technology:
    """The on-chip factors of a node. Raises UserError for a node without files or a file that is wrong."""
    if technology_nm not in technologies(folder):
        raise unknown("technology_nm", technology_nm, technologies(folder))
    logic_path, sram_path = folder / f"factors_{technology_nm}nm.yaml", folder / f"sram_{technology_nm}nm.yaml"
    logic = parse(_Logic, _read(logic_path), logic_path)
    sram = parse(SramTable, _read(sram_path), sram_path)
    operations_path = HERE / "operations.yaml"
    operations = parse(_Operations, _read(operations_path), operations_path)
    for path, nm in ((logic_path, logic.technology_nm), (sram_path, sram.technology_nm)):
        if nm != technology_nm:
            raise UserError(f"{path}: technology_nm is {nm}, but the file name says {technology_nm}")
    for name, operation in operations.operations.items():
        if missing := sorted(set(operation.primitives) - set(logic.primitives)):
            raise UserError(f"{logic_path}: primitives.{missing[0]} is missing; operation {name} needs it")
    return Technology(logic=logic, sram=sram, operations=operations.operations, operations_source=operations.source)


@functools.cache
def memories(path: Path = HERE / "memory_energy.yaml") -> Mapping[str, MemoryEnergy]:
    """Energy factors of every memory, by name."""
    return {name: parse(MemoryEnergy, entry, f"{path}: {name}") for name, entry in _read(path).items()}


def load_memory_energy(name: str) -> MemoryEnergy:
    """Energy factors of one memory. Raises UserError that names the memories there are."""
    if name not in memories():
        raise unknown("memory", name, memories())
    return memories()[name]


@functools.cache
def published(path: Path = HERE / "published.yaml") -> Mapping[str, Mapping[str, Figure]]:
    """Published figures by machine preset, for comparison only."""
    return {
        machine: {key: parse(Figure, entry, f"{path}: {machine}.{key}") for key, entry in entries.items()}
        for machine, entries in _read(path).items()
    }
