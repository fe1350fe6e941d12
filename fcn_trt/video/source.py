"""The one way to open a source of frames."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from fcn_trt.errors import SourceError
from fcn_trt.limits import is_whole_number
from fcn_trt.spec import Size
from fcn_trt.video.capture_source import CaptureSource, open_camera, open_file, open_stream
from fcn_trt.video.image_files import folder_images, has_wildcards, is_image, pattern_images
from fcn_trt.video.image_source import ImageSource
from fcn_trt.video.protocols import Source, VideoInfo
from fcn_trt.video.scene_source import open_scene

__all__ = ["Source", "VideoInfo", "open_source"]

_URL = re.compile(r"(rtsps?|https?|rtmp|udp|tcp|srt)://", re.IGNORECASE)
_FILE_URL = re.compile(r"file://(?:localhost)?(/.*)", re.IGNORECASE | re.DOTALL)


def open_source(
    uri: str,
    *,
    camera_size: Size | None = None,
    camera_rate_fps: float | None = None,
    timeout_s: float = 10.0,
) -> Source:
    """Open whatever a URI names, read its first frame, and so know that it works.

    ==============================  =============================================================
    ``street.mp4``                  a video file; an error at its end if frames were missing
    ``0``, ``/dev/video0``          a camera; live
    ``frames/``                     the images of a folder, ``frame2`` before ``frame10``
    ``frames/*.png``, ``f/%06d.png``  the images that match; ``**`` looks into folders, %d is digits
    ``photo.jpg``                   one image
    ``file:///home/me/a%20b.mp4``   what has this path
    ``rtsp://``, ``http://``, ...   a stream; live, unless it says how many frames it has
    ``v4l2src ! ... ! appsink``     a GStreamer pipeline (anything with " ! " in it); live
    ``scene[:SEED[:HxW]]``          an endless drawn street
    ==============================  =============================================================

    Args:
        uri: One of the above.
        camera_size: (height, width) to ask of a camera; it may answer with another. None takes
            the camera's own choice.
        camera_rate_fps: Frames per second to ask of a camera. None takes its own choice.
        timeout_s: How long a stream may be silent before it counts as dead.

    Raises:
        SourceError: nothing of that name can be read.
        ValueError: a size or rate is asked of something that is no camera.
    """
    if uri == "scene" or uri.startswith("scene:"):
        return open_scene(uri)
    if is_whole_number(uri) or uri.startswith("/dev/video"):
        return open_camera(uri, size=camera_size, rate_fps=camera_rate_fps)
    if camera_size is not None or camera_rate_fps is not None:
        raise ValueError(f"{uri!r} is no camera, so no size or rate can be asked of it")
    file_url = _FILE_URL.fullmatch(uri)
    path = Path(unquote(file_url[1]) if file_url else uri)
    if _exists(path):
        return _open_path(path)
    if " ! " in uri or _URL.match(uri):
        return open_stream(uri, timeout_s=timeout_s)
    if has_wildcards(uri) and not file_url:
        return ImageSource(pattern_images(uri), name=uri)
    raise SourceError(
        f"source {uri!r} does not exist; give a video file, an image folder, a glob such as "
        "'frames/*.png', a camera such as 0, a URL such as rtsp://..., or a GStreamer pipeline"
    )


def _exists(path: Path) -> bool:
    """Tell whether a path exists; a pipeline can be longer than any name may be."""
    try:
        return path.exists()
    except OSError:
        return False


def _open_path(path: Path) -> CaptureSource | ImageSource:
    if path.is_dir():
        return ImageSource(folder_images(path), name=str(path))
    if is_image(path):
        return ImageSource([path], name=str(path))
    return open_file(path)
