"""Image sequences: one file per frame, of overlays or of label maps."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2

from fcn_trt.errors import OutputError, SinkError
from fcn_trt.files import Closing, write_atomic
from fcn_trt.spec import Frame, LabelMap, Result
from fcn_trt.video.image_files import output_names

__all__ = ["OVERLAY_SUFFIXES", "ImageSink", "open_overlay_images"]

OVERLAY_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def open_overlay_images(
    folder: Path,
    name: str,
    *,
    render: Callable[[Frame, LabelMap], Frame],
    images: Sequence[Path] = (),
) -> ImageSink:
    """Open a sink that writes overlays as image files.

    Args:
        folder, name, images: As for `ImageSink`.
        render: Draws the overlay.

    Raises:
        SinkError: OpenCV writes no such files, or as for `ImageSink`.
    """

    def encode(result: Result) -> bytes:
        view = render(result.frame, result.label_map)
        try:
            ok, encoded = cv2.imencode(Path(name).suffix, view)
        except cv2.error:  # as OpenCV 4 has it for WebP; otherwise it is `ok` that tells
            ok, encoded = False, view
        if not ok:
            raise SinkError(
                f"frame {result.index} of {view.shape[0]}x{view.shape[1]} cannot be encoded as "
                f"{name}; write another kind of image, such as .png"
            )
        data: bytes = encoded.tobytes()
        return data

    return ImageSink(folder, name, suffixes=OVERLAY_SUFFIXES, encode=encode, images=images)


class ImageSink(Closing):
    """A sink of files in a folder, which is made if it is missing.

    Args:
        folder: Where the files go.
        name: Pattern with one %d, such as "%06d.png", or one such as "*.png", which names files
            after `images` where there are any, and else numbers them.
        suffixes: What the pattern may end in.
        encode: Makes the bytes of one file.
        images: The files of the frames, by their index, where each has one; none is replaced.

    Raises:
        SinkError: the pattern has another suffix, the folder cannot be written, or a file would
            replace one of the images.
    """

    has_ended = False

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        suffixes: tuple[str, ...],
        encode: Callable[[Result], bytes],
        images: Sequence[Path] = (),
    ) -> None:
        self._names: list[str] | None = None
        if name.startswith("*."):
            if images:
                self._names = [stem + name[1:] for stem in output_names(images)]
            name = f"%06d{name[1:]}"
        if Path(name).suffix.lower() not in suffixes:
            raise SinkError(
                f"images {folder / name} cannot be written; their names end in "
                f"{' or '.join(suffixes)} here"
            )
        self._folder = folder
        self._pattern = name
        self._require_others(images)
        self._encode = encode
        self._is_new = not folder.exists()
        self._count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Written, because permissions do not tell of a read-only disk.
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0")
        except OSError as error:
            raise SinkError(
                f"nothing can be written into folder {folder}: {error.strerror}; choose another"
            ) from error

    def write(self, result: Result) -> None:
        """Write one file, whole or not at all.

        Raises:
            SinkError: it cannot be written.
        """
        path = self._path(result.index)
        data = self._encode(result)
        try:
            if self._names is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data, durable=False)
        except OutputError as error:
            raise SinkError(str(error)) from error
        self._count += 1

    def close(self) -> None:
        """Remove the folder again if nothing came to be in it."""
        if self._is_new and not self._count:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _path(self, index: int) -> Path:
        return self._folder / (self._names[index] if self._names else self._pattern % index)

    def _require_others(self, images: Sequence[Path]) -> None:
        """Refuse to replace what is read."""
        real = cache(Path.resolve)
        read = {real(path.parent) / path.name for path in images}
        for index in range(len(images)):
            path = self._path(index)
            if real(path.parent) / path.name in read:
                raise SinkError(
                    f"images in {self._folder} would replace those that are read, the first one "
                    f"{path.name}; choose another folder"
                )
