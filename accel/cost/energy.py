"""Energy of a run = printed counts x printed factors.

Every line of an :class:`EnergyReport` is one count, one factor in pJ and their product; a part is the sum of its lines
and the total is the sum of the parts. Not in it: see docs/cost.md (leakage, clock tree, wires between units, PHY).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from accel.arch import Arch
from accel.cost.factors import Figure, Technology, load_memory_energy, load_technology, unknown
from accel.errors import UserError
from accel.units.softmax import stored_bits

PARTS = (
    "dram_activation",
    "dram_transfer",
    "dram_refresh",
    "dram_background",
    "sram_k",
    "sram_v",
    "score_buffer",
    "qk_array",
    "pv_array",
    "softmax",
    "topk",
    "importance",
    "crossbar",
)
#: One shared-port macro per half of the double buffer and per row of a line (published size: 8 rows of 64 x 12 bit).
PUBLISHED_SRAM_MACROS = 16
MACRO_ROW_VALUES = 64  # values of one macro row; the "kv" macros of the SRAM tables are 64 x 12 bit wide
DRAM_READ_STREAMS = ("q", "k_msb", "k_lsb", "v", "weights")

Variant = Literal["nominal", "aladdin"]
VARIANTS: tuple[Variant, ...] = ("nominal", "aladdin")

#: What an event of the top-k engines costs (``accel.units.topk.TOPK_EVENTS``).
TOPK_OPERATIONS = {
    "comparisons": "topk_comparison",
    "elements": "topk_element",
    "counted": "topk_count",
    "exchanges": "topk_exchange",
    "moves": "topk_move",
}


@dataclass(frozen=True)
class EnergyLine:
    """count x factor_pJ = energy_pJ; `source` says where the factor comes from."""

    part: str
    count_name: str
    count: float
    factor_pJ: float
    energy_pJ: float
    source: str


@dataclass(frozen=True)
class EnergyReport:
    """Energy of one run in pJ, line by line. A part without a sourced factor is absent."""

    lines: tuple[EnergyLine, ...]
    rows: int
    duration_ns: float
    technology_nm: int
    memory: str
    variant: str

    @property
    def energy_pJ(self) -> dict[str, float]:
        """pJ by part, in the order of PARTS, and "total" last."""
        parts = {
            part: math.fsum(line.energy_pJ for line in self.lines if line.part == part)
            for part in PARTS
            if any(line.part == part for line in self.lines)
        }
        return parts | {"total": math.fsum(parts.values())}

    @property
    def power_mW(self) -> dict[str, float]:
        """Mean power by part over the run in mW (1 pJ/ns = 1 mW); empty for a run of no time."""
        return {part: pJ / self.duration_ns for part, pJ in self.energy_pJ.items()} if self.duration_ns else {}

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary for a report file."""
        return {
            "technology_nm": self.technology_nm,
            "memory": self.memory,
            "variant": self.variant,
            "rows": self.rows,
            "duration_ns": self.duration_ns,
            "energy_pJ": self.energy_pJ,
            "power_mW": self.power_mW,
            "lines": [asdict(line) for line in self.lines],
        }


class _Counts:
    """Looks counts up by dotted name; anything missing or impossible is a UserError that names it."""

    def __init__(self, counts: Mapping[str, Any]) -> None:
        self._counts = counts

    def __call__(self, name: str) -> float:
        node: Any = self._counts
        for step in name.split("."):
            if not isinstance(node, Mapping) or step not in node:
                here = f"; there are {', '.join(map(str, node))}" if isinstance(node, Mapping) and node else ""
                raise UserError(f"counts: {name} is missing{here}")
            node = node[step]
        try:
            value = float("nan") if isinstance(node, bool | str) else float(node)
        except (TypeError, ValueError):
            value = float("nan")
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"counts: {name} = {node!r}: a count is a finite number, 0 or more")
        return value


class _Ledger:
    def __init__(self, counts: Mapping[str, Any], technology: Technology, variant: Variant) -> None:
        self.count, self.technology, self.variant = _Counts(counts), technology, variant
        self.lines: list[EnergyLine] = []

    def add(self, part: str, count_name: str, count: float, factor_pJ: float, source: str) -> None:
        self.lines.append(EnergyLine(part, count_name, count, factor_pJ, count * factor_pJ, source))

    def operation(self, part: str, count_name: str, operation: str) -> None:
        factor_pJ, source = self.technology.operation_pJ(operation, self.variant)
        self.add(part, count_name, self.count(count_name), factor_pJ, source)

    def sram(self, part: str, stream: str, use: str, macro_bytes: float) -> None:
        row = self.technology.sram.smallest(use, macro_bytes)
        source = f"{self.technology.sram.source}; {use} macro of {row.bytes} bytes x {row.width_bits} bit"
        read, write = f"sram_read_bytes.{stream}", f"sram_write_bytes.{stream}"
        self.add(part, read, self.count(read), row.read_pJ_per_byte, source)
        self.add(part, write, self.count(write), row.write_pJ_per_byte, source)

    def dram_bits(self, count_name: str, figure: Figure) -> None:
        # The count stays in bytes as printed by the run, so the printed factor is per byte: 8 x pJ/bit.
        source = f"8 bit x {figure.value:g} pJ/bit: {figure.source}"
        self.add("dram_transfer", count_name, self.count(count_name), 8 * figure.value, source)


