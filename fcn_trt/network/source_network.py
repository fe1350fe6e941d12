"""A user's own ONNX file, run as it is, for what it says of a frame.

It is what an import is compared with: all that makes its output, by ONNX Runtime, on the input
that it was made for, and its output read as its user reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from fcn_trt.errors import NotRunnableError, OnnxError
from fcn_trt.network.file_input import GREY, FileInput, Normalisation
from fcn_trt.network.graph import Array
from fcn_trt.network.load import first_line
from fcn_trt.network.tail_walk import Reading
from fcn_trt.spec import Frame, LabelMap, Size
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["SourceNetwork"]


@dataclass(frozen=True, kw_only=True)
class SourceNetwork:
    """A file and what was found out of its two ends.

    Attributes:
        path: Of the file.
        data: Bytes of the part of it that makes the output, tensors inside, and as it is otherwise:
            what was not looked at is not run.
        image: Its input.
        outside: How that is made from a frame.
        output: Name of the output that is read.
        reading: How it is read.
        align_corners: How scores that are smaller than the input are upsampled.
        asked_size: (height, width) to give it where it fixes none.
    """

    path: Path
    data: bytes
    image: FileInput
    outside: Normalisation
    output: str
    reading: Reading
    align_corners: bool
    asked_size: Size

    @property
    def size(self) -> Size | None:
        """(height, width) of the input that the file fixes; None if it takes others."""
        return self.image.size

    def label_map(self, frame: Frame) -> LabelMap:
        """What the file itself makes of a frame.

        Args:
            frame: (H, W, 3) uint8 BGR, of any size.

        Returns:
            (h, w) uint8 class indices: of the file's output where that has labels, and of its
            input's size at least where it has scores.

        Raises:
            NotRunnableError: ONNX Runtime cannot run it.
            OnnxError: its output has another shape than was found.
        """
        fed = {self.image.name: self._input(frame)}
        try:
            (found,) = self._session.run([self.output], fed)
        except _runtime_errors() as error:
            raise self._cannot_run(error) from error
        planes = self._planes(found)
        if self.reading.kind in ("labels", "mask"):
            labels = planes != 0 if self.reading.kind == "mask" else np.rint(planes)
            return labels.reshape(labels.shape[-2:]).astype(np.uint8)
        if self.reading.kind == "above":
            planes = planes.reshape(1, *planes.shape[-2:])
            planes = np.concatenate([np.full_like(planes, self.reading.threshold), planes])
        height, width = self.image.size or self.asked_size
        size = (max(height, planes.shape[1]), max(width, planes.shape[2]))
        return decode(planes.astype(np.float32, copy=False), size, align_corners=self.align_corners)

    def _input(self, frame: Frame) -> Array:
        """The frame as the file expects it, as often as its batch."""
        size = self.image.size or self.asked_size
        rgb = preprocess(frame, size, mean=self.outside.mean, std=self.outside.std)
        if self.image.channels == 1:
            planes = np.tensordot(np.array(GREY), rgb, 1)[None]
        else:
            planes = rgb[::-1] if self.outside.is_bgr else rgb
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.image.kind))
        if kind == np.uint8:
            planes = np.rint(planes)
        batch = np.repeat(planes[None], self.image.batch or 1, axis=0)
        order = ["NCHW".index(letter) for letter in self.image.layout]
        return np.ascontiguousarray(np.transpose(batch, order)).astype(kind)

    def _planes(self, output: Array) -> Array:
        """(C, h, w), or (h, w) where there are no channels, of the first image."""
        letters = self.reading.layout
        if output.ndim != len(letters):
            raise OnnxError(
                f"{self.path} has an output of shape {output.shape}, but {len(letters)} dimensions "
                "were expected; fix its shapes with --size"
            )
        first: Array = output[tuple(0 if letter in "N1" else slice(None) for letter in letters)]
        left = [letter for letter in letters if letter not in "N1"]
        return np.transpose(first, [left.index(letter) for letter in "CHW" if letter in left])

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                self.data, options, providers=["CPUExecutionProvider"]
            )
        except _runtime_errors() as error:
            raise self._cannot_run(error) from error

    def _cannot_run(self, error: Exception) -> NotRunnableError:
        return NotRunnableError(
            f"{self.path} cannot be run by ONNX Runtime, to compare with: {first_line(error)}; "
            "export it again"
        )


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises, which has no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own: list[Any] = [value for value in vars(state).values() if isinstance(value, type)]
    return (*(kind for kind in own if issubclass(kind, Exception)), RuntimeError, ValueError)
