"""The images that two predictors are compared on, with their labels or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.evaluation.datasets import Dataset, pair_with_labels
from fcn_trt.evaluation.label_files import class_numbers
from fcn_trt.images import read_image
from fcn_trt.labels import LabelSet
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, Spec
from fcn_trt.video.image_files import folder_images

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
        folder: Of the images.
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

    def paths(self) -> tuple[Path, ...]:
        """The image files, after a look that each has labels if there are to be any.

        Raises:
            SourceError: the folder cannot be read or holds no image.
            DatasetError: an image lacks labels.
        """
        found = folder_images(self.folder)
        count = min(self.limit or len(found), len(found))
        paths = tuple(found[index * len(found) // count] for index in range(count))
        if self.labels is not None:
            pair_with_labels(paths, self.labels)
        return paths

    def find(self, spec: Spec) -> CompareImages:
        """The images, and their labels.

        Args:
            spec: Whose classes the labels index.

        Raises:
            SourceError, DatasetError: as `paths` says.
        """
        paths = self.paths()
        if self.labels is None:
            return CompareImages(paths=paths, dataset=None)
        said = spec.ignore if self.ignore is None else self.ignore
        ignore = NO_LABEL if said is None else said
        dataset = Dataset(
            name=spec.model,
            labels=LabelSet(name=spec.labels, classes=spec.classes, palette=spec.palette),
            pairs=pair_with_labels(paths, self.labels),
            ignore=ignore,
            numbers=class_numbers(
                spec.model,
                len(spec.classes),
                ignore=ignore,
                said=self.said,
                way_out="; --ignore says which other number is left out",
            ),
        )
        dataset.require_no_masks(range(len(paths)))
        return CompareImages(paths=paths, dataset=dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareImages:
    """Images of a folder, each decoded when its turn comes.

    Attributes:
        paths: The image files.
        dataset: The same with their labels, if there are any.
    """

    paths: tuple[Path, ...]
    dataset: Dataset | None

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[CompareImage]:
        """Read the images.

        Raises:
            SourceError, DatasetError: a file is damaged, or its labels are no class indices.
        """
        for index, path in enumerate(self.paths):
            if self.dataset is None:
                yield CompareImage(name=path.name, frame=read_image(path), truth=None)
            else:
                sample = self.dataset[index]
                yield CompareImage(name=path.name, frame=sample.frame, truth=sample.truth)