def energy(
    counts: Mapping[str, Any],
    *,
    technology_nm: int,
    memory: str,
    cycles: int,
    clock_MHz: float,
    k_sram_bytes: int,
    v_sram_bytes: int,
    k_sram_macros: int = PUBLISHED_SRAM_MACROS,
    v_sram_macros: int = PUBLISHED_SRAM_MACROS,
    score_sram_bytes: int = 3072,
    memory_channels: int | None = None,
    variant: Variant = "nominal",
) -> EnergyReport:
    """Energy of the run that produced `counts` (the dictionary described in docs/cost.md).

    `k_sram_bytes`, `v_sram_bytes` are whole capacities, spread evenly over that many macros; the smallest macro of the
    SRAM table that holds the share sets the energy per byte. `score_sram_bytes` defaults to 2048 keys x 12 bit.
    `memory_channels` switches on `dram_background` where the memory has a sourced figure. `variant` "aladdin" takes the
    Aladdin table for multipliers and adders (4.6 and 2.4 times the nominal, at 40 nm).

    Raises UserError for an unknown technology, memory or variant, a count that is missing, negative or not a number, a
    cycle count, clock or size that is impossible, or an SRAM macro larger than the table.
    """
    if variant not in VARIANTS:
        raise unknown("variant", variant, VARIANTS)
    for name, size in (
        ("clock_MHz", clock_MHz), ("k_sram_bytes", k_sram_bytes), ("v_sram_bytes", v_sram_bytes),
        ("k_sram_macros", k_sram_macros), ("v_sram_macros", v_sram_macros), ("score_sram_bytes", score_sram_bytes),
    ):  # fmt: skip
        if not (math.isfinite(size) and size > 0):
            raise UserError(f"{name} = {size}: must be above 0")
    if cycles < 0:
        raise UserError(f"cycles = {cycles}: must be 0 or more")
    if memory_channels is not None and memory_channels < 1:
        raise UserError(f"memory_channels = {memory_channels}: must be 1 or more, or left out")
    dram = load_memory_energy(memory)
    ledger = _Ledger(counts, load_technology(technology_nm), variant)
    duration_ns = cycles * 1000 / clock_MHz

    activations = ledger.count("dram_commands.act")
    ledger.add("dram_activation", "dram_commands.act", activations, dram.activation.value, dram.activation.source)
    for stream in DRAM_READ_STREAMS:
        ledger.dram_bits(f"dram_read_bytes.{stream}", dram.read)
    ledger.dram_bits("dram_write_bytes", dram.write)
    refreshes = ledger.count("dram_commands.ref")
    if dram.refresh is not None:
        ledger.add("dram_refresh", "dram_commands.ref", refreshes, dram.refresh.value, dram.refresh.source)
    if dram.background is not None and memory_channels is not None:
        time_ns = memory_channels * duration_ns
        ledger.add("dram_background", "channel_ns", time_ns, dram.background.value, dram.background.source)

    ledger.sram("sram_k", "k", "kv", k_sram_bytes / k_sram_macros)
    ledger.sram("sram_v", "v", "kv", v_sram_bytes / v_sram_macros)
    ledger.sram("score_buffer", "score", "score", score_sram_bytes)
    for part, count_name, operation in (
        ("qk_array", "macs.qk", "array_mac"),
        ("pv_array", "macs.pv", "array_mac"),
        ("pv_array", "output_values", "output_value"),
        ("softmax", "softmax.exponentials", "exponential"),
        ("softmax", "softmax.reciprocals", "reciprocal"),
        ("softmax", "softmax.normalisations", "normalisation"),
        *(("topk", f"topk.{event}", operation) for event, operation in TOPK_OPERATIONS.items()),
        ("importance", "importance_updates", "importance_update"),
        ("crossbar", "crossbar_bytes.address", "crossbar_address_byte"),
        ("crossbar", "crossbar_bytes.data", "crossbar_data_byte"),
    ):
        ledger.operation(part, count_name, operation)
    rows = int(ledger.count("rows"))
    return EnergyReport(tuple(ledger.lines), rows, duration_ns, technology_nm, memory, variant)


def sram_macros(multipliers: int) -> int:
    """Macros that one K or V SRAM is cut into: two halves for each 64-value row that the array takes per cycle."""
    return 2 * max(1, multipliers // MACRO_ROW_VALUES)


def run_energy(arch: Arch, counts: Mapping[str, Any], cycles: int, variant: Variant = "nominal") -> EnergyReport:
    """:func:`energy` with the sizes, technology, memory and clock of a machine; raises what it raises."""
    return energy(
        counts,
        technology_nm=arch.technology_nm,
        memory=arch.memory.unit,
        cycles=cycles,
        clock_MHz=arch.clock_MHz,
        k_sram_bytes=arch.sram.k_bytes,
        v_sram_bytes=arch.sram.v_bytes,
        k_sram_macros=sram_macros(arch.qk.multipliers),
        v_sram_macros=sram_macros(arch.pv.multipliers),
        score_sram_bytes=math.ceil(stored_bits(arch.softmax.buffer_keys, arch.softmax.lanes) / 8),
        memory_channels=arch.memory.channels,
        variant=variant,
    )
