"""The thread that reads a source ahead of the model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from fcn_trt.files import Closing
from fcn_trt.spec import Frame
from fcn_trt.video.channel import Channel
from fcn_trt.video.protocols import Source

__all__ = ["QUEUE_SIZE", "READER_TIMEOUT_S", "Reader"]

QUEUE_SIZE = 4
READER_TIMEOUT_S = 1.0
"""How long a reader that is stuck inside its source is waited for at the end."""

_log = logging.getLogger(__name__)


class Reader(Closing):
    """Frames of a source with the times at which they came, read in a thread of its own.

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
        """Each frame with its time, in seconds of `time.perf_counter`."""
        yield from self._frames
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Let the thread begin nothing more, and give no more frames; does not wait."""
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
