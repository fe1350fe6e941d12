"""Executors for tests, in TensorRT's place; this one needs nothing but the driver.

It computes no network: it copies the preprocessed image, as it lies there, to where the logits are
expected. So each pixel of each frame takes part in the label map, and the host can compute the
same: `preprocess`, a reshape, `decode`. It allocates nothing, not even in its first run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fcn_trt.cuda.driver import load_driver, require_success
from fcn_trt.engine.manifest import FORMAT, Manifest, Proof
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import EngineError
from fcn_trt.labels import numbered_label_set
from fcn_trt.runtime.backend import Backend, ImageShape
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Frame, LabelMap, Logits, Size, Spec
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

__all__ = [
    "CopyEngine",
    "CopyExecutor",
    "copied_label_map",
    "copied_logits",
    "copy_spec",
    "make_spec",
    "random_frame",
    "segmenter_of",
]

STRIDE = 4
CLASSES = 3 * STRIDE**2
"""So many planes of logits hold as many numbers as an image of three planes."""


def copy_spec(size: Size = (64, 96), *, batch: int = 1, align_corners: bool = False) -> Spec:
    """The spec of `CopyEngine` for images of this size; both sides are multiples of the stride."""
    assert size[0] % STRIDE == 0
    assert size[1] % STRIDE == 0
    return make_spec(size, classes=CLASSES, stride=STRIDE, batch=batch, align_corners=align_corners)


def make_spec(
    size: Size,
    *,
    classes: int,
    stride: int,
    batch: int = 1,
    align_corners: bool = False,
    logits_type: Any = "float32",
) -> Spec:
    """The spec of an executor that is no model."""
    labels = numbered_label_set(classes)
    return Spec(
        model="test",
        family="onnx",
        weights="none",
        labels=labels.name,
        classes=labels.classes,
        palette=labels.palette,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        input_size=size,
        batch=batch,
        stride=stride,
        align_corners=align_corners,
        precision="fp32",
        logits_type=logits_type,
        source_sha256="",
        licence="",
    )


class CopyExecutor:
    """The image is the logits.

    Args:
        size_bytes: Of a batch of images.
        fails_at: Number of the run that fails, from 1; 0 never fails.
    """

    def __init__(self, size_bytes: int, *, fails_at: int = 0) -> None:
        self.runs = 0
        self.is_closed = False
        self._size_bytes, self._fails_at = size_bytes, fails_at

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """See `fcn_trt.runtime.executor.Executor`."""
        self.runs += 1
        if self.runs == self._fails_at:
            raise EngineError(f"this executor fails in run {self.runs}, as it was told to")
        graphs = load_driver().graphs
        target = graphs.CUdeviceptr(outputs[OUTPUT_NAME])
        source = graphs.CUdeviceptr(inputs[INPUT_NAME])
        handle = graphs.CUstream(stream)
        copied = graphs.cuMemcpyDtoDAsync(target, source, self._size_bytes, handle)
        require_success(copied, "copy the image to the logits")

    def close(self) -> None:
        """See `fcn_trt.runtime.executor.Executor`."""
        self.is_closed = True


class CopyEngine:
    """Makes `CopyExecutor`s.

    Args:
        spec: Of `copy_spec`.
        fails_at: For each executor.
    """

    def __init__(self, spec: Spec, *, fails_at: int = 0) -> None:
        self.executors: list[CopyExecutor] = []
        self.is_closed = False
        self.spec = spec
        self._fails_at = fails_at

    def executor(self, images: ImageShape) -> CopyExecutor:
        """One more."""
        made = CopyExecutor(math.prod(images) * 4, fails_at=self._fails_at)
        self.executors.append(made)
        return made

    def close(self) -> None:
        """After all executors."""
        assert all(executor.is_closed for executor in self.executors)
        self.is_closed = True


def copied_logits(spec: Spec, frame: Frame) -> Logits:
    """(C, h, w) float32: what the executor makes of a frame, computed on the host."""
    tensor = preprocess(frame, spec.input_size, mean=spec.mean, std=spec.std)
    return tensor.reshape(len(spec.classes), *spec.logits_size)


def copied_label_map(spec: Spec, frame: Frame) -> LabelMap:
    """The label map of a frame, computed on the host."""
    size = (frame.shape[0], frame.shape[1])
    return decode(copied_logits(spec, frame), size, align_corners=spec.align_corners)


def random_frame(size: Size, seed: int) -> Frame:
    """Another noise for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def segmenter_of(spec: Spec, backend: Backend) -> Segmenter:
    """What users hold, around a backend of the tests."""
    manifest = Manifest(
        format=FORMAT,
        created="2026-01-01T00:00:00+00:00",
        built_by="a test",
        spec=spec,
        target="tensorrt",
        target_version="none",
        device="this GPU",
        compute_capabilities=(),
        options=BuildOptions(),
        precision_asked=spec.precision,
        precision_proven=Proof(source="network", convolutions={}, gmac={}),
        scratch_bytes=None,
        calibration_sha256=None,
        inputs_sha256="",
        kernels_sha256="",
        checks=(),
        files={},
    )
    return Segmenter(manifest, backend)
