"""Weight and tokenizer files -> arrays. The format libraries are an optional extra, imported on first use."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from accel.errors import UserError

# GGUF token types that stand for themselves in text, never the result of merging (llama.cpp: CONTROL, USER_DEFINED).
_GGUF_CONTROL_TOKENS = (3, 4)


def require(module: str) -> ModuleType:
    """Import a library of the `nets` extra; UserError that names the extra when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = module.partition(".")[0]
        raise UserError(
            f"Python package {wanted!r} is missing ({error}): pip install 'accel-codesign[nets]'"
        ) from error


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, floating-point ones as float32. Raises UserError when it is damaged."""
    library = require("safetensors")
    numpy_api = require("safetensors.numpy")
    try:
        tensors = numpy_api.load_file(path)
    except (library.SafetensorError, OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    return {
        name: np.ascontiguousarray(array, dtype=np.float32) if array.dtype.kind == "f" else array
        for name, array in tensors.items()
    }


def read_tokenizer(path: Path) -> Any:
    """A `tokenizers.Tokenizer` from tokenizer.json, its padding and truncation off. Raises UserError when damaged."""
    library = require("tokenizers")
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every fault
        raise UserError(f"{path}: not a readable tokenizer file ({error})") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Gguf:
    """A GGUF file: `field(key)` for its metadata, `tensor(name)` for a tensor turned into float32.

    Raises UserError when the file is damaged, or when it lacks what is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = require("gguf")
        try:
            reader = self._library.GGUFReader(path)
        except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
            raise UserError(f"{path}: not a readable GGUF file, perhaps cut short ({error})") from error
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}

    def field(self, key: str, default: Any = None) -> Any:
        """Value of a metadata key as a Python number, string or list. Without a default the key has to exist."""
        field = self._fields.get(key)
        if field is not None:
            return field.contents()
        if default is None:
            raise UserError(f"{self.path}: metadata key {key!r} is missing; a Llama-type GGUF file has it")
        return default

    def has(self, name: str) -> bool:
        """Is there a tensor of this name?"""
        return name in self._tensors

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor as float32 of the given shape (row-major, outputs first), dequantised if need be."""
        stored = self._tensors.get(name)
        if stored is None:
            raise UserError(f"{self.path}: tensor {name!r} is missing; a Llama-type GGUF file has it")
        try:
            array = self._library.dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as error:
            raise UserError(f"{self.path}: tensor {name!r} has an unsupported type ({error})") from error
        if array.shape != shape:
            raise UserError(f"{self.path}: tensor {name!r} has shape {array.shape}, expected {shape}")
        return np.ascontiguousarray(array, dtype=np.float32)


def gguf_bpe_tokenizer(gguf: Gguf) -> Any:
    """The byte-level BPE tokenizer inside a GGUF file as a `tokenizers.Tokenizer`.

    Knows the pre-tokenisers `gpt-2` and `smollm` (the same, with every digit on its own). UserError for any other.
    """
    library = require("tokenizers")
    kind, split = gguf.field("tokenizer.ggml.model"), gguf.field("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or split not in ("gpt-2", "smollm"):
        raise UserError(f"{gguf.path}: tokenizer {kind}/{split} is not supported; gpt2/gpt-2 and gpt2/smollm are")
    tokens: Sequence[str] = gguf.field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in gguf.field("tokenizer.ggml.merges")]
    try:
        model = library.models.BPE({token: place for place, token in enumerate(tokens)}, merges)
    except Exception as error:  # the library raises bare Exception for every fault
        raise UserError(f"{gguf.path}: the tokenizer's vocabulary and merges do not fit together ({error})") from error
    tokenizer = library.Tokenizer(model)
    byte_level = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if split == "smollm":
        digits = library.pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([digits, byte_level])
    else:
        tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = library.decoders.ByteLevel()
    types = gguf.field("tokenizer.ggml.token_type", [1] * len(tokens))
    tokenizer.add_special_tokens(
        [token for token, kind in zip(tokens, types, strict=True) if kind in _GGUF_CONTROL_TOKENS]
    )
    return tokenizer


def check_ids(ids: Sequence[int], vocabulary: int, longest: int, network: str) -> np.ndarray:
    """Token ids as int64 (T,). Raises UserError for none, too many (> `longest`), or ids outside the vocabulary."""
    array = np.asarray(ids, dtype=np.int64)
    if array.ndim != 1 or array.size == 0:
        raise UserError(f"{network}: expected a sequence of at least one token id")
    if array.size > longest:
        raise UserError(f"{network}: {array.size} tokens, but this network takes at most {longest}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= vocabulary:
        raise UserError(
            f"{network}: token id {low if low < 0 else high} is outside the vocabulary 0 .. {vocabulary - 1}"
        )
    return array
