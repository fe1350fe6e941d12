"""The protocols between `Segmenter`, what runs the engine, and what computes on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from fcn_trt.forks import ForkedLibrary
from fcn_trt.spec import Frame, LabelMap, Logits

__all__ = ["ArrayBackend", "Backend", "Engine", "Executor", "ImageShape"]


class Backend(Protocol):
    """A runner of one engine, with a fixed number of slots that each hold one batch in flight.

    A backend is used by one thread at a time; `Segmenter` sees to that.
    """

    @property
    def library(self) -> ForkedLibrary:
        """What it cannot do without, and a forked process has no more."""

    @property
    def slots(self) -> int:
        """Batches that can be in flight at once."""

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""

    def submit(self, slot: int, frames: Sequence[Frame]) -> None:
        """Preprocess 1 to `batch` frames and start the network; does not wait.

        Raises:
            ValueError: a frame is not (H, W, 3) uint8.
            EngineError: the network cannot be started.
        """

    def collect(self, slot: int) -> list[LabelMap]:
        """Wait for a slot and decode: one label map of each frame's own size, in order.

        Raises:
            EngineError: the network failed.
        """

    def collect_logits(self, slot: int) -> Logits:
        """Wait for a slot and copy its logits: (frames, C, h, w) float32.

        Raises:
            EngineError: the network failed.
        """

    def network(self, images: npt.NDArray[np.float32]) -> Logits:
        """Run the network alone; nothing is in flight.

        Args:
            images: (N, 3, H, W) float32 RGB, normalised; N at least 1.

        Returns:
            (N, C, ceil(H / stride), ceil(W / stride)) float32.

        Raises:
            EngineError: the engine takes no images of that size, or the network failed.
        """

    def time_stages(self, frame: Frame) -> dict[str, float]:
        """Take a full batch of one frame through every stage; nothing is in flight.

        Returns:
            Seconds of each stage by name, in their order; the overlay, of which no label map needs
            any, is the last.

        Raises:
            ValueError: the frame is not (H, W, 3) uint8.
            EngineError: the network failed.
        """

    def render(self, frame: Frame, opacity: float) -> Frame:
        """Segment one frame and paint its classes over it; nothing else is in flight.

        Raises:
            ValueError: the frame is not (H, W, 3) uint8.
            EngineError: the network failed.
        """

    def close(self) -> None:
        """Free everything; a second call does nothing."""


@runtime_checkable
class ArrayBackend(Protocol):
    """A backend on a GPU, which also takes frames that are there already."""

    def segment_array(self, frame: object, out: object) -> None:
        """Segment a frame on the device into a label map on the device; nothing is in flight.

        Raises:
            ValueError: an array has another shape, type or layout.
            EngineError: the network failed.
        """


ImageShape: TypeAlias = tuple[int, int, int, int]
"""(N, 3, H, W) of the images that an executor computes."""


class Executor(Protocol):
    """A computation of one batch at a time; each slot has its own."""

    def enqueue(self, inputs: Mapping[str, int], outputs: Mapping[str, int], stream: int) -> None:
        """Start the network; does not wait, allocate or synchronise once it has run.

        Args:
            inputs: Device address of each input tensor by name; "image" is float32 of the
                executor's shape.
            outputs: Device address of each output tensor by name; "logits" is in the spec's
                type.
            stream: Handle of the CUDA stream.

        Raises:
            EngineError: the network cannot be started.
        """

    def close(self) -> None:
        """Free it; a second call does nothing."""


class Engine(Protocol):
    """A maker of executors, which all have the same weights."""

    def executor(self, images: ImageShape) -> Executor:
        """Make one more executor.

        Args:
            images: What it computes; its logits are (N, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            EngineError: the engine does not take them, or the device has no memory for it.
        """

    def close(self) -> None:
        """Free it, after its executors; a second call does nothing."""
