"""Area of a machine = printed counts x printed factors, set beside the published area without adjustment.

The counts follow from the :class:`accel.arch.Arch`. This is a sum of units: no placement, no clock tree, no control, no
pads or PHY. Where a netlist of the RTL exists, its synthesised area is the better figure for logic.
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from accel.arch import Arch, archs, load_arch
from accel.cost.energy import sram_macros
from accel.cost.factors import Figure, Technology, load_technology, published
from accel.units import implementation
from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.importance import HEAD_SCORE_BITS, TOKEN_SCORE_BITS, ImportanceUnit
from accel.units.modes import DECAY_FRACTION_BITS, STATE_BITS
from accel.units.qk import SMALLEST_DIM
from accel.units.softmax import WEIGHT_BITS, stored_bits
from accel.units.state import RECORDS_WITH_DECAYS, StateUnit
from accel.units.topk import TopKUnit

UM2_PER_MM2 = 1e6
ADDRESS_BITS = 80  # of an entry of an address FIFO: rtl.job.address_layout has 72 to 80
BEAT_BITS = 128  # the paper's data FIFOs are 16 bytes wide
TAG_BYTES = 4  # lane, and rtl.job.tag_layout, of an access under way
ARRIVAL_BITS = 3  # of a count of accesses generated or arrived, rtl/arrivals.py
ARRIVAL_COPIES = 4  # generated and arrived, each in two memories
KEEP_LIST_COPIES = 2  # one for the fetcher's lanes, one for words
LIST_VERSIONS = 2
#: What top-k engines consist of (``accel.units.topk``, ``operations``), as it is called in the report. There are two of
#: them: token and head importance share one, local values have the other.
TOPK_PARTS = {
    "topk_comparison": "comparators",
    "topk_element": "zero eliminator lanes",
    "topk_count_lane": "counting lanes",
    "topk_counter_bit": "counter bits",
    "topk_exchange": "compare-exchanges",
    "topk_head_bit": "bits of run heads",
}


@dataclass(frozen=True)
class AreaLine:
    """count x factor_mm2 = area_mm2; `source` says where the factor comes from."""

    part: str
    count_name: str
    count: float
    factor_mm2: float
    area_mm2: float
    source: str


@dataclass(frozen=True)
class AreaReport:
    """Area of one machine in mm2, line by line, and the published figure if there is one."""

    lines: tuple[AreaLine, ...]
    machine: str
    technology_nm: int
    published: Figure | None

    @property
    def area_mm2(self) -> dict[str, float]:
        """mm2 by part and "total" last."""
        parts: dict[str, float] = {}
        for line in self.lines:
            parts[line.part] = parts.get(line.part, 0.0) + line.area_mm2
        return parts | {"total": math.fsum(parts.values())}

    @property
    def comparison(self) -> str | None:
        """One line "published ... ours ...", or None where nothing was published."""
        if self.published is None:
            return None
        ours, theirs = self.area_mm2["total"], self.published.value
        return (
            f"{self.machine}: published {theirs:.2f} mm2, ours {ours:.2f} mm2, difference {ours - theirs:+.2f} mm2 "
            f"({ours / theirs:.2f} of published)"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary for a report file."""
        return {
            "machine": self.machine,
            "technology_nm": self.technology_nm,
            "area_mm2": self.area_mm2,
            "published_area_mm2": None if self.published is None else self.published.model_dump(exclude_none=True),
            "comparison": self.comparison,
            "lines": [asdict(line) for line in self.lines],
        }


class _Ledger:
    def __init__(self, technology: Technology) -> None:
        self.technology = technology
        self.lines: list[AreaLine] = []

    def add(self, part: str, count_name: str, count: float, factor_mm2: float, source: str) -> None:
        self.lines.append(AreaLine(part, count_name, count, factor_mm2, count * factor_mm2, source))

    def operation(self, part: str, count_name: str, count: float, operation: str) -> None:
        area_um2, source = self.technology.operation_um2(operation)
        self.add(part, count_name, count, area_um2 / UM2_PER_MM2, source)

    def primitive(self, part: str, count_name: str, count: float, primitive: str) -> None:
        figure = self.technology.logic.primitives[primitive].area
        self.add(part, count_name, count, figure.value / UM2_PER_MM2, figure.source)

    def sram(self, part: str, macros: int, use: str, macro_bytes: float) -> None:
        row = self.technology.sram.smallest(use, macro_bytes)
        source = f"{self.technology.sram.source}; {use} macro of {row.bytes} bytes x {row.width_bits} bit"
        self.add(part, "macros", macros, row.area_mm2, source)


def _states(ledger: _Ledger, arch: Arch) -> None:
    """Mode state: per row of a line a power of two and a product with it, per word shift, add and saturate; the
    fraction of every row, and the records of k, q and decays of the token that runs.
    """
    rows = arch.values_per_line(SMALLEST_DIM)
    ledger.operation("states", "rows of a line", rows, "exponential")
    ledger.operation("states", "rows of a line (products)", rows, "normalisation")
    ledger.primitive("states", "adders", 3 * arch.pv.multipliers * STATE_BITS / 32, "add_32")  # two round, one adds
    # Two shifters of 24 bits and five and four stages.
    ledger.operation("states", "shifter bits", 9 * STATE_BITS * arch.pv.multipliers, "multiplexer_bit")
    ledger.primitive("states", "register_bits", 4 * STATE_BITS * arch.pv.multipliers, "register_bit")
    held = RECORDS_WITH_DECAYS - 1
    ledger.primitive("states", "record bits", held * arch.max_head_dim * arch.value_bits, "register_bit")
    ledger.sram("states", 1, "score", StateUnit(arch).max_lines * rows * DECAY_FRACTION_BITS / 8)


