"""The memory as data: geometry, command timings and address map of one DRAM, read from `accel/presets/memory/*.yaml`.

Every number in a preset carries its unit and its source (`CL: {value: 14, unit: tCK, source: "..."}`), every text its
source. Adding a memory is adding one file; its name is the file's stem. The model behind the numbers is `sim/dram.py`.
"""

import difflib
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from accel.errors import UserError

PRESET_DIR = Path(__file__).parent / "presets" / "memory"
MAX_BANKS_PER_CHANNEL = 62  # the controller keeps one bit per bank in a signed 64-bit word
XOR_FOLDS = 8  # how many digits of the upper address bits are folded into the channel number by "xor"


def _quantity(unit: str, minimum: int = 1) -> Any:
    """A required integer field that the preset must give in exactly this unit."""
    return Field(ge=minimum, json_schema_extra={"unit": unit})


class MemorySpec(BaseModel):
    """One DRAM type. Times are whole clock cycles (tCK) counted from the end of the earlier command to the end of the
    later one, as JEDEC does; `act_bus_cycles` says how long an ACT takes on the command bus."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    standard: str
    address_map: str
    tCK_ps: int = _quantity("ps")
    channels: int = _quantity("channels")
    pseudo_channels: int = _quantity("pseudo channels per channel")
    bank_groups: int = _quantity("bank groups per pseudo channel")
    banks_per_group: int = _quantity("banks per bank group")
    row_bytes: int = _quantity("B")
    access_bytes: int = _quantity("B")
    burst_cycles: int = _quantity("tCK")
    command_buses: int = _quantity("buses")
    act_bus_cycles: int = _quantity("tCK")
    CL: int = _quantity("tCK")
    CWL: int = _quantity("tCK")
    RCDRD: int = _quantity("tCK")
    RCDWR: int = _quantity("tCK")
    RP: int = _quantity("tCK")
    RPab: int = _quantity("tCK")
    RAS: int = _quantity("tCK")
    RC: int = _quantity("tCK")
    RTP: int = _quantity("tCK")
    WR: int = _quantity("tCK")
    CCD_S: int = _quantity("tCK")
    CCD_L: int = _quantity("tCK")
    RRD_S: int = _quantity("tCK")
    RRD_L: int = _quantity("tCK")
    FAW: int = _quantity("tCK")
    WTR_S: int = _quantity("tCK")
    WTR_L: int = _quantity("tCK")
    RFC: int = _quantity("tCK")
    REFI: int = _quantity("tCK")
    queue_depth: int = _quantity("requests per channel")
    write_queue_depth: int = _quantity("requests per channel")
    write_high_watermark: int = _quantity("requests per channel")
    write_low_watermark: int = _quantity("requests per channel", minimum=0)
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> "MemorySpec":
        """Refuse what no device can be. Raises ValueError with one sentence."""
        for key in ("channels", "pseudo_channels", "bank_groups", "banks_per_group", "row_bytes", "access_bytes"):
            value = getattr(self, key)
            if value & (value - 1):
                raise ValueError(f"{key} is {value}, but has to be a power of two")
        rules = (
            (self.command_buses <= 2, "command_buses has to be 1 (shared) or 2 (row bus and column bus)"),
            (self.access_bytes <= self.row_bytes, "access_bytes has to fit into row_bytes"),
            (self.banks_per_channel <= MAX_BANKS_PER_CHANNEL, f"more than {MAX_BANKS_PER_CHANNEL} banks per channel"),
            (self.RC >= self.RAS + self.RP, f"RC ({self.RC}) has to be at least RAS + RP ({self.RAS + self.RP})"),
            (self.RPab >= self.RP, f"RPab ({self.RPab}) has to be at least RP ({self.RP})"),
            (self.RAS >= self.RCDRD, f"RAS ({self.RAS}) has to be at least RCDRD ({self.RCDRD})"),
            (self.burst_cycles <= self.CCD_S, f"CCD_S ({self.CCD_S}) below burst_cycles ({self.burst_cycles})"),
            (self.CCD_L >= self.CCD_S, f"CCD_L ({self.CCD_L}) has to be at least CCD_S ({self.CCD_S})"),
            (self.RRD_L >= self.RRD_S, f"RRD_L ({self.RRD_L}) has to be at least RRD_S ({self.RRD_S})"),
            (self.FAW >= self.RRD_S, f"FAW ({self.FAW}) has to be at least RRD_S ({self.RRD_S})"),
            (self.WTR_L >= self.WTR_S, f"WTR_L ({self.WTR_L}) has to be at least WTR_S ({self.WTR_S})"),
            (self.act_bus_cycles <= self.RP, f"act_bus_cycles ({self.act_bus_cycles}) above RP ({self.RP})"),
            (self.CL + self.burst_cycles + 2 > self.CWL, f"CWL ({self.CWL}) leaves no read-to-write gap"),
            (self.REFI > self.RFC + self.RC, f"REFI ({self.REFI}) leaves no time beside RFC ({self.RFC})"),
            (
                self.write_low_watermark < self.write_high_watermark <= self.write_queue_depth,
                "write watermarks have to satisfy low < high <= write_queue_depth",
            ),
        )
        for holds, sentence in rules:
            if not holds:
                raise ValueError(sentence)
        self.address_fields()
        return self

    @property
    def banks_per_channel(self) -> int:
        """Banks of one channel, all pseudo channels together."""
        return self.pseudo_channels * self.bank_groups * self.banks_per_group

    @property
    def columns_per_row(self) -> int:
        """Accesses (`access_bytes` each) in one open row."""
        return self.row_bytes // self.access_bytes

    @cached_property
    def peak_bytes_per_channel_per_s(self) -> float:
        """Data-bus limit of one channel in B/s: every pseudo channel sends `access_bytes` per `burst_cycles`."""
        return self.pseudo_channels * self.access_bytes / self.burst_cycles / self.tCK_ps * 1e12

    @property
    def closed_read_cycles(self) -> int:
        """Unloaded latency in tCK of a read that finds its bank closed: ACT, RCD, CL, burst."""
        return self.act_bus_cycles - 1 + self.RCDRD + self.CL + self.burst_cycles

    @property
    def address_hashed(self) -> bool:
        """Whether the address map ends in `xor`."""
        return self.address_map.split()[-1:] == ["xor"]

    def address_fields(self) -> tuple[tuple[str, int], ...]:
        """The address map as (field, bits) from the least significant bit above the access upwards.

        Grammar: fields `ch pc bg ba ro` and `coN` (the next N column bits), lowest first, `ro` (all remaining bits)
        last; an `xor` after it folds the upper address bits into channel and pseudo channel, and the row into the
        bank. Fields of one element may be left out, except `ch`. Raises ValueError with one sentence.
        """
        counts = {
            "ch": self.channels,
            "pc": self.pseudo_channels,
            "bg": self.bank_groups,
            "ba": self.banks_per_group,
        }
        tokens = self.address_map.split()
        fields: list[tuple[str, int]] = []
        for token in tokens[:-1] if self.address_hashed else tokens:
            if token in counts:
                fields.append((token, counts.pop(token).bit_length() - 1))
            elif token == "ro":
                fields.append((token, 0))
            elif token[:2] == "co" and token[2:].isdigit():
                fields.append(("co", int(token[2:])))
            else:
                raise ValueError(f"address_map: '{token}' is not one of ch pc bg ba ro coN xor, or is there twice")
        missing = [field for field, count in counts.items() if count > 1 or field == "ch"]
        if missing:
            raise ValueError(f"address_map: field '{missing[0]}' is missing")
        names = [field for field, _ in fields]
        if names.count("ro") != 1 or names[-1] != "ro":
            raise ValueError("address_map: 'ro' has to be there once, as the last field")
        column_bits = sum(bits for field, bits in fields if field == "co")
        if column_bits != self.columns_per_row.bit_length() - 1:
            raise ValueError(
                f"address_map: {column_bits} column bits, but a row has {self.columns_per_row} accesses "
                f"({self.columns_per_row.bit_length() - 1} bits)"
            )
        return tuple(fields)

    def with_channels(self, channels: int) -> "MemorySpec":
        """The same memory with another power-of-two number of channels. Raises UserError."""
        return self._changed(channels=channels)

    def with_address_map(self, address_map: str) -> "MemorySpec":
        """The same memory with another address map. Raises UserError."""
        return self._changed(address_map=address_map)

    def _changed(self, **changes: object) -> "MemorySpec":
        return _build({**self.model_dump(), **changes}, f"memory '{self.name}'")


def memory_names() -> list[str]:
    """Names of all memories in the preset folder."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))


