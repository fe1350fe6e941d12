"""A label map is painted onto its frame."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import FRAME, LABEL_MAP
from fcn_trt.spec import NO_LABEL, Frame, LabelMap

__all__ = ["colour", "overlay"]

DEFAULT_OPACITY = 0.5


def colour(label_map: LabelMap, palette: npt.NDArray[np.uint8]) -> Frame:
    """Paint a label map in its classes' colours.

    Args:
        label_map: (H, W) uint8; 255 ("no label") is black.
        palette: (C, 3) uint8 BGR.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: label_map has another shape or type.
    """
    LABEL_MAP.check(label_map)
    table = np.zeros((256, 1, 3), dtype=np.uint8)
    table[: len(palette), 0] = palette
    table[NO_LABEL] = 0
    painted: Frame = cv2.LUT(cv2.merge([label_map] * 3), table)
    return painted


def overlay(
    frame: Frame,
    label_map: LabelMap,
    palette: npt.NDArray[np.uint8],
    *,
    opacity: float = DEFAULT_OPACITY,
) -> Frame:
    """Blend a label map's colours over its frame.

    Args:
        frame: (H, W, 3) uint8 BGR.
        label_map: (H, W) uint8; pixels of 255 ("no label") show the frame darkened.
        palette: (C, 3) uint8 BGR.
        opacity: Share of the colour, between 0 and 1.

    Returns:
        (H, W, 3) uint8 BGR: (1 - opacity) x frame + opacity x colour, rounded.

    Raises:
        ValueError: an array has another shape or type, or opacity is not between 0 and 1.
    """
    FRAME.check(frame)
    LABEL_MAP.check(label_map)
    if frame.shape[:2] != label_map.shape:
        raise ValueError(f"the frame is {frame.shape[:2]} but the label map is {label_map.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity} is not between 0 and 1")
    blended: Frame = cv2.addWeighted(frame, 1 - opacity, colour(label_map, palette), opacity, 0)
    return blended
