"""The identity of a network: what it computes, whatever the size of its input."""

from __future__ import annotations

import hashlib

import onnx

__all__ = ["network_sha256"]

_SIZES = {("Reshape", 1), ("Resize", 3), ("Upsample", 1), ("Expand", 1), ("ConstantOfShape", 0)}
"""Operators and their inputs that say how large a tensor is, and not what is computed."""


def network_sha256(model: onnx.ModelProto) -> str:
    """SHA-256 of what a network computes, and not of the size at which it does.

    Nodes in their order with operator, name, tensors and attributes, and constants with name, type,
    shape and bytes; of a constant that only says how large a tensor is, name and type. Shapes of
    inputs, outputs and tensors in between are left out, and so is the metadata: one calibration
    serves every size and batch of the same weights.
    """
    digest = hashlib.sha256()

    def put(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little") + data)

    sizes = _size_constants(model.graph)
    for opset in sorted(model.opset_import, key=lambda o: o.domain):
        put("opset", opset.domain, str(opset.version))
    for node in model.graph.node:
        put("node", node.domain, node.op_type, node.name)
        put("inputs", *node.input, "outputs", *node.output)
        is_size = node.op_type == "Constant" and node.output[0] in sizes
        for attribute in () if is_size else sorted(node.attribute, key=lambda a: a.name):
            put("attribute", attribute.SerializeToString(deterministic=True))
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        put("constant", tensor.name, str(tensor.data_type))
        if tensor.name not in sizes:
            put(str(list(tensor.dims)), onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()


def _size_constants(graph: onnx.GraphProto) -> set[str]:
    """Tensors that nothing reads but what wants to know a size."""
    readers: dict[str, set[bool]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, set()).add((node.op_type, place) in _SIZES)
    return {name for name, kinds in readers.items() if kinds == {True}}
