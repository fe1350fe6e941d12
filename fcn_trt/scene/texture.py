"""Textures that repeat, made once from fixed random streams and shared by all streets."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

NEUTRAL = 128
"""Brightness factors are in units of 1/128."""
TILE_PX = 256
TILE_M = 8.0


@cache
def tile(name: str) -> npt.NDArray[np.uint8]:
    """A texture that repeats every TILE_PX pixels, or TILE_M metres.

    Args:
        name: "plaster", "brick", "asphalt" or "cloud".

    Returns:
        (TILE_PX, TILE_PX) uint8 around 128.
    """
    cells, amplitude = {
        "plaster": ((4, 16, 64), 20.0),
        "brick": ((8, 64, 128), 16.0),
        "asphalt": ((4, 32, 128), 22.0),
        "cloud": ((4, 8, 16, 32, 64), 60.0),
    }[name]
    rng = np.random.default_rng([len(cells), int(amplitude)])
    values = np.zeros((TILE_PX, TILE_PX))
    for octave, count in enumerate(cells):
        weight = 0.6**octave if name == "cloud" else 1.0
        values += weight * _noise(rng, count)
    values *= amplitude / values.std() * 0.6
    if name == "brick":
        values += _courses(rng)
    return np.clip(NEUTRAL + values, 40, 216).astype(np.uint8)


def _noise(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Smooth noise with count cells a side, the right edge joining the left."""
    cells = np.pad(rng.normal(size=(count, count)), 2, mode="wrap")
    scale = TILE_PX // count
    grown = cv2.resize(cells, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    inner = slice(2 * scale, 2 * scale + TILE_PX)
    smooth: npt.NDArray[np.float64] = np.asarray(grown[inner, inner], dtype=np.float64)
    return smooth


def _courses(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Brick courses: mortar joints, and bricks of slightly differing brightness."""
    rows, columns = np.indices((TILE_PX, TILE_PX))
    course = rows // 8
    brick = (columns + 8 * (course % 2)) % TILE_PX // 16
    values: npt.NDArray[np.float64] = rng.normal(scale=12.0, size=(TILE_PX // 8, TILE_PX // 16))[
        course, brick
    ]
    joint = (rows % 8 == 0) | ((columns + 8 * (course % 2)) % 16 == 0)
    return np.where(joint, 16.0, values)
