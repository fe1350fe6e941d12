"""Whole images, overlapping windows, several scales, mirrored: what a protocol makes of a network.

Nothing here knows what the network runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.prepare import prepare
from fcn_trt.evaluation.protocol import Protocol, Slide, scaled
from fcn_trt.evaluation.resize import (
    Cropped,
    Flipped,
    Known,
    MeanOfSoftmax,
    MeanOfWindows,
    Planes,
    resized,
)
from fcn_trt.spec import Frame, Logits, Size, Spec

__all__ = ["WINDOWS_AT_ONCE", "Network", "infer", "slide", "whole"]

Image: TypeAlias = npt.NDArray[np.float32]

Network: TypeAlias = Callable[[npt.NDArray[np.float32]], Logits]
"""(N, 3, H, W) float32, normalised, to (N, C, h, w) before softmax; `Segmenter.network` is one."""

MAX_PIXELS = 1 << 26
"""Of an image: 40 times Cityscapes' whole ones, and 0.8 GB as the network takes it."""

WINDOWS_AT_ONCE = 4
"""Windows in one call of the network, unless its engine is for more: each costs memory there."""


def infer(network: Network, frame: Frame, protocol: Protocol, spec: Spec) -> Planes:
    """Compute the planes that decide each pixel of an image.

    Args:
        frame: (H, W, 3) uint8 BGR.

    Returns:
        Logits of the size of comparison; of several views, the mean of their softmax.

    Raises:
        EngineError: the engine does not take images of the size that the protocol gives them.
        DatasetError: that size is beyond all measure, as of an image that is long and thin.
    """
    size = frame.shape[0], frame.shape[1]
    base = protocol.base_size(size, spec.input_size)
    target = size if protocol.truth == "image" else base
    views: list[Planes] = []
    for factor in protocol.scales:
        inner = scaled(base, factor)
        _check_size(size, inner, protocol)
        image = prepare(frame, inner, protocol, spec)
        views += [
            _view(network, image, protocol, spec, inner, target, mirrored=mirrored)
            for mirrored in ((False, True) if protocol.flip else (False,))
        ]
    return views[0] if len(views) == 1 else MeanOfSoftmax(tuple(views))


def _check_size(frame: Size, inner: Size, protocol: Protocol) -> None:
    if inner[0] * inner[1] > MAX_PIXELS:
        raise DatasetError(
            f"an image of {frame[0]}x{frame[1]} would be computed at {inner[0]}x{inner[1]} by the "
            f"protocol {protocol.name}, which is more than {MAX_PIXELS // 10**6} megapixels; use "
            "--protocol run, or leave the image out"
        )


def whole(
    network: Network, image: Image, *, size: Size | None = None, align_corners: bool
) -> Planes:
    """Compute the logits of a whole image.

    Args:
        image: (3, H, W) float32 RGB, normalised.
        size: (height, width) of the logits; None is that of the image.
        align_corners: How they are interpolated.

    Source: mmseg 1.2.2 models/segmentors/encoder_decoder.py, `whole_inference`.
    """
    logits = _float(network(np.ascontiguousarray(image)[None])[0])
    target = (image.shape[1], image.shape[2]) if size is None else size
    return resized(Known(logits), target, align_corners=align_corners)


def slide(
    network: Network,
    image: Image,
    how: Slide,
    *,
    align_corners: bool,
    at_once: int = WINDOWS_AT_ONCE,
) -> Planes:
    """Compute the mean logits of windows that overlap.

    The last window of a row or column is moved back into the image, so that all have one size. An
    image that is smaller than a window is computed as it is.

    Args:
        image: (3, H, W) float32 RGB, normalised.
        align_corners: How logits are interpolated to a window's size.
        at_once: Windows in one call of the network.

    Returns:
        Logits of the image's size: before softmax, divided by the number of windows at a pixel.

    Source: mmseg 1.2.2 models/segmentors/encoder_decoder.py, `slide_inference`.
    """
    size = image.shape[1], image.shape[2]
    tops, lefts = (_starts(*sides) for sides in zip(size, how.crop, how.stride, strict=True))
    corners = [(top, left) for top in tops for left in lefts]
    height, width = (min(sides) for sides in zip(how.crop, size, strict=True))
    windows: list[tuple[tuple[int, int], Planes]] = []
    for first in range(0, len(corners), at_once):
        some = corners[first : first + at_once]
        crops = [image[:, top : top + height, left : left + width] for top, left in some]
        for corner, logits in zip(some, network(np.stack(crops)), strict=True):
            planes = resized(Known(_float(logits)), (height, width), align_corners=align_corners)
            windows.append((corner, planes))
    return MeanOfWindows(tuple(windows), size)


def _view(
    network: Network,
    image: Image,
    protocol: Protocol,
    spec: Spec,
    inner: Size,
    target: Size,
    *,
    mirrored: bool,
) -> Planes:
    """Compute the logits of one scale, mirrored back, at the size of comparison."""
    corners = protocol.align_corners
    seen = image[..., ::-1] if mirrored else image
    if protocol.slide is not None:
        at_once = max(WINDOWS_AT_ONCE, spec.batch)
        planes = slide(network, seen, protocol.slide, align_corners=corners, at_once=at_once)
    else:
        direct = target if protocol.logits == "direct" else None
        planes = whole(network, seen, size=direct, align_corners=corners)
    if mirrored:
        planes = Flipped(planes)
    if protocol.pad is not None:
        planes = Cropped(planes, inner)
    return resized(planes, target, align_corners=corners)


def _starts(length: int, crop: int, stride: int) -> list[int]:
    """Compute where windows begin along one direction."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, length - crop), 0) for index in range(count)]


def _float(logits: Logits) -> npt.NDArray[np.float32]:
    return np.asarray(logits, dtype=np.float32)
