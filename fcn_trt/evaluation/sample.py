"""One labelled image, and what everything that can be evaluated on has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fcn_trt.errors import DatasetError
from fcn_trt.labels import LabelSet
from fcn_trt.spec import Frame, LabelMap

__all__ = ["IndexedImages", "LabelledImages", "Sample", "check_classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A labelled image: (H, W, 3) uint8 BGR and (H, W) uint8 classes, 255 is left out."""

    name: str
    frame: Frame
    truth: LabelMap


class LabelledImages(Protocol):
    """A series of labelled images: files, or scenes that are drawn as they are needed."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def labels(self) -> LabelSet:
        """Its classes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


class IndexedImages(LabelledImages, Protocol):
    """A series of which any image can be had, so that an evaluation can go on in the middle."""

    @property
    def split(self) -> str | None:
        """Which part of a data set they are, if it has parts."""

    def __getitem__(self, index: int) -> Sample: ...

    def key_parts(self, indices: Iterable[int]) -> Iterable[str]:
        """Yield what tells these images from others: what files hold, or what they are drawn of.

        Args:
            indices: Of the images that are meant.
        """


def check_classes(dataset: LabelledImages, classes: tuple[str, ...]) -> None:
    """Refuse a network that predicts other classes than the data set has.

    Raises:
        DatasetError: the names or their order differ.
    """
    if classes == dataset.labels.classes:
        return
    wanted = dataset.labels.classes
    where = next((i for i, (a, b) in enumerate(zip(classes, wanted, strict=False)) if a != b), None)
    difference = (
        f"{len(classes)} instead of {len(wanted)} classes"
        if where is None
        else f"class {where} is {classes[where]!r} instead of {wanted[where]!r}"
    )
    raise DatasetError(
        f"the bundle does not predict the classes of {dataset.name}: {difference}; both need the "
        "same names in the same order, and `fcn-trt inspect BUNDLE --json` lists the bundle's"
    )
