"""How well label maps agree with the truth, and with each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fcn_trt.spec import NO_LABEL, LabelMap

__all__ = ["ConfusionMatrix"]


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs, summed over any number of images.

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

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union per class, NaN for a class that neither side has."""
        correct = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) + self.missed - correct
        with np.errstate(invalid="ignore"):
            return np.where(union > 0, correct / union, np.nan)

    def miou(self) -> float:
        """Mean IoU over the classes that occur, NaN if none does."""
        iou = self.iou()
        return float(iou[~np.isnan(iou)].mean()) if not np.isnan(iou).all() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that have the true class, NaN if none was counted."""
        total = int(self.counts.sum() + self.missed.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")
