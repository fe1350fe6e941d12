"""Streams, which keep work in order, and events, which mark places in it."""

from __future__ import annotations

from fcn_trt.cuda.context import DeviceContext, DeviceObject
from fcn_trt.cuda.driver import cuda_errors, load_driver, require_success

__all__ = ["Event", "Stream"]

_NON_BLOCKING = 1


class Stream(DeviceObject):
    """Work in order, beside the work of other streams; it never waits for the default stream."""

    noun = "stream"

    def __init__(self, context: DeviceContext) -> None:
        """Make it.

        Raises:
            EngineError: the driver refuses.
        """
        cuda = load_driver().cuda
        super().__init__(context, lambda: cuda.Stream(_NON_BLOCKING), work="make a stream")

    @property
    def handle(self) -> int:
        """The CUstream, for libraries that take one."""
        return int(self.raw.handle)

    def synchronize(self) -> None:
        """Wait until all work on it is done; errors of that work may appear here.

        Raises:
            EngineError: work on the GPU failed.
        """
        with self.context.active(), cuda_errors("finish the work on a stream"):
            self.raw.synchronize()

    def wait(self, event: Event) -> None:
        """Let later work on this stream begin only after the event; does not wait itself."""
        with self.context.active(), cuda_errors("make a stream wait for an event"):
            self.raw.wait_for_event(event.raw)

    def wait_for_handle(self, handle: int) -> None:
        """Let later work on this stream begin only after what is now on a foreign one.

        Args:
            handle: A CUstream of another library; 1 is the default stream.

        Raises:
            EngineError: the driver refuses.
        """
        graphs = load_driver().graphs
        work = "make a stream wait for another library's"
        with self.context.active():
            own = graphs.CUstream(self.handle)
            flags = int(graphs.CUevent_flags.CU_EVENT_DISABLE_TIMING)
            event = require_success(graphs.cuEventCreate(flags), work)
            try:
                require_success(graphs.cuEventRecord(event, graphs.CUstream(handle)), work)
                require_success(graphs.cuStreamWaitEvent(own, event, 0), work)
            finally:
                # The driver keeps it until the wait is over.
                graphs.cuEventDestroy(event)


class Event(DeviceObject):
    """A place in a stream's work that can be waited for, and timed."""

    noun = "event"

    def __init__(self, context: DeviceContext, *, timing: bool = False) -> None:
        """Make it.

        Args:
            timing: Whether `elapsed_ms` is wanted; costs a little.

        Raises:
            EngineError: the driver refuses.
        """
        flags = load_driver().cuda.event_flags
        self._timing = timing
        chosen = int(flags.DEFAULT if timing else flags.DISABLE_TIMING)
        cuda = load_driver().cuda
        super().__init__(context, lambda: cuda.Event(chosen), work="make an event")

    def record(self, stream: Stream) -> None:
        """Mark where the stream's work ends now."""
        with self.context.active(), cuda_errors("record an event"):
            self.raw.record(stream.raw)

    def synchronize(self) -> None:
        """Wait until the work before the mark is done.

        Raises:
            EngineError: work on the GPU failed.
        """
        with self.context.active(), cuda_errors("wait for an event"):
            self.raw.synchronize()

    def is_done(self) -> bool:
        """Whether the work before the mark is done; does not wait.

        Raises:
            EngineError: work on the GPU failed.
        """
        with self.context.active(), cuda_errors("ask for an event"):
            return bool(self.raw.query())

    def elapsed_ms(self, since: Event) -> float:
        """Milliseconds on the GPU's clock between two marks that are done.

        Args:
            since: The earlier one.

        Raises:
            ValueError: one of the events was made without timing.
            EngineError: one is not recorded or not done.
        """
        if not (self._timing and since._timing):
            raise ValueError("only events made with timing=True can tell the time between them")
        with self.context.active(), cuda_errors("read the time between two events"):
            return float(self.raw.time_since(since.raw))
