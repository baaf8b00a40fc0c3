"""Weights by name, held to the shapes that a network expects; readers of `.npz` and ONNX files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from accel.errors import UserError
from workloads.nets.readers import require


class NamedTensors:
    """Tensors of one weight file. `network` names the kind of network in messages ("a Mamba segmenter")."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray], network: str) -> None:
        self.path, self.network = path, network
        self._arrays = arrays

    def has(self, name: str) -> bool:
        """Is there a tensor of this name?"""
        return name in self._arrays

    def count(self, pattern: str, first: int = 0) -> int:
        """How many of `pattern.format(first)`, `pattern.format(first + 1)`, ... there are, without a gap."""
        found = 0
        while pattern.format(first + found) in self._arrays:
            found += 1
        return found

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Shape of a tensor with so many dimensions, e.g. to learn a network's sizes. UserError when it is not so."""
        shape = self._find(name).shape
        if len(shape) != dimensions:
            raise UserError(f"{self.path}: tensor {name!r} has shape {shape}, expected {dimensions} dimensions")
        return shape

    def number(self, name: str) -> int:
        """A single whole number, e.g. a count of heads. Raises UserError when it is missing or something else."""
        found = self._arrays.get(name)
        if found is None or found.dtype.kind not in "iu" or found.size != 1:
            raise UserError(f"{self.path}: number {name!r} is missing; {self.network} has it")
        return int(found.reshape(()))

    def take(self, name: str, *shape: int) -> np.ndarray:
        """A tensor of exactly this shape as contiguous float32. Raises UserError when it is missing or another."""
        found = self._find(name)
        if found.shape != shape:
            raise UserError(f"{self.path}: tensor {name!r} has shape {found.shape}, expected {shape}")
        return np.ascontiguousarray(found, dtype=np.float32)

    def _find(self, name: str) -> np.ndarray:
        found = self._arrays.get(name)
        if found is None:
            raise UserError(f"{self.path}: tensor {name!r} is missing; {self.network} has it")
        if found.dtype.kind != "f":
            raise UserError(f"{self.path}: tensor {name!r} holds {found.dtype}, expected floating-point numbers")
        return found


def read_npz(path: Path, network: str) -> NamedTensors:
    """All arrays of a NumPy archive; pickled objects are refused. Raises UserError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return NamedTensors(path, {name: archive[name] for name in archive.files}, network)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz archive ({error})") from error


def read_onnx(path: Path, network: str) -> NamedTensors:
    """The constant tensors of an ONNX graph, nothing of it is run and no other file is opened.

    Each one is found under its own name and, as exporters rename what they fold, under `NODE[INPUT]` for every node
    of the main graph that takes it. Raises UserError when the file is damaged.
    """
    library = require("onnx")
    damage = require("google.protobuf.message").DecodeError
    to_array = require("onnx.numpy_helper").to_array
    try:
        graph = library.load(str(path), load_external_data=False).graph
        arrays = {constant.name: to_array(constant) for constant in graph.initializer}
    except (OSError, ValueError, TypeError, damage) as error:
        raise UserError(f"{path}: not a readable ONNX file ({error})") from error
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in arrays:
                arrays[f"{node.name}[{place}]"] = arrays[name]
    return NamedTensors(path, arrays, network)
