"""The protocol between the device pipeline and what computes the network.

TensorRT is behind it. On a machine where no TensorRT executes, tests put another executor of the
same stream there, so that everything around the network runs as it does in the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

__all__ = ["Engine", "Executor", "ImageShape"]

ImageShape: TypeAlias = tuple[int, int, int, int]
"""(N, 3, H, W) of the images that an executor computes."""


class Executor(Protocol):
    """Computes one batch at a time; each slot has its own."""

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
    """Makes executors, which all have the same weights."""

    def executor(self, images: ImageShape) -> Executor:
        """One more executor.

        Args:
            images: What it computes; its logits are (N, C, ceil(H / stride), ceil(W / stride)).

        Raises:
            EngineError: the engine does not take them, or the device has no memory for it.
        """

    def close(self) -> None:
        """Free it, after its executors; a second call does nothing."""
