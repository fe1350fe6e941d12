"""What is measured on labelled images: agreement by pixels, by classes, and along boundaries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from fcn_trt.evaluation.boundary import BoundaryScore
from fcn_trt.evaluation.metrics import ConfusionMatrix, mean_of_known, read_stored
from fcn_trt.spec import LabelMap

__all__ = ["Evaluation", "Scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The agreement with the truth, as shares of 1. NaN is what could not be measured.

    Attributes:
        images: How many were evaluated.
        miou: Mean IoU over the classes that occur.
        mean_accuracy: Mean of the accuracies of the classes that the truth has.
        pixel_accuracy: Share of the labelled pixels that are right.
        boundary_f: Mean boundary F-score over the classes that occur.
        per_class: IoU per class name; NaN where a class occurs nowhere.
        accuracy_per_class: Share of the pixels of each true class that are right; NaN where the
            truth has none.
        boundary_f_per_class: Boundary F-score per class name; NaN where a class has no boundary.
        confusion: Pixels by truth (rows) and prediction (columns); the last column is "no label".
    """

    images: int
    miou: float
    mean_accuracy: float
    pixel_accuracy: float
    boundary_f: float
    per_class: dict[str, float]
    accuracy_per_class: dict[str, float]
    boundary_f_per_class: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]


class Scores:
    """The sums over any number of images, from which an `Evaluation` follows at any time.

    They are exact integers, and one sum of F-scores per class: read back from JSON, they go on to
    the same evaluation as if they had never been written.

    Args:
        classes: Their names, in index order.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.images = 0
        self.confusion = ConfusionMatrix(len(classes))
        self.boundary = BoundaryScore(len(classes))

    def update(self, label_map: LabelMap, truth: LabelMap) -> None:
        """Add one image.

        Args:
            label_map: (H, W) uint8 predicted classes; 255 ("no label") counts as wrong.
            truth: (H, W) uint8 true classes; 255 is left out.

        Raises:
            ValueError: the sizes differ, or a label is neither a class nor 255.
        """
        self.confusion.update(label_map, truth)
        self.boundary.update(label_map, truth)
        self.images += 1

    def evaluation(self) -> Evaluation:
        """Compute what follows from the images so far."""
        boundary = self.boundary.per_class()
        return Evaluation(
            images=self.images,
            miou=self.confusion.miou(),
            mean_accuracy=self.confusion.mean_accuracy(),
            pixel_accuracy=self.confusion.pixel_accuracy(),
            boundary_f=mean_of_known(boundary),
            per_class=self._named(self.confusion.iou().tolist()),
            accuracy_per_class=self._named(self.confusion.accuracy().tolist()),
            boundary_f_per_class=self._named(boundary.tolist()),
            confusion=tuple(map(tuple, self.confusion.table().tolist())),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the sums as JSON values, which `from_json` reads back."""
        return {
            "images": self.images,
            "confusion": self.confusion.to_json(),
            "boundary": self.boundary.to_json(),
        }

    @classmethod
    def from_json(cls, classes: tuple[str, ...], value: Any) -> Scores:
        """Read what `to_json` returned.

        Args:
            classes: Their names, in index order, as they were.
            value: As `json.loads` returns it.

        Raises:
            ValueError: these are no scores of that number of classes.
        """
        stored = read_stored(_Stored, value, refusal="these are no scores", whole="they")
        scores = cls(classes)
        scores.images = stored.images
        scores.confusion = ConfusionMatrix.from_json(len(classes), stored.confusion)
        scores.boundary = BoundaryScore.from_json(len(classes), stored.boundary)
        if scores.boundary.images.max() > stored.images:
            raise ValueError(f"boundaries of more than the {stored.images} images are scored")
        return scores

    def _named(self, values: Iterable[float]) -> dict[str, float]:
        return dict(zip(self.classes, values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The form of scores in JSON; its parts read themselves."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    images: Annotated[int, Field(strict=True, ge=0)]
    confusion: dict[str, Any]
    boundary: dict[str, Any]
