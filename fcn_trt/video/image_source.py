"""Still images as a source: a folder, a glob, or one file."""

from __future__ import annotations

import glob
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fcn_trt.errors import SourceError
from fcn_trt.files import Closing
from fcn_trt.spec import Frame
from fcn_trt.video.protocols import VideoInfo

__all__ = ["IMAGE_SUFFIXES", "ImageSource", "folder_images", "glob_images", "read_image"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A JPEG marker other than a restart (FFD0 to FFD7); inside a scan FF00 stands for a byte FF."""

_DIGITS = re.compile(r"(\d+)")


def folder_images(folder: Path) -> list[Path]:
    """List the images of a folder in natural order, without hidden files and folders inside.

    Raises:
        SourceError: the folder cannot be read or holds no image.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read: {error.strerror}") from error
    return _sorted_images(found, where=f"folder {folder} holds no image")


def glob_images(pattern: str) -> list[Path]:
    """List the images that match a glob, in natural order.

    Raises:
        SourceError: no image matches.
    """
    # glob and not Path.glob: it takes absolute patterns, and skips hidden files as a shell does.
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    return _sorted_images(found, where=f"no image matches {pattern!r}")


def read_image(path: Path) -> Frame:
    """Decode one image, grey or with alpha too, as (H, W, 3) uint8 BGR.

    Raises:
        SourceError: the file cannot be read, or is no whole image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"image {path} cannot be read: {error.strerror}") from error
    encoded = np.frombuffer(data, dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if _is_whole(data) else None
    if image is None:
        raise SourceError(f"{path} is not a whole image; remove it or fetch it again")
    frame: Frame = image
    return frame


class ImageSource(Closing):
    """A source of images in order, each of its own size and decoded when its turn comes.

    Args:
        paths: At least one image.
        name: What to call the source in messages.

    Raises:
        SourceError: the first image cannot be decoded.
    """

    def __init__(self, paths: Sequence[Path], *, name: str) -> None:
        self._paths = deque(paths)
        height, width, _ = read_image(self._paths[0]).shape
        self.info = VideoInfo(
            size=(height, width),
            rate_fps=0.0,
            frame_count=len(self._paths),
            is_live=False,
            name=name,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images.

        Raises:
            SourceError: an image cannot be decoded.
        """
        while self._paths:
            yield read_image(self._paths.popleft())

    def close(self) -> None:
        """Forget the images that were not read."""
        self._paths.clear()


def _is_whole(data: bytes) -> bool:
    """Tell whether an image is not empty and, if it is a JPEG, not cut off.

    OpenCV 4 decodes what there is of a JPEG and paints the rest grey.
    """
    return _has_end_of_image(data) if data.startswith(b"\xff\xd8") else bool(data)


def _has_end_of_image(jpeg: bytes) -> bool:
    """Tell whether a JPEG's scans are followed by its end of image, whatever comes after that.

    Segments are skipped by their lengths, so that the end of a thumbnail inside one does not count;
    phones append a video or a second picture, whose markers do not count either.

    Source: ITU-T T.81, B.1.1 (markers, segments) and B.2 (their order).
    """
    has_scan = False
    at = 2
    while marker := _MARKER.search(jpeg, at):
        code, at = marker[0][1], marker.end()
        if code == _END_OF_IMAGE:
            return has_scan
        has_scan = has_scan or code == _START_OF_SCAN
        at += int.from_bytes(jpeg[at : at + 2], "big")
    return False


def _sorted_images(paths: Iterable[Path], *, where: str) -> list[Path]:
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        raise SourceError(f"{where}; images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(images, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Return a sort key with a path's numbers by value, so that frame2 comes before frame10."""
    parts = enumerate(_DIGITS.split(str(path)))
    return [int(part) if place % 2 else part for place, part in parts], str(path)
