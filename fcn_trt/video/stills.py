"""Frames that are taken one by one: the images of folders, image files, and frames of videos."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

from fcn_trt.errors import SourceError
from fcn_trt.files import combined_sha256, sha256
from fcn_trt.images import read_image
from fcn_trt.spec import Frame
from fcn_trt.video.capture_source import CaptureSource, open_file
from fcn_trt.video.image_files import folder_images, is_image

__all__ = ["ImageStill", "Still", "VideoStill", "find_stills"]


class Still(Protocol):
    """One frame, which is decoded each time it is read."""

    @property
    def name(self) -> str:
        """What to call it in tables and pages."""

    def sha256(self) -> str:
        """Hash of what it is decoded from."""

    def read(self) -> Frame:
        """Decode it, as (H, W, 3) uint8 BGR.

        Raises:
            SourceError: it cannot be decoded.
        """


def find_stills(paths: Iterable[Path], limit: int | None) -> list[Still]:
    """The frames of folders of images, of image files and of videos, in order.

    Args:
        limit: So many at most, spread evenly over all; None takes all. The frames of a video are
            counted by going through it, as its own count may be wrong.

    Raises:
        SourceError: one cannot be read, or a folder holds no image.
    """
    found = [still for path in paths for still in _stills_of(path)]
    count = len(found) if limit is None else min(limit, len(found))
    return [found[index * len(found) // count] for index in range(count)]


@dataclass(frozen=True, slots=True)
class ImageStill:
    """An image's file."""

    path: Path

    @property
    def name(self) -> str:
        """The file's own."""
        return self.path.name

    def sha256(self) -> str:
        """Hash of the file."""
        return sha256(self.path)

    def read(self) -> Frame:
        """Decode it as `read_image` does."""
        return read_image(self.path)


@dataclass(frozen=True, slots=True)
class VideoStill:
    """A frame of a video, by its place from 0 on. Those of one video are best read in order."""

    video: _Video
    place: int

    @property
    def name(self) -> str:
        """The video's, and which frame it is."""
        return f"{self.video.path.name} frame {self.place}"

    def sha256(self) -> str:
        """Hash of the video's file and of the place."""
        return combined_sha256([self.video.sha256, str(self.place)])

    def read(self) -> Frame:
        """Go there from the last one that was read, or from the beginning, and decode it."""
        return self.video.frame(self.place)


class _Video:
    """A video that is read forwards, and opened again where an earlier frame is wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source: CaptureSource | None = None
        self._next = 0

    @cached_property
    def sha256(self) -> str:
        return sha256(self.path)

    def frame(self, place: int) -> Frame:
        if self._source is None or place < self._next:
            self.close()
            self._source = open_file(self.path)
        self._source.skip(place - self._next)
        frame = next(iter(self._source), None)
        if frame is None:
            raise SourceError(f"{self.path} has no frame {place} any more; was it written to?")
        self._next = place + 1
        return frame

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source, self._next = None, 0


def _stills_of(path: Path) -> list[Still]:
    if not path.is_file():
        return [ImageStill(image) for image in folder_images(path)]
    if is_image(path):
        return [ImageStill(path)]
    stat = path.stat()
    video = _Video(path)
    return [
        VideoStill(video, place) for place in range(_count(path, stat.st_mtime_ns, stat.st_size))
    ]


@lru_cache(maxsize=64)
def _count(path: Path, _mtime_ns: int, _size: int) -> int:
    """How many frames a video has, counted once while it stays as it is."""
    with open_file(path) as source:
        return source.skip(sys.maxsize)
