"""Logits and sizes on which `decode` is tested, whoever computes it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

__all__ = ["ALIGNMENTS", "MAKERS", "SIZES", "draw_size", "noise", "smooth"]


def noise(classes, height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((classes, height, width), np.float32)


def smooth(classes, height, width, seed=0):
    """Logits that vary slowly and whose classes have their own places, as a network's have."""
    coarse = noise(classes, max(1, height // 8), max(1, width // 8), seed)
    planes = [cv2.resize(p, (width, height), interpolation=cv2.INTER_CUBIC) for p in coarse]
    return 8 * np.stack(planes).reshape(classes, height, width)


def draw_size(random):
    height, width = random.integers(1, 60, 2)
    return int(height), int(width)


ALIGNMENTS = pytest.mark.parametrize("align_corners", [False, True], ids=["edges", "corners"])
MAKERS = pytest.mark.parametrize("make", [noise, smooth])
SIZES = pytest.mark.parametrize(
    ("classes", "source", "size"),
    [
        (21, (32, 64), (256, 512)),
        (11, (13, 17), (97, 131)),
        (19, (9, 13), (65, 97)),
        (3, (1, 1), (5, 7)),
        (3, (1, 9), (40, 70)),
        (3, (9, 1), (70, 40)),
        (4, (5, 7), (1, 1)),
        (4, (40, 70), (11, 13)),
        (4, (40, 70), (80, 13)),
        (4, (8, 12), (8, 12)),
        (2, (30, 40), (1, 400)),
        (256, (4, 6), (33, 47)),
        (3, (4, 4), (700, 200)),
    ],
)
