"""What safetensors writes: a header of JSON, and the numbers of all tensors without a gap.

Source: huggingface/safetensors README.md, "Format".
"""

from __future__ import annotations

import math
from typing import Any

from fcn_trt.foreign import parse_json
from fcn_trt.model.inert_pickle import DamagedError
from fcn_trt.model.stored_tensor import (
    MAX_DIMENSIONS,
    Storage,
    StoredTensor,
    Tensors,
    contiguous_strides,
)

__all__ = ["MAX_HEADER_BYTES", "read_safetensors"]

MAX_HEADER_BYTES = 1 << 22
"""A hundred bytes per tensor; the format itself allows 100 MB, which would take gigabytes."""
_LENGTH_BYTES = 8
_TYPES = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
    "C64": ("complex64", 64),
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F4": ("float4_e2m1fn_x2", 4),
    "F6_E2M3": ("float6_e2m3fn", 6),
    "F6_E3M2": ("float6_e3m2fn", 6),
}
"""What PyTorch calls each type, and its bits."""


def read_safetensors(data: bytes) -> tuple[Tensors, dict[str, Any]]:
    """The tensors, and the metadata.

    Raises:
        DamagedError: the bytes are not what safetensors writes.
    """
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    if start > min(len(data), _LENGTH_BYTES + MAX_HEADER_BYTES):
        raise DamagedError(f"its header is cut off, or has over {MAX_HEADER_BYTES} bytes")
    try:
        header = parse_json(data[_LENGTH_BYTES:start])
        metadata = header.pop("__metadata__", {})
        tensors = _tensors(header, memoryview(data)[start:])
        is_text = all(isinstance(value, str) for value in metadata.values())
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedError("its header is not as safetensors writes it") from error
    if not is_text:
        raise DamagedError("its metadata holds other things than texts")
    return tensors, metadata


def _tensors(header: dict[str, Any], numbers: memoryview) -> Tensors:
    """In the order of their numbers, which follow each other without a gap."""
    tensors, end = {}, 0
    for name, said in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = said["data_offsets"]
        (dtype, bits), shape = _TYPES[said["dtype"]], tuple(said["shape"])
        strides = contiguous_strides(shape) if len(shape) <= MAX_DIMENSIONS else ()
        storage = Storage(dtype, numbers[begin:stop])
        tensor = StoredTensor(dtype=dtype, shape=shape, strides=strides, storage=storage)
        if begin != end or 8 * len(storage.data) != math.prod(shape) * bits:
            raise ValueError("a tensor has not the bytes that it needs")
        tensors[name], end = tensor, stop
    if end != len(numbers):
        raise ValueError("there are bytes that belong to no tensor")
    return tensors
