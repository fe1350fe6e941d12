"""Still images as a source: a folder, a pattern, or one file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from fcn_trt.files import Closing
from fcn_trt.images import read_image
from fcn_trt.spec import Frame
from fcn_trt.video.protocols import VideoInfo

__all__ = ["ImageSource"]


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
            files=tuple(paths),
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
