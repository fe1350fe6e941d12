"""What a typed network costs by its shapes: multiply-accumulates, and the bytes that they move.

Only OpenVINO is needed, which reads any ONNX file, so that this works where nothing can be
exported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict

from fcn_trt.engine.openvino.builder import (
    CONVOLUTIONS,
    node_name,
    openvino_errors,
    read_network,
)
from fcn_trt.engine.openvino.network_layers import operation_layer
from fcn_trt.network.file import Network
from fcn_trt.spec import Precision

__all__ = ["NetworkCost", "network_cost"]

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCost:
    """What the convolutions of one inference cost, each in the type that the network gives it.

    Attributes:
        gmac: 1e9 multiply-accumulates.
        weight_bytes: Of their weights, without biases.
        read_bytes: Of their inputs, each read once.
        written_bytes: Of their outputs, each written once, as if what reads them had the same type.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    gmac: float
    weight_bytes: int
    read_bytes: int
    written_bytes: int

    @property
    def moved_bytes(self) -> int:
        """All of them: what memory has to move if no cache holds anything from one to the next."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


def network_cost(network: Network) -> NetworkCost:
    """Count what one inference costs; nothing is compiled.

    Args:
        network: One of dynamic shape is counted at what it is optimised for.

    Raises:
        OnnxError: its file cannot be read.
        EngineError: OpenVINO cannot read the network.
    """
    data, spec = network.read_bytes(), network.spec
    with openvino_errors(f"read {network}"):
        model = read_network(data, spec)
    convolutions = [op for op in model.get_ops() if op.get_type_name() in CONVOLUTIONS]
    names = [op.get_friendly_name() for op in convolutions]
    gmac, moved = 0.0, [0, 0, 0]
    for op, name in zip(convolutions, names, strict=True):
        kind = spec.exceptions.get(node_name(name, names, spec), spec.precision)
        layer = operation_layer(op, math.prod(op.input_value(0).shape))
        gmac += layer.macs / 1e9
        for place, count in enumerate((layer.weights, layer.read, layer.written)):
            moved[place] += _BYTES[kind] * count
    return NetworkCost(
        gmac=gmac, weight_bytes=moved[0], read_bytes=moved[1], written_bytes=moved[2]
    )
