"""Memory on the GPU, memory of the host that the GPU reaches, and arrays of other libraries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fcn_trt.cuda.context import DeviceContext, DeviceObject
from fcn_trt.cuda.driver import cuda_errors, load_driver
from fcn_trt.cuda.stream import Stream

__all__ = [
    "DeviceArray",
    "DeviceBuffer",
    "PinnedBuffer",
    "copy_on_device",
    "copy_to_device",
    "copy_to_host",
    "device_array",
]


class _Buffer(DeviceObject):
    """Memory that the GPU reaches.

    Attributes:
        size_bytes: How much.
    """

    place: ClassVar[str]
    """Where it is, for "allocate 1 bytes ..."."""

    def __init__(self, context: DeviceContext, size_bytes: int) -> None:
        """Allocate it; what is in it is not defined.

        Raises:
            ValueError: size_bytes is not positive.
            EngineError: the memory is not there.
        """
        if size_bytes <= 0:
            raise ValueError(f"a buffer has at least 1 byte, not {size_bytes}")
        self.size_bytes = size_bytes
        super().__init__(context, self._allocate, work=f"allocate {size_bytes} bytes {self.place}")

    def _allocate(self) -> Any:
        raise NotImplementedError


class DeviceBuffer(_Buffer):
    """Bytes on the GPU, aligned to 256."""

    noun = "device buffer"
    place = "on the GPU"

    @property
    def address(self) -> int:
        """Where it begins, in the GPU's addresses."""
        return int(self.raw)

    def fill_zero(self, stream: Stream) -> None:
        """Fill it with zero bytes, in the stream's order."""
        with self.context.active(), cuda_errors("fill a device buffer"):
            load_driver().cuda.memset_d8_async(self.address, 0, self.size_bytes, stream.raw)

    def _allocate(self) -> Any:
        return load_driver().cuda.mem_alloc(self.size_bytes)

    def _free(self, raw: Any) -> None:
        raw.free()


class PinnedBuffer(_Buffer):
    """Page-locked memory of the host, which the GPU copies from and to without the processor.

    On an integrated GPU it is mapped as well, and kernels use it in place.
    """

    noun = "pinned buffer"
    place = "of page-locked memory"
    _device_address: int | None = None

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """(size_bytes,) uint8 view of it. No view may be used after `close`: its memory is gone."""
        array: npt.NDArray[np.uint8] = self.raw
        return array

    @property
    def device_address(self) -> int | None:
        """Where kernels find it on an integrated GPU; None elsewhere: then copies are needed."""
        _ = self.raw  # which refuses where it is closed
        return self._device_address

    def _allocate(self) -> Any:
        cuda = load_driver().cuda
        mapped = self.context.is_integrated
        flags = int(cuda.host_alloc_flags.DEVICEMAP) if mapped else 0
        array = cuda.pagelocked_empty(self.size_bytes, np.uint8, mem_flags=flags)
        if mapped:
            try:
                self._device_address = int(array.base.get_device_pointer())
            except cuda.Error:
                array.base.free()
                raise
        return array

    def _free(self, raw: Any) -> None:
        raw.base.free()


def copy_to_device(address: int, source: PinnedBuffer, size_bytes: int, stream: Stream) -> None:
    """Copy from the host to the GPU, in the stream's order; the source stays as it is until then.

    Args:
        address: Where to, on the GPU.
        source: Where from, from its first byte.

    Raises:
        ValueError: the source is smaller.
        EngineError: the driver refuses.
    """
    _require_fit(size_bytes, source)
    with stream.context.active(), cuda_errors("copy to the GPU"):
        load_driver().cuda.memcpy_htod_async(address, source.array[:size_bytes], stream.raw)


def copy_to_host(target: PinnedBuffer, address: int, size_bytes: int, stream: Stream) -> None:
    """Copy from the GPU to the host, in the stream's order; the target is valid after a wait.

    Args:
        target: Where to, from its first byte.
        address: Where from, on the GPU.

    Raises:
        ValueError: the target is smaller.
        EngineError: the driver refuses.
    """
    _require_fit(size_bytes, target)
    with stream.context.active(), cuda_errors("copy from the GPU"):
        load_driver().cuda.memcpy_dtoh_async(target.array[:size_bytes], address, stream.raw)


def copy_on_device(target: int, source: int, size_bytes: int, stream: Stream) -> None:
    """Copy from one place of the GPU's memory to another, in the stream's order.

    Args:
        target: Address to copy to.
        source: Address to copy from; the two do not overlap.

    Raises:
        EngineError: the driver refuses.
    """
    with stream.context.active(), cuda_errors("copy on the GPU"):
        load_driver().cuda.memcpy_dtod_async(target, source, size_bytes, stream.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceArray:
    """A contiguous array on the GPU, whoever made it.

    Attributes:
        shape: Its dimensions.
        dtype: NumPy's name for its elements.
        address: Where it begins.
        owner: What keeps the memory alive.
        stream: Handle of the stream whose work must be done before it is read; None where all is.
        is_read_only: Whether its owner forbids to write to it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int
    owner: object
    stream: int | None = None
    is_read_only: bool = False

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What torch, CuPy and Numba read, version 3."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, self.is_read_only),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }


def device_array(source: object) -> DeviceArray:
    """Read an array on the GPU from its `__cuda_array_interface__`, without a copy.

    Args:
        source: Such as a torch tensor on the GPU or a CuPy array.

    Raises:
        TypeError: it has no such interface.
        ValueError: it is empty, masked, or not C-contiguous.
    """
    interface = getattr(source, "__cuda_array_interface__", None)
    if not isinstance(interface, Mapping):
        raise TypeError(
            f"an array on the GPU has __cuda_array_interface__, which {type(source).__name__} lacks"
        )
    shape = tuple(int(length) for length in interface["shape"])
    dtype: np.dtype[Any] = np.dtype(interface["typestr"])
    if interface.get("mask") is not None:
        raise ValueError("a masked array on the GPU is not taken; fill its gaps first")
    if math.prod(shape) == 0:
        raise ValueError(f"an array on the GPU of shape {shape} is empty")
    strides = interface.get("strides")
    if strides is not None and not _is_contiguous(shape, tuple(strides), dtype.itemsize):
        raise ValueError(
            f"an array on the GPU of shape {shape} and strides {tuple(strides)} is not "
            "C-contiguous; make a contiguous copy first"
        )
    stream = interface.get("stream")
    return DeviceArray(
        shape=shape,
        dtype=dtype,
        address=int(interface["data"][0]),
        owner=source,
        stream=None if stream is None else int(stream),
        is_read_only=bool(interface["data"][1]),
    )


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        # The stride of a dimension of one element is never used.
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True


def _require_fit(size_bytes: int, buffer: PinnedBuffer) -> None:
    if not 0 < size_bytes <= buffer.size_bytes:
        raise ValueError(
            f"a copy of {size_bytes} bytes does not fit a pinned buffer of {buffer.size_bytes}"
        )
