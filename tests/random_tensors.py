"""Seeded tensors of attend jobs, under the name by which the tests know them."""

from accel.verify.tensors import KINDS, PLANES, scaled, tensors_of, words

__all__ = ["KINDS", "PLANES", "scaled", "tensors_of", "words"]
