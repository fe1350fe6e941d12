"""Tensors as a file describes them: their numbers stay in its bytes until they are read.

What a file says of a tensor is a claim, and costs nothing: a few bytes may claim billions of
numbers, or numbers that the file does not store.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from fcn_trt.errors import CheckpointError

__all__ = [
    "ITEM_BYTES",
    "MAX_DIMENSIONS",
    "Storage",
    "StoredTensor",
    "Tensors",
    "contiguous_strides",
]

MAX_DIMENSIONS = 8
MAX_NUMBER = 1 << 63
"""Of what sizes, strides and offsets are below in PyTorch."""

ITEM_BYTES = {
    **dict.fromkeys(("bool", "int8", "uint8", "qint8", "quint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float8_e8m0fnu", "float4_e2m1fn_x2", "bits1x8", "bits2x4"), 1),
    **dict.fromkeys(("bits4x2", "bits8"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16", "bits16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "qint32", "complex32", "bcomplex32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
"""PyTorch's types and how large one element is."""
_NOT_CONVERTED = ("float4_", "float6_")


@dataclass(slots=True, eq=False)
class Storage:
    """A piece of the file that tensors lie in.

    Attributes:
        dtype: Of its elements, as PyTorch calls it.
        data: Its bytes, which are those of the file and no copy.
    """

    dtype: str
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredTensor:
    """A tensor that a file claims to hold.

    Attributes:
        dtype: As PyTorch calls it.
        shape: Sizes.
        strides: Elements from one to the next, per dimension.
        offset: Elements of the storage before the first.
        storage: Where its numbers are; None if it has none in one piece.
        layout: "strided", or what else it is, such as "sparse_coo".
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] = ()
    offset: int = 0
    storage: Storage | None = None
    layout: str = "strided"

    def __post_init__(self) -> None:
        claimed: tuple[Any, ...] = (self.shape, self.strides, (self.offset,))
        for sizes in claimed:
            is_short = isinstance(sizes, tuple) and len(sizes) <= MAX_DIMENSIONS
            if not (is_short and all(map(_is_size, sizes))):
                raise ValueError("a tensor has sizes or strides that are none")
        if self.storage is not None and len(self.shape) != len(self.strides):
            raise ValueError("a tensor has not as many strides as sizes")

    @property
    def is_floating_point(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype.startswith(("float", "bfloat"))

    @property
    def bytes_claimed(self) -> int:
        """How many bytes its elements take where none shares its place with another."""
        return math.prod(self.shape) * ITEM_BYTES.get(self.dtype, 0)

    @property
    def fault(self) -> str | None:
        """What keeps its values from being read as float32, to stand behind its name; or None."""
        if not self.is_floating_point or self.layout != "strided" or self.storage is None:
            kind = self.layout if self.is_floating_point else self.dtype
            return f"holds {kind} values instead of plain numbers"
        if self.dtype.startswith(_NOT_CONVERTED):
            return (
                f"is {self.dtype} of shape {self.shape}, which does not become float32 here; save "
                "the weights as float32"
            )
        size, stored = ITEM_BYTES[self.dtype], len(self.storage.data)
        repeats = any(n > 1 and by == 0 for n, by in zip(self.shape, self.strides, strict=True))
        is_beyond = (self.offset + self._extent) * size > stored
        if repeats or is_beyond or self.bytes_claimed > stored:
            return (
                f"claims to be {self.dtype} of shape {self.shape}, and the file stores "
                f"{stored // size} numbers for it; save a clone() of it"
            )
        return None

    def read(self) -> torch.Tensor:
        """Its values as contiguous float32 in memory of their own.

        Raises:
            CheckpointError: they are no plain numbers, or the file does not store them.
        """
        if self.fault or self.storage is None:
            raise CheckpointError(f"a tensor of the checkpoint {self.fault}")
        if 0 in self.shape:
            return torch.empty(self.shape)
        size = ITEM_BYTES[self.dtype]
        start, stop = self.offset * size, (self.offset + self._extent) * size
        # A bytearray, as PyTorch warns of memory that must not be written.
        copied = torch.frombuffer(
            bytearray(self.storage.data[start:stop]), dtype=getattr(torch, self.dtype)
        )
        return copied.as_strided(self.shape, self.strides).float().contiguous()

    @property
    def _extent(self) -> int:
        """Elements from its first to its last in the storage."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * by for n, by in zip(self.shape, self.strides, strict=True))


Tensors = dict[str, StoredTensor]
"""Tensors of one model by their names."""


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor whose elements follow each other."""
    return tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < MAX_NUMBER
