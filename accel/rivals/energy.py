"""Energy of a rival: its events times the printed factors that our engine's energy is made of.

Events are those of :class:`sim.rivals.base.Cost`. All machines are costed at one node, whatever the node of their
publication, so that what differs is the dataflow. A product of b bits costs that of 12 bits times (b / 12) to the power
through Horowitz's 8- and 32-bit figures (1.977, as in ``factors_<nm>nm.yaml``), its addition a 32-bit one.
"""

import math
from collections.abc import Mapping

from accel.cost.energy import sram_macros
from accel.cost.factors import load_memory_energy, load_technology
from sim.rivals import Measured
from sim.rivals.base import Config

POWER_OF_WIDTH = 1.977
_OPERATIONS = ("exponential", "reciprocal", "normalisation")


def event_pJ(name: str, technology_nm: int) -> float:
    """Energy of one event that is not SRAM traffic.

    ``bit_count`` is one bit of a Hamming distance: an exclusive or and its share of an adder tree of 32-bit additions,
    taken as one bit of each.
    """
    technology = load_technology(technology_nm)
    primitive = {key: found.energy.value for key, found in technology.logic.primitives.items()}
    if name.startswith("mac_"):
        bits = int(name.removeprefix("mac_"))
        product = primitive["multiply_12"] * (bits / 12) ** POWER_OF_WIDTH
        return product + primitive["add_32"] * min(1.0, bits / 12) + 3 * bits * primitive["register_bit"]
    if name == "bit_count":
        return (primitive["bitwise_32"] + primitive["add_32"]) / 32
    if name in _OPERATIONS:
        return technology.operation_pJ(name)[0]
    return primitive[name]


def rival_energy_pJ(
    config: Config, measured: Measured, keys: int, head_dim: int, technology_nm: int
) -> dict[str, float]:
    """pJ of ``arithmetic``, ``sram`` and ``dram``, and their ``total``.

    The SRAM is a double buffer of a head's K or V in as many macros as our engine of that size has.
    """
    macros = sram_macros(max(1, round(config.multipliers / 2)))
    table = load_technology(technology_nm).sram
    sram = table.smallest("kv", 2 * keys * head_dim * config.bits / 8 / macros)
    arithmetic = [
        count * event_pJ(name, technology_nm) for name, count in measured.events.items() if not name.startswith("sram_")
    ]
    on_chip = (
        measured.events.get("sram_read_bytes", 0.0) * sram.read_pJ_per_byte
        + measured.events.get("sram_write_bytes", 0.0) * sram.write_pJ_per_byte
    )
    memory = load_memory_energy(config.memory)
    dram = 8 * (measured.dram.read_bytes * memory.read.value + measured.dram.write_bytes * memory.write.value)
    dram += measured.dram.activations * memory.activation.value
    if memory.refresh is not None:
        dram += measured.dram.refreshes * memory.refresh.value
    parts = {"arithmetic": math.fsum(arithmetic), "sram": on_chip, "dram": dram}
    return parts | {"total": math.fsum(parts.values())}


def by_power(power_W: float, latency_s: float) -> Mapping[str, float]:
    """Energy of a device known by its power."""
    return {"total": power_W * latency_s * 1e12}
