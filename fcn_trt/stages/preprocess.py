"""A frame becomes the network's input."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.spec import Frame, Size

__all__ = ["check_frame", "preprocess", "preprocess_into"]


def check_frame(frame: Frame) -> None:
    """Refuse what is not a colour frame.

    Raises:
        ValueError: the frame is not (H, W, 3) uint8.
    """
    array = np.asarray(frame)  # None, which cv2.imread gives for a missing file, has no dtype
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(
            f"a frame is (height, width, 3) uint8 BGR, but this one is {array.shape} {array.dtype}"
        )


def preprocess(
    frame: Frame,
    size: Size,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> npt.NDArray[np.float32]:
    """Resize, reorder and normalise one frame.

    Args:
        frame: (H, W, 3) uint8 BGR.
        size: (height, width) of the network's input.
        mean: Per channel R, G, B, on pixels of 0 to 255.
        std: Per channel R, G, B, on pixels of 0 to 255.

    Returns:
        (3, height, width) float32 RGB, (pixel - mean) / std.

    Raises:
        ValueError: the frame has another shape or type.
    """
    tensor = np.empty((3, *size), dtype=np.float32)
    preprocess_into(tensor, frame, mean=mean, std=std)
    return tensor


def preprocess_into(
    tensor: npt.NDArray[np.float32],
    frame: Frame,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    """`preprocess` into memory that the caller owns.

    The frame is resized while it is still uint8, as cv2.resize and mmcv do, because rounding to
    whole grey levels there is what the published checkpoints were evaluated with.

    Args:
        tensor: (3, height, width) float32, contiguous; overwritten.
        frame: (H, W, 3) uint8 BGR.
        mean: Per channel R, G, B, on pixels of 0 to 255.
        std: Per channel R, G, B, on pixels of 0 to 255.

    Raises:
        ValueError: the frame has another shape or type.

    Source: mmcv.imresize (bilinear, half-pixel) and mmseg SegDataPreProcessor.
    """
    check_frame(frame)
    height, width = tensor.shape[1:]
    if frame.shape[:2] != (height, width):
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        # One multiply and one add per pixel, written straight into the plane.
        plane = cv2.extractChannel(frame, 2 - channel)
        np.multiply(plane, np.float32(1.0 / s), out=tensor[channel], dtype=np.float32)
        np.subtract(tensor[channel], np.float32(m / s), out=tensor[channel])
