"""Images and label maps as data sets keep them on disk."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from fcn_trt.errors import DatasetError, SourceError
from fcn_trt.files import sha256
from fcn_trt.images import read_encoded, read_image
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, Size, format_size

__all__ = ["LabelNumbers", "Pair", "class_numbers", "file_keys", "read_frame", "read_truth"]

Pair: TypeAlias = tuple[Path, Path]
"""An image and its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNumbers:
    """The meaning of the numbers in label files.

    Attributes:
        classes: The class of each number that has one.
        left_out: The numbers that are left out, besides 255.
        expected: Which numbers there may be, for messages.
    """

    classes: dict[int, int]
    left_out: tuple[int, ...]
    expected: str

    def table(self) -> npt.NDArray[np.int16]:
        """Make the class of each number, (256,): 255 for one left out, -1 for an unknown one."""
        table = np.full(256, -1, dtype=np.int16)
        for number, index in self.classes.items():
            table[number] = index
        table[[*self.left_out, NO_LABEL]] = NO_LABEL
        return table


def class_numbers(
    name: str, count: int, *, ignore: int = NO_LABEL, way_out: str = ""
) -> LabelNumbers:
    """Describe label files whose numbers are the classes themselves.

    Args:
        name: Of the data set, for messages.
        count: Its classes.
        ignore: The number that is left out, besides 255.
        way_out: What to add to messages about other numbers.
    """
    return LabelNumbers(
        classes={index: index for index in range(count)},
        left_out=(ignore,),
        expected=(
            f"{name} has {count} classes and leaves out {ignore}; its pixels must be class indices"
            f"{way_out}"
        ),
    )


def read_frame(path: Path) -> Frame:
    """Read an image, (H, W, 3) uint8 BGR, as its pixels are stored.

    It is not turned as its EXIF data say, since its labels are not either.

    Raises:
        DatasetError: it is damaged or too large.
    """
    try:
        return read_image(path, as_stored=True)
    except SourceError as error:
        raise DatasetError(str(error)) from error


def read_truth(pair: Pair, frame: Frame, numbers: LabelNumbers) -> LabelMap:
    """Read the true classes of an image.

    Args:
        pair: The image's file and that of its labels, which is grey or indexed like VOC's, whose
            palette is for viewers only.
        frame: The image, (H, W, 3).

    Returns:
        (H, W) uint8 classes, 255 is left out.

    Raises:
        DatasetError: the file is damaged, of another size or kind, or has an unknown number.
    """
    image, path = pair
    stored = _read_numbers(path, image.name, (frame.shape[0], frame.shape[1]))
    found = numbers.table()[stored]
    unknown = found < 0
    if unknown.any():
        raise DatasetError(f"{path} has label {stored[unknown].max()}, but {numbers.expected}")
    return found.astype(np.uint8)


def file_keys(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the name and content of each file.

    Raises:
        DatasetError: one of them is gone.
    """
    try:
        yield from (f"{path.name} {sha256(path)}" for path in paths)
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}") from error


def _read_numbers(path: Path, labelled: str, size: Size) -> npt.NDArray[np.uint8]:
    """Read the indices of a grey or indexed PNG; one of another size than the frame is refused."""
    try:
        # Not OpenCV, which turns indices into the palette's colours; nor Image.open, which has a
        # limit of its own.
        image = PngImageFile(io.BytesIO(read_encoded(path)))
        is_fitting = image.mode in ("L", "P") and image.size == size[::-1]
        numbers = np.array(image) if is_fitting else None
    except SourceError as error:
        raise DatasetError(str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path} is not a whole PNG; remove it or fetch it again") from error
    if numbers is None:
        raise DatasetError(
            f"{path} is {format_size(image.size[::-1])} of mode {image.mode}, but labels of "
            f"{labelled} are {format_size(size)} uint8 with one channel of class indices"
        )
    return numbers
