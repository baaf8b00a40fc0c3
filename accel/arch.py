"""The machine as data: every parameter of the engine, with its unit and its source.

An :class:`Arch` is frozen and validated. Presets lie in ``accel/presets/NAME.yaml``; each number there is written as
``{value: 512, unit: multipliers, source: "..."}`` so that a reader sees what it is and where it comes from, and the
loader refuses a number in another unit. What the simulator and the hardware both need (latencies, depths, formats) is
derived from an ``Arch`` in :mod:`accel.units`, in one place.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from accel.errors import UserError
from accel.memory import MemorySpec, load_memory

PRESETS = Path(__file__).parent / "presets"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _number(unit: str, **limits: Any) -> Any:
    return Field(json_schema_extra={"unit": unit}, **limits)


class Array(_Part):
    """One multiplier array: ``multipliers`` products of two ``value_bits`` numbers per cycle."""

    multipliers: int = _number("multipliers", ge=1, le=1 << 14)


class Pv(Array):
    """The probability-times-V array, and how many output dimensions are normalised per cycle."""

    output_lanes: int = _number("lanes", ge=1, le=512)


class Sram(_Part):
    """On-chip K and V storage; each is one circular buffer of lines, allocated and freed in row order."""

    k_bytes: int = _number("bytes", ge=64)
    v_bytes: int = _number("bytes", ge=64)


class Softmax(_Part):
    """``unit`` names the implementation (a module of ``sim.softmax`` and ``rtl.softmax``)."""

    unit: str = "base2"
    lanes: int = _number("lanes", ge=1, le=64)
    buffer_keys: int = _number("keys", ge=8)


class Topk(_Part):
    """``unit`` names the implementation (a module of ``sim.topk`` and ``rtl.topk``)."""

    unit: str = "quickselect"
    lanes: int = _number("lanes", ge=2, le=256)


class Fetcher(_Part):
    """Address generation, the two crossbars and their FIFOs."""

    lanes: int = _number("lanes", ge=1, le=128)
    window: int = _number("requests", ge=1, le=8)
    address_fifo_depth: int = _number("requests", ge=2, le=1024)
    outstanding_per_channel: int = _number("requests", ge=1, le=1024)
    query_slots: int = _number("rows", ge=1, le=64)


class Memory(_Part):
    """``unit`` names a memory in ``accel/presets/memory``."""

    unit: str = "hbm2"
    channels: int = _number("channels", ge=1, le=64)


class Arch(_Part):
    """One machine. All fields are required in a preset except ``about``; see ``docs/architecture.md`` for their roles.

    Raises:
        UserError: through :func:`load_arch` and :meth:`replace`, for an unknown key, a wrong unit, a value out of range
            or an impossible combination; the message names the key, the value and what would be right.
    """

    name: str
    about: str = ""
    clock_MHz: int = _number("MHz", ge=1, le=5000)
    technology_nm: int = _number("nm", ge=3, le=250)
    value_bits: Literal[12] = _number("bits")
    max_context: int = _number("tokens", ge=8, le=1 << 20)
    max_head_dim: int = _number("dimensions", ge=8, le=256)
    max_heads: int = _number("heads", ge=1, le=256)
    rows_in_flight: int = _number("rows", ge=2, le=64)
    qk: Array
    pv: Pv
    sram: Sram
    softmax: Softmax
    topk: Topk
    fetcher: Fetcher
    memory: Memory

    @model_validator(mode="after")
    def _possible(self) -> "Arch":
        def power_of_two(key: str, value: int) -> None:
            if value & (value - 1):
                below = 1 << (value.bit_length() - 1)
                raise ValueError(f"{key} = {value}: must be a power of two, such as {below} or {2 * below}")

        for key, value in (
            ("qk.multipliers", self.qk.multipliers),
            ("pv.multipliers", self.pv.multipliers),
            ("softmax.lanes", self.softmax.lanes),
            ("topk.lanes", self.topk.lanes),
            ("fetcher.lanes", self.fetcher.lanes),
            ("memory.channels", self.memory.channels),
            ("max_head_dim", self.max_head_dim),
        ):
            power_of_two(key, value)
        for key, size in (("sram.k_bytes", self.sram.k_bytes), ("sram.v_bytes", self.sram.v_bytes)):
            line = self._line_keys(self.max_head_dim, self.qk.multipliers) * self.max_head_dim * self.value_bits // 8
            if size < 2 * line:
                raise ValueError(f"{key} = {size}: must hold two lines of the widest head, {2 * line} bytes or more")
        if self.fetcher.window > self.fetcher.address_fifo_depth:
            raise ValueError(
                f"fetcher.window = {self.fetcher.window}: at most the FIFO's depth, {self.fetcher.address_fifo_depth}"
            )
        if self.softmax.buffer_keys < 2 * self.softmax.lanes:
            raise ValueError(
                f"softmax.buffer_keys = {self.softmax.buffer_keys}: must hold two words of {self.softmax.lanes} keys"
            )
        if self.max_context > 1 << 16:
            raise ValueError(f"max_context = {self.max_context}: token numbers have 16 bits, so at most {1 << 16}")
        _memory_spec(self.memory.unit, self.memory.channels)
        return self

    # ---- geometry -------------------------------------------------------------------------------------------------
    @staticmethod
    def padded_head_dim(head_dim: int) -> int:
        """The adder tree is tapped at powers of two: a head of 96 occupies 128 multipliers per key."""
        return 1 << max(3, (head_dim - 1).bit_length())

    def _line_keys(self, head_dim: int, multipliers: int) -> int:
        return max(1, min(multipliers // self.padded_head_dim(head_dim), self.softmax.lanes))

    def keys_per_line(self, head_dim: int) -> int:
        """Keys in one K SRAM line = scores of one QK issue."""
        return self._line_keys(head_dim, self.qk.multipliers)

    def values_per_line(self, head_dim: int) -> int:
        """V rows in one V SRAM line = rows added up in one PV issue."""
        return self._line_keys(head_dim, self.pv.multipliers)

    def qk_fold(self, head_dim: int) -> int:
        """Cycles that one line occupies the QK array (more than 1 where a key is wider than the array)."""
        return max(1, self.padded_head_dim(head_dim) // self.qk.multipliers)

    def pv_fold(self, head_dim: int) -> int:
        """Cycles that one line occupies the PV array."""
        return max(1, self.padded_head_dim(head_dim) // self.pv.multipliers)

    def key_slot_words(self, head_dim: int, pair: bool = False) -> int:
        """Words of a line memory that one key takes (a pair: both keys): half a bank's entry, or a whole one, which has
        room for the widest head.
        """
        whole = pair or 2 * self.padded_head_dim(head_dim) > self.max_head_dim
        return self.max_head_dim if whole else self.max_head_dim // 2

    def _ring_lines(self, size_bytes: int, per_line: int, slot_words: int) -> int:
        return size_bytes * 8 // (slot_words * self.value_bits) // per_line

    def k_lines(self, head_dim: int, pair: bool = False) -> int:
        """Lines of ``keys_per_line`` keys (of each head of a pair) that the K SRAM holds."""
        return self._ring_lines(self.sram.k_bytes, self.keys_per_line(head_dim), self.key_slot_words(head_dim, pair))

    def v_lines(self, head_dim: int) -> int:
        """Lines of ``values_per_line`` rows that the V SRAM holds."""
        return self._ring_lines(self.sram.v_bytes, self.values_per_line(head_dim), self.key_slot_words(head_dim))

    @property
    def score_lines(self) -> int:
        """Lines that the score buffer holds; each takes a word of ``softmax.lanes`` exponents, whatever its keys."""
        return self.softmax.buffer_keys // self.softmax.lanes

    def tile_keys(self, head_dim: int) -> int:
        """Longest row the engine works on at once; a longer context is cut into tiles of this many keys."""
        lines = min(self.k_lines(head_dim), self.score_lines)
        keys = min(lines * self.keys_per_line(head_dim), self.v_lines(head_dim) * self.values_per_line(head_dim))
        tile = min(self.max_context, keys)
        return tile - tile % self.softmax.lanes if tile > self.softmax.lanes else tile

    @property
    def memory_spec(self) -> MemorySpec:
        """Timing and geometry of the memory behind the engine, with this machine's number of channels."""
        return _memory_spec(self.memory.unit, self.memory.channels)

    @property
    def peak_read_bytes_per_cycle(self) -> float:
        """Bandwidth of all channels in bytes per engine cycle."""
        spec = self.memory_spec
        return spec.peak_bytes_per_channel_per_s * spec.channels / (self.clock_MHz * 1e6)

    @property
    def peak_ops_per_second(self) -> float:
        """Multiply and add count as two operations, both arrays together."""
        return 2.0 * (self.qk.multipliers + self.pv.multipliers) * self.clock_MHz * 1e6

    # ---- changing it ----------------------------------------------------------------------------------------------
    def replace(self, changes: Mapping[str, Any]) -> "Arch":
        """A copy with dotted keys changed, such as ``{"topk.lanes": 32}``; values may be text from a command line."""
        data = self.model_dump()
        for key, value in changes.items():
            part, where = data, key.split(".")
            for step in where[:-1]:
                if not isinstance(part.get(step), dict):
                    raise UserError(_unknown(key, self.keys(), f"machine {self.name}"))
                part = part[step]
            if where[-1] not in part or isinstance(part[where[-1]], dict):
                raise UserError(_unknown(key, self.keys(), f"machine {self.name}"))
            try:
                part[where[-1]] = yaml.safe_load(value) if isinstance(value, str) else value
            except yaml.YAMLError:
                raise UserError(f"machine {self.name}: {key} = {value}: not a number or a name") from None
        return _build(data, f"machine {self.name}")

    @classmethod
    def keys(cls) -> list[str]:
        """All dotted keys that ``replace`` and ``--set`` understand."""
        return [key for key, _ in _leaves(cls)]


