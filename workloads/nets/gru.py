"""A trained GRU pair: the grapheme-to-phoneme network of `g2p_en`, in NumPy float32, its steps left to a hook.

Architecture, as in the package's own NumPy code: one GRU reads the letters of a word and an end mark; a second one
starts from its last state and writes phonemes (ARPAbet with stress) until it writes an end mark, each time fed with the
one before. GRU as in K. Cho et al. 2014, in the form in which the reset gate acts behind the recurrent matrix.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from accel.errors import UserError
from workloads.nets.edit_distance import edit_distance
from workloads.nets.float_ops import sigmoid
from workloads.nets.store import locate
from workloads.nets.tensor_file import NamedTensors, read_npz

LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH"),
    *("V", "W", "Y", "Z", "ZH"),
)
# In the order of the network's outputs: alphabetical, vowels with stress 0, 1, 2, and one UW without any.
PHONEMES = (
    *("<pad>", "<unk>", "<s>", "</s>"),
    *sorted([*_CONSONANTS, "UW", *(f"{vowel}{stress}" for vowel in _VOWELS for stress in range(3))]),
)
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")
# The package stops here when no end mark comes.
MOST_PHONEMES = 20


class GruWeights(NamedTuple):
    """Float32; the rows are those of the reset gate, the update gate and the candidate, in this order."""

    input: np.ndarray  # (3 h, n)
    recurrent: np.ndarray  # (3 h, h)
    input_bias: np.ndarray  # (3 h,)
    recurrent_bias: np.ndarray  # (3 h,)


class GruCall(NamedTuple):
    """One step: a = input x + input_bias and b = recurrent h + recurrent_bias, cut in three parts each;
    r = sigmoid(a0 + b0), z = sigmoid(a1 + b1), n = tanh(a2 + r b2). The answer is h' = (1 - z) n + z h.

    Step 0 of "encoder" begins a new word with h = 0, step 0 of "decoder" goes on from the encoder's last state.
    """

    part: Literal["encoder", "decoder"]
    step: int
    x: np.ndarray  # float32 (n,)
    h: np.ndarray  # (h,)
    weights: GruWeights


class GruStep(Protocol):
    """What a machine has to implement to be put in place of the float step: h', float32 (h,)."""

    def __call__(self, call: GruCall) -> np.ndarray: ...


def gru_gates(call: GruCall) -> tuple[np.ndarray, np.ndarray]:
    """The matrix products of a step: a and b, float32 (3 h,) each."""
    weights = call.weights
    return weights.input @ call.x + weights.input_bias, weights.recurrent @ call.h + weights.recurrent_bias


def gru_update(a: np.ndarray, b: np.ndarray, h: np.ndarray) -> np.ndarray:
    """h' from a, b (3 h,) and h (h,): what is elementwise in a step."""
    (reset_a, update_a, new_a), (reset_b, update_b, new_b) = np.split(a, 3), np.split(b, 3)
    update = sigmoid(update_a + update_b)
    candidate = np.tanh(new_a + sigmoid(reset_a + reset_b) * new_b)
    return (1 - update) * candidate + update * h


def float_gru_step(call: GruCall) -> np.ndarray:
    """A step in float32; the meaning of `step=None`."""
    return gru_update(*gru_gates(call), call.h)


class Pronouncer:
    """The network over `tensors`, which has the package's names.

    Attributes: hidden, encoder and decoder (their weights). Raises UserError when a tensor is missing or another.
    """

    def __init__(self, tensors: NamedTensors) -> None:
        self.hidden = tensors.shape("enc_w_hh", 2)[1]
        width = tensors.shape("enc_emb", 2)[1]
        self._letters = tensors.take("enc_emb", len(LETTERS), width)
        self._phonemes = tensors.take("dec_emb", len(PHONEMES), width)
        self.encoder, self.decoder = (self._read_gru(tensors, part, width) for part in ("enc", "dec"))
        self._head = tensors.take("fc_w", len(PHONEMES), self.hidden), tensors.take("fc_b", len(PHONEMES))

    @classmethod
    def read(cls, folder: Path) -> "Pronouncer":
        """From `checkpoint20.npz` in a folder. Raises UserError."""
        return cls(read_npz(Path(folder) / "checkpoint20.npz", "the g2p_en network"))

    def _read_gru(self, tensors: NamedTensors, part: str, width: int) -> GruWeights:
        rows = 3 * self.hidden
        return GruWeights(
            input=tensors.take(f"{part}_w_ih", rows, width),
            recurrent=tensors.take(f"{part}_w_hh", rows, self.hidden),
            input_bias=tensors.take(f"{part}_b_ih", rows),
            recurrent_bias=tensors.take(f"{part}_b_hh", rows),
        )

    def encode(self, word: str, step: GruStep | None = None) -> np.ndarray:
        """State after the letters of a word and the end mark, float32 (h,).

        Letters but a ... z count as unknown. Raises UserError for an empty word, ValueError for a hook's fault.
        """
        if not word:
            raise UserError("pronunciation: expected a word of at least one letter")
        h = np.zeros(self.hidden, np.float32)
        for place, letter in enumerate((*word.lower(), "</s>")):
            x = self._letters[LETTERS.index(letter if letter in LETTERS else "<unk>")]
            h = _checked(step, GruCall("encoder", place, x, h, self.encoder))
        return h

    def logits(self, word: str, phonemes: Sequence[str], step: GruStep | None = None) -> np.ndarray:
        """Logits of the first phoneme and of what follows each of the given ones, float32 (1 + given, phonemes)."""
        h = self.encode(word, step)
        out = []
        for place, phoneme in enumerate(("<s>", *phonemes)):
            h, row = self._write(h, _index(phoneme), place, step)
            out.append(row)
        return np.stack(out)

    def pronounce(self, word: str, step: GruStep | None = None) -> list[str]:
        """The phonemes of a word, each the most likely behind the one before; at most `MOST_PHONEMES`."""
        h, last = self.encode(word, step), START
        found: list[str] = []
        for place in range(MOST_PHONEMES):
            h, row = self._write(h, last, place, step)
            last = int(row.argmax())
            if last == END:
                break
            found.append(PHONEMES[last])
        return found

    def _write(self, h: np.ndarray, last: int, place: int, step: GruStep | None) -> tuple[np.ndarray, np.ndarray]:
        """The decoder's next state and its logits."""
        h = _checked(step, GruCall("decoder", place, self._phonemes[last], h, self.decoder))
        return h, self._head[0] @ h + self._head[1]


