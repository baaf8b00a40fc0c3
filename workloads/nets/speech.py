"""Sound for the speech networks: the catalogue's telephone conversation, and a seeded hum that needs no file."""

import wave
from pathlib import Path

import numpy as np

from accel.errors import UserError
from workloads.nets.store import locate

SAMPLE_HZ = 16000


def read_wave(path: Path | str) -> np.ndarray:
    """A WAV file as float32 (samples,) in -1 ... 1. It has to be 16-bit PCM, one channel, 16 kHz; UserError if not."""
    try:
        with wave.open(str(path)) as file:
            found = (file.getsampwidth(), file.getnchannels(), file.getframerate())
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise UserError(f"{path}: not a readable WAV file ({error})") from error
    if found != (2, 1, SAMPLE_HZ):
        raise UserError(
            f"{path}: {found[0] * 8} bits, {found[1]} channels, {found[2]} Hz; expected 16 bits, 1 channel, 16000 Hz"
        )
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def telephone(folder: Path | str | None = None) -> np.ndarray:
    """30 s of conversation, float32 (480000,). Raises UserError if not there (`accel models get telephone`)."""
    return read_wave(locate("telephone", folder) / "sample.wav")


def telephone_words(folder: Path | str | None = None) -> str:
    """What is said in `telephone`, as its transcript (NIST's STM: file, channel, speaker, begin, end, words) has it."""
    lines = _lines(locate("telephone", folder) / "sample.stm")
    return " ".join(" ".join(fields[5:]) for fields in lines)


def telephone_speaking(step_samples: int, folder: Path | str | None = None) -> np.ndarray:
    """Is anybody speaking in the middle of each step of `telephone`? Bool (steps,), from its RTTM file.

    RTTM: type, file, channel, begin and length in seconds, ...; what is left of the last step counts as one.
    """
    path = locate("telephone", folder) / "sample.rttm"
    steps = -(-len(telephone(folder)) // step_samples)
    middles = (np.arange(steps) + 0.5) * step_samples / SAMPLE_HZ
    speaking = np.zeros(steps, dtype=bool)
    for fields in _lines(path):
        begin, length = float(fields[3]), float(fields[4])
        speaking |= (begin <= middles) & (middles < begin + length)
    return speaking


def hum(seconds: float, seed: int = 0) -> np.ndarray:
    """A voice-like sound, float32 (samples,): bursts of harmonics with moving formants, with silence between them.

    Random pitch and vowels; nothing is said. The same seed, the same sound.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_HZ)
    sound = rng.normal(0, 1e-3, samples)
    place = 0
    while place < samples:
        place += int(rng.uniform(0.1, 0.5) * SAMPLE_HZ)
        burst = _vowel(rng, int(rng.uniform(0.15, 0.6) * SAMPLE_HZ))[: max(samples - place, 0)]
        sound[place : place + len(burst)] += burst
        place += len(burst)
    return np.clip(sound, -1, 1).astype(np.float32)


def _vowel(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Harmonics of a falling pitch under two formants that move, with soft ends."""
    time = np.linspace(0, 1, samples)
    pitch_Hz = rng.uniform(90, 220) * (1 - 0.15 * time)
    phase = 2 * np.pi * np.cumsum(pitch_Hz) / SAMPLE_HZ
    formants = [rng.uniform(*reach) + (rng.uniform(*reach) - rng.uniform(*reach)) * time for reach in _FORMANTS_Hz]
    sound = np.zeros(samples)
    for harmonic in range(1, 30):
        heard = sum(1 / (1 + ((harmonic * pitch_Hz - formant) / 120) ** 2) for formant in formants)
        sound += heard * np.sin(harmonic * phase)
    return 0.08 * sound * np.sin(np.pi * time) ** 0.5


# Where the first and second formants of English vowels lie (G. Peterson, H. Barney 1952, rounded).
_FORMANTS_Hz = ((300, 750), (850, 2300))


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
