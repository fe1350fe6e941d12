"""The bytes of an ONNX file, read without the onnx package and checked before anything parses them.

A few bytes of protobuf can claim a tensor of a billion numbers, or become a million objects. So
every message of a file is passed over once here, from the outermost to the tensors of subgraphs and
functions, with a limit on how many fields there are; what each tensor claims is held against the
bytes that it carries.

Source: protobuf.dev, "Encoding"; onnx.proto of ONNX 1.23.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["BITS", "MAX_NODES", "ExternalTensor", "Survey", "onnx_metadata", "onnx_nodes", "survey"]

MAX_FIELDS = 500_000
"""Of all messages of a file, each of which a parser makes an object of some hundred bytes of;
fcn_resnet101 with Q/DQ has 50,000."""

MAX_NODES = 20_000
"""Of all graphs and functions of a file; fcn_resnet101 with Q/DQ has 1,100."""

MAX_RANK = 16
"""Dimensions of a tensor."""

MAX_DEPTH = 40
"""Messages inside each other; a node of a subgraph is five deep."""

MAX_PACKED_BYTES = 1 << 25
"""Of numbers that are stored as varints, which take up to eight times as much once they are read;
weights are stored as they are in memory."""

MAX_JOINED_BYTES = 1 << 24
"""Of constants that a Concat joins, unless the file itself is larger."""

Field: TypeAlias = tuple[int, int, "int | memoryview"]
"""Number of the field, its wire type, and its value: bytes of wire type 2, or else a number."""

_VARINT, _BYTES = 0, 2

_TEXT = "text"
_OTHER = "other"
"""Kinds of fields beside the names of messages: what must be UTF-8, and what is not looked into."""

_ENTRIES = {1: _TEXT, 2: _TEXT}
_TYPED = {1: _OTHER, 2: "TensorShapeProto"}

MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {
        **dict.fromkeys((1, 5), _OTHER),
        **dict.fromkeys((2, 3, 4, 6), _TEXT),
        7: "GraphProto",
        8: "*OperatorSetIdProto",
        14: "*StringStringEntryProto",
        20: "*TrainingInfoProto",
        25: "*FunctionProto",
        26: "*DeviceConfigurationProto",
    },
    "GraphProto": {
        1: "*NodeProto",
        2: _TEXT,
        5: "*TensorProto",
        10: _TEXT,
        **dict.fromkeys((11, 12, 13), "*ValueInfoProto"),
        14: "*TensorAnnotation",
        15: "*SparseTensorProto",
        16: "*StringStringEntryProto",
    },
    "NodeProto": {
        **dict.fromkeys((1, 2), "*text"),
        **dict.fromkeys((3, 4, 6, 7, 8), _TEXT),
        5: "*AttributeProto",
        9: "*StringStringEntryProto",
        10: "*NodeDeviceConfigurationProto",
    },
    "AttributeProto": {
        **dict.fromkeys((1, 13, 21), _TEXT),
        **dict.fromkeys((2, 3, 4, 20), _OTHER),
        **dict.fromkeys((7, 8, 9), "*other"),
        5: "TensorProto",
        6: "GraphProto",
        10: "*TensorProto",
        11: "*GraphProto",
        14: "TypeProto",
        15: "*TypeProto",
        22: "SparseTensorProto",
        23: "*SparseTensorProto",
    },
    "TensorProto": {
        **dict.fromkeys((1, 4, 5, 6, 7, 10, 11), "*other"),
        **dict.fromkeys((2, 9, 14), _OTHER),
        3: "Segment",
        **dict.fromkeys((8, 12), _TEXT),
        **dict.fromkeys((13, 16), "*StringStringEntryProto"),
    },
    "FunctionProto": {
        **dict.fromkeys((1, 8, 10, 13), _TEXT),
        **dict.fromkeys((4, 5, 6), "*text"),
        7: "*NodeProto",
        9: "*OperatorSetIdProto",
        11: "*AttributeProto",
        12: "*ValueInfoProto",
        14: "*StringStringEntryProto",
    },
    "TrainingInfoProto": {
        **dict.fromkeys((1, 2), "GraphProto"),
        **dict.fromkeys((3, 4), "*StringStringEntryProto"),
    },
    "ValueInfoProto": {
        **dict.fromkeys((1, 3), _TEXT),
        2: "TypeProto",
        4: "*StringStringEntryProto",
    },
    "TypeProto": {
        1: "Tensor",
        4: "Sequence",
        5: "Map",
        6: _TEXT,
        7: "Opaque",
        8: "SparseTensor",
        9: "Optional",
    },
    "Tensor": _TYPED,
    "SparseTensor": _TYPED,
    "Sequence": {1: "TypeProto"},
    "Optional": {1: "TypeProto"},
    "Map": {1: _OTHER, 2: "TypeProto"},
    "Opaque": _ENTRIES,
    "TensorShapeProto": {1: "*Dimension"},
    "Dimension": {1: _OTHER, 2: _TEXT, 3: _TEXT},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto", 3: "*other"},
    "TensorAnnotation": {1: _TEXT, 2: "*StringStringEntryProto"},
    "StringStringEntryProto": _ENTRIES,
    "OperatorSetIdProto": {1: _TEXT, 2: _OTHER},
    "Segment": dict.fromkeys((1, 2), _OTHER),
    "DeviceConfigurationProto": {1: _TEXT, 2: _OTHER, 3: "*text"},
    "NodeDeviceConfigurationProto": {1: _TEXT, 2: "*ShardingSpecProto", 3: _OTHER},
    "ShardingSpecProto": {
        1: _TEXT,
        2: "*other",
        3: "*IntIntListEntryProto",
        4: "*ShardedDimProto",
    },
    "IntIntListEntryProto": {1: _OTHER, 2: "*other"},
    "ShardedDimProto": {1: _OTHER, 2: "*SimpleShardedDimProto"},
    "SimpleShardedDimProto": {1: _OTHER, 2: _TEXT, 3: _OTHER},
}
"""The fields of each message of onnx.proto by number: a message, text, or anything else, and a star
where there may be several."""

BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
"""Of a number by TensorProto.DataType, as raw data holds it."""

_STRING = 8

_FIXED = {4: 4, 10: 8}
"""Bytes per number of the fields float_data and double_data."""

_STRINGS, _RAW = 6, 9
"""The fields string_data and raw_data."""

_VARINTS = (5, 7, 11)
"""The fields int32_data, int64_data and uint64_data."""

_VALUES = {*_FIXED, *_VARINTS, _STRINGS, _RAW}

_CONTINUED = bytes(range(0x80, 0x100))
"""The bytes of a varint that are not its last."""

_PARTS = {14: 2, 15: 2}
"""Numbers of float_data or double_data that make one of a complex type."""

_EXTERNAL = 1
"""TensorProto.data_location."""

_NODE, _INITIALIZER = 1, 5
"""Fields of GraphProto."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalTensor:
    """A tensor whose bytes are in another file.

    Attributes:
        location: Of that file, as the ONNX file has it.
        offset: Of the first byte there.
        size_bytes: How many the tensor has by its shape and type.
    """

    location: str
    offset: int
    size_bytes: int


