"""The CPU backend: the host stages around an OpenVINO network.

A frame passes through one slot, top to bottom: `preprocess_into` the slot's input tensor, the
network in OpenVINO's threads, `decode` from the slot's logits. While slot 0's network computes, the
caller's thread prepares slot 1.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from fcn_trt.arrays import FRAME
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.openvino.builder import (
    compile_free_shape,
    compile_network,
    cpu_name,
    openvino_errors,
    openvino_version,
)
from fcn_trt.errors import EngineError
from fcn_trt.forks import ForkedLibrary, keep, was_forked
from fcn_trt.labels import palette_array
from fcn_trt.runtime.check import Labeller
from fcn_trt.spec import Frame, LabelMap, Logits, Size
from fcn_trt.stages.decode import decode
from fcn_trt.stages.overlay import overlay
from fcn_trt.stages.preprocess import preprocess_into

__all__ = ["OpenVinoBackend", "labelling"]

SLOTS = 2

_log = logging.getLogger(__name__)


class _Slot:
    """An inference request with its input memory and the sizes of the frames in it."""

    def __init__(self, compiled: Any, shape: tuple[int, ...]) -> None:
        image = np.zeros(shape, dtype=np.float32)
        with openvino_errors("make an inference request"):
            self.request = keep("OpenVINO", compiled.create_infer_request())
            self.request.set_input_tensor(ov.Tensor(image, shared_memory=True))
        self.image = image  # after the request, which is released first and still reads it
        self.sizes: list[Size] = []

    def start(self) -> None:
        """Start the network; it computes in OpenVINO's threads."""
        with openvino_errors("start the network"):
            self.request.start_async()

    def run(self, images: npt.NDArray[np.float32]) -> Logits:
        """Run prepared images, at most a batch of them, and return their logits."""
        self.image[: len(images)] = images
        self.sizes = [(images.shape[2], images.shape[3])] * len(images)
        self.start()
        logits: Logits = self.logits().copy()
        return logits

    def wait(self) -> None:
        """Wait for the network."""
        with openvino_errors("run the network"):
            self.request.wait()

    def drain(self) -> None:
        """Wait for a network whose logits are discarded; an error in it hides no other."""
        try:
            self.wait()
        except EngineError as error:
            _log.warning("while closing: %s", error)

    def logits(self) -> Logits:
        """Wait, then view the logits of the frames in this slot."""
        self.wait()
        logits: Logits = self.request.get_output_tensor().data[: len(self.sizes)]
        return logits


class OpenVinoBackend:
    """The backend of a bundle on the CPU; see `Backend`."""

    library: ForkedLibrary = "OpenVINO"

    def __init__(self, bundle: Bundle) -> None:
        self._spec = bundle.manifest.spec
        self._palette = palette_array(self._spec.palette)
        self._network = bundle.network
        self._free: Any = None
        compiled = compile_network(bundle.network)
        shape = (self._spec.batch, 3, *self._spec.input_size)
        self._slots = [_Slot(compiled.model, shape) for _ in range(SLOTS)]
        self.description = (
            f"OpenVINO {openvino_version()} on {cpu_name()}, convolutions: "
            f"{compiled.proof.describe()}"
        )

    @property
    def slots(self) -> int:
        """Two: one computes while the other is filled."""
        return len(self._slots)

    def submit(self, slot: int, frames: Sequence[Frame]) -> None:
        """Preprocess into the slot and start the network."""
        for frame in frames:
            FRAME.check(frame)
        entry = self._slot(slot)
        for image, frame in zip(entry.image, frames, strict=False):
            preprocess_into(image, frame, mean=self._spec.mean, std=self._spec.std)
        entry.sizes = [(frame.shape[0], frame.shape[1]) for frame in frames]
        entry.start()

    def collect(self, slot: int) -> list[LabelMap]:
        """Wait for the network and decode each frame's logits."""
        entry = self._slot(slot)
        return [
            decode(logits, size, align_corners=self._spec.align_corners)
            for logits, size in zip(entry.logits(), entry.sizes, strict=True)
        ]

    def collect_logits(self, slot: int) -> Logits:
        """Wait for the network and copy its logits."""
        logits: Logits = self._slot(slot).logits().copy()
        return logits

    def network(self, images: npt.NDArray[np.float32]) -> Logits:
        """Run the network alone; one that takes any shape is compiled when first needed."""
        if images.shape[2:] == self._spec.input_size:
            batch, slot = self._spec.batch, self._slot(0)
            return np.concatenate(
                [slot.run(images[i : i + batch]) for i in range(0, len(images), batch)]
            )
        if self._free is None:
            model = compile_free_shape(self._network)
            with openvino_errors("make an inference request"):
                self._free = model.create_infer_request()
        with openvino_errors("run the network"):
            logits: Logits = self._free.infer([images])[0].copy()
        return logits

    def time_stages(self, frame: Frame) -> dict[str, float]:
        """Take a full batch of one frame through every stage, on this thread."""
        FRAME.check(frame)
        entry, spec = self._slot(0), self._spec
        marks = [time.perf_counter()]
        for image in entry.image:
            preprocess_into(image, frame, mean=spec.mean, std=spec.std)
        marks.append(time.perf_counter())
        entry.sizes = [(frame.shape[0], frame.shape[1])] * spec.batch
        entry.start()
        batch = entry.logits()
        marks.append(time.perf_counter())
        label_maps = [
            decode(logits, size, align_corners=spec.align_corners)
            for logits, size in zip(batch, entry.sizes, strict=True)
        ]
        marks.append(time.perf_counter())
        for label_map in label_maps:
            overlay(frame, label_map, self._palette)
        marks.append(time.perf_counter())
        spans = (end - start for start, end in itertools.pairwise(marks))
        return dict(zip(("preprocess", "network", "decode", "overlay"), spans, strict=True))

    def render(self, frame: Frame, opacity: float) -> Frame:
        """Segment one frame and paint its classes over it."""
        self.submit(0, [frame])
        (label_map,) = self.collect(0)
        return overlay(frame, label_map, self._palette, opacity=opacity)

    def _slot(self, index: int) -> _Slot:
        """Return a slot, unless another thread has closed the backend meanwhile."""
        try:
            return self._slots[index]
        except IndexError as error:
            raise RuntimeError("this engine was closed meanwhile; load the bundle again") from error

    def close(self) -> None:
        """Wait for what is in flight, then release the requests; after a fork, do neither."""
        if was_forked(self.library):
            return
        slots, self._slots, self._free = self._slots, [], None
        for slot in slots:
            slot.drain()


@contextmanager
def labelling(bundle: Bundle) -> Iterator[Labeller]:
    """Yield a function that labels frames with a bundle, one after the other."""
    backend = OpenVinoBackend(bundle)

    def label(frame: Frame) -> LabelMap:
        backend.submit(0, [frame])
        return backend.collect(0)[0]

    try:
        yield label
    finally:
        backend.close()
