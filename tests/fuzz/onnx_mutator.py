"""Changes in ONNX files by messages and fields, with names that are in the file already."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.fuzz.mutation import INTEGERS, STRINGS, Havoc

__all__ = ["mutate_onnx"]

_OPERATORS = (
    *("Identity", "Expand", "Constant", "ConstantOfShape", "Reshape", "Resize", "Upsample"),
    *("ArgMax", "Cast", "Transpose", "Concat", "Slice", "Gather", "Shape", "Pad", "Split"),
    *("Loop", "If", "Tile", "Softmax", "Sigmoid", "Sub", "Div", "Mul", "Add", "Range", "Conv"),
    *("ConvTranspose", "Einsum", "QuantizeLinear", "DequantizeLinear", "Squeeze", "Unsqueeze"),
    *("Dropout", "BatchNormalization", "Greater", "Where", "MatMul", "Gemm", "MaxPool"),
    *("Flatten", "TopK", "OneHot", "SequenceEmpty"),
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"), 0.5, 255.0)


def mutate_onnx(data: bytes, random: Random, havoc: Havoc) -> bytes:
    """Change one to six fields of messages; bytes now and then."""
    import onnx
    from google.protobuf.message import DecodeError, EncodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return havoc(data)
    if random.random() < 0.05:
        return havoc(data)
    names = _names(model) or ["x"]
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        start = model.graph if random.random() < 0.85 else model
        _edit(start, random, havoc, names)
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError):
        return havoc(data)


def _names(model: Any) -> list[str]:
    """The graph's tensors, which a changed input, output or node may name."""
    graph = model.graph
    ends = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    return [*ends, *(name for node in graph.node for name in (*node.input, *node.output))]


def _edit(message: Any, random: Random, havoc: Havoc, names: list[str]) -> None:
    """Change one field of a message or of one below it."""
    present = [field for field, _ in message.ListFields()]
    fields = present if present and random.random() < 0.85 else message.DESCRIPTOR.fields
    field = random.choice(list(fields))
    if field.is_repeated:
        _edit_repeated(getattr(message, field.name), field, random, havoc, names)
    elif field.message_type is not None:
        if random.random() < 0.05:
            message.ClearField(field.name)
        else:
            _edit(getattr(message, field.name), random, havoc, names)
    elif random.random() < 0.1:
        message.ClearField(field.name)
    else:
        _set(message, field.name, _value(field, getattr(message, field.name), random, havoc, names))


def _edit_repeated(items: Any, field: Any, random: Random, havoc: Havoc, names: list[str]) -> None:
    at = random.randrange(len(items)) if items else 0
    kind = random.random()
    if field.message_type is not None:
        if not items or kind < 0.05:
            _edit(items.add(), random, havoc, names)
        elif kind < 0.12:
            del items[at]
        elif kind < 0.2:
            items.add().CopyFrom(items[at])
            _edit(items[-1], random, havoc, names)
        else:
            _edit(items[at], random, havoc, names)
        return
    if items and kind < 0.15:
        del items[at]
        return
    value = _value(field, items[at] if items else None, random, havoc, names)
    try:
        if not items or kind < 0.3:
            items.append(value)
        else:
            items[at] = value
    except (ValueError, TypeError):
        return  # out of the range of its type


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError):
        return  # out of the range of its type


def _value(field: Any, old: Any, random: Random, havoc: Havoc, names: list[str]) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return (
                havoc(old or b"") if random.random() < 0.8 else (old or b"")[: random.randrange(9)]
            )
        case field.CPPTYPE_STRING if field.name == "op_type":
            return random.choice(_OPERATORS)
        case field.CPPTYPE_STRING:
            return random.choice(names) if random.random() < 0.8 else random.choice(STRINGS)
        case field.CPPTYPE_FLOAT | field.CPPTYPE_DOUBLE:
            return random.choice(_FLOATS)
        case _:
            return random.choice((*INTEGERS, (old or 0) + 1, (old or 0) - 1))
