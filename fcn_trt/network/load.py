"""Any ONNX file as a graph, once nothing in it claims more than it carries."""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError  # protobuf's own; onnx depends on it

from fcn_trt.errors import OnnxError
from fcn_trt.foreign import open_regular, require_regular
from fcn_trt.limits import MAX_BYTES
from fcn_trt.network.file import external_path, read_onnx, survey_onnx
from fcn_trt.onnx_wire import BITS, ExternalTensor

__all__ = ["all_nodes", "first_line", "load_onnx", "parse_onnx"]

MAX_MODEL_BYTES = (1 << 31) - 1
"""Of a model with all tensors inside: a protobuf message holds no more."""


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read any ONNX file, and the tensors that it keeps in other files.

    Raises:
        OnnxError: as for `parse_onnx`, or it cannot be read.
    """
    return parse_onnx(read_onnx(path), path)


def parse_onnx(data: bytes, path: Path) -> onnx.ModelProto:
    """The model of an ONNX file, all tensors inside.

    Args:
        data: The file's bytes.
        path: Of the file, in whose folder the others are.

    Raises:
        OnnxError: they are no ONNX model, claim more than they carry or than is read, say something
            twice, or name other files that are missing, shorter than said, or elsewhere.
    """
    found = survey_onnx(data, path)
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise _damaged(path, first_line(error)) from error
    if not model.graph.output:
        raise _damaged(path, "it has no graph with an output")
    graph = model.graph
    for kind, names in (
        ("opset of", ["" if o.domain == "ai.onnx" else o.domain for o in model.opset_import]),
        ("input", [value.name for value in graph.input]),
        ("output", [value.name for value in graph.output]),
        ("initializer", [tensor.name for tensor in graph.initializer]),
    ):
        name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
        if count > 1:
            raise _damaged(path, f"it has the {kind} {name!r} {count} times")
    if found.external:
        _bring_inside(model, found.external, len(data), path)
    return model


def _damaged(path: Path, reason: str) -> OnnxError:
    return OnnxError(f"{path} cannot be read as ONNX: {reason}; fetch or export it again")


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs inside them, at any depth."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from all_nodes(graph.node)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Whatever has nodes in a model, but for the graphs inside nodes."""
    yield model.graph
    yield from model.functions
    for training in model.training_info:
        yield from (training.initialization, training.algorithm)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        attributes = [a for node in all_nodes(graph.node) for a in node.attribute]
        attributes += getattr(graph, "attribute_proto", ())
        for attribute in attributes:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from inner.initializer


def _bring_inside(
    model: onnx.ModelProto, external: list[ExternalTensor], size_bytes: int, path: Path
) -> None:
    """Read the tensors that are in other files into the model, once those hold them all."""
    total = size_bytes + sum(tensor.size_bytes for tensor in external)
    if total > MAX_BYTES.value:
        raise _damaged(path, f"with its tensors inside {MAX_BYTES.exceeded(total)}")
    if total > MAX_MODEL_BYTES:
        raise _damaged(path, f"it has {total} bytes, and ONNX takes {MAX_MODEL_BYTES} in one file")
    needed: dict[Path, list[tuple[int, int]]] = {}
    paths = {name: external_path(path, name) for name in {each.location for each in external}}
    for each in external:
        needed.setdefault(paths[each.location], []).append((each.offset, each.size_bytes))
    with _as_damaged(path):
        for file, places in needed.items():
            held = require_regular(file).st_size
            # Those that lie on each other would make more of a file than it is.
            wanted = max(sum(size for _, size in places), *(at + size for at, size in places))
            if wanted > held:
                reason = f"its tensors have {wanted} bytes in {file.name!r}, which has {held}"
                raise _damaged(path, reason)
        inside: dict[Path, list[onnx.TensorProto]] = {}
        for tensor in _tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                inside.setdefault(paths[_entries(tensor)["location"]], []).append(tensor)
        for file, tensors in inside.items():
            with open_regular(file) as opened:
                for tensor in tensors:
                    _fill(tensor, opened)


@contextmanager
def _as_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _damaged(path, f"{error.filename} cannot be read ({error.strerror})") from error


def _fill(tensor: onnx.TensorProto, file: BinaryIO) -> None:
    size = -(-math.prod(tensor.dims) * BITS[tensor.data_type] // 8)
    file.seek(int(_entries(tensor).get("offset", 0)))
    tensor.raw_data = file.read(size)
    if len(tensor.raw_data) != size:
        raise OSError(errno.EIO, "it became shorter while it was read", file.name)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def first_line(error: Exception) -> str:
    """What a library says, as far as it is one line."""
    # As much as names two files in deep folders.
    return str(error).strip().partition("\n")[0][:400]
