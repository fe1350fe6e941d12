"""Still images as a source: a folder, a glob, or one file."""

from __future__ import annotations

import glob
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fcn_trt.errors import SourceError
from fcn_trt.files import Closing
from fcn_trt.images import IMAGE_SUFFIXES, read_image
from fcn_trt.spec import Frame
from fcn_trt.video.protocols import VideoInfo

__all__ = ["ImageSource", "folder_images", "glob_images"]

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


def _sorted_images(paths: Iterable[Path], *, where: str) -> list[Path]:
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        raise SourceError(f"{where}; images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(images, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Return a sort key with a path's numbers by value, so that frame2 comes before frame10."""
    parts = enumerate(_DIGITS.split(str(path)))
    return [int(part) if place % 2 else part for place, part in parts], str(path)
