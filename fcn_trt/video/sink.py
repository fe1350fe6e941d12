"""The one way to open a sink for results."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fcn_trt.errors import SinkError
from fcn_trt.files import Closing
from fcn_trt.spec import Frame, LabelMap, Result
from fcn_trt.video.image_sink import OVERLAY_SUFFIXES, ImageSink, open_overlay_images
from fcn_trt.video.palette_png import encode_palette_png
from fcn_trt.video.protocols import Sink
from fcn_trt.video.video_sink import VIDEO_CODECS, VideoFileSink
from fcn_trt.video.window_sink import WindowSink

__all__ = ["NoSink", "Render", "Result", "Sink", "open_sink"]

Render: TypeAlias = Callable[[Frame, LabelMap], Frame]
"""Draws a label map over its frame: (H, W, 3) and (H, W) uint8 to (H, W, 3) uint8 BGR."""

_KINDS = (
    f"a video ({', '.join(VIDEO_CODECS)}), a folder that ends in '/', images such as "
    f"'out/%06d.png' ({', '.join(OVERLAY_SUFFIXES)}), labels:DIR, window or none"
)

_NUMBER = re.compile(r"[^%]*%0?\d*d[^%]*")


def open_sink(
    uri: str,
    *,
    render: Render,
    palette: npt.NDArray[np.uint8],
    rate_fps: float,
    images: Sequence[Path] = (),
) -> Sink:
    """Open whatever a URI names, so far that a first frame can be written.

    ===========================  ================================================================
    ``out.mp4``                  a video of overlays; also ``.avi`` (Motion JPEG) and ``.mkv``
    ``frames/``                  overlays as ``frames/000000.jpg``, ...; the folder is made.
                                 Those of images are named after them, ``frames/kitchen.jpg``
    ``frames/%04d.png``          overlays under these names; ``.png``, ``.jpg``, ``.bmp``, ``.webp``
    ``overlays:DIR|PATTERN``     the same, said aloud; DIR needs no ``/`` here
    ``labels:DIR|PATTERN.png``   label maps: indexed PNG whose pixels are classes, colours inside
    ``window``                   on the screen; Esc, q or closing the window ends the run
    ``none``                     nowhere, as for measuring
    ===========================  ================================================================

    Videos and images appear under their final name only when they are whole. A sink that was given
    nothing leaves no file. A bare name is a folder only if there is one, so that a slip in typing
    ``window`` does not fill one.

    Args:
        uri: One of the above.
        render: Draws the overlay; called by the thread that writes.
        palette: (C, 3) uint8 BGR colours of label maps.
        rate_fps: Rate at which a video file plays; 0.0, a rate unknown, is played at 25.
        images: The files of the frames, where each has one; none is replaced.

    Raises:
        SinkError: nothing can be written there.
    """
    if "://" in uri:
        raise SinkError(
            f"sink {uri!r} is a URL, and nothing is sent over the network; write {_KINDS}"
        )
    kind, colon, target = uri.partition(":")
    if uri == "none":
        return NoSink()
    if uri == "window":
        return WindowSink(render=render)
    if colon and kind in {"labels", "overlays"}:
        folder, name = _image_names(target, suffix=".png" if kind == "labels" else ".jpg")
        if kind == "labels":
            return ImageSink(
                folder,
                name,
                suffixes=(".png",),
                encode=lambda result: encode_palette_png(result.label_map, palette),
                images=images,
            )
        return open_overlay_images(folder, name, render=render, images=images)
    path = Path(uri)
    if path.suffix.lower() in VIDEO_CODECS and not path.is_dir():
        return VideoFileSink(path, render=render, rate_fps=rate_fps)
    if not path.suffix and not uri.endswith("/") and not path.is_dir():
        raise _unknown(uri)
    folder, name = _image_names(uri, suffix=".jpg")
    return open_overlay_images(folder, name, render=render, images=images)


class NoSink(Closing):
    """A sink that takes everything and keeps nothing."""

    has_ended = False

    def write(self, result: Result) -> None:
        """Do nothing."""


def _image_names(target: str, *, suffix: str) -> tuple[Path, str]:
    """Folder and name pattern of an image sequence, as `ImageSink` takes them.

    Raises:
        SinkError: the target is neither a folder nor a pattern.
    """
    path = Path(target)
    if _NUMBER.fullmatch(path.name) and path.suffix:
        return path.parent, path.name
    if target and (path.is_dir() or target.endswith("/") or not path.suffix):
        return path, f"*{suffix}"
    raise _unknown(target)


def _unknown(target: str) -> SinkError:
    return SinkError(f"sink {target!r} is none that can be written; give {_KINDS}")
