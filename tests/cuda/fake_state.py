"""What a driver keeps: memory, streams, events, recordings, and the words of its errors."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

GUARD_BYTES = 256
GUARD, FRESH, FREED = 0xC5, 0xA7, 0xDD
EVENT_DISABLE_TIMING = 2


class FakeDriverMisuse(AssertionError):  # noqa: N818  # a broken rule, not an error met
    """What leaks, crashes or computes garbage on a real GPU."""


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_NOT_SUPPORTED = 801
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905
    CUDA_ERROR_CAPTURED_EVENT = 907
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908


EXPLANATIONS = {
    0: "no error",
    1: "invalid argument",
    2: "out of memory",
    100: "no CUDA-capable device is detected",
    101: "invalid device ordinal",
    200: "device kernel image is invalid",
    201: "invalid device context",
    209: "no kernel image is available for execution on the device",
    400: "invalid resource handle",
    500: "named symbol not found",
    600: "device not ready",
    700: "an illegal memory access was encountered",
    701: "too many resources requested for launch",
    709: "context is destroyed",
    719: "unspecified launch failure",
    801: "operation not supported",
    900: "operation not permitted when stream is capturing",
    901: "operation failed due to a previous error during capture",
    905: "dependency created on uncaptured work in another stream",
    907: "operation not permitted on an event last recorded in a capturing stream",
    908: "attempt to terminate a thread-local capture sequence from another thread",
}


class Refused(Exception):  # noqa: N818  # a status, which each library tells in its own way
    """The driver returned something else than success."""

    def __init__(self, routine: str, status: CUresult, more: str = "") -> None:
        super().__init__(f"{routine} failed: {EXPLANATIONS[status]}{more and f' - {more}'}")
        self.status = status


@dataclass(eq=False)
class Block:
    """One allocation: its bytes, between two guards."""

    kind: str
    size: int
    is_mapped: bool = False
    is_live: bool = True
    address: int = 0
    storage: Any = None

    def __post_init__(self) -> None:
        self.storage = (ctypes.c_uint8 * (self.size + 2 * GUARD_BYTES + 256))()
        start = ctypes.addressof(self.storage)
        ctypes.memset(start, GUARD, len(self.storage))
        self.address = (start + GUARD_BYTES + 255) // 256 * 256
        ctypes.memset(self.address, FRESH, self.size)

    def is_intact(self) -> bool:
        guard = bytes([GUARD]) * GUARD_BYTES
        before = ctypes.string_at(self.address - GUARD_BYTES, GUARD_BYTES)
        return before == guard == ctypes.string_at(self.address + self.size, GUARD_BYTES)

    def holds(self, address: int, size: int) -> bool:
        return self.address <= address and address + size <= self.address + self.size


@dataclass(frozen=True)
class Work:
    """One operation on a stream."""

    name: str
    run: Callable[[], object]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What happened: put on a stream, captured there, or run. Streams count from 0."""

    phase: str
    name: str
    stream: int


@dataclass(eq=False)
class Recording:
    """What one capture has recorded; also the graph and the executable graph made of it."""

    mode: int
    thread: int
    work: list[Work] = field(default_factory=list)
    is_invalid: bool = False


@dataclass(eq=False)
class StreamState:
    number: int
    handle: int
    is_foreign: bool = False
    is_live: bool = True
    queue: deque[Work] = field(default_factory=deque)
    recording: Recording | None = None


@dataclass(eq=False)
class Mark:
    """Where an event was recorded."""

    stream: StreamState
    is_done: bool = False
    time_ms: float = 0.0


@dataclass(eq=False)
class EventState:
    has_timing: bool
    mark: Mark | None = None
    is_captured: bool = False


@dataclass(eq=False)
class ThreadState:
    """The driver's context stack of one thread, and PyCUDA's own."""

    thread: threading.Thread
    driver: list[int] = field(default_factory=list)
    pycuda: list[Any] = field(default_factory=list)
