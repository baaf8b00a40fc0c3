"""Images for the vision network: seeded drawings that need no file, and the photographs of the catalogue."""

from pathlib import Path

import numpy as np

from accel.errors import UserError
from workloads.nets.readers import require
from workloads.nets.store import locate


def drawn_images(count: int, size: int = 224, seed: int = 0) -> list[np.ndarray]:
    """Soft coloured spots over a coloured slope with a little noise, float32 (size, size, 3) in 0 ... 1.

    The same seed, the same images; each has one large spot and a few small ones.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    return [_drawn(rng, y, x) for _ in range(count)]


def _drawn(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    slope = rng.uniform(-0.3, 0.3, (2, 3))
    image = rng.uniform(0.3, 0.7, 3) + y[..., None] * slope[0] + x[..., None] * slope[1]
    for radius in (0.15, *rng.uniform(0.02, 0.06, rng.integers(2, 6))):
        middle = rng.uniform(0.15, 0.85, 2)
        distance = np.hypot(y - middle[0], x - middle[1])
        cover = 1 / (1 + np.exp((distance - radius) * 200))
        image = image + cover[..., None] * (rng.uniform(0, 1, 3) - image)
    return np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1).astype(np.float32)


def photograph(name: str, size: int = 224, folder: Path | str | None = None) -> np.ndarray:
    """The middle square of `NAME.png` in the catalogue's `photographs`, averaged down to float32 (size, size, 3).

    Raises UserError for an unknown name, and when the photographs are not there (`accel models get photographs`).
    """
    place = locate("photographs", folder)
    path = place / f"{name}.png"
    if not path.is_file():
        raise UserError(
            f"photograph {name!r}: {place} has {', '.join(sorted(found.stem for found in place.glob('*.png')))}"
        )
    pillow = require("PIL.Image")
    try:
        with pillow.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize((size, size), pillow.Resampling.BOX, box=(left, top, left + side, top + side))
    return np.asarray(square, dtype=np.float32) / np.float32(255)
