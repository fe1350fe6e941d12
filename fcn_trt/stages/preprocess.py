"""A frame becomes the network's input."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import BGRX, FRAME, NV12
from fcn_trt.spec import Frame, Size

__all__ = ["bgrx_to_frame", "nv12_to_frame", "preprocess", "preprocess_into"]


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
    """Preprocess into memory that the caller owns, as `preprocess` does.

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
    FRAME.check(frame)
    height, width = tensor.shape[1:]
    if frame.shape[:2] != (height, width):
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    for channel, (m, s) in enumerate(zip(mean, std, strict=True)):
        # One multiply and one add per pixel, written straight into the plane.
        plane = cv2.extractChannel(frame, 2 - channel)
        np.multiply(plane, np.float32(1.0 / s), out=tensor[channel], dtype=np.float32)
        np.subtract(tensor[channel], np.float32(m / s), out=tensor[channel])


def bgrx_to_frame(bgrx: npt.NDArray[np.uint8]) -> Frame:
    """Drop the fourth byte of each pixel.

    Args:
        bgrx: (H, W, 4) uint8: B, G, R and a byte without meaning.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: bgrx has another shape or type.
    """
    BGRX.check(bgrx)
    frame: Frame = cv2.cvtColor(bgrx, cv2.COLOR_BGRA2BGR)
    return frame


def nv12_to_frame(nv12: npt.NDArray[np.uint8]) -> Frame:
    """Make a colour frame of what cameras and video decoders give.

    Args:
        nv12: (1.5 H, W) uint8, H and W even: H rows of luma, then H / 2 rows of U and V in turn,
            one pair for each 2x2 pixels. BT.601, limited range.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: nv12 has another shape or type.

    Source: ITU-R BT.601, in the fixed-point numbers of cv2.COLOR_YUV2BGR_NV12.
    """
    NV12.check(nv12)
    if nv12.shape[0] % 3 or nv12.shape[1] % 2:
        raise NV12.refusal(nv12)
    frame: Frame = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
    return frame
