"""The objects of a fake pycuda.driver: contexts, streams, events, memory, modules, functions.

They follow PyCUDA 2026.1's source (src/cpp/cuda.hpp): the context stack of each thread beside the
driver's own, objects that remember the context that was current when they were made, streams,
events and modules that only their last reference destroys. Where PyCUDA warns or leaks, the fake
records a misuse.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.cuda.fake_state import EVENT_DISABLE_TIMING, Block, CUresult, EventState, Refused

if TYPE_CHECKING:
    from tests.cuda.fake_pycuda import PyCuda

# By letter of the module struct.
C_TYPES: dict[str, Any] = {
    "P": ctypes.c_void_p,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


class Device:
    _library: PyCuda

    def __init__(self, ordinal: int) -> None:
        with self._library.told():
            self._library.gpu.begin("cuDeviceGet", context=False)
            if ordinal != 0:
                raise Refused("cuDeviceGet", CUresult.CUDA_ERROR_INVALID_DEVICE)

    def name(self) -> str:
        return "Fake GPU"

    def compute_capability(self) -> tuple[int, int]:
        return self._library.gpu.capability

    def get_attribute(self, attribute: str) -> int:
        assert attribute == "integrated"
        return int(self._library.gpu.is_integrated)

    def retain_primary_context(self) -> Any:
        with self._library.told():
            self._library.gpu.begin("cuDevicePrimaryCtxRetain", context=False)
        self._library.gpu.retained += 1
        return self._library.Context()


class Context:
    _library: PyCuda

    def __init__(self) -> None:
        self.is_valid = True
        self.handle = self._library.gpu.primary_handle
        self._thread = self._library.gpu.thread()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.handle == other.handle

    __hash__ = object.__hash__

    def push(self) -> None:
        gpu = self._library.gpu
        state = gpu.thread()
        with self._library.told():
            gpu.begin("cuCtxPushCurrent", context=False)
        if not gpu.retained:
            raise gpu.misuse("cuCtxPushCurrent: the context was released")
        # PyCUDA keeps only the topmost context of its stack on the driver's.
        if state.pycuda:
            state.driver.pop()
        state.driver.append(self.handle)
        state.pycuda.append(self)

    @classmethod
    def pop(cls) -> None:
        gpu = cls._library.gpu
        state = gpu.thread()
        with cls._library.told():
            gpu.begin("cuCtxPopCurrent", context=False)
            if not state.pycuda:
                raise Refused("context::pop", CUresult.CUDA_ERROR_INVALID_CONTEXT)
        state.driver.pop()
        state.pycuda.pop()
        current = cls._library.current()
        if current is not None:
            state.driver.append(current.handle)

    @classmethod
    def get_current(cls) -> Any:
        return cls._library.current()

    def detach(self) -> None:
        gpu = self._library.gpu
        state = gpu.thread()
        if not self.is_valid:
            with self._library.told():
                raise Refused("context::detach", CUresult.CUDA_ERROR_INVALID_CONTEXT)
        was_active = self._library.current() is self
        if not was_active and self._thread is not state:
            raise gpu.misuse("Context.detach: in another thread it releases nothing")
        if not was_active:
            state.driver.append(self.handle)
        gpu.calls["cuDevicePrimaryCtxRelease"] += 1
        gpu.retained -= 1
        if not gpu.retained and gpu.leaks():
            gpu.misuse(f"the context was released before {gpu.leaks()}")
        self.is_valid = False
        # Releasing a primary context does not pop it, whatever PyCUDA's source expects.
        current = self._library.current()
        if was_active and current is not None:
            state.driver.append(current.handle)

    def __del__(self) -> None:
        if self.is_valid:
            self._library.gpu.misuse("a context was left to the garbage collector")


class ContextDependent:
    """What remembers the context that was current when it was made."""

    _library: PyCuda

    def _acquire(self) -> None:
        self._context = self._library.current()
        if self._context is None:
            words = f"{type(self).__name__}: no currently active context"
            raise self._library.gpu.misuse(words)

    def _is_reachable(self) -> bool:
        """Whether PyCUDA can free this in this thread; what it cannot is recorded."""
        kind = type(self).__name__
        if not self._context.is_valid:
            self._library.gpu.misuse(f"{kind}: freed after its context was released")
        elif self._library.current() is not self._context:
            self._library.gpu.misuse(f"{kind}: freed with another context current")
        else:
            return True
        return False


class Stream(ContextDependent):
    def __init__(self, flags: int = 0) -> None:
        self._made = False
        self._acquire()
        with self._library.told():
            self._library.gpu.begin("cuStreamCreate")
        if flags != 1:
            self._library.gpu.misuse("cuStreamCreate: a stream that waits for the default stream")
        self._made_state = self._library.gpu.new_stream()
        self.handle = self._made_state.handle
        self._made = True

    def synchronize(self) -> None:
        gpu, state = self._library.gpu, self._made_state
        with self._library.told():
            gpu.begin("cuStreamSynchronize")
            gpu.refuse_waiting("cuStreamSynchronize", state)
            gpu.drain(state)

    def is_done(self) -> bool:
        gpu, state = self._library.gpu, self._made_state
        with self._library.told():
            gpu.begin("cuStreamQuery")
            gpu.refuse_waiting("cuStreamQuery", state)
        was_done = not state.queue
        gpu.step(state)
        return was_done

    def wait_for_event(self, event: Event) -> None:
        with self._library.told():
            self._library.gpu.begin("cuStreamWaitEvent")
            self._library.gpu.wait_for(event.state, self._made_state)

    def __del__(self) -> None:
        if self._made:
            # Even where PyCUDA would leak it, so that one wrong thing is told once.
            self._is_reachable()
            self._library.gpu.destroy_stream(self._made_state)


class Event(ContextDependent):
    def __init__(self, flags: int = 0) -> None:
        self.state = EventState(has_timing=not flags & EVENT_DISABLE_TIMING)
        self._acquire()
        with self._library.told():
            self._library.gpu.begin("cuEventCreate")
        self._library.gpu.events.add(self.state)

    def record(self, stream: Stream | None = None) -> Event:
        with self._library.told():
            self._library.gpu.begin("cuEventRecord")
            state = self._library.state_of("cuEventRecord", stream)
            self._library.gpu.record(self.state, state)
        return self

    def synchronize(self) -> Event:
        with self._library.told():
            mark = self._mark("cuEventSynchronize")
            self._library.gpu.drain(mark.stream, mark)
        return self

    def query(self) -> bool:
        with self._library.told():
            mark = self._mark("cuEventQuery")
        was_done = bool(mark.is_done)
        if not was_done:
            self._library.gpu.step(mark.stream)
        return was_done

    def time_since(self, start: Event) -> float:
        routine = "cuEventElapsedTime"
        with self._library.told():
            self._library.gpu.begin(routine)
            marks = (start.state.mark, self.state.mark)
            if not (start.state.has_timing and self.state.has_timing):
                raise Refused(routine, CUresult.CUDA_ERROR_INVALID_HANDLE)
            if marks[0] is None or marks[1] is None:
                raise Refused(routine, CUresult.CUDA_ERROR_INVALID_HANDLE)
            if not (marks[0].is_done and marks[1].is_done):
                raise Refused(routine, CUresult.CUDA_ERROR_NOT_READY)
            return marks[1].time_ms - marks[0].time_ms

    def _mark(self, routine: str) -> Any:
        self._library.gpu.begin(routine)
        if self.state.is_captured:
            raise Refused(routine, CUresult.CUDA_ERROR_CAPTURED_EVENT)
        if self.state.mark is None:
            raise self._library.gpu.misuse(f"{routine}: the event was never recorded")
        return self.state.mark

    def __del__(self) -> None:
        if self.state in self._library.gpu.events:
            self._is_reachable()
            self._library.gpu.events.remove(self.state)


class Allocation(ContextDependent):
    """Memory: freed by `free`; the destructor would too, which is no way to rely on."""

    _routine = ""

    def __init__(self, library: PyCuda, block: Block) -> None:
        self._library = library
        self._block = block
        self._acquire()

    def free(self) -> None:
        self._library.gpu.require_context(self._routine)
        self._is_reachable()
        try:
            self._library.gpu.free(self._routine, self._block)
        except Refused as refused:
            # PyCUDA prints this and goes on.
            told = "PyCUDA WARNING: a clean-up operation failed (dead context maybe?)"
            print(f"{told}\n{refused}", file=sys.stderr)  # noqa: T201

    def __del__(self) -> None:
        if self._block.is_live:
            self._library.gpu.misuse(f"{self._block.kind} memory was left to the garbage collector")


class DeviceAllocation(Allocation):
    _routine = "cuMemFree"

    def __int__(self) -> int:
        return self._block.address

    __index__ = __int__


class PagelockedHostAllocation(Allocation):
    _routine = "cuMemFreeHost"

    def __init__(self, library: PyCuda, block: Block, shape: Any, dtype: np.dtype[Any]) -> None:
        super().__init__(library, block)
        self.__array_interface__ = {
            "shape": (shape,) if isinstance(shape, int) else tuple(shape),
            "typestr": dtype.str,
            "data": (block.address, False),
            "version": 3,
        }

    def get_device_pointer(self) -> int:
        routine = "cuMemHostGetDevicePointer"
        with self._library.told():
            self._library.gpu.begin(routine)
            if not self._block.is_mapped:
                raise Refused(routine, CUresult.CUDA_ERROR_INVALID_VALUE)
        return self._block.address


class Module(ContextDependent):
    def __init__(self, library: PyCuda, code: ctypes.CDLL) -> None:
        self._library = library
        self.code = code
        self.key = object()
        self._acquire()
        library.gpu.modules.add(self.key)

    def get_function(self, name: str) -> Function:
        routine = "cuModuleGetFunction"
        with self._library.told():
            self._library.gpu.begin(routine)
            if not hasattr(self.code, f"host_{name}"):
                raise Refused(routine, CUresult.CUDA_ERROR_NOT_FOUND)
        return Function(self._library, self, name)

    def __del__(self) -> None:
        if self.key in self._library.gpu.modules:
            self._is_reachable()
            self._library.gpu.modules.remove(self.key)


class Function:
    """Keeps its module loaded, as PyCUDA's does."""

    def __init__(self, library: PyCuda, module: Module, name: str) -> None:
        self._library = library
        self._module = module
        self._name = name
        self.arg_format = ""

    def prepare(self, arg_types: str, texrefs: Any = None) -> Function:
        self.arg_format = "".join(arg_types)
        return self

    def prepared_async_call(
        self, grid: Any, block: Any, stream: Stream, *args: Any, shared_size: int = 0
    ) -> None:
        struct.pack(self.arg_format, *args)
        gpu = self._library.gpu
        with self._library.told():
            gpu.begin("cuLaunchKernel")
            state = self._library.state_of("cuLaunchKernel", stream)
            threads = int(np.prod(block))
            if not 0 < threads <= 1024 or min(grid) < 1 or max(grid[1:]) > 65535:
                raise Refused("cuLaunchKernel", CUresult.CUDA_ERROR_INVALID_VALUE)
            pointers = zip(self.arg_format, args, strict=True)
            used = [gpu.block_at(self._name, int(a)) for c, a in pointers if c == "P" and a]
            gpu.put(state, self._name, self._host_call(grid, block, args), used)

    def _host_call(self, grid: Any, block: Any, args: tuple[Any, ...]) -> Callable[[], None]:
        """What runs later; it does not keep the module loaded, as a launch does not."""
        gpu, name, module = self._library.gpu, self._name, self._module.key
        code = getattr(self._module.code, f"host_{name}")
        code.restype = ctypes.c_char_p
        values = [C_TYPES[c](a) for c, a in zip(self.arg_format, args, strict=True)]
        grid_c, block_c = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)

        def call() -> None:
            if module not in gpu.modules:
                raise gpu.misuse(f"{name}: its module was unloaded before it ran")
            pointers = (ctypes.c_void_p * max(len(values), 1))(*map(ctypes.addressof, values))
            problem = code(grid_c, block_c, pointers)
            if problem is not None:
                raise gpu.misuse(f"{name}: {problem.decode()}")

        return call
