"""numpy arrays to the GPU and back, for tests; each transfer waits."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import numpy.typing as npt

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stream import Stream

__all__ = ["GUARD_BYTES", "Arrays"]

GUARD_BYTES = 256
"""Behind every array lie so many bytes that no kernel may touch."""

_GUARD = 0xA5


class Arrays:
    """Memory of one test."""

    def __init__(self, context: DeviceContext, stream: Stream) -> None:
        self._context, self._stream = context, stream
        self._stack = ExitStack()

    def upload(self, array: npt.NDArray[Any]) -> int:
        """Address of a copy of it on the GPU."""
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer = DeviceBuffer(self._context, flat.size + GUARD_BYTES)
        self._stack.callback(buffer.close)
        with closing(PinnedBuffer(self._context, buffer.size_bytes)) as host:
            host.array[: flat.size] = flat
            host.array[flat.size :] = _GUARD
            copy_to_device(buffer.address, host, buffer.size_bytes, self._stream)
            self._stream.synchronize()
        return buffer.address

    def room(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
        """Address of memory for such an array, full of what no kernel writes everywhere."""
        return self.upload(np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xEE, np.uint8))

    def download(
        self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        """A copy of an array that was uploaded or given room, when the stream's work is done."""
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with closing(PinnedBuffer(self._context, size_bytes + GUARD_BYTES)) as host:
            copy_to_host(host, address, host.size_bytes, self._stream)
            self._stream.synchronize()
            found = host.array.copy()
        assert (found[size_bytes:] == _GUARD).all(), "something was written behind the array"
        array: npt.NDArray[Any] = found[:size_bytes].view(dtype).reshape(shape)
        return array

    def close(self) -> None:
        """Free all of it."""
        self._stack.close()
