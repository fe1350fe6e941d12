"""Images and label maps as data sets keep them on disk."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from fcn_trt.errors import DatasetError, SourceError
from fcn_trt.files import sha256
from fcn_trt.images import read_encoded, read_image, read_orientation, read_upright, turn
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, format_size

__all__ = [
    "LabelNumbers",
    "Pair",
    "class_numbers",
    "file_keys",
    "read_frame",
    "read_truth",
    "read_upright_pair",
    "require_no_masks",
]

Pair: TypeAlias = tuple[Path, Path]
"""An image and its labels."""

_WAY_OUT = "; --label-map NUMBER=CLASS says which class another number is"

_MODES = frozenset({"1", "L", "P", "I;16", "I"})
"""What Pillow calls grey of 1 and 8 bits, indices, and grey of 16 bits in newer and older ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNumbers:
    """The meaning of the numbers in label files.

    Attributes:
        classes: The class of each number that has one.
        left_out: The numbers that are left out, besides 255.
        expected: Which numbers there may be, for messages.
        said: Class, or 255 for left out, of each number that the user says; it goes before all.
    """

    classes: dict[int, int]
    left_out: tuple[int, ...]
    expected: str
    said: Mapping[int, int] = field(default_factory=dict)

    def table(self) -> npt.NDArray[np.int16]:
        """Make the class of each number, (65536,): 255 for one left out, -1 for an unknown one."""
        table = np.full(1 << 16, -1, dtype=np.int16)
        left_out = dict.fromkeys((*self.left_out, NO_LABEL), NO_LABEL)
        for number, index in {**self.classes, **left_out, **self.said}.items():
            table[number] = index
        return table


def class_numbers(
    name: str,
    count: int,
    *,
    ignore: int = NO_LABEL,
    said: Mapping[int, int] | None = None,
    way_out: str = "",
) -> LabelNumbers:
    """Describe label files whose numbers are the classes themselves.

    Args:
        name: Of the data set, for messages.
        count: Its classes.
        ignore: The number that is left out, besides 255.
        said: As for `LabelNumbers`; None where nothing can be said.
        way_out: What to add to messages about other numbers.

    Raises:
        DatasetError: a number is said to be a class that there is not.
    """
    for number, index in (said or {}).items():
        if index != NO_LABEL and not 0 <= index < count:
            raise DatasetError(
                f"label {number} cannot be class {index}, as {name} has classes 0 to {count - 1}; "
                "255 leaves a label out"
            )
    return LabelNumbers(
        classes={index: index for index in range(count)},
        left_out=(ignore,),
        expected=(
            f"{name} has {count} classes and leaves out {ignore}; its pixels must be class indices"
            f"{way_out}{'' if said is None else _WAY_OUT}"
        ),
        said=said or {},
    )


def read_frame(path: Path) -> Frame:
    """Read an image, (H, W, 3) uint8 BGR, as its pixels are stored.

    It is not turned as its EXIF data say, since the labels of published data sets are not either.

    Raises:
        DatasetError: it is damaged or too large.
    """
    with _refused():
        return read_image(path, as_stored=True)


def read_truth(pair: Pair, frame: Frame, numbers: LabelNumbers) -> LabelMap:
    """Read the true classes of an image.

    Args:
        pair: The image's file and that of its labels, which is grey or indexed like VOC's, whose
            palette is for viewers only.
        frame: The image as stored, (H, W, 3).

    Returns:
        (H, W) uint8 classes, 255 is left out.

    Raises:
        DatasetError: the file is damaged, of another size or kind, or has an unknown number.
    """
    image, path = pair
    stored, _ = _read_numbers(path, image.name)
    return _truth(pair, stored, frame, numbers)


def read_upright_pair(pair: Pair, numbers: LabelNumbers) -> tuple[Frame, LabelMap]:
    """An image and its true classes, both turned as their EXIF data say.

    Returns:
        (H, W, 3) uint8 BGR, and (H, W) uint8 classes, 255 is left out.

    Raises:
        DatasetError: a file is damaged, or the two differ in size or in how they are turned.
    """
    with _refused():
        frame, turned = read_upright(pair[0])
    stored, labels_turned = _read_numbers(pair[1], pair[0].name)
    if turned != labels_turned:
        raise DatasetError(
            f"{pair[0]} is turned by its EXIF data (orientation {turned}) and its labels {pair[1]} "
            f"are not so (orientation {labels_turned}), so that they may not fit each other; save "
            "the image without that, turned as its labels are"
        )
    return frame, _truth(pair, turn(stored, turned), frame, numbers)


def require_no_masks(pairs: Iterable[Pair], numbers: LabelNumbers, classes: Sequence[str]) -> None:
    """Refuse label files that are masks of 0 and 255, of which nothing but class 0 would be left.

    No more of them are read than up to the first that has another number.

    Args:
        numbers: Of files whose numbers are classes; where they say what 255 is, all is well.

    Raises:
        DatasetError: they are, or one of them is damaged.
    """
    if NO_LABEL in numbers.said or len(classes) < 2:
        return
    found: set[int] = set()
    for image, path in pairs:
        found.update(np.unique(_read_numbers(path, image.name)[0]).tolist())
        if not found <= {0, NO_LABEL}:
            return
    if found == {0, NO_LABEL}:
        raise DatasetError(
            f"the labels {path} and all others are masks of 0 and 255, and 255 is left out, so "
            f"that no pixel would be {' or '.join(map(repr, classes[1:4]))}; say which class 255 "
            f"is, such as --label-map 255=1 for {classes[1]!r}, or --label-map 255=255 to leave "
            "it out"
        )


def file_keys(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the name and content of each file.

    Raises:
        DatasetError: one of them is gone.
    """
    try:
        yield from (f"{path.name} {sha256(path)}" for path in paths)
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}") from error


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise DatasetError(str(error)) from error


def _truth(
    pair: Pair, stored: npt.NDArray[np.integer[Any]], frame: Frame, numbers: LabelNumbers
) -> LabelMap:
    """Make classes of the numbers of a label file."""
    image, path = pair
    size = (frame.shape[0], frame.shape[1])
    if stored.shape != size:
        raise DatasetError(
            f"{path} is {format_size((stored.shape[0], stored.shape[1]))}, but labels of "
            f"{image.name} are {format_size(size)}"
        )
    found = numbers.table()[stored]
    unknown = found < 0
    if unknown.any():
        raise DatasetError(f"{path} has label {stored[unknown].max()}, but {numbers.expected}")
    truth: LabelMap = found.astype(np.uint8)
    return truth


def _read_numbers(path: Path, labelled: str) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """The numbers of a grey or indexed PNG, (H, W), and its orientation; others are refused."""
    with _refused():
        data = read_encoded(path)
    try:
        # Not OpenCV, which turns indices into the palette's colours; nor Image.open, which has a
        # limit of its own.
        image = PngImageFile(io.BytesIO(data))
        numbers = np.array(image) * 1 if image.mode in _MODES else None  # truths become 0 and 1
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path} is not a whole PNG; remove it or fetch it again") from error
    if numbers is None:
        raise DatasetError(
            f"{path} is of mode {image.mode}, but labels of {labelled} are uint8 or uint16 with "
            "one channel of class indices"
        )
    return numbers, read_orientation(data)
