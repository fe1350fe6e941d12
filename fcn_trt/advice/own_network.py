"""A user's own network, counted from its file: an ONNX from anywhere, or a bundle's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fcn_trt.advice.network import CountedNetwork
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino.network_layers import NetworkFile, NetworkLayer
from fcn_trt.errors import OnnxError
from fcn_trt.network.file import content_sha256
from fcn_trt.spec import Size, Spec, read_spec

__all__ = ["OwnNetwork"]

PUBLISHED_KINDS = frozenset({"convolution", "max pooling", "addition", "concatenation"})
"""Layers of the networks whose rates are published; how fast others are is not fitted."""


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """A network in a file.

    Attributes:
        path: The file, or the folder of a bundle that carries it.
        file: What it holds.
        spec: What it is; None of a file that was not exported by this package.
    """

    path: Path
    file: NetworkFile = field(repr=False)
    spec: Spec | None

    @classmethod
    def read(cls, path: Path) -> OwnNetwork:
        """Read an ONNX file or a bundle.

        Raises:
            BundleError: the folder is no whole bundle, or carries no network.
            OnnxError: the file cannot be read, or keeps tensors outside of its folder.
            EngineError: OpenVINO cannot read it, or none of its inputs is an image.
        """
        if path.is_dir():
            bundle = load_bundle(path)
            return cls(path, NetworkFile(bundle.network.path), bundle.manifest.spec)
        content_sha256(path)  # refuses what OpenVINO should not open
        file = NetworkFile(path)
        try:
            return cls(path, file, read_spec(path))
        except OnnxError:  # from elsewhere; its layers are counted all the same
            return cls(path, file, None)

    @property
    def name(self) -> str:
        """Of the file or folder."""
        return self.path.name

    @property
    def size(self) -> Size | None:
        """(height, width) that it is made or optimised for; None where it says none."""
        return self.spec.input_size if self.spec else self.file.size

    def at(self, size: Size) -> CountedNetwork:
        """Count it.

        Args:
            size: (height, width) of the input in pixels.

        Raises:
            EngineError: it takes no input of this size.
        """
        found = self.file.layers(size)
        return CountedNetwork(
            name=self.name,
            size=size,
            layers=found.layers,
            peak_activations=found.peak_activations,
            doubts=tuple(_doubts(found.layers)),
        )


def _doubts(layers: Iterable[NetworkLayer]) -> list[str]:
    """What it has that no network of a published rate has."""
    others = {layer.kind: None for layer in layers if layer.kind not in PUBLISHED_KINDS}
    if not others:
        return []
    return [f"it has {', '.join(others)}, which no network with a published rate has"]
