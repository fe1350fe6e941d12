"""Python's cyclic collector, kept away from TensorRT while TensorRT is at work.

The library calls our logger and our progress monitor with its own locks held. If Python collects
cycles there and one of them holds an old engine or runtime, that one's destructor waits for a lock
that this very thread has: the process hangs (seen with TensorRT-RTX 1.7.1, a Runtime in the
traceback of a caught exception, and createInferRuntime logging).

So no cycle is collected while the library works, and what failed leaves none behind.
"""

from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


class _Pause:
    """How many threads want the collector paused, and whether it ran before the first did."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.was_enabled = False


_pause = _Pause()


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cycle is collected in any thread before the block ends; reference counts go on working.

    Functions that were called in the block and raised lose their local variables, so that an
    exception, which may be part of a cycle, keeps none of the library's objects.
    """
    with _pause.lock:
        if _pause.count == 0:
            _pause.was_enabled = gc.isenabled()
            gc.disable()
        _pause.count += 1
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        with _pause.lock:
            _pause.count -= 1
            if _pause.count == 0 and _pause.was_enabled:
                gc.enable()
