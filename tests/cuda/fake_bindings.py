"""A fake of the module cuda.bindings.driver, as far as fcn_trt uses it, on a fake GPU."""
# ruff: noqa: N802, N803  # the names are those of cuda-bindings

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.cuda.fake_gpu import FakeGpu
from tests.cuda.fake_state import (
    EVENT_DISABLE_TIMING,
    EXPLANATIONS,
    CUresult,
    EventState,
    Recording,
    Refused,
    StreamState,
)


class Handle(int):
    """CUstream, CUevent and the like: a number with a type."""


class Bindings:
    """The module cuda.bindings.driver: each function returns its status, then its values."""

    CUresult = CUresult
    CUstream = type("CUstream", (Handle,), {})
    CUcontext = type("CUcontext", (Handle,), {})
    CUstreamCaptureMode = SimpleNamespace(
        CU_STREAM_CAPTURE_MODE_GLOBAL=0,
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1,
        CU_STREAM_CAPTURE_MODE_RELAXED=2,
    )
    CUevent_flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=EVENT_DISABLE_TIMING)

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu

    def cuGetErrorName(self, error: int) -> tuple[int, bytes]:
        return 0, CUresult(error).name.encode()

    def cuGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, EXPLANATIONS[int(error)].encode()

    def cuCtxGetCurrent(self) -> tuple[int, Any]:
        stack = self.gpu.thread().driver
        return 0, self.CUcontext(stack[-1] if stack else 0)

    def cuCtxPopCurrent(self) -> tuple[int, Any]:
        stack = self.gpu.thread().driver
        return (0, self.CUcontext(stack.pop())) if stack else (CUresult(201), None)

    def cuStreamBeginCapture(self, hStream: Any, mode: int) -> tuple[Any, ...]:
        def begin(state: StreamState) -> None:
            self.gpu.begin_capture(state, int(mode))

        return self._call("cuStreamBeginCapture", hStream, begin)[:1]

    def cuStreamEndCapture(self, hStream: Any) -> tuple[Any, ...]:
        result = self._call("cuStreamEndCapture", hStream, self.gpu.end_capture)
        if result[0] not in (0, CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD):
            # A failed end is an end too.
            self.gpu.stream("cuStreamEndCapture", int(hStream)).recording = None
        return result

    def cuGraphInstantiate(self, hGraph: Recording, flags: int) -> tuple[Any, ...]:
        def instantiate() -> Recording:
            if hGraph not in self.gpu.recordings:
                raise self.gpu.misuse("cuGraphInstantiate: the recording was destroyed")
            made = Recording(hGraph.mode, hGraph.thread, list(hGraph.work))
            self.gpu.graphs.add(made)
            return made

        return self._status("cuGraphInstantiate", instantiate)

    def cuGraphDestroy(self, hGraph: Recording) -> tuple[Any, ...]:
        return self._destroy("cuGraphDestroy", hGraph, self.gpu.recordings)

    def cuGraphExecDestroy(self, hGraphExec: Recording) -> tuple[Any, ...]:
        return self._destroy("cuGraphExecDestroy", hGraphExec, self.gpu.graphs)

    def cuGraphLaunch(self, hGraphExec: Recording, hStream: Any) -> tuple[Any, ...]:
        def launch(state: StreamState) -> None:
            if hGraphExec not in self.gpu.graphs:
                raise self.gpu.misuse("cuGraphLaunch: the graph was destroyed")
            for work in hGraphExec.work:
                if not all(block.is_live for block in work.blocks):
                    raise self.gpu.misuse(f"cuGraphLaunch: memory of {work.name} was freed")
                self.gpu.put(state, work.name, work.run, work.blocks)

        return self._call("cuGraphLaunch", hStream, launch)[:1]

    def cuEventCreate(self, Flags: int) -> tuple[Any, ...]:
        def create() -> EventState:
            made = EventState(has_timing=not Flags & EVENT_DISABLE_TIMING)
            self.gpu.events.add(made)
            return made

        return self._status("cuEventCreate", create)

    def cuEventRecord(self, hEvent: EventState, hStream: Any) -> tuple[Any, ...]:
        def record(state: StreamState) -> None:
            self.gpu.record(hEvent, state)

        return self._call("cuEventRecord", hStream, record)[:1]

    def cuStreamWaitEvent(self, hStream: Any, hEvent: EventState, Flags: int) -> tuple[Any, ...]:
        def wait(state: StreamState) -> None:
            self.gpu.wait_for(hEvent, state)

        return self._call("cuStreamWaitEvent", hStream, wait)[:1]

    def cuEventDestroy(self, hEvent: EventState) -> tuple[Any, ...]:
        return self._destroy("cuEventDestroy", hEvent, self.gpu.events)

    def _destroy(self, routine: str, found: Any, among: set[Any]) -> tuple[Any, ...]:
        if found not in among:
            raise self.gpu.misuse(f"{routine}: destroyed twice")
        among.remove(found)
        if isinstance(found, Recording):
            found.work.clear()
        return self._status(routine, lambda: None)[:1]

    def _call(
        self, routine: str, handle: Any, work: Callable[[StreamState], Any]
    ) -> tuple[Any, ...]:
        return self._status(routine, lambda: work(self.gpu.stream(routine, int(handle))))

    def _status(self, routine: str, work: Callable[[], Any]) -> tuple[Any, ...]:
        try:
            self.gpu.begin(routine)
            return CUresult.CUDA_SUCCESS, work()
        except Refused as refused:
            return refused.status, None
