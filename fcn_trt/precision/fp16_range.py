"""What does not fit FP16, found on real images: an activation beyond 65504 would become infinity.

The FP32 network says how large its tensors get; nodes at which they get too large are kept in FP32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx

from fcn_trt.calibration.tensor_values import Maxima, TensorValues, batches
from fcn_trt.network.contract import model_of
from fcn_trt.network.file import Network
from fcn_trt.precision.half import FP16_MAX
from fcn_trt.spec import Frame

__all__ = ["FP16_LIMIT", "find_overflows", "overflowing_nodes"]

FP16_LIMIT = FP16_MAX / 8
"""The largest magnitude that is left in FP16, with room for images that were not seen.

Tensors of fcn_r18-d8 became up to 1.5 times as large on CamVid's validation images as on the first
eight of them, and up to 4.1 times as large as on eight synthetic streets.
"""


def find_overflows(
    network: Network,
    images: Iterable[Frame],
    *,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Find the nodes that read or write what is too large for FP16.

    Args:
        images: Frames such as the network will see, each (H, W, 3) uint8 BGR; some will do.

    Returns:
        In the order of the graph, each node's largest magnitude where that is beyond `FP16_LIMIT`.

    Raises:
        ValueError: there are no images, or one has another shape or type.
        OnnxError: the network is damaged.
        EngineError: OpenVINO cannot run it.
    """
    spec = network.spec
    values = TensorValues(network)
    largest: Maxima = {}
    for tensor, count in batches(images, spec):
        for name, value in values.measure(tensor).items():
            largest[name] = max(value, largest.get(name, 0.0))
        for _ in range(count):
            on_image()
    if not largest:
        raise ValueError(f"there are no images to find out on whether {spec.model} fits FP16")
    return overflowing_nodes(model_of(network).graph, largest)


def overflowing_nodes(graph: onnx.GraphProto, largest: Mapping[str, float]) -> dict[str, float]:
    """As `find_overflows`, from the largest magnitude of each tensor of the FP32 network."""
    found = {
        node.name: max(largest.get(name, 0.0) for name in (*node.input, *node.output))
        for node in graph.node
    }
    return {name: value for name, value in found.items() if value > FP16_LIMIT}
