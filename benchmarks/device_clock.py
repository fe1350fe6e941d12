"""Times work on the GPU by events, and keeps the memory that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.graph import capture
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.files import Closing

__all__ = ["DeviceClock", "Timed", "Work"]

Work: TypeAlias = Callable[[], None]
"""Puts something on the clock's stream."""
Timed: TypeAlias = Callable[[], float]
"""Does something once, and gives the seconds it took."""

WARM_UP = 3


class DeviceClock(Closing):
    """The GPU, one stream, and two events on it.

    Attributes:
        context: Of the GPU.
        stream: Where everything runs that is timed.
        start: Marks the begin of what is timed.
        end: Marks its end.
        runs: Turns of each comparison.
    """

    def __init__(self, *, runs: int) -> None:
        self.runs = runs
        self.context = primary_context()
        self._stack = ExitStack()
        with ExitStack() as failed:
            failed.callback(self._stack.close)
            self.stream = Stream(self.context)
            self._stack.callback(self.stream.close)
            self.start = Event(self.context, timing=True)
            self._stack.callback(self.start.close)
            self.end = Event(self.context, timing=True)
            self._stack.callback(self.end.close)
            failed.pop_all()

    def close(self) -> None:
        """Free the events and the stream."""
        self._stack.close()

    def turns(
        self, calls: Mapping[str, Timed], *, runs: int | None = None
    ) -> dict[str, list[float]]:
        """Seconds of each, A B A B, so that a drifting clock rate hits all alike."""
        found: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(WARM_UP + (runs or self.runs)):
            for name, call in calls.items():
                seconds = call()
                if turn >= WARM_UP:
                    found[name].append(seconds)
        return found

    def time(self, work: Work, repeats: int = 1) -> float:
        """Seconds of one of several, back to back on the GPU."""
        with self.context.active():
            # While the GPU is busy with this one, the processor queues those that are timed.
            work()
            self.start.record(self.stream)
            for _ in range(repeats):
                work()
            self.end.record(self.stream)
            self.end.synchronize()
            return self.end.elapsed_ms(self.start) / 1000 / repeats

    def in_graph(self, works: list[Work], memory: ExitStack) -> Timed:
        """Seconds of one of several in a graph: launching one from Python takes longer than it."""

        def all_of_them() -> None:
            for work in works:
                work()

        all_of_them()
        self.stream.synchronize()
        graph = capture(self.stream, all_of_them)
        memory.callback(graph.close)
        memory.callback(self.stream.synchronize)
        return lambda: self.time(partial(graph.launch, self.stream)) / len(works)

    def room(self, size_bytes: int, memory: ExitStack) -> int:
        """Address of so much memory, which the stack frees."""
        buffer = DeviceBuffer(self.context, size_bytes)
        memory.callback(buffer.close)
        return buffer.address

    def upload(self, array: npt.NDArray[Any], memory: ExitStack) -> int:
        """Address of a copy of an array, which the stack frees."""
        address = self.room(array.nbytes, memory)
        with ExitStack() as stack:
            host = PinnedBuffer(self.context, array.nbytes)
            stack.callback(host.close)
            np.copyto(host.array, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
            copy_to_device(address, host, array.nbytes, self.stream)
            self.stream.synchronize()
        return address
