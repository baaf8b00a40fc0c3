"""Symmetric linear quantisation, MSB and LSB planes, and the 12-bit words they become on chip.

A number is stored as a two's complement integer of ``msb_bits + lsb_bits``; the MSB plane is its upper part, the LSB
plane its (unsigned) lower part, and each plane is contiguous in memory so that it can be read alone. Reading only the
MSB plane floors the number. The floor costs every key the same mean offset, ``-sum(q) * 2^(lsb_bits - 1)``, which
softmax cancels, so no midpoint is added back.

On chip every number is a signed 12-bit word, aligned to the *left*: one more plane then only fills in lower bits, and
the scale does not change between the first and the second pass. Planes 4+4, 6+4 and 8+4 fit. 10+4 has two bits more
than the word: the second pass fills two and drops two. With 12+4 the second pass could not change the word at all, so
it is refused.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import UserError

WORD_BITS = 12
PLANES = ((4, 4), (6, 4), (8, 4), (10, 4))
Granularity = Literal["tensor", "head", "channel"]


@dataclass(frozen=True)
class Quantised:
    """``values`` (int16, the tensor's shape) times ``scale`` (float64, broadcasts against it) approximates the
    tensor.
    """

    values: NDArray[np.int16]
    scale: NDArray[np.float64]
    bits: int

    def dequantise(self) -> NDArray[np.float64]:
        return self.values * self.scale


def quantise(x: ArrayLike, bits: int, per: Granularity = "tensor") -> Quantised:
    """Symmetric linear quantisation to ``bits`` with one scale per tensor, per head or per channel.

    Args:
        x: real tensor of shape (heads, tokens, channels); any shape for ``per="tensor"``.
        bits: 2 to 16; integers reach from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        per: ``head`` shares a scale over tokens and channels of one head, ``channel`` over the tokens of one channel.

    Raises:
        UserError: ``bits`` out of range, a tensor that is not three-dimensional, or a value that is not finite.
    """
    x = np.asarray(x, np.float64)
    if not 2 <= bits <= 16:
        raise UserError(f"quantise: bits = {bits}: must be 2 to 16")
    if not np.isfinite(x).all():
        raise UserError("quantise: the tensor holds a value that is not finite")
    if per != "tensor" and x.ndim != 3:
        raise UserError(f"quantise: per {per} needs (heads, tokens, channels), not shape {x.shape}")
    axes = {"tensor": None, "head": (1, 2), "channel": (1,)}[per]
    top = (1 << (bits - 1)) - 1
    largest = np.abs(x).max(axis=axes, keepdims=True, initial=0.0)
    scale = np.where(largest > 0, largest / top, 1.0)
    return Quantised(np.rint(x / scale).astype(np.int16), scale, bits)


def split_planes(values: ArrayLike, lsb_bits: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Upper (signed) and lower (unsigned, ``lsb_bits`` wide) plane of integers; ``(msb << lsb_bits) | lsb`` restores
    them.
    """
    values = np.asarray(values, np.int16)
    return values >> lsb_bits, values & ((1 << lsb_bits) - 1)


def merge_planes(msb: ArrayLike, lsb: ArrayLike, lsb_bits: int) -> NDArray[np.int16]:
    """Inverse of :func:`split_planes`."""
    return (np.asarray(msb, np.int16) << lsb_bits) | np.asarray(lsb, np.int16)


def words(values: ArrayLike, bits: int, lsb_bits: int = 0, *, msb_only: bool = False) -> NDArray[np.int16]:
    """The signed 12-bit on-chip words of stored integers of ``bits`` = MSB plus LSB plane.

    Args:
        values: stored integers.
        bits: their full width, both planes.
        lsb_bits: width of the LSB plane.
        msb_only: the word as it is after the first pass, with the LSB plane still absent.
    """
    values = np.asarray(values, np.int16)
    if msb_only:
        values = (values >> lsb_bits) << lsb_bits
    return values << (WORD_BITS - bits) if bits <= WORD_BITS else values >> (bits - WORD_BITS)


def word_scale(scale: ArrayLike, bits: int) -> NDArray[np.float64]:
    """Scale of the on-chip words of integers with ``scale``."""
    return np.asarray(scale, np.float64) * 2.0 ** (bits - WORD_BITS)


def check_planes(msb_bits: int, lsb_bits: int) -> None:
    """Refuse widths the datapath cannot serve.

    Raises:
        UserError: anything but one plane of 4, 6, 8, 10 or 12 bit, or 4+4, 6+4, 8+4, 10+4.
    """
    if lsb_bits == 0 and msb_bits in (4, 6, 8, 10, 12):
        return
    if (msb_bits, lsb_bits) in PLANES:
        return
    if (msb_bits, lsb_bits) == (12, 4):
        raise UserError("planes 12+4: the LSB plane cannot change a 12-bit word; use 12 without one, or 8+4")
    raise UserError(f"planes {msb_bits}+{lsb_bits}: must be 4, 6, 8, 10 or 12 bit alone, or 4+4, 6+4, 8+4, 10+4")


def encode_scale(value: float, mantissa_bits: int) -> tuple[int, int]:
    """A positive real number as ``mantissa * 2^-shift`` with the mantissa's top bit set; the form a descriptor carries.

    Raises:
        UserError: not positive and finite, or so large or small that the shift would leave 1 to 62.
    """
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"scale {value}: must be positive and finite")
    fraction, exponent = math.frexp(value)
    mantissa = round(fraction * (1 << mantissa_bits))
    shift = mantissa_bits - exponent
    if mantissa == 1 << mantissa_bits:
        mantissa, shift = mantissa >> 1, shift - 1
    if shift > 62:
        return 0, 1
    if shift < 1:
        raise UserError(f"scale {value}: larger than the datapath's largest, {(1 << mantissa_bits) - 1}/2")
    return mantissa, shift
