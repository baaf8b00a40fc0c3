"""One lane of the decay: a score times two to the power of minus its distance."""

from amaranth.hdl import Module, Mux, Signal, Value, signed

from accel.units.modes import DECAY_WEIGHT_SHIFT, SIGNED_WEIGHT_BITS
from accel.units.softmax import SCORE_BITS, TABLE_BITS
from rtl.softmax.adders import compress, products
from rtl.softmax.stages import Stages

__all__ = ["GONE", "decayed"]

#: Shifted right by so much, a weight rounds to nothing.
GONE = SIGNED_WEIGHT_BITS
_PRODUCT_BITS = SCORE_BITS + TABLE_BITS  # signed, the mantissa being unsigned
_DROPPED = TABLE_BITS + DECAY_WEIGHT_SHIFT - 1  # product bits below the one that rounds, at shift 0


def decayed(m: Module, stages: Stages, score: Value, mantissa: Value, shift: Value, lane: int) -> Value:
    """``score * mantissa >> (TABLE_BITS + DECAY_WEIGHT_SHIFT + shift)``, half up, as a signed weight, saturated.

    Bits as of ``accel.numerics.decay.decay_weights``. A lane passes three stages: multiply, carries left open; resolve
    them; shift, round and saturate. The result is that of the last stage, before its register: two registers later
    than the arguments.

    score: signed. mantissa: ``TABLE_BITS``, unsigned. shift: unsigned, at most ``GONE``.
    """
    wide = Signal(signed(_PRODUCT_BITS), name=f"wide_score_{lane}")
    m.d.comb += wide.eq(score)
    parts = compress(m, products(m, wide, mantissa, _PRODUCT_BITS), _PRODUCT_BITS)
    bits, carries = (stages.after(part, f"decayed_{lane}_{i}") for i, part in enumerate(parts))
    product = stages.after((bits + carries)[_DROPPED:_PRODUCT_BITS], f"decayed_{lane}").as_signed()
    rounded = Signal(signed(len(product) + 1), name=f"decayed_rounded_{lane}")
    m.d.comb += rounded.eq(((product >> stages.delayed(shift, f"decayed_shift_{lane}", 2)) + 1) >> 1)
    top = (1 << (SIGNED_WEIGHT_BITS - 1)) - 1  # only just exceeded: a score at its least gives the least weight
    return Mux(rounded > top, top, rounded)[:SIGNED_WEIGHT_BITS]
