"""How well label maps agree with the truth, and with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError

from fcn_trt.spec import NO_LABEL, LabelMap
from fcn_trt.type_adapter import type_adapter

__all__ = ["ConfusionMatrix", "mean_of_known", "ratio", "read_stored"]

Stored = TypeVar("Stored")


class ConfusionMatrix:
    """The counts of (truth, prediction) pairs, summed over any number of images.

    Args:
        num_classes: C, at most 255.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts: npt.NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.missed: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)

    def update(self, label_map: LabelMap, truth: LabelMap) -> None:
        """Add one image.

        Args:
            label_map: (H, W) uint8 predicted classes; 255 ("no label") counts as wrong.
            truth: (H, W) uint8 true classes; 255 is left out.

        Raises:
            ValueError: the sizes differ, or a label is neither a class nor 255.
        """
        if label_map.shape != truth.shape:
            raise ValueError(f"label map is {label_map.shape} but the truth is {truth.shape}")
        for name, labels in (("label map", label_map), ("truth", truth)):
            classes = labels[labels != NO_LABEL]
            if classes.size and classes.max() >= self.num_classes:
                raise ValueError(
                    f"{name} has label {classes.max()}, but there are {self.num_classes} classes"
                )
        counted = truth != NO_LABEL
        true, predicted = truth[counted].astype(np.int64), label_map[counted]
        labelled = predicted != NO_LABEL
        pairs = true[labelled] * self.num_classes + predicted[labelled]
        shape = self.counts.shape
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(shape)
        self.missed += np.bincount(true[~labelled], minlength=self.num_classes)

    def table(self) -> npt.NDArray[np.int64]:
        """Return pixels by truth and prediction, (C, C + 1); the last column is "no label"."""
        return np.column_stack([self.counts, self.missed])

    def iou(self) -> npt.NDArray[np.float64]:
        """Compute the intersection over union per class, NaN for a class that neither side has."""
        correct = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) + self.missed - correct
        return ratio(correct, union)

    def miou(self) -> float:
        """Compute the mean IoU over the classes that occur, NaN if none does."""
        return mean_of_known(self.iou())

    def accuracy(self) -> npt.NDArray[np.float64]:
        """Compute the recall of each true class, NaN where the truth has none."""
        return ratio(np.diag(self.counts), self.counts.sum(1) + self.missed)

    def mean_accuracy(self) -> float:
        """Compute the mean accuracy over the classes that the truth has, NaN if it has none."""
        return mean_of_known(self.accuracy())

    def pixel_accuracy(self) -> float:
        """Compute the share of counted pixels that have the true class, NaN if none was counted."""
        total = int(self.counts.sum() + self.missed.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values, which `from_json` reads back."""
        return {"counts": self.counts.tolist(), "missed": self.missed.tolist()}

    @classmethod
    def from_json(cls, num_classes: int, value: Any) -> ConfusionMatrix:
        """Read what `to_json` returned.

        Raises:
            ValueError: it is no confusion matrix of that number of classes.
        """
        stored = read_stored(_Stored, value, refusal="this is no confusion matrix")
        widths = {len(row) for row in stored.counts}
        if len(stored.counts) != num_classes or widths != {num_classes}:
            raise ValueError(
                f"counts of {len(stored.counts)} classes are no {num_classes}x{num_classes} matrix"
            )
        if len(stored.missed) != num_classes:
            raise ValueError(f"{len(stored.missed)} classes were missed, but {num_classes} are")
        confusion = cls(num_classes)
        confusion.counts += np.array(stored.counts, dtype=np.int64)
        confusion.missed += np.array(stored.missed, dtype=np.int64)
        return confusion


def ratio(part: npt.NDArray[Any], total: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Divide element by element, NaN where there is nothing."""
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, part / total, np.nan)


def mean_of_known(values: npt.NDArray[np.float64]) -> float:
    """Compute the mean of the values that are numbers, NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def read_stored(kind: type[Stored], value: Any, *, refusal: str, whole: str = "it") -> Stored:
    """Read sums that were written as JSON, checked strictly.

    Args:
        kind: Dataclass of their form.
        value: As `json.loads` returns it.
        refusal: What is said of a value of another form, before where and why.
        whole: What the value itself is called there.

    Raises:
        ValueError: the value has another form.
    """
    try:
        return type_adapter(kind).validate_python(value)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"])) or whole
        raise ValueError(f"{refusal}: {where}: {found['msg']}") from error


_Count = Annotated[int, Field(strict=True, ge=0, lt=2**48)]
"""Pixels. The bound keeps every sum within 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The form of a confusion matrix in JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    counts: list[list[_Count]]
    missed: list[_Count]
