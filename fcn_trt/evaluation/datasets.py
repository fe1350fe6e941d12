"""Labelled images on disk, by the name of their data set.

What each data set is, its layout and its terms stand in layouts.py and coco.py. All of them give
the same: frames, and label maps of class indices in which 255 is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias, get_args, overload

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.coco import open_coco
from fcn_trt.evaluation.label_files import (
    LabelNumbers,
    Pair,
    class_numbers,
    file_keys,
    read_frame,
    read_truth,
    read_upright_pair,
    require_no_masks,
)
from fcn_trt.evaluation.layouts import LAYOUTS, folder_pairs, folder_split, pair_with_labels
from fcn_trt.evaluation.sample import IndexedImages, LabelledImages, Sample
from fcn_trt.labels import LabelSet, label_set, read_label_file
from fcn_trt.spec import NO_LABEL

__all__ = [
    "Dataset",
    "DatasetName",
    "IndexedImages",
    "LabelledImages",
    "Sample",
    "open_dataset",
    "pair_with_labels",
]

_InLabelFiles: TypeAlias = Literal[
    "voc", "cityscapes", "ade20k", "pascal_context_59", "pascal_context_60", "camvid", "generic"
]
DatasetName: TypeAlias = Literal["coco_voc", _InLabelFiles]

CAMVID_UNLABELLED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The pairs of image and label files of a data set, read as they are iterated.

    Attributes:
        name: The data set.
        labels: Its classes.
        pairs: (image, labels) paths, sorted.
        ignore: The label in the files that is left out, where their numbers are the classes.
        numbers: What the numbers in the files mean; None where they are the classes themselves.
        split: Which part of the data set it is; None where the folder is all.
        said: What the user says of numbers in the files, as for `LabelNumbers`; None if nothing
            can be said.
        is_published: Images are as stored, as its publisher's labels are; others are turned as
            their EXIF data say, if their labels are, too.
    """

    name: str
    labels: LabelSet
    pairs: tuple[Pair, ...]
    ignore: int = NO_LABEL
    numbers: LabelNumbers | None = None
    split: str | None = None
    said: Mapping[int, int] | None = None
    is_published: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DatasetError: one of its files is damaged, or its labels are no class indices.
        """
        pair = self.pairs[index]
        if self.is_published:
            frame = read_frame(pair[0])
            truth = read_truth(pair, frame, self._numbers)
        else:
            frame, truth = read_upright_pair(pair, self._numbers)
        return Sample(name=pair[0].stem, frame=frame, truth=truth)

    def require_no_masks(self, indices: Iterable[int]) -> None:
        """Refuse masks of 0 and 255, of which nothing but class 0 would be left.

        Raises:
            DatasetError: all files of these images are such masks, or one is damaged.
        """
        if not self.is_published:
            pairs = (self.pairs[index] for index in indices)
            require_no_masks(pairs, self._numbers, self.labels.classes)

    @property
    def _numbers(self) -> LabelNumbers:
        return self.numbers or class_numbers(
            self.name, len(self.labels.classes), ignore=self.ignore, said=self.said
        )

    def key_parts(self, indices: Iterable[int]) -> Iterable[str]:
        """Yield the name, the classes, and the name and content of these images' files.

        Raises:
            DatasetError: a file is gone.
        """
        yield from (self.name, *self.labels.classes, f"ignore {self.ignore}")
        yield from (
            f"label {number} is {index}" for number, index in sorted((self.said or {}).items())
        )
        yield from file_keys(chain.from_iterable(self.pairs[index] for index in indices))


@overload
def open_dataset(
    name: _InLabelFiles,
    root: Path,
    *,
    split: str | None = None,
    ignore: int | None = None,
    said: Mapping[int, int] | None = None,
) -> Dataset: ...
@overload
def open_dataset(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    ignore: int | None = None,
    said: Mapping[int, int] | None = None,
) -> IndexedImages: ...
def open_dataset(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    ignore: int | None = None,
    said: Mapping[int, int] | None = None,
) -> IndexedImages:
    """Find the images and labels of a data set.

    Args:
        name: One of `DatasetName`.
        split: "val", "train" or what else it has; None takes "val", and of camvid and generic,
            whose splits are folders of ROOT, ROOT itself if it holds the images.
        ignore: Number in generic's label files that is left out besides 255; the others' is known.
        said: Class, or 255 for left out, of numbers in generic's label files.

    Raises:
        ValueError: the data set is not known, or its numbers are, of which something is said.
        DatasetError: there is no such split, the folder has another layout, or images lack labels.
        MissingExtraError: COCO's polygons need pycocotools, which is not installed.
    """
    if name not in get_args(DatasetName):
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(get_args(DatasetName))}")
    if said and name != "generic":
        raise ValueError(f"the numbers in the label files of {name} are known, so none can be said")
    if name == "coco_voc":
        return open_coco(root, split=split)
    if name in LAYOUTS:
        layout = LAYOUTS[name]
        return Dataset(
            name=name,
            labels=label_set(name),
            pairs=layout.pairs(name, root, split),
            numbers=layout.numbers,
            split=split or layout.published_split,
            is_published=True,
        )
    split = split or folder_split(root)
    pairs = folder_pairs(root, split)
    if name == "camvid":
        labels = label_set("camvid")
        return Dataset(name=name, labels=labels, pairs=pairs, ignore=CAMVID_UNLABELLED, split=split)
    return Dataset(
        name=name,
        labels=_class_list(root),
        pairs=pairs,
        ignore=NO_LABEL if ignore is None else ignore,
        split=split,
        said=said or {},
    )


def _class_list(root: Path) -> LabelSet:
    path = root / "classes.txt"
    try:
        return read_label_file(path)
    except ValueError as error:
        raise DatasetError(f"{error}; the generic layout needs one class name per line") from error
