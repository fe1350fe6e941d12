"""Bounded queues between threads, and the thread that reads a source ahead of the model."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from fcn_trt.files import Closing
from fcn_trt.spec import Frame
from fcn_trt.video.protocols import Source

__all__ = ["QUEUE_SIZE", "READER_TIMEOUT_S", "Channel", "Reader"]

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue between two threads that leaves neither waiting once the other has ended.

    queue.Queue has no end: a thread in its `put` waits for ever once the other has stopped taking.

    Args:
        size: Items that wait at most, at least 1.

    Attributes:
        dropped: Items that `put_latest` threw away.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"queue size {size} is not at least 1")
        self.dropped = 0
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_stopped = False

    def put(self, item: T) -> bool:
        """Wait for room and add an item.

        Returns:
            False if the channel was stopped, so that there is no use in going on.
        """
        with self._changed:
            while len(self._items) >= self._size and not self._is_stopped:
                self._changed.wait()
            return self._add(item)

    def put_latest(self, item: T) -> bool:
        """Add an item at once; if there is no room, drop the oldest.

        Returns:
            False if the channel was stopped.
        """
        with self._changed:
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            return self._add(item)

    def finish(self) -> None:
        """Say that nothing more will be added; what is there can still be taken."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End both sides at once; what is there is thrown away."""
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take items until the channel is finished and empty, or stopped."""
        while True:
            with self._changed:
                while not (self._items or self._is_finished or self._is_stopped):
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def _add(self, item: T) -> bool:
        if not self._is_stopped:
            self._items.append(item)
            self._changed.notify_all()
        return not self._is_stopped


QUEUE_SIZE = 4
READER_TIMEOUT_S = 1.0
"""How long a reader that is stuck inside its source is waited for at the end."""

_log = logging.getLogger(__name__)


class Reader(Closing):
    """A thread that reads frames of a source and notes the times at which they came.

    Of a live source the newest frame waits, and those before it are dropped; a file waits.

    Args:
        source: Frames; left to its owner.
        queue_size: Frames of a file that wait at most.
        on_error: Called in the thread with what the source raised; None raises it where the frames
            are taken, after those that came before it.
    """

    def __init__(
        self,
        source: Source,
        *,
        queue_size: int = QUEUE_SIZE,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._source = source
        self._is_live = source.info.is_live
        self._frames: Channel[tuple[float, Frame]] = Channel(1 if self._is_live else queue_size)
        self._errors: list[BaseException] = []
        self._on_error = on_error or self._errors.append
        # A daemon: a camera that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._read, name="fcn-trt reader", daemon=True)

    @property
    def dropped(self) -> int:
        """Frames of a live source that were not waited for."""
        return self._frames.dropped

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Yield each frame with its time, in seconds of `time.perf_counter`."""
        yield from self._frames
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Make the thread start no further read, and yield no more frames; does not wait."""
        self._frames.stop()

    def close(self) -> None:
        """Stop, and wait for the thread; one that hangs in its source is abandoned."""
        self.stop()
        if self._thread.ident is None:
            return
        self._thread.join(READER_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning("%s hangs in a read and was abandoned", self._source.info.name)

    def _read(self) -> None:
        put = self._frames.put_latest if self._is_live else self._frames.put
        try:
            for frame in self._source:
                if not put((time.perf_counter(), frame)):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._on_error(error)
        self._frames.finish()
