"""The frames of a source as image files, as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from fcn_trt.errors import SourceError
from fcn_trt.spec import Frame, Result
from fcn_trt.video.image_sink import open_overlay_images
from fcn_trt.video.source import open_source
from fcn_trt.video.stills import VideoStill, find_stills

__all__ = ["save_frames"]


def save_frames(
    source: str,
    folder: Path,
    *,
    every: int = 1,
    count: int | None = None,
    limit: int | None = None,
    suffix: str = ".png",
    on_frame: Callable[[], None] = lambda: None,
) -> int:
    """Write frames as ``drive_000120.png``, after the source and the frame's place in it.

    Args:
        source: A video, or whatever `open_source` opens.
        folder: Where the files go; made if it is missing.
        every: Take each n-th frame.
        count: Take so many, spread evenly over a video's file; None takes them as `every` says.
        limit: Frames to save at most; None saves all.
        suffix: Kind of image, such as ".png", which loses nothing, or ".jpg".
        on_frame: Called after each file.

    Returns:
        How many were saved.

    Raises:
        SourceError: it cannot be read, or is no video's file and has to be spread over.
        SinkError: the files cannot be written.
    """
    frames = _taken(source, every) if count is None else _spread(source, count)
    saved = 0
    name = f"{_stem(source).replace('%', '%%')}_%06d{suffix}"
    with open_overlay_images(folder, name, render=lambda frame, _: frame) as sink:
        for place, frame in islice(frames, limit):
            blank = np.zeros(frame.shape[:2], dtype=np.uint8)
            sink.write(Result(index=place, frame=frame, label_map=blank))
            saved += 1
            on_frame()
    return saved


def _taken(source: str, every: int) -> Iterator[tuple[int, Frame]]:
    with open_source(source) as opened:
        yield from islice(enumerate(opened), 0, None, every)


def _spread(source: str, count: int) -> Iterator[tuple[int, Frame]]:
    for still in find_stills([Path(source)], count):
        if not isinstance(still, VideoStill):
            raise SourceError(f"{source} is no video, whose frames can be spread; take every n-th")
        yield still.place, still.read()


def _stem(source: str) -> str:
    """A video's name without its suffix, or "frame" where that would be no file's name."""
    path = Path(source)
    return path.stem if path.is_file() else "frame"
