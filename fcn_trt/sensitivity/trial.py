"""One quantised network, made, run over the images, and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from fcn_trt.comparison.images import CompareImages
from fcn_trt.engine.openvino.builder import compile_trial, openvino_errors, require_computed
from fcn_trt.evaluation.agreement import Agreement
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.sensitivity.layers import find_layers
from fcn_trt.sensitivity.result import Score
from fcn_trt.spec import FloatPrecision, Frame, LabelMap, QuantisedPrecision, Size, Spec
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

if TYPE_CHECKING:
    import onnx

    from fcn_trt.precision.type_network import Ranges

__all__ = ["Trials"]

Tensor: TypeAlias = npt.NDArray[np.float32]

KEPT_BYTES = 1 << 30
"""Prepared images are kept up to so many bytes; beyond, they are read again for each network."""


class Trials:
    """Measures quantised networks against FP32, on the same images.

    The label maps of FP32 and the truth are kept, two bytes for each pixel of all images, so that
    each trial runs one network only.

    Args:
        model: FP32 ONNX that keeps the contract, of static shape.
        images: At least one.
        float_precision: What everything else does.
        on_image: Called after each image that FP32 has labelled.

    Raises:
        SourceError, DatasetError: an image or its labels cannot be read.
        EngineError: this CPU does not compute in one of the types.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        spec: Spec,
        images: CompareImages,
        *,
        precision: QuantisedPrecision,
        float_precision: FloatPrecision,
        ranges: Ranges,
        on_image: Callable[[], None] = lambda: None,
    ) -> None:
        require_computed(precision)
        require_computed(float_precision)
        self._model = model
        self._spec = spec
        self._images = images
        self._precision = precision
        self._float_precision = float_precision
        self._ranges = ranges
        self._names = {layer.name for layer in find_layers(model.graph, precision)}
        self._tensors: list[Tensor] = []
        self._sizes: list[Size] = []
        self._truths: list[LabelMap | None] = []
        # Every image is read once here, and all are kept if there is room for them.
        size = spec.input_size
        has_room = len(images) * 3 * size[0] * size[1] * 4 <= KEPT_BYTES
        for image in images:
            self._sizes.append((image.frame.shape[0], image.frame.shape[1]))
            self._truths.append(image.truth)
            if has_room:
                self._tensors.append(self._prepare(image.frame))
        self._labels: list[LabelMap] = []
        for found in self._run(model, spec):
            self._labels.append(found)
            on_image()
        self.reference = self._score(self._labels, lambda: None)

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self._images)

    def measure(
        self, keep: frozenset[str], *, on_image: Callable[[], None] = lambda: None
    ) -> Score:
        """Quantise all convolutions but some, and compare with FP32.

        Args:
            keep: Names of the convolutions that stay in floating point.

        Raises:
            CalibrationError: the range of a tensor is not known.
            EngineError: the network cannot run.
        """
        return self._score(self._run(*self._typed(keep)), on_image)

    def _prepared(self) -> Iterator[Tensor]:
        """(3, H, W) of each image."""
        if self._tensors:
            return iter(self._tensors)
        return (self._prepare(image.frame) for image in self._images)

    def _prepare(self, frame: Frame) -> Tensor:
        return preprocess(frame, self._spec.input_size, mean=self._spec.mean, std=self._spec.std)

    def _typed(self, keep: frozenset[str]) -> tuple[onnx.ModelProto, Spec]:
        """The network to run; it is not quantised at all where every convolution is kept."""
        from fcn_trt.precision.type_network import type_model

        precision = self._float_precision if keep >= self._names else self._precision
        return type_model(
            self._model,
            self._spec,
            precision,
            self._ranges,
            float_precision=self._float_precision,
            keep=keep,
        )

    def _run(self, model: onnx.ModelProto, spec: Spec) -> Iterator[LabelMap]:
        """Label every image."""
        compiled = compile_trial(model.SerializeToString(), spec)
        batch = np.zeros((spec.batch, 3, *spec.input_size), dtype=np.float32)
        tensors, sizes = self._prepared(), iter(self._sizes)
        while group := list(islice(tensors, spec.batch)):
            for row, tensor in zip(batch, group, strict=False):
                row[...] = tensor
            with openvino_errors(f"run {spec.model}"):
                logits = compiled([batch])[0]
            for row, size in zip(logits, islice(sizes, len(group)), strict=False):
                yield decode(row, size, align_corners=spec.align_corners)

    def _score(self, labels: Iterable[LabelMap], on_image: Callable[[], None]) -> Score:
        """Compare label maps with FP32's and with the truth."""
        classes = len(self._spec.classes)
        agreement, confusion = Agreement(classes), ConfusionMatrix(classes)
        for found, reference, truth in zip(labels, self._labels, self._truths, strict=True):
            agreement.update(reference, found)
            if truth is not None:
                confusion.update(found, truth)
            on_image()
        has_truth = self._images.dataset is not None
        return Score(
            agreement=100 * agreement.pixels, miou=100 * confusion.miou() if has_truth else None
        )