@functools.cache
def _memory_spec(unit: str, channels: int) -> MemorySpec:
    return load_memory(unit).with_channels(channels)


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            yield f"{prefix}{name}", str(extra["unit"]) if isinstance(extra, dict) else ""


def _unknown(key: str, known: Iterable[str], where: str) -> str:
    near = difflib.get_close_matches(key, list(known), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"{where}: unknown key {key}; {hint}"


def _build(data: Mapping[str, Any], where: str) -> Arch:
    try:
        return Arch.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(_unknown(key, Arch.keys(), where)) from None
        if first["type"] == "missing":
            raise UserError(f"{where}: {key} is missing") from None
        said = first["msg"].removeprefix("Value error, ")
        at = f"{key} = {first['input']!r}: " if key else ""
        raise UserError(f"{where}: {at}{said[0].lower() if at else said[0]}{said[1:]}") from None


def _unwrap(node: Any, units: Mapping[str, str], where: str, key: str = "") -> Any:
    """Strip ``{value, unit, source}`` down to the value, checking that a number has a source and the right unit."""
    if isinstance(node, dict) and "value" in node:
        if stray := sorted(set(node) - {"value", "unit", "source"}):
            raise UserError(f"{where}: {key}: unknown entry {stray[0]}; a number has value, unit and source")
        wanted = units.get(key)
        if wanted is not None and node.get("unit") != wanted:
            raise UserError(f"{where}: {key} = {node['value']} {node.get('unit')}: the unit must be {wanted}")
        if not node.get("source"):
            raise UserError(f"{where}: {key} = {node['value']}: has no source; say where the number comes from")
        return node["value"]
    if isinstance(node, dict):
        return {name: _unwrap(child, units, where, f"{key}.{name}".lstrip(".")) for name, child in node.items()}
    if isinstance(node, int | float) and not isinstance(node, bool):
        raise UserError(f"{where}: {key} = {node}: write it as {{value, unit, source}}")
    return node


def archs() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_arch(name: str, changes: Mapping[str, Any] | None = None) -> Arch:
    """A preset by name, or a file of the same form by path, with dotted keys changed.

    Raises:
        UserError: no such preset or file, or anything :class:`Arch` refuses.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, archs(), 1, 0.5)
        raise UserError(
            f"machine {name}: no such preset or file; "
            + (f"did you mean {near[0]}? " if near else "")
            + f"presets: {', '.join(archs())}"
        )
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a machine is a mapping of keys; see the presets in {PRESETS}")
    arch = _build(_unwrap(data, dict(_leaves(Arch)), str(path)), str(path))
    return arch.replace(changes) if changes else arch
