"""Labelled images on disk. The data sets themselves are the user's; none is shipped.

camvid      root/images/NAME.{png,jpg}   root/labels/NAME.png, 0 to 10, 11 is left out
generic     root/images/NAME.{png,jpg}   root/labels/NAME.png, class indices, 255 is left out
            root/classes.txt: one class name per line, in index order

Label files are grey, or indexed like VOC's, whose palette is for viewers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, get_args

import cv2
import numpy as np
from PIL import Image

from fcn_trt.errors import DatasetError
from fcn_trt.labels import MAX_CLASSES, LabelSet, hub_palette, label_set
from fcn_trt.spec import NO_LABEL, Frame, LabelMap

__all__ = [
    "Dataset",
    "DatasetName",
    "LabelledImages",
    "Sample",
    "open_dataset",
    "pair_with_labels",
]

DatasetName: TypeAlias = Literal["camvid", "generic"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")

_LAYOUT = "expected ROOT/images/NAME.png or .jpg with ROOT/labels/NAME.png"
_LABELS = "each image NAME needs NAME.png there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One labelled image: (H, W, 3) uint8 BGR and (H, W) uint8 classes, 255 is left out."""

    name: str
    frame: Frame
    truth: LabelMap


class LabelledImages(Protocol):
    """Anything that can be evaluated on: files, or scenes that are drawn as they are needed."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def labels(self) -> LabelSet:
        """Its classes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs of image and label files, read as they are iterated.

    Attributes:
        name: The data set.
        labels: Its classes.
        pairs: (image, labels) paths, sorted.
        ignore: The label in the files that is left out.
    """

    name: str
    labels: LabelSet
    pairs: tuple[tuple[Path, Path], ...]
    ignore: int

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: one of its files is damaged, or its labels are no class indices.
        """
        image, labels = self.pairs[index]
        frame, truth = _read_frame(image), _read_labels(labels)
        if truth.ndim != 2 or truth.dtype != np.uint8 or truth.shape != frame.shape[:2]:
            raise DatasetError(
                f"{labels} is {truth.shape} {truth.dtype}, but labels of {image.name} are "
                f"{frame.shape[:2]} uint8 with one channel of class indices"
            )
        truth[truth == self.ignore] = NO_LABEL
        known = truth[truth != NO_LABEL]
        if known.size and known.max() >= len(self.labels.classes):
            raise DatasetError(
                f"{labels} has label {known.max()}, but {self.name} has "
                f"{len(self.labels.classes)} classes and leaves out {self.ignore}; its pixels must "
                "be class indices (compare and sensitivity leave out what --ignore says)"
            )
        return Sample(name=image.stem, frame=frame, truth=truth)


def _read_frame(path: Path) -> Frame:
    frame: Frame | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame is None or _is_cut_off(path.read_bytes()):
        raise _damaged(path)
    return frame


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG ends before its last scan does; OpenCV would paint what is missing grey."""
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def _read_labels(path: Path) -> LabelMap:
    """The indices of a grey or indexed image; other images come as they are, and are refused."""
    try:
        with Image.open(path) as image:  # OpenCV would turn indices into the palette's colours
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> DatasetError:
    return DatasetError(f"{path} is damaged: it cannot be decoded; fetch it again")


def open_dataset(name: str, root: Path) -> Dataset:
    """Find the images and labels of a data set.

    Args:
        name: "camvid" or "generic".
        root: Its folder.

    Raises:
        ValueError: the data set is not known.
        DatasetError: the folder has another layout, or images lack labels.
    """
    if name not in get_args(DatasetName):
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(get_args(DatasetName))}")
    pairs = _pairs(root)
    if name == "camvid":
        return Dataset(name=name, labels=label_set("camvid"), pairs=pairs, ignore=11)
    return Dataset(name=name, labels=_class_list(root), pairs=pairs, ignore=NO_LABEL)


def _pairs(root: Path) -> tuple[tuple[Path, Path], ...]:
    try:
        images = sorted(
            path for path in (root / "images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
        )
    except OSError as error:
        raise DatasetError(
            f"{root / 'images'} cannot be listed ({error.strerror}); {_LAYOUT}"
        ) from error
    if not images:
        raise DatasetError(f"{root / 'images'} holds no images; {_LAYOUT}")
    return pair_with_labels(images, root / "labels", expected=_LAYOUT)


def pair_with_labels(
    images: Iterable[Path], labels: Path, *, expected: str = _LABELS
) -> tuple[tuple[Path, Path], ...]:
    """Find the label file of each image: a PNG of the same name.

    Args:
        images: The image files.
        labels: Folder of the label files.
        expected: What to say was expected where some are missing.

    Raises:
        DatasetError: images lack labels.
    """
    pairs = tuple((image, labels / f"{image.stem}.png") for image in images)
    missing = [file for _, file in pairs if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pairs)} images have no labels, the first is {missing[0]}; "
            f"{expected}"
        )
    return pairs


def _class_list(root: Path) -> LabelSet:
    path = root / "classes.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DatasetError(
            f"{path} cannot be read ({reason}); the generic layout needs one class name per line"
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not 1 <= len(names) <= MAX_CLASSES:
        raise DatasetError(f"{path} names {len(names)} classes; 1 to {MAX_CLASSES} were expected")
    return LabelSet(name="custom", classes=names, palette=hub_palette(len(names)))