@dataclass(slots=True)
class Survey:
    """What a file holds.

    Attributes:
        nodes: How many nodes there are in all graphs and functions.
        numbers: How many numbers all tensors hold.
        external: The tensors that are in other files.
    """

    nodes: int = 0
    numbers: int = 0
    external: list[ExternalTensor] = field(default_factory=list)


@dataclass(slots=True)
class _Message:
    """A message that is being passed over."""

    kind: str
    rest: Iterator[Field]
    seen: set[int] = field(default_factory=set)
    kept: list[Field] = field(default_factory=list)


def survey(data: bytes | memoryview) -> Survey:
    """Pass over every message of an ONNX file.

    Raises:
        ValueError: it is no ONNX model, says something twice, is larger than the limits here, or
            has a tensor that claims other than it carries.
    """
    found, count = Survey(), 0
    within = [_Message("ModelProto", _fields(memoryview(data)))]
    while within:
        message = within[-1]
        for number, wire, value in message.rest:
            count += 1
            if count > MAX_FIELDS:
                raise ValueError(f"it has more than the {MAX_FIELDS} fields that are read")
            inner = _inside(message, number, wire, value)
            if inner is not None:
                within.append(_begun(*inner, found, len(within)))
                break
        else:
            if message.kind == "TensorProto":
                _check_tensor(message.kept, found)
            within.pop()
    _check_joined(memoryview(data))
    return found


