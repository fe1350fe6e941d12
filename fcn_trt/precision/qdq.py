"""Where Q/DQ goes: which convolutions, which branch of an addition, which tensors share a scale.

quantize.py says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import onnx

from fcn_trt.spec import QuantisedPrecision

__all__ = ["WEIGHT_AXIS", "QdqNodes", "concatenated", "convolution_names", "find_qdq_nodes"]

FP8_CHANNELS = 16
"""FP8 needs more channels than these, in and out."""

FP8_TAPS = 32
"""Elements of a kernel that FP8 takes at most; the 7x7 of a stem has more."""

WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""Axis of the output channels in the weights of each operator that is quantised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QdqNodes:
    """Where Q/DQ goes.

    Attributes:
        convolutions: Nodes whose activation and weights are quantised.
        skips: By name of an addition, the index of the input that is quantised.
    """

    convolutions: frozenset[str]
    skips: dict[str, int]

    def activation(self, node: onnx.NodeProto) -> int | None:
        """The input of a node that is read through Q/DQ, if there is one."""
        return 0 if node.name in self.convolutions else self.skips.get(node.name)


def find_qdq_nodes(graph: onnx.GraphProto, names: Set[str], keep: Set[str]) -> QdqNodes:
    """The convolutions, and the additions behind them that are not kept."""
    constants = {tensor.name for tensor in graph.initializer}
    convolutions = frozenset(names)
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    skips = {}
    for node in graph.node:
        is_sum = node.op_type == "Add" and constants.isdisjoint(node.input)
        if is_sum and node.name not in keep:
            fused = _fused(node, producers, readers)
            if fused is not None and fused[1] in convolutions:
                skips[node.name] = 1 - fused[0]
    return QdqNodes(convolutions=convolutions, skips=skips)


def _fused(
    add: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], readers: Mapping[str, int]
) -> tuple[int, str] | None:
    """The input of an addition that it is fused with, and the convolution that this comes from.

    Where both do, as in a block that downsamples, the longer way is the convolution's branch.
    """
    depths = _depths(add, producers)
    candidates = [
        (index, behind)
        for index, name in enumerate(add.input)
        if (behind := _convolution_behind(name, producers, readers)) is not None
    ]
    return max(candidates, key=lambda found: depths[found[0]], default=None)


def _convolution_behind(
    tensor: str, producers: Mapping[str, onnx.NodeProto], readers: Mapping[str, int]
) -> str | None:
    """The convolution that a tensor comes straight from, and that computes nothing else.

    What an imported network has not folded into it, its normalisation and its bias, is part of it.
    """
    node = producers.get(tensor)
    while node is not None and readers[tensor] == 1:
        if node.op_type in WEIGHT_AXIS:
            return str(node.name)
        made = [name for name in node.input if name in producers]
        if node.op_type not in ("BatchNormalization", "Add", "Mul") or len(made) != 1:
            return None
        tensor = made[0]
        node = producers[tensor]
    return None


def _depths(add: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> list[int]:
    """How many convolutions lie on each input's way back to the tensor that both come from."""
    ways = [_way_back(name, producers) for name in add.input]
    shared = set(ways[0]).intersection(ways[1])
    return [min((way[name] for name in shared), default=0) for way in ways]


def _way_back(tensor: str, producers: Mapping[str, onnx.NodeProto]) -> dict[str, int]:
    """Every tensor that one is made from, and the fewest convolutions in between."""
    found: dict[str, int] = {}
    waiting = [(tensor, 0)]
    while waiting:
        name, depth = waiting.pop()
        if found.get(name, depth + 1) <= depth:
            continue
        found[name] = depth
        node = producers.get(name)
        if node is not None:
            depth += node.op_type in WEIGHT_AXIS
            waiting += [(before, depth) for before in node.input]
    return found


def convolution_names(graph: onnx.GraphProto, precision: QuantisedPrecision) -> list[str]:
    """Names of the convolutions that are quantised unless they are kept, in the network's order."""
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type in WEIGHT_AXIS
        and node.input[1] in weights
        and (precision == "int8" or _has_fp8_kernel(weights[node.input[1]]))
    ]


def _has_fp8_kernel(shape: Sequence[int]) -> bool:
    """Whether weights of (out, in, ...) or (in, out, ...) channels are fit for FP8."""
    return min(shape[:2]) > FP8_CHANNELS and math.prod(shape[2:]) <= FP8_TAPS


def concatenated(graph: onnx.GraphProto, quantised: Iterable[str]) -> list[set[str]]:
    """The tensors of each concatenation whose result is quantised; those that touch are one.

    Between it and the Q there may be what Q commutes with, ReLU and max-pooling.
    """
    producers = {name: node for node in graph.node for name in node.output}
    groups: list[set[str]] = []
    for tensor in quantised:
        behind = [tensor]
        node = producers.get(tensor)
        while node is not None and node.op_type in ("Relu", "MaxPool"):
            behind.append(node.input[0])
            node = producers.get(node.input[0])
        if node is None or node.op_type != "Concat":
            continue
        group = {*behind, *node.input}
        for other in [g for g in groups if not g.isdisjoint(group)]:
            group |= other
            groups.remove(other)
        groups.append(group)
    return groups