def load_memory(name: str) -> MemorySpec:
    """The memory described by `accel/presets/memory/NAME.yaml`. Raises UserError."""
    path = PRESET_DIR / f"{name}.yaml"
    if name not in memory_names():
        raise UserError(f"memory '{name}': no such preset{_did_you_mean(name, memory_names())}")
    try:
        return memory_from_mapping(name, yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"memory '{name}': {path.name} is not YAML: {' '.join(str(error).split())}") from None


def memory_from_mapping(name: str, entries: object) -> MemorySpec:
    """A memory from what a preset file holds: {field: {value, unit, source}}, texts without unit. Raises UserError."""
    where = f"memory '{name}'"
    if not isinstance(entries, dict):
        raise UserError(f"{where}: expected a mapping of fields, got {type(entries).__name__}")
    fields = {key: info for key, info in MemorySpec.model_fields.items() if key not in ("name", "sources")}
    values: dict[str, object] = {"name": name}
    sources = {}
    for key, entry in entries.items():
        if key not in fields:
            raise UserError(f"{where}: unknown field '{key}'{_did_you_mean(str(key), list(fields))}")
        values[key], sources[key] = _checked_entry(f"{where}, field '{key}'", entry, _unit(fields[key]))
    for key in fields:
        if key not in values:
            raise UserError(f"{where}: field '{key}' is missing; give {{value, unit: {_unit(fields[key])}, source}}")
    return _build({**values, "sources": sources}, where)


def _unit(info: FieldInfo) -> str | None:
    extra = info.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) else None


def _checked_entry(where: str, entry: object, unit: str | None) -> tuple[object, str]:
    """(value, source) of one {value, unit, source} entry whose unit is the expected one."""
    wanted = {"value", "source"} if unit is None else {"value", "unit", "source"}
    if not isinstance(entry, dict) or set(entry) != wanted:
        raise UserError(f"{where}: expected {{{', '.join(sorted(wanted))}}}, got {entry!r}")
    if unit is not None and entry["unit"] != unit:
        raise UserError(f"{where}: unit is '{entry['unit']}', has to be '{unit}'")
    if not isinstance(entry["source"], str) or not entry["source"].strip():
        raise UserError(f"{where}: the source is empty")
    return entry["value"], entry["source"]


def _build(values: dict[str, Any], where: str) -> MemorySpec:
    try:
        return MemorySpec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = f", field '{first['loc'][0]}'" if first["loc"] else ""
        given = f", got {first['input']!r}" if first["loc"] else ""
        raise UserError(f"{where}{field}: {first['msg'].removeprefix('Value error, ')}{given}") from None


def _did_you_mean(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(choices)}"
