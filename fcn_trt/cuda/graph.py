"""CUDA graphs: the work of one frame, recorded once and launched with one call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fcn_trt.cuda.context import DeviceContext, DeviceObject
from fcn_trt.cuda.driver import load_driver, require_success
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError

__all__ = ["CaptureRefusedError", "Graph", "capture"]

_log = logging.getLogger(__name__)


class CaptureRefusedError(EngineError):
    """Work cannot be recorded into a graph; the stream it was meant for works on as before."""


class Graph(DeviceObject):
    """Recorded work, ready to run again. It keeps nothing alive: close it before its buffers."""

    noun = "graph"

    def __init__(self, context: DeviceContext, recorded: Any) -> None:
        """Make it from a recording, which the caller frees; `capture` is where to get one.

        Raises:
            EngineError: the driver refuses.
        """

        def instantiate() -> Any:
            made = load_driver().graphs.cuGraphInstantiate(recorded, 0)
            return require_success(made, "make a graph ready to run")

        super().__init__(context, instantiate, work="make a graph ready to run")

    def launch(self, stream: Stream) -> None:
        """Run it in the stream's order; two runs of one graph never overlap.

        Raises:
            EngineError: the driver refuses.
        """
        graphs = load_driver().graphs
        with self.context.active():
            own = graphs.CUstream(stream.handle)
            require_success(graphs.cuGraphLaunch(self.raw, own), "launch a graph")

    def _free(self, raw: Any) -> None:
        require_success(load_driver().graphs.cuGraphExecDestroy(raw), "free a graph")


def capture(stream: Stream, work: Callable[[], None]) -> Graph:
    """Record what `work` puts on a stream, without running it.

    Only this thread is held to the rules of recording: until it ends, nothing in it may allocate,
    free, or wait for the stream. Other threads go on as always.

    Args:
        stream: Nothing else may use it meanwhile.
        work: Puts work on the stream, and touches no other.

    Returns:
        The graph.

    Raises:
        CaptureRefusedError: the driver or `work` refused, by an EngineError; the stream is usable.
    """
    graphs = load_driver().graphs
    with stream.context.active():
        own = graphs.CUstream(stream.handle)
        mode = graphs.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        try:
            require_success(graphs.cuStreamBeginCapture(own, mode), "begin to record a graph")
            recorded = _record(own, work)
            try:
                return Graph(stream.context, recorded)
            finally:
                _destroy(recorded)
        except EngineError as error:
            raise CaptureRefusedError(str(error)) from error


def _record(own: Any, work: Callable[[], None]) -> Any:
    """Run `work` between begin and end; the end comes however it went, or the stream is lost."""
    graphs = load_driver().graphs
    try:
        work()
    except BaseException:
        status, left = graphs.cuStreamEndCapture(own)
        if int(status) == 0:
            _destroy(left)
        raise
    return require_success(graphs.cuStreamEndCapture(own), "record a graph")


def _destroy(recorded: Any) -> None:
    try:
        require_success(load_driver().graphs.cuGraphDestroy(recorded), "free a recording")
    except EngineError as error:
        _log.warning("while closing: %s", str(error))
