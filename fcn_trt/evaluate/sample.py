"""One labelled image, and what everything that can be evaluated on has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fcn_trt.labels import LabelSet
from fcn_trt.spec import Frame, LabelMap

__all__ = ["IndexedImages", "LabelledImages", "Sample"]


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


class IndexedImages(LabelledImages, Protocol):
    """Labelled images of which any can be had, so that an evaluation can go on in the middle."""

    def __getitem__(self, index: int) -> Sample: ...

    def key_parts(self) -> Iterable[str]:
        """What tells these images from others, without reading them all."""
