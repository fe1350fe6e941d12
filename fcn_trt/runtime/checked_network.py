"""A network of ours on the CPU as its steps leave it, and what a source may do otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fcn_trt.engine.openvino.builder import compile_check, openvino_errors
from fcn_trt.network.reference import Reference
from fcn_trt.spec import Frame, LabelMap, Logits, Size, Spec
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

__all__ = ["CheckedNetwork", "likeliest_difference"]


class CheckedNetwork:
    """A typed network on the CPU, one frame after the other.

    Args:
        data: Bytes of the ONNX file.
        spec: Its own.
        label_size: (height, width) of label maps in pixels; None is that of each frame.

    Raises:
        EngineError: OpenVINO cannot compile it.
    """

    def __init__(self, data: bytes, spec: Spec, *, label_size: Size | None = None) -> None:
        self.spec = spec
        self.label_size = label_size
        with openvino_errors("make an inference request"):
            self._request: Any = compile_check(data, spec).create_infer_request()

    def label(self, frame: Frame) -> LabelMap:
        """Label a frame, (H, W, 3) uint8 BGR, as the runtime does."""
        return self._decode(self._logits(frame), frame)

    def _logits(self, frame: Frame, numbers: Any = None, *, is_swapped: bool = False) -> Logits:
        mean, std = numbers or (self.spec.mean, self.spec.std)
        image = preprocess(frame, self.spec.input_size, mean=mean, std=std)
        if is_swapped:
            image = image[::-1]
        with openvino_errors("run the network"):
            logits: Logits = self._request.infer([np.stack([image] * self.spec.batch)])[0][0]
        return logits

    def _decode(self, logits: Logits, frame: Frame, *, other_corners: bool = False) -> LabelMap:
        aligned = self.spec.align_corners != other_corners
        return decode(logits, self._size(frame), align_corners=aligned)

    def _size(self, frame: Frame) -> Size:
        return self.label_size or (frame.shape[0], frame.shape[1])

    def variants(self) -> Iterator[tuple[str, Callable[[Frame], LabelMap]]]:
        """Yield what a source may do differently, and a function that labels a frame that way."""
        plain, unit = ((0.0,) * 3, (1.0,) * 3), ((0.0,) * 3, (255.0,) * 3)
        spec = self.spec
        twice = (
            tuple(m + s * m for m, s in zip(spec.mean, spec.std, strict=True)),
            tuple(s * s for s in spec.std),
        )
        yield (
            "the channels stand in the other order",
            lambda frame: self._decode(self._logits(frame, is_swapped=True), frame),
        )
        for numbers, what in (
            (plain, "one of them does not normalise pixels of 0 to 255"),
            (unit, "one of them does not normalise pixels of 0 to 1"),
            (twice, "one of them normalises twice"),
        ):
            yield (
                what,
                lambda frame, numbers=numbers: self._decode(self._logits(frame, numbers), frame),  # type: ignore[misc]
            )
        yield (
            "the logits are resized otherwise (align_corners)",
            lambda frame: self._decode(self._logits(frame), frame, other_corners=True),
        )
        yield (
            "the logits are resized otherwise (nearest)",
            lambda frame: _nearest(self._logits(frame), self._size(frame)),
        )
        yield (
            "a softmax stands before its resize",
            lambda frame: self._decode(_softmax(self._logits(frame)), frame),
        )


def _nearest(logits: Logits, size: Size) -> LabelMap:
    labels = logits.argmax(0).astype(np.uint8)
    rows, columns = (
        np.arange(new) * old // new for old, new in zip(labels.shape, size, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


def _softmax(logits: Logits) -> Logits:
    powers = np.exp(logits - logits.max(0))
    shares: Logits = (powers / powers.sum(0)).astype(np.float32)
    return shares


def likeliest_difference(network: CheckedNetwork, reference: Reference, agreement: float) -> str:
    """Name what the source does differently, if one such difference explains most of the pixels."""
    shares = {what: reference.agreement(label) for what, label in network.variants()}
    best = max(shares, key=lambda what: shares[what])
    if 1 - shares[best] > (1 - agreement) / 2:
        return ""
    return f"most likely {best}, with which {100 * shares[best]:.1f} % would agree"
