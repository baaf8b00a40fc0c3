"""What the kernels of one unit of work add up to."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from workloads.systems.calls import Call


class RoleTotals(NamedTuple):
    """The share of one role."""

    macs: int
    dram_bytes: int


class Totals(NamedTuple):
    """Counts of one unit of work, unpruned; bytes by the closed form (what is not on chip moves once)."""

    macs: int
    exponentials: int
    elementwise_ops: int
    dram_bytes: int
    weight_bytes: int  # moved, so again for every step that reads them
    state_bytes: int  # that live from token to token, over all layers
    by_role: Mapping[str, RoleTotals]

    def share(self, *roles: str) -> float:
        """Share of the DRAM bytes in these roles; 0 if nothing moves."""
        moved = sum(self.by_role[role].dram_bytes for role in roles if role in self.by_role)
        return moved / self.dram_bytes if self.dram_bytes else 0.0

    @property
    def mixer_share(self) -> float:
        """f: what pruning and K/V quantisation can touch; whole steps gain at most 1 / (1 - f)."""
        return self.share("mixer")

    @property
    def widest_share(self) -> float:
        """f with the weights of recurrent cells and the vocabulary, which only modified techniques can touch."""
        return self.share("mixer", "recurrent_gemv", "vocabulary")


def totals_of(calls: Iterable[Call], bits: int = 16) -> Totals:
    """The sum over `calls`, all numbers `bits` wide."""
    macs = exponentials = ops = state = weights = 0
    by_role: dict[str, RoleTotals] = {}
    for call in calls:
        kernel, moved = call.kernel, call.dram_bytes(bits)
        macs += call.times * kernel.macs
        exponentials += call.times * kernel.exponentials
        ops += call.times * kernel.elementwise_ops
        state += call.times * -(-kernel.state_numbers * bits // 8)
        weights += moved.get("weights", 0)
        before = by_role.get(call.role, RoleTotals(0, 0))
        by_role[call.role] = RoleTotals(before.macs + call.times * kernel.macs, before.dram_bytes + sum(moved.values()))
    moved_bytes = sum(role.dram_bytes for role in by_role.values())
    return Totals(macs, exponentials, ops, moved_bytes, weights, state, by_role)