def _check_joined(model: memoryview) -> None:
    """Refuse constants that are joined with themselves again and again.

    Engines join them while they read a file, before anybody can ask them for a size. A message has
    at least as many bytes as numbers, so its length stands for theirs.
    """
    most = max(len(model), MAX_JOINED_BYTES)
    lengths: dict[str, int] = {}
    for number, part in _graph_parts(model):
        if number == _INITIALIZER:
            lengths[_texts(part, 8)[0]] = len(part)
            continue
        inputs, outputs, (operator,) = (_texts(part, n) for n in (1, 2, 4))
        if operator == "Shape":
            length = MAX_RANK
        elif not all(name in lengths for name in inputs if name):
            continue  # it depends on the image
        else:
            read = [lengths.get(name, 0) for name in inputs]
            length = sum(read) if operator == "Concat" else max(read, default=len(part))
        if length > most:
            raise ValueError(f"it joins constants to more than the {most} numbers that are read")
        lengths |= dict.fromkeys(outputs, length)


def _graph_parts(model: memoryview) -> list[tuple[int, memoryview]]:
    """(number, bytes) of the initializers of the graph, then of its nodes in order."""
    graphs = [v for n, _, v in _fields(model) if n == 7 and isinstance(v, memoryview)]
    parts = [
        (number, value)
        for graph in graphs
        for number, _, value in _fields(graph)
        if number in (_NODE, _INITIALIZER) and isinstance(value, memoryview)
    ]
    return sorted(parts, key=lambda part: -part[0])


def _texts(message: memoryview, wanted: int) -> list[str]:
    """Of a field; one that is empty where there is none."""
    found = (v for number, _, v in _fields(message) if number == wanted)
    return [_text(value) for value in found if isinstance(value, memoryview)] or [""]


def _inside(
    message: _Message, number: int, wire: int, value: int | memoryview
) -> tuple[str, memoryview] | None:
    """The kind and the bytes of a field that is a message; others are checked."""
    name = MESSAGES[message.kind].get(number)
    if name is None:
        return None
    if message.kind == "TensorProto":
        message.kept.append((number, wire, value))
    if name[0] != "*":
        # Parsers merge two messages, or take the last of two numbers: so that all read the same
        # there must be one, as everybody writes it.
        if number in message.seen:
            raise ValueError(f"it has field {number} of a {message.kind} twice")
        message.seen.add(number)
    if not isinstance(value, memoryview):
        return None
    name = name.removeprefix("*")
    if name == _TEXT:
        _text(value)
    return None if name in (_TEXT, _OTHER) else (name, value)


def _begun(kind: str, value: memoryview, found: Survey, depth: int) -> _Message:
    """A message inside others, if there may be one more."""
    if depth == MAX_DEPTH:
        raise ValueError(f"it has more than {MAX_DEPTH} messages inside each other")
    if kind == "SparseTensorProto":
        raise ValueError("it has a sparse tensor, which no engine here takes")
    if kind == "NodeProto":
        found.nodes += 1
        if found.nodes > MAX_NODES:
            raise ValueError(f"it has more than the {MAX_NODES} nodes that are read")
    return _Message(kind, _fields(value))


