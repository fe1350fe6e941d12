"""Images and their truth, resized as a protocol says."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from fcn_trt.evaluation.protocol import Protocol
from fcn_trt.spec import Frame, LabelMap, Size, Spec
from fcn_trt.stages.preprocess import preprocess

__all__ = ["prepare", "prepare_truth"]


def prepare(frame: Frame, size: Size, protocol: Protocol, spec: Spec) -> npt.NDArray[np.float32]:
    """Prepare one image as the network takes it.

    Args:
        frame: (H, W, 3) uint8 BGR.
        size: (height, width) to resize it to, before it is padded.
        spec: Of the network, which says how pixels are normalised.

    Returns:
        (3, height, width) float32 RGB, normalised.
    """
    if protocol.kernel == "float":
        return _prepare_float(frame, size, spec)
    if protocol.kernel == "pillow" and frame.shape[:2] != size:
        picture = Image.fromarray(np.ascontiguousarray(frame[..., ::-1]))
        made = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        frame = np.ascontiguousarray(np.asarray(made)[..., ::-1])
    if protocol.pad is not None:
        frame = _padded(frame, protocol.pad)
        size = frame.shape[0], frame.shape[1]
    return preprocess(frame, size, mean=spec.mean, std=spec.std)


def prepare_truth(truth: LabelMap, size: Size, protocol: Protocol) -> LabelMap:
    """Prepare the truth at the size of comparison.

    Args:
        truth: (H, W) uint8 classes, 255 is left out.
        size: (height, width) of the network's input, without padding.
        protocol: Whether it is compared there, and which pixel is nearest.

    Returns:
        (height, width) uint8; the truth itself where it is compared at its own size.
    """
    if protocol.truth == "image" or truth.shape == size:
        return truth
    if protocol.truth_kernel == "centre":  # Pillow itself, which adds up its steps with rounding
        made = Image.fromarray(truth).resize((size[1], size[0]), Image.Resampling.NEAREST)
        return np.array(made)
    down, across = (
        np.arange(want) * have // want for have, want in zip(truth.shape, size, strict=True)
    )
    nearest: LabelMap = truth[down[:, None], across]
    return nearest


def _prepare_float(frame: Frame, size: Size, spec: Spec) -> npt.NDArray[np.float32]:
    image = frame.astype(np.float32)
    if frame.shape[:2] != size:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    mean, std = (np.array(values, dtype=np.float32) for values in (spec.mean, spec.std))
    return np.ascontiguousarray(((image[..., ::-1] - mean) / std).transpose(2, 0, 1))


def _padded(frame: Frame, least: Size) -> Frame:
    """Pad with black rows below and columns at the right, up to that size where it is smaller."""
    missing = [max(0, want - have) for have, want in zip(frame.shape, least, strict=False)]
    return np.pad(frame, [(0, missing[0]), (0, missing[1]), (0, 0)])
