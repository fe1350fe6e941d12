"""The frames of a drawn street as a video source."""

from __future__ import annotations

from collections.abc import Iterator

from fcn_trt.errors import SourceError
from fcn_trt.files import Closing
from fcn_trt.limits import is_whole_number
from fcn_trt.scene.scene import StreetScene, require_drawable
from fcn_trt.spec import Frame, Size, parse_size
from fcn_trt.video.protocols import VideoInfo

__all__ = ["SceneSource", "open_scene"]


class SceneSource(Closing):
    """The frames of a street scene as a video source.

    Args:
        seed: Of the street.
        size: (height, width) of the frames in pixels.
        frame_count: Frames until the end; None never ends.
        rate_fps: Frames per second of travel.

    Raises:
        ValueError: frame_count is less than 1, a side of size is less than 16 pixels, or seed or
            rate_fps is not one that StreetScene takes.
    """

    def __init__(
        self, seed: int, *, size: Size, frame_count: int | None, rate_fps: float = 15.0
    ) -> None:
        if frame_count is not None and frame_count < 1:
            raise ValueError(f"frame_count is {frame_count}; it must be at least 1, or None")
        require_drawable(size)
        self._scene = StreetScene(seed, rate_fps=rate_fps)
        self._is_open = True
        self._next = 0
        self.info = VideoInfo(
            size=size,
            rate_fps=rate_fps,
            frame_count=frame_count,
            is_live=False,
            name=f"street scene, seed {seed}",
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield each frame once, until the last or until closed."""
        count = self.info.frame_count
        while self._is_open and (count is None or self._next < count):
            self._next += 1
            yield self._scene.render(self._next - 1, self.info.size)[0]

    def close(self) -> None:
        """Stop; iteration ends before the next frame."""
        self._is_open = False


def open_scene(uri: str) -> SceneSource:
    """Open the endless street that a URI names: ``scene``, ``scene:SEED`` or ``scene:SEED:HxW``.

    Raises:
        SourceError: the URI has another form.
    """
    _, _, rest = uri.partition(":")
    seed, _, size = rest.partition(":")
    try:
        if seed and not is_whole_number(seed):
            raise ValueError(f"the seed {seed!r} is no whole number of up to 18 digits")
        return SceneSource(int(seed or 0), size=parse_size(size or "256x512"), frame_count=None)
    except ValueError as error:
        raise SourceError(f"source {uri!r} is not scene[:SEED[:HxW]]: {error}") from error