def area(arch: Arch) -> AreaReport:
    """Area of a machine by part.

    Raises UserError for a technology without factor files or an SRAM macro larger than the table.
    """
    ledger = _Ledger(load_technology(arch.technology_nm))
    ledger.primitive("pv_array", "weight signs", arch.pv.multipliers / 12, "multiply_12")  # 13 x 12 bit
    for part, multipliers in (("qk_array", arch.qk.multipliers), ("pv_array", arch.pv.multipliers)):
        ledger.primitive(part, "multipliers", multipliers, "multiply_12")
        ledger.primitive(part, "adders", multipliers, "add_32")
        ledger.primitive(part, "register_bits", 36 * multipliers, "register_bit")
    for part, size, multipliers in (
        ("sram_k", arch.sram.k_bytes, arch.qk.multipliers),
        ("sram_v", arch.sram.v_bytes, arch.pv.multipliers),
    ):
        macros = sram_macros(multipliers)
        ledger.sram(part, macros, "kv", size / macros)
    ledger.sram("score_buffer", 1, "score", stored_bits(arch.softmax.buffer_keys, arch.softmax.lanes) / 8)
    # Kept weights and their positions wait for V; the fetcher's lanes read positions in a copy of their own.
    weight_bits = WEIGHT_BITS + 2 * TOKEN_BITS
    ledger.sram("score_buffer", 1, "score", arch.softmax.buffer_keys * weight_bits / 8)

    ledger.operation("softmax", "lanes", arch.softmax.lanes, "exponential")
    ledger.operation("softmax", "lanes (probabilities)", arch.softmax.lanes, "normalisation")
    ledger.operation("softmax", "lanes (decay)", arch.softmax.lanes, "normalisation")  # 22 x 16 where that is 20 x 17
    if StateUnit(arch).missing() is None:
        _states(ledger, arch)
    ledger.operation("softmax", "output_lanes", arch.pv.output_lanes, "normalisation")
    ledger.operation("softmax", "reciprocal units", 1, "reciprocal")

    local_values = replace(TopKUnit.of(arch, WEIGHT_BITS), payload_bits=TOKEN_BITS)
    cascade = ImportanceUnit.of(arch).topk()
    operations = Counter({"topk_element": 2 * arch.topk.lanes})  # the order-preserving filter's eliminator, in each
    for engine in (local_values, cascade):
        operations.update(implementation("accel.units.topk", engine.engine).operations(engine))
    for operation, name in TOPK_PARTS.items():
        if operations[operation]:
            ledger.operation("topk", name, operations[operation], operation)
    ledger.sram("topk", 1, "score", local_values.memory_bits / 8)
    ledger.sram("topk", 1, "importance", cascade.memory_bits / 8)

    # Each lane of a line of probabilities adds into scores of its own; they are added up when tokens are selected.
    ledger.operation("importance", "adders", arch.softmax.lanes, "importance_update")
    ledger.sram("importance", arch.softmax.lanes, "importance", arch.max_context * TOKEN_SCORE_BITS / 8)
    ledger.sram("importance", 1, "importance", arch.max_heads * HEAD_SCORE_BITS / 8)
    ledger.sram("importance", KEEP_LIST_COPIES, "importance", LIST_VERSIONS * arch.max_context * TOKEN_BITS / 8)

    lanes, channels = arch.fetcher.lanes, arch.memory.channels
    # An n:1 multiplexer tree has n - 1 two-input multiplexers.
    address_muxes = channels * (lanes - 1) * ADDRESS_BITS
    ledger.operation("crossbar", "address multiplexer bits", address_muxes, "multiplexer_bit")
    ledger.operation("crossbar", "data multiplexer bits", lanes * (channels - 1) * BEAT_BITS, "multiplexer_bit")
    ledger.sram("fifos", lanes, "fifo", ADDRESS_BITS / 8 * arch.fetcher.address_fifo_depth)
    # Data goes straight to the SRAM banks; a channel only remembers which lane and line each access under way is for.
    ledger.sram("fifos", channels, "fifo", TAG_BYTES * arch.fetcher.outstanding_per_channel)
    # Per lane and line of the rings: how many accesses were generated, how many arrived.
    for entries in (EngineUnit(arch).k_entries, EngineUnit(arch).v_entries):
        ring_lines = 2 * entries * lanes / arch.softmax.lanes
        ledger.sram("fifos", lanes * ARRIVAL_COPIES, "fifo", ring_lines * ARRIVAL_BITS / 8)
    query_bits = arch.fetcher.query_slots * arch.max_head_dim * arch.value_bits
    ledger.primitive("query_registers", "register_bits", query_bits, "register_bit")

    # A preset that was changed is another machine: the published figure is not about it.
    is_preset = arch.name in archs() and load_arch(arch.name) == arch
    figure = published().get(arch.name, {}).get("area_mm2") if is_preset else None
    return AreaReport(tuple(ledger.lines), arch.name, arch.technology_nm, figure)
