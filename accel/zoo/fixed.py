"""Real tensors into the engine's words and its sums back out: what a lowering does around a golden kernel."""

import math

import numpy as np

from accel.numerics import decay
from accel.numerics.quantise import encode_scale, quantise, word_scale, words
from accel.numerics.softmax import Int, scale_scores
from accel.units.modes import STATE_BITS
from accel.units.softmax import SCALE_BITS, SCORE_FRACTION_BITS
from accel.zoo.exact import Real

LARGEST_OUTPUT = 32000
"""Output words the largest sum is scaled to: a little below 2^15."""
SMALLEST_STEP = 8.01
"""An output scale is below 1/8."""


def to_words(x: Real, bits: int = 12) -> tuple[Int, float]:
    """12-bit words of a tensor quantised to ``bits`` with one scale, and what one word unit is worth."""
    stored = quantise(x, bits)
    return words(stored.values, bits).astype(np.int64), float(word_scale(stored.scale, bits).item())


def to_real(sums: Int, unit: float) -> Real:
    """Sums through the output scaler, its scale from the largest of them, times what a unit is worth."""
    step = max(SMALLEST_STEP, float(np.abs(sums).max()) / LARGEST_OUTPUT)
    return decay.scale_output(sums, decay.output_scale(1 / step)) * (step * unit)


def exponent_scores(k: Real) -> Int:
    """Keys of an exponential as log2 scores, through 12-bit words."""
    found, unit = to_words(k)
    return scale_scores(found, *encode_scale(unit * math.log2(math.e) * (1 << SCORE_FRACTION_BITS), SCALE_BITS))


def scan_shift(peak: float) -> int:
    """Shift of a scan whose states reach ``peak`` units of x: twice that for 2^f, an eighth for rounding."""
    return max(0, math.ceil(math.log2(max(peak, 1) * 9 / 4)) - STATE_BITS)
