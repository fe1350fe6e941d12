"""Runs what tests/cuda runs on the host, on the GPU: the same launch, on copies of its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.launch import Kernels
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stage_launches import LAYOUTS, SIGNATURES, Launch
from fcn_trt.cuda.stream import Stream

__all__ = ["DeviceRun"]

ALIGNMENT = 256
PATTERN = 0xA5
PALETTE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _Copy:
    """An array's bytes on the GPU, at an address that is aligned as its own, between two guards."""

    argument: int
    host_address: int
    size_bytes: int
    offset: int
    buffer: DeviceBuffer
    staging: PinnedBuffer


class DeviceRun:
    """Launches kernels on the GPU whose arguments point to the host's memory.

    Args:
        context: The GPU.
        cubins: Its kernels.
        stream: Where they run; each launch is waited for.
    """

    def __init__(self, context: DeviceContext, cubins: Mapping[str, bytes], stream: Stream) -> None:
        self._context, self._stream = context, stream
        self._stack = ExitStack()
        sets = {file: Kernels(context, cubin) for file, cubin in cubins.items()}
        for kernels in sets.values():
            self._stack.callback(kernels.close)
        self._kernels = {
            name: sets[f"{name.partition('_')[0]}.cubin"].function(name, signature)
            for name, signature in SIGNATURES.items()
        }

    def __call__(self, launch: Launch) -> None:
        """Copy what it points to, run it, and copy that back."""
        with ExitStack() as memory:
            copies = [
                self._copy(argument, int(launch.arguments[argument]), size_bytes, memory)
                for argument, size_bytes in spans(launch)
            ]
            arguments = list(launch.arguments)
            for copy in copies:
                arguments[copy.argument] = copy.buffer.address + copy.offset
            kernel = self._kernels[launch.kernel]
            kernel.launch(self._stream, launch.grid, launch.block, *arguments)
            for copy in copies:
                self._copy_back(copy)

    def close(self) -> None:
        """Unload the kernels."""
        self._stack.close()

    def _copy(self, argument: int, host_address: int, size_bytes: int, memory: ExitStack) -> _Copy:
        offset = ALIGNMENT + host_address % ALIGNMENT
        whole_bytes = offset + size_bytes + ALIGNMENT
        buffer = DeviceBuffer(self._context, whole_bytes)
        memory.callback(buffer.close)
        staging = PinnedBuffer(self._context, whole_bytes)
        memory.callback(staging.close)
        staging.array[:] = PATTERN
        inside = staging.array[offset : offset + size_bytes]
        ctypes.memmove(inside.ctypes.data, host_address, size_bytes)
        copy_to_device(buffer.address, staging, whole_bytes, self._stream)
        return _Copy(argument, host_address, size_bytes, offset, buffer, staging)

    def _copy_back(self, copy: _Copy) -> None:
        staging = copy.staging
        copy_to_host(staging, copy.buffer.address, staging.size_bytes, self._stream)
        self._stream.synchronize()
        end = copy.offset + copy.size_bytes
        outside = np.concatenate([staging.array[: copy.offset], staging.array[end:]])
        assert (outside == PATTERN).all(), "bytes outside of the array were overwritten"
        inside = staging.array[copy.offset : end]
        ctypes.memmove(copy.host_address, inside.ctypes.data, copy.size_bytes)


def spans(launch: Launch) -> list[tuple[int, int]]:
    """(number of the argument, bytes it points to) of each address that is not null."""
    a = [int(argument) for argument in launch.arguments]
    item_bytes = 2 if launch.kernel.endswith("float16") else 4
    if launch.kernel.startswith("preprocess"):
        found = [(0, frame_bytes(a[1], a[3], a[4])), (5, 3 * a[6] * a[7] * item_bytes)]
    elif launch.kernel.startswith("decode"):
        found = [(0, a[1] * a[2] * a[3] * item_bytes), (4, a[5] * a[6])]
        found += [(8, a[5] * a[6])] if len(a) > 8 else []
    else:
        pixels = a[6] * a[7]
        found = [(0, frame_bytes(a[6], a[1], a[2])), (3, pixels)]
        found += [(4, PALETTE_BYTES), (5, 3 * pixels)]
    return [(argument, size_bytes) for argument, size_bytes in found if a[argument]]


def frame_bytes(height: int, pitch_bytes: int, layout: int) -> int:
    """All rows of a frame, with those of the colours of NV12."""
    return (height * 3 // 2 if LAYOUTS[layout] == "nv12" else height) * pitch_bytes
