"""A network whose cost can be counted at any size that it takes: a model's, or a file's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from fcn_trt.advice.roofline import CountedLayer
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import Architecture
from fcn_trt.model.layers import Layer, layers
from fcn_trt.model.profile import default_labels
from fcn_trt.spec import Size

__all__ = ["CountedNetwork", "ModelNetwork", "Network", "peak_activations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedNetwork:
    """A network at a size.

    Attributes:
        name: Of the model, or of the file.
        size: (height, width) of the input.
        layers: Every layer, in the order of the data.
        peak_activations: The most activations that are alive at once, in elements.
        doubts: Why it may cost something else than is counted, sentences without their full stop.
    """

    name: str
    size: Size
    layers: tuple[CountedLayer, ...]
    peak_activations: int
    doubts: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(layer.macs for layer in self.layers)


class Network(Protocol):
    """What is counted at a size."""

    @property
    def name(self) -> str:
        """Of the model, or of the file."""

    def at(self, size: Size) -> CountedNetwork:
        """Count it.

        Args:
            size: (height, width) of the input in pixels.
        """


@dataclass(frozen=True, slots=True)
class ModelNetwork:
    """A model, whose layers are known without its weights.

    Attributes:
        arch: The model.
        labels: Name of the label set that it predicts; None is its family's usual one.
    """

    arch: Architecture
    labels: str | None = None

    @property
    def name(self) -> str:
        """Of the model."""
        return self.arch.name

    def at(self, size: Size) -> CountedNetwork:
        """Count it.

        Args:
            size: (height, width) of the input in pixels.
        """
        classes = len(label_set(self.labels or default_labels(self.arch)).classes)
        counted = layers(self.arch, size=size, num_classes=classes)
        return CountedNetwork(
            name=self.name,
            size=size,
            layers=counted,
            peak_activations=peak_activations(counted),
        )


def peak_activations(counted: Sequence[Layer]) -> int:
    """The most activations that are alive at once, in elements.

    What a layer reads and writes is alive, and so is what a later layer still needs: the input of
    a residual block until its addition, and that of a head until its concatenation.

    Args:
        counted: The layers of a network in the order of the data.
    """
    return max(_peak(list(block)) for _, block in groupby(counted, key=_block))


def _block(layer: Layer) -> str:
    """The residual block of a layer, or its stage where it is in none."""
    parts = layer.name.split(".")
    return ".".join(parts[:3]) if layer.stage.startswith("layer") else layer.stage


def _peak(block: list[Layer]) -> int:
    # The last layer of a block that needs its input, besides the first.
    last = max(
        (i for i, layer in enumerate(block) if layer.kind in ("addition", "concatenation")),
        default=0,
    )
    most = 0
    for index, layer in enumerate(block):
        alive = layer.read + layer.written
        if 0 < index < last:
            # A projection reads the input itself, while the branch waits for it.
            is_projection = "downsample" in layer.name
            alive += block[index - 1].written if is_projection else block[0].read
        most = max(most, alive)
    return most
