"""What passes between the issue of PV lines, the weight ring, the V memory and the PV array."""

from amaranth.lib import data

from accel.units.engine import TOKEN_BITS, EngineUnit
from accel.units.pv import MIN_HEAD_DIM, PvArray
from accel.units.softmax import WEIGHT_BITS
from rtl.job import COUNT_BITS, line_bits, weights_layout
from rtl.pv_tree import row_layout

__all__ = [
    "carry_layout",
    "columns_layout",
    "line_control_layout",
    "ring_items_layout",
    "ring_read_layout",
    "v_read_layout",
]


def v_read_layout(unit: EngineUnit) -> data.StructLayout:
    """A read of the V memory: a ring line for each column of a line, and which part of a folded line."""
    return data.StructLayout(
        {
            "lines": data.ArrayLayout(line_bits(unit), unit.arch.values_per_line(MIN_HEAD_DIM)),
            "part": range(max(2, PvArray.of(unit.arch).max_fold)),
        }
    )


def ring_read_layout(unit: EngineUnit) -> data.StructLayout:
    """A read of the weight ring: the number of a word of ``topk.lanes`` items."""
    return data.StructLayout({"word": range(unit.ring_words)})


def ring_items_layout(unit: EngineUnit) -> data.StructLayout:
    """The word that was read: weights, and what goes with them (position of a kept key, where V is resident)."""
    lanes = unit.arch.topk.lanes
    return data.StructLayout(
        {"weights": data.ArrayLayout(WEIGHT_BITS, lanes), "payloads": data.ArrayLayout(TOKEN_BITS, lanes)}
    )


def columns_layout(unit: EngineUnit) -> data.StructLayout:
    """How many keys a row keeps in each column of the V line: those whose position is the column's number modulo the V
    rows of a line. Columns that a line does not have carry no meaning but must be 0.
    """
    return data.StructLayout({"counts": data.ArrayLayout(COUNT_BITS, unit.arch.values_per_line(MIN_HEAD_DIM))})


def carry_layout(unit: EngineUnit) -> data.StructLayout:
    """A row that takes sums from memory: its query slot, and the rise of its maximum over theirs."""
    return data.StructLayout(
        {"slot": range(max(2, unit.arch.fetcher.query_slots)), "rise": weights_layout(unit)["rise"].shape}
    )


def line_control_layout(unit: EngineUnit) -> data.StructLayout:
    """What enters ``PV.line`` beside the values, which come from the V memory in the same cycle."""
    array = PvArray.of(unit.arch)
    return data.StructLayout(
        {
            "weights": data.ArrayLayout(WEIGHT_BITS, array.weights_per_line),
            "count": range(array.weights_per_line + 1),
            "row": row_layout(array),
        }
    )