def record(net: Pronouncer, words: Sequence[str], step: GruStep | None = None) -> list[GruCall]:
    """The steps over some words: per word those of the encoder, then those of the decoder."""
    calls: list[GruCall] = []

    def keep(call: GruCall) -> np.ndarray:
        calls.append(call._replace(x=call.x.copy(), h=call.h.copy()))
        return float_gru_step(call) if step is None else step(call)

    for word in words:
        net.pronounce(word, keep)
    return calls


class PronunciationQuality(NamedTuple):
    """The hook against the float step over the same words.

    `phoneme_error_rate`: edits between both pronunciations per phoneme of the float one. `word_agreement`: share of
    words pronounced the same. `top1_agreement`, `mean_abs_dlogit`: the float pronunciation is fed to both decoders;
    share of phonemes with the same most likely successor, and difference of the logits, each row brought to mean 0.
    Where the right pronunciation is known: edits per phoneme of it.
    """

    phoneme_error_rate: float
    word_agreement: float
    top1_agreement: float
    mean_abs_dlogit: float
    words: int
    known_error_rate: float | None
    float_known_error_rate: float | None


def compare_pronunciation(
    net: Pronouncer, words: Sequence[str], step: GruStep, known: Mapping[str, Sequence[str]] | None = None
) -> PronunciationQuality:
    """Pronounce every word with the float step and with `step`; `known` are the right pronunciations, of all words.

    Raises UserError when there is no word, or one without a known pronunciation.
    """
    if not words:
        raise UserError("pronunciation quality: expected at least one word")
    missing = [word for word in words if known is not None and word not in known]
    if missing:
        raise UserError(f"pronunciation quality: no known pronunciation of {missing[0]!r}")
    edits, phonemes, same, equal, rows, difference = 0, 0, 0, 0, 0, 0.0
    right_edits, float_right_edits, right_phonemes = 0, 0, 0
    for word in words:
        own, other = net.pronounce(word), net.pronounce(word, step)
        edits += edit_distance(own, other)
        phonemes += len(own)
        same += own == other
        dense, changed = net.logits(word, own), net.logits(word, own, step)
        equal += int((dense.argmax(axis=1) == changed.argmax(axis=1)).sum())
        rows += len(dense)
        gap = changed - dense
        gap -= gap.mean(axis=1, keepdims=True)
        difference += float(np.abs(gap).mean(axis=1, dtype=np.float64).sum())
        if known is not None:
            right_edits += edit_distance(known[word], other)
            float_right_edits += edit_distance(known[word], own)
            right_phonemes += len(known[word])
    return PronunciationQuality(
        phoneme_error_rate=edits / max(phonemes, 1),
        word_agreement=same / len(words),
        top1_agreement=equal / rows,
        mean_abs_dlogit=difference / rows,
        words=len(words),
        known_error_rate=right_edits / right_phonemes if known else None,
        float_known_error_rate=float_right_edits / right_phonemes if known else None,
    )


def dictionary(folder: Path | str | None = None) -> dict[str, list[str]]:
    """The first pronunciation of each word of letters a ... z in the catalogue's `cmudict`, in its order.

    Raises UserError when it is not there (`accel models get cmudict`).
    """
    path = locate("cmudict", folder) / "cmudict.dict"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    # A line is a word, its phonemes and perhaps a remark; further pronunciations are called word(2) and so on.
    entries = (line.partition("#")[0].split() for line in lines)
    return {fields[0]: fields[1:] for fields in entries if fields and fields[0].isascii() and fields[0].isalpha()}


def _index(phoneme: str) -> int:
    if phoneme not in PHONEMES:
        raise UserError(f"phoneme {phoneme!r}: not one of the network's (ARPAbet, vowels with stress 0, 1 or 2)")
    return PHONEMES.index(phoneme)


def _checked(step: GruStep | None, call: GruCall) -> np.ndarray:
    """Run the hook on one step and hold it to its contract."""
    h = np.asarray(float_gru_step(call) if step is None else step(call), dtype=np.float32)
    if h.shape != call.h.shape:
        raise ValueError(f"gru hook, {call.part} step {call.step}: returned {h.shape}, expected {call.h.shape}")
    return h
