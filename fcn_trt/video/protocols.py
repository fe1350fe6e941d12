"""What the loop knows of the outside: a source gives frames, a sink takes results.

Anything that keeps to these protocols can be run: the synthetic scene is a source, a message
queue could be a sink.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fcn_trt.spec import Frame, Result, Size

__all__ = ["Sink", "Source", "VideoInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """The facts about a source that are known before its first frame is used.

    Attributes:
        size: (height, width) of the first frame in pixels.
        rate_fps: Frames per second as the source states it; 0.0 for still images, and for a
            camera that does not say.
        frame_count: Frames to expect, or None where the source has no end or does not say.
        is_live: The source goes on whether or not it is read, so that frames may be dropped.
        name: What to call the source in messages.
        files: The file of each frame where each has one, which names what is made of it.
    """

    size: Size
    rate_fps: float
    frame_count: int | None
    is_live: bool
    name: str
    files: tuple[Path, ...] = ()


class Source(AbstractContextManager["Source"], Protocol):
    """A source of frames in order, once; a context manager with an idempotent `close`."""

    @property
    def info(self) -> VideoInfo:
        """What is known before the first frame."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame once; a frame that was yielded is never written to again."""
        ...

    def close(self) -> None:
        """Release the file or the device; again is harmless."""
        ...


class Sink(AbstractContextManager["Sink"], Protocol):
    """A sink of results in order; a context manager with an idempotent `close`.

    Closing always finalises: after an error, too, what was written so far can be opened.
    """

    @property
    def has_ended(self) -> bool:
        """The sink wants no more, as a window that its user has closed."""
        ...

    def write(self, result: Result) -> None:
        """Take one result.

        Raises:
            SinkError: it cannot be written.
        """
        ...

    def close(self) -> None:
        """Finalise what was written; again is harmless.

        Raises:
            SinkError: it cannot be finalised; then nothing is left under the final name.
        """
        ...
