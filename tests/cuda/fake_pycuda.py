"""A fake of the module pycuda.driver, as far as fcn_trt uses it, on a fake GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.cuda.fake_gpu import FakeGpu
from tests.cuda.fake_objects import (
    Context,
    Device,
    DeviceAllocation,
    Event,
    Module,
    PagelockedHostAllocation,
    Stream,
)
from tests.cuda.fake_state import CUresult, Refused, StreamState

HOST_MODULE = b"host:"
HOST_DEVICEMAP = 2


class PyCuda:
    """The module pycuda.driver; one set of error classes per fake."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        # Named by what PyCUDA calls them; two of the names are builtins.
        error = self.Error = type("Error", (Exception,), {})
        self.MemoryError = type("MemoryError", (error,), {})
        self.LogicError = type("LogicError", (error,), {})
        self.LaunchError = type("LaunchError", (error,), {})
        self.RuntimeError = type("RuntimeError", (error,), {})
        self.device_attribute = SimpleNamespace(INTEGRATED="integrated")
        self.event_flags = SimpleNamespace(DEFAULT=0, BLOCKING_SYNC=1, DISABLE_TIMING=2)
        self.host_alloc_flags = SimpleNamespace(PORTABLE=1, DEVICEMAP=2, WRITECOMBINED=4)
        self.Device = self._bind(Device)
        self.Stream = self._bind(Stream)
        self.Event = self._bind(Event)
        self.Context = type("Context", (Context,), {"_library": self})

    def init(self, flags: int = 0) -> None:
        with self.told():
            self.gpu.begin("cuInit", context=False)

    def mem_get_info(self) -> tuple[int, int]:
        with self.told():
            self.gpu.begin("cuMemGetInfo")
            return self.gpu.free_bytes(), self.gpu.memory_bytes

    def mem_alloc(self, size: int) -> DeviceAllocation:
        with self.told():
            block = self.gpu.allocate("cuMemAlloc", "device", size)
        return DeviceAllocation(self, block)

    def pagelocked_empty(
        self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0
    ) -> np.ndarray[Any, Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        mapped = bool(int(mem_flags) & HOST_DEVICEMAP)
        with self.told():
            block = self.gpu.allocate("cuMemHostAlloc", "pinned", size, is_mapped=mapped)
        base = PagelockedHostAllocation(self, block, shape, np.dtype(dtype))
        return np.asarray(base)

    def memcpy_htod_async(self, dest: int, src: Any, stream: Stream | None = None) -> None:
        routine = "cuMemcpyHtoDAsync"
        source = np.asarray(src)
        self._copy(routine, int(dest), source.ctypes.data, source.nbytes, stream, host="source")

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Stream | None = None) -> None:
        routine = "cuMemcpyDtoHAsync"
        target = np.asarray(dest)
        self._copy(routine, target.ctypes.data, int(src), target.nbytes, stream, host="target")

    def memcpy_dtod_async(
        self, dest: int, src: int, size: int, stream: Stream | None = None
    ) -> None:
        self._copy("cuMemcpyDtoDAsync", int(dest), int(src), size, stream, host="")

    def memset_d8_async(
        self, dest: int, data: int, size: int, stream: Stream | None = None
    ) -> None:
        routine = "cuMemsetD8Async"
        with self.told():
            self.gpu.begin(routine)
            state = self.state_of(routine, stream)
            block = self.gpu.block_at(routine, int(dest), size)
            self.gpu.put(state, routine, partial(ctypes.memset, int(dest), data, size), [block])

    def module_from_buffer(
        self, buffer: bytes, options: Any = (), message_handler: Any = None
    ) -> Module:
        routine = "cuModuleLoadDataEx"
        with self.told():
            self.gpu.begin(routine, unsafe=True)
            if not bytes(buffer).startswith(HOST_MODULE):
                log = "error   : Not a cubin\n\0\0"
                raise Refused(routine, CUresult.CUDA_ERROR_INVALID_IMAGE, log)
        return Module(self, ctypes.CDLL(bytes(buffer).removeprefix(HOST_MODULE).decode()))

    def _copy(
        self, routine: str, target: int, source: int, size: int, stream: Stream | None, *, host: str
    ) -> None:
        with self.told():
            self.gpu.begin(routine)
            state = self.state_of(routine, stream)
            blocks = [
                self.gpu.block_at(routine, target, size, host=host == "target"),
                self.gpu.block_at(routine, source, size, host=host == "source"),
            ]
            self.gpu.put(state, routine, partial(ctypes.memmove, target, source, size), blocks)

    def state_of(self, routine: str, stream: Stream | None) -> StreamState:
        if stream is None:
            raise self.gpu.misuse(f"{routine}: on the default stream, which waits for all others")
        return self.gpu.stream(routine, stream.handle)

    def _bind(self, kind: Any) -> Callable[..., Any]:
        made: Callable[..., Any] = type(kind.__name__, (kind,), {"_library": self})
        return made

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the driver refuses, as PyCUDA tells it."""
        try:
            yield
        except Refused as refused:
            kind = self.LogicError
            if refused.status in (701, 719):
                kind = self.LaunchError
            elif refused.status == 2:
                kind = self.MemoryError
            elif refused.status in (100, 209, 600):
                kind = self.RuntimeError
            # PyCUDA's code is C++: no frame of it keeps an object alive.
            raise kind(str(refused.with_traceback(None))) from None

    def current(self) -> Any:
        """PyCUDA's current context: the topmost that is valid."""
        stack = self.gpu.thread().pycuda
        while stack and not stack[-1].is_valid:
            stack.pop()
        return stack[-1] if stack else None
