"""A fake GPU for the bookkeeping only: what a driver keeps, and each rule of its use, checked.

Its memory is the host's, behind guards. Work put on a stream waits there until something waits for
it, so results read too early are wrong here too. Nothing here says that a real driver agrees.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tests.cuda.fake_state import (
    FREED,
    Block,
    CUresult,
    Entry,
    EventState,
    FakeDriverMisuse,
    Mark,
    Recording,
    Refused,
    StreamState,
    ThreadState,
    Work,
)


class FakeGpu:
    """The state of one fake GPU and its driver.

    Attributes:
        misuses: What was done wrong, in words.
        log: Everything put on streams and run there, in order.
        calls: How often each routine of the driver was called.
    """

    def __init__(
        self,
        *,
        capability: tuple[int, int] = (8, 7),
        is_integrated: bool = False,
        memory_bytes: int = 1 << 31,
    ) -> None:
        self.capability = capability
        self.is_integrated = is_integrated
        self.memory_bytes = memory_bytes
        self.misuses: list[str] = []
        self.log: list[Entry] = []
        self.calls: Counter[str] = Counter()
        self.retained = 0
        self.primary_handle = 0xC0DE00
        self.events: set[Any] = set()
        self.modules: set[Any] = set()
        self.recordings: set[Recording] = set()
        self.graphs: set[Recording] = set()
        self.blocks: list[Block] = []
        self.streams: dict[int, StreamState] = {}
        self.lock = threading.RLock()
        self._freed: deque[Block] = deque(maxlen=256)
        self._failures: dict[tuple[str, int], CUresult] = {}
        self._threads: dict[threading.Thread, ThreadState] = {}
        self._clock_ms = 0.0
        self._stream_count = 0

    # What tests do.

    def fail(self, routine: str, status: str, *, call: int = 1) -> None:
        """Let the n-th call of a routine from now on return an error, such as OUT_OF_MEMORY."""
        self._failures[routine, self.calls[routine] + call] = CUresult[f"CUDA_ERROR_{status}"]

    @contextmanager
    def expect_misuse(self, words: str) -> Iterator[None]:
        """The block does exactly one wrong thing, which these words are found in."""
        before = len(self.misuses)
        with suppress(FakeDriverMisuse):
            yield
        found = self.misuses[before:]
        del self.misuses[before:]
        assert len(found) == 1, f"expected one misuse, found {found}"
        assert words in found[0], found[0]

    def enqueue(
        self, handle: int, name: str, run: Callable[[], object], addresses: Sequence[int] = ()
    ) -> None:
        """Put work on a stream as a library would that is given its handle: an executor's."""
        self.begin(name)
        self.put(self.stream(name, handle), name, run, [self.block_at(name, a) for a in addresses])

    def foreign_stream(self) -> int:
        """A stream of another library, by its handle."""
        return self.new_stream(is_foreign=True).handle

    def names(self, phase: str = "run", stream: int | None = None) -> list[str]:
        """Names in the log: what was "put" on streams, "captured" or "run"."""
        return [
            entry.name
            for entry in self.log
            if entry.phase == phase and stream in (None, entry.stream)
        ]

    def leaks(self) -> list[str]:
        """What is still held."""
        held = [f"{block.size} bytes of {block.kind} memory" for block in self.blocks]
        held += [f"stream {s.number}" for s in self.streams.values() if not s.is_foreign]
        held += ["event"] * len(self.events) + ["module"] * len(self.modules)
        held += ["recording"] * len(self.recordings) + ["graph"] * len(self.graphs)
        return held

    def assert_clean(self) -> None:
        """Nothing is held, nothing was done wrong, no thread has a context."""
        assert not self.misuses, f"done wrong: {self.misuses}"
        assert not self.leaks(), f"still held: {self.leaks()}"
        assert self.retained == 0, "the primary context is still retained"
        for state in self._threads.values():
            name = state.thread.name
            assert not state.pycuda, f"PyCUDA aborts the process: {name} ended inside a context"
            assert not state.driver, f"a context is left current in {name}"

    # What the two libraries use.

    def misuse(self, words: str) -> FakeDriverMisuse:
        self.misuses.append(words)
        return FakeDriverMisuse(words)

    def begin(self, routine: str, *, unsafe: bool = False, context: bool = True) -> None:
        """Count a call, see to the context, and fail where a test wants it."""
        if context:
            self.require_context(routine)
        self.calls[routine] += 1
        if unsafe:
            self._refuse_in_capture(routine)
        status = self._failures.pop((routine, self.calls[routine]), None)
        if status is not None:
            for recording in self._capturing():
                recording.is_invalid = True
            raise Refused(routine, status)

    def thread(self) -> ThreadState:
        thread = threading.current_thread()
        return self._threads.setdefault(thread, ThreadState(thread))

    def require_context(self, routine: str) -> None:
        stack = self.thread().driver
        if not stack:
            name = threading.current_thread().name
            raise self.misuse(f"{routine}: no context is current in thread {name}")
        if stack[-1] == self.primary_handle and not self.retained:
            raise self.misuse(f"{routine}: the current context was released")

    def allocate(self, routine: str, kind: str, size: int, *, is_mapped: bool = False) -> Block:
        self.begin(routine, unsafe=True)
        if kind == "device" and size > self.free_bytes():
            raise Refused(routine, CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        block = Block(kind, size, is_mapped)
        with self.lock:
            self.blocks.append(block)
        return block

    def free(self, routine: str, block: Block) -> None:
        if not block.is_live:
            raise self.misuse(f"{routine}: double free of {block.kind} memory")
        with self.lock:
            block.is_live = False
            self.blocks.remove(block)
            self._freed.append(block)
        self.begin(routine)
        intact = block.is_intact()
        ctypes.memset(block.address, FREED, block.size)
        self._check_unused(routine, block)
        if not intact:
            raise self.misuse(f"{routine}: something wrote beyond {block.kind} memory")

    def free_bytes(self) -> int:
        return self.memory_bytes - sum(b.size for b in self.blocks if b.kind == "device")

    def block_at(self, routine: str, address: int, size: int = 1, *, host: bool = False) -> Block:
        """The allocation that an address lies in, which the GPU (or a copy) can reach."""
        for block in self.blocks:
            reachable = (
                block.kind == "pinned" if host else block.is_mapped or block.kind != "pinned"
            )
            if reachable and block.holds(address, size):
                return block
        for block in self._freed:
            if block.holds(address, 1):
                raise self.misuse(f"{routine}: {block.kind} memory is used after it was freed")
        for block in self.blocks:
            if block.holds(address, 1) and not block.holds(address, size):
                raise self.misuse(
                    f"{routine}: {size} bytes run over the end of {block.kind} memory"
                )
        if host:
            raise self.misuse(f"{routine}: an asynchronous copy with pageable memory")
        raise self.misuse(f"{routine}: address {address:#x} is no memory of the GPU")

    def new_stream(self, *, is_foreign: bool = False) -> StreamState:
        number = -1 if is_foreign else self._stream_count
        self._stream_count += not is_foreign
        state = StreamState(number, 0x57000000 + 64 * (len(self.calls) + 1), is_foreign)
        while state.handle in self.streams:
            state.handle += 64
        self.streams[state.handle] = state
        return state

    def destroy_stream(self, state: StreamState) -> None:
        if state.recording is not None:
            self.misuse("cuStreamDestroy: the stream is capturing")
        # The driver lets pending work finish.
        self.drain(state)
        state.is_live = False
        del self.streams[state.handle]

    def stream(self, routine: str, handle: int) -> StreamState:
        state = self.streams.get(handle)
        if state is None:
            raise self.misuse(f"{routine}: there is no stream {handle:#x}; the default stream is 0")
        return state

    def put(
        self,
        state: StreamState,
        name: str,
        run: Callable[[], object],
        blocks: Sequence[Block] = (),
    ) -> None:
        """Put work on a stream, or into what it captures."""
        work = Work(name, run, tuple(blocks))
        with self.lock:
            if state.recording is None:
                state.queue.append(work)
                self.log.append(Entry("put", name, state.number))
                return
            if state.recording.is_invalid:
                raise Refused(name, CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
            state.recording.work.append(work)
            self.log.append(Entry("captured", name, state.number))

    def refuse_waiting(self, routine: str, state: StreamState) -> None:
        """Waiting for a stream that captures is refused, and ends what it captures."""
        if state.recording is not None:
            state.recording.is_invalid = True
            raise Refused(routine, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)

    def drain(self, state: StreamState, mark: Mark | None = None) -> None:
        """Run what waits on a stream, to a mark or to its end."""
        with self.lock:
            while state.queue and not (mark and mark.is_done):
                self.step(state)

    def step(self, state: StreamState) -> None:
        """Run the next operation of a stream."""
        with self.lock:
            if not state.queue:
                return
            work = state.queue.popleft()
            for block in work.blocks:
                if not block.is_live:
                    raise self.misuse(f"{work.name}: {block.kind} memory was freed before it ran")
            work.run()
            self.log.append(Entry("run", work.name, state.number))
            for block in work.blocks:
                if not block.is_intact():
                    raise self.misuse(f"{work.name}: wrote beyond {block.kind} memory")

    def record(self, event: EventState, state: StreamState) -> None:
        event.is_captured = state.recording is not None
        mark = event.mark = Mark(state)

        def reach() -> None:
            self._clock_ms += 1.0
            mark.time_ms = self._clock_ms
            mark.is_done = True

        self.put(state, "cuEventRecord", reach)

    def wait_for(self, event: EventState, state: StreamState) -> None:
        routine = "cuStreamWaitEvent"
        mark = event.mark
        if mark is None:
            raise self.misuse(f"{routine}: the event was never recorded")
        if event.is_captured != (state.recording is not None):
            if state.recording is not None:
                state.recording.is_invalid = True
            raise Refused(routine, CUresult.CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
        self.put(state, routine, lambda: self.drain(mark.stream, mark))

    def begin_capture(self, state: StreamState, mode: int) -> None:
        if state.recording is not None:
            raise self.misuse("cuStreamBeginCapture: the stream is capturing already")
        state.recording = Recording(mode, threading.get_ident())

    def end_capture(self, state: StreamState) -> Recording:
        routine = "cuStreamEndCapture"
        recording = state.recording
        if recording is None:
            raise self.misuse(f"{routine}: the stream is not capturing")
        if recording.mode != 2 and recording.thread != threading.get_ident():
            raise Refused(routine, CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)
        state.recording = None
        if recording.is_invalid:
            raise Refused(routine, CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
        self.recordings.add(recording)
        return recording

    def _capturing(self) -> list[Recording]:
        """The captures that hold this thread to their rules."""
        here = threading.get_ident()
        found = [s.recording for s in self.streams.values() if s.recording is not None]
        return [r for r in found if r.mode == 0 or (r.mode == 1 and r.thread == here)]

    def _refuse_in_capture(self, routine: str) -> None:
        for recording in self._capturing():
            recording.is_invalid = True
            raise Refused(routine, CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)

    def _check_unused(self, routine: str, block: Block) -> None:
        if self._capturing():
            raise self.misuse(f"{routine}: freeing during a capture fails and leaks")
        for state in self.streams.values():
            if any(block in work.blocks for work in state.queue):
                raise self.misuse(f"{routine}: freed while work that uses it is under way")
        for graph in self.graphs:
            if any(block in work.blocks for work in graph.work):
                raise self.misuse(f"{routine}: freed before the graph that uses it")