def _check_tensor(fields: list[Field], found: Survey) -> None:
    """Hold a tensor's shape against its bytes."""
    given = {n: v for n, wire, v in fields if n in (2, 14) and wire == _VARINT}
    name = next((_text(v) for n, _, v in fields if n == 8 and isinstance(v, memoryview)), "")
    if any(n == 3 for n, _, _ in fields):
        raise ValueError(f"its tensor {name!r} is a segment of another, which no ONNX reader takes")
    dims = [_signed(dim) for dim in _varints(fields, 1)]
    if len(dims) > MAX_RANK or min(dims, default=0) < 0:
        raise ValueError(f"its tensor {name!r} has the shape {_shown(dims)}")
    kind = int(given.get(2, 0)) & 0xFFFFFFFF
    claimed = math.prod(dims)
    if int(given.get(14, 0)) & 0xFFFFFFFF == _EXTERNAL:
        if kind not in BITS:
            raise ValueError(f"its tensor {name!r} is in another file, but of type {kind}")
        found.external.append(_external(fields, -(-claimed * BITS[kind] // 8), name))
    elif claimed != (carried := _carried(fields, kind, claimed, name)):
        raise ValueError(
            f"its tensor {name!r} has the shape {_shown(dims)}, which are {claimed} numbers, but "
            f"it carries {carried}"
        )
    found.numbers += claimed


def _carried(fields: list[Field], kind: int, claimed: int, name: str) -> int:
    """How many numbers of its type a tensor holds in itself."""
    lengths: Counter[int] = Counter()
    for number, _, value in fields:
        if number in _VALUES:
            lengths[number] += _length(number, value, name)
    used = [number for number, length in lengths.items() if length]
    if len(used) > 1:
        raise ValueError(f"its tensor {name!r} has values in more than one field")
    if not used:
        return 0
    (number,) = used
    is_text = number == _STRINGS
    if kind not in (*BITS, _STRING) or (kind == _STRING) != is_text:
        raise ValueError(f"its tensor {name!r} has values of no type that ONNX has")
    length, bits = lengths[number], BITS.get(kind, 0)
    if number == _RAW or bits in (2, 4):
        return _numbers(claimed, length * 8 // bits, bits)
    return length // _PARTS.get(kind, 1)


def _length(number: int, value: int | memoryview, name: str) -> int:
    """Numbers in one field of values; bytes of raw data."""
    if number == _STRINGS or not isinstance(value, memoryview):
        return 1
    if number in _VARINTS:
        if len(value) > MAX_PACKED_BYTES:
            raise ValueError(
                f"its tensor {name!r} has more varints than the {MAX_PACKED_BYTES} read"
            )
        return len(value.tobytes().translate(None, _CONTINUED))
    return len(value) // _FIXED.get(number, 1)


def _numbers(claimed: int, most: int, bits: int) -> int:
    """Of types smaller than a byte, the last byte may be partly filled."""
    return claimed if bits < 8 and -(-claimed * bits // 8) * 8 // bits == most else most


def _external(fields: list[Field], size_bytes: int, name: str) -> ExternalTensor:
    """Where a tensor's bytes are, as its shape and its entries say."""
    entries: dict[str, str] = {}
    for number, _, value in fields:
        if number == 13 and isinstance(value, memoryview):
            key, text = _entry(value)
            if key in entries:
                raise ValueError(f"its tensor {name!r} has {key!r} twice")
            entries[key] = text
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0" if key == "offset" else str(size_bytes))
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise ValueError(f"its tensor {name!r} has an {key} of {text[:40]!r}")
        numbers[key] = int(text)
    if numbers["length"] != size_bytes:
        raise ValueError(
            f"its tensor {name!r} has {size_bytes} bytes by its shape, but {numbers['length']} in "
            "another file"
        )
    return ExternalTensor(
        location=entries.get("location", ""), offset=numbers["offset"], size_bytes=size_bytes
    )


def _varints(fields: list[Field], wanted: int) -> list[int]:
    """All numbers of a repeated field, packed or not."""
    found: list[int] = []
    for number, wire, value in fields:
        if number != wanted:
            continue
        if not isinstance(value, memoryview):
            found += [value] if wire == _VARINT else []
            continue
        at = 0
        while at < len(value) and len(found) <= MAX_RANK:
            one, at = _varint(value, at)
            found.append(one)
    return found


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shown(dims: list[int]) -> str:
    rest = ", ..." if len(dims) > MAX_RANK else ""
    return f"({', '.join(map(str, dims[:MAX_RANK]))}{rest})"


def onnx_nodes(data: bytes) -> Iterator[tuple[str, str]]:
    """(operator, name) of each node of an ONNX file: GraphProto.node of ModelProto.graph.

    Raises:
        ValueError: the bytes are no ONNX model.
    """
    for number, part in _graph_parts(memoryview(data)):
        if number == _NODE:
            yield _texts(part, 4)[0], _texts(part, 3)[0]


def onnx_metadata(data: bytes) -> dict[str, str]:
    """ModelProto.metadata_props: field 14, each a StringStringEntryProto (onnx.proto).

    Raises:
        ValueError: the bytes are no ONNX model, or a key is there twice.
    """
    pairs: dict[str, str] = {}
    for number, _, value in _fields(memoryview(data)):
        if number == 14 and isinstance(value, memoryview):
            key, text = _entry(value)
            if key in pairs:
                raise ValueError(f"it has the metadata {key[:80]!r} twice")
            pairs[key] = text
    return pairs


def _entry(message: memoryview) -> tuple[str, str]:
    """The key and the value of a StringStringEntryProto."""
    entry = {k: _text(v) for k, _, v in _fields(message) if isinstance(v, memoryview)}
    return entry.get(1, ""), entry.get(2, "")


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _fields(message: memoryview) -> Iterator[Field]:
    """The fields of one protobuf message, nested messages unread."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        value: int | memoryview
        if wire == _BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire == _VARINT:
            value, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            value, at = int.from_bytes(message[at : at + length], "little"), at + length
        else:
            raise ValueError(f"it has a field of wire type {wire}")
        if at > end or not 8 <= tag < 1 << 32:
            raise ValueError("it ends inside a field, or has one without a number")
        yield tag >> 3, wire, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, end = 0, len(message)
    if at < end and message[at] < 0x80:  # as nearly all are
        return message[at], at + 1
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it has a number of more than ten bytes")
