"""The images that two predictors are compared on, with their labels or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.datasets import Dataset, pair_with_labels
from fcn_trt.evaluation.label_files import Pair, class_numbers
from fcn_trt.labels import LabelSet
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, Spec
from fcn_trt.video.stills import ImageStill, Still, find_stills

__all__ = ["CompareImage", "CompareImages", "ImageChoice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareImage:
    """One image: (H, W, 3) uint8 BGR, and (H, W) uint8 true classes or None."""

    name: str
    frame: Frame
    truth: LabelMap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChoice:
    """Which images are compared.

    Attributes:
        folder: Of the images; or a video, or an image.
        labels: Folder of their labels, a PNG per image with its name; None compares without.
        ignore: The label in these files that is left out, besides 255; None takes the spec's.
        said: Class, or 255 for left out, of numbers in these files.
        limit: So many images at most, spread evenly over the folder; None takes all.
    """

    folder: Path
    labels: Path | None = None
    ignore: int | None = None
    said: Mapping[int, int] | None = None
    limit: int | None = None

    def stills(self) -> tuple[Still, ...]:
        """The images, after a look that each has labels if there are to be any.

        Raises:
            SourceError: the folder or video cannot be read, or holds no image.
            DatasetError: an image lacks labels, as the frames of a video do.
        """
        stills = tuple(find_stills([self.folder], self.limit))
        if self.labels is not None:
            self._pairs(stills, self.labels)
        return stills

    def find(self, spec: Spec) -> CompareImages:
        """The images, and their labels.

        Args:
            spec: Whose classes the labels index.

        Raises:
            SourceError, DatasetError: as `stills` says.
        """
        stills = self.stills()
        if self.labels is None:
            return CompareImages(stills=stills, dataset=None)
        said = spec.ignore if self.ignore is None else self.ignore
        ignore = NO_LABEL if said is None else said
        dataset = Dataset(
            name=spec.model,
            labels=LabelSet(name=spec.labels, classes=spec.classes, palette=spec.palette),
            pairs=self._pairs(stills, self.labels),
            ignore=ignore,
            numbers=class_numbers(
                spec.model,
                len(spec.classes),
                ignore=ignore,
                said=self.said or {},
                way_out="; --ignore says which other number is left out",
            ),
        )
        dataset.require_no_masks(range(len(stills)))
        return CompareImages(stills=stills, dataset=dataset)

    def _pairs(self, stills: Sequence[Still], labels: Path) -> tuple[Pair, ...]:
        files = [still.path for still in stills if isinstance(still, ImageStill)]
        if len(files) < len(stills):
            raise DatasetError(
                f"{self.folder} is a video, whose frames have no labels; compare without, or save "
                "frames with `fcn-trt frames` and label them"
            )
        return pair_with_labels(files, labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareImages:
    """Images of a folder or a video, each decoded when its turn comes.

    Attributes:
        stills: The images.
        dataset: The same with their labels, if there are any.
    """

    stills: tuple[Still, ...]
    dataset: Dataset | None

    def __len__(self) -> int:
        return len(self.stills)

    def __iter__(self) -> Iterator[CompareImage]:
        """Read the images.

        Raises:
            SourceError, DatasetError: a file is damaged, or its labels are no class indices.
        """
        for index, still in enumerate(self.stills):
            if self.dataset is None:
                yield CompareImage(name=still.name, frame=still.read(), truth=None)
            else:
                sample = self.dataset[index]
                yield CompareImage(name=still.name, frame=sample.frame, truth=sample.truth)
