"""How alike the label maps of two networks are, without knowing the truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import LABEL_MAP
from fcn_trt.evaluation.metrics import ratio
from fcn_trt.spec import NO_LABEL, LabelMap

__all__ = ["BOUNDARY_RADIUS", "Agreement", "ImageAgreement", "boundary_pixels", "near_boundary"]

BOUNDARY_RADIUS = 3
"""Pixels from a boundary that count as near it. Logits are at stride 8 or more, so that this is
where a little noise in them shows first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAgreement:
    """The agreement of two label maps of one image, as shares of 1.

    Attributes:
        pixels: Of all pixels.
        near_boundary: Of those near a boundary of the first; NaN where it has none.
    """

    pixels: float
    near_boundary: float


class Agreement:
    """The counts of (first, second) labels, summed over any number of images.

    "No label" is a label like any other here: where both give none, they agree.

    Args:
        num_classes: C, at most 255.
        radius: Pixels from a boundary that count as near it.
    """

    def __init__(self, num_classes: int, *, radius: int = BOUNDARY_RADIUS) -> None:
        self.num_classes = num_classes
        self.radius = radius
        side = num_classes + 1  # the last row and column are "no label"
        self.counts: npt.NDArray[np.int64] = np.zeros((side, side), dtype=np.int64)
        self.near = _Share()
        self.far = _Share()

    def update(self, first: LabelMap, second: LabelMap) -> ImageAgreement:
        """Add one image.

        Args:
            first: (H, W) uint8 classes, 255 is "no label"; the boundaries are its own.
            second: (H, W) uint8 classes, 255 is "no label".

        Returns:
            Of this image alone.

        Raises:
            ValueError: the sizes differ, or a label is neither a class nor 255.
        """
        if first.shape != second.shape:
            raise ValueError(f"the first label map is {first.shape}, the second {second.shape}")
        rows, columns = self._indices(first, "first"), self._indices(second, "second")
        pairs = rows * np.int32(len(self.counts)) + columns
        counted = np.bincount(pairs.ravel(), minlength=self.counts.size)
        self.counts += counted.reshape(self.counts.shape)
        same, near = first == second, near_boundary(first, self.radius)
        image = _Share.of(same & near, near)
        self.near += image
        self.far += _Share.of(same & ~near, ~near)
        return ImageAgreement(pixels=float(same.mean()), near_boundary=image.value)

    @property
    def pixels(self) -> float:
        """Share of all pixels with the same label, NaN if there was none."""
        return (self.near + self.far).value

    @property
    def near_boundary(self) -> float:
        """Share of the pixels near a boundary of the first, NaN if it has none."""
        return self.near.value

    @property
    def elsewhere(self) -> float:
        """Share of the other pixels, NaN if there was none."""
        return self.far.value

    @property
    def boundary_share(self) -> float:
        """How many of all pixels are near a boundary, NaN if there was none."""
        return _Share(self.near.total, self.near.total + self.far.total).value

    def iou(self) -> npt.NDArray[np.float64]:
        """Compute the IoU of the two per class, NaN for a class that neither has."""
        same = np.diag(self.counts)
        return ratio(same, self.counts.sum(0) + self.counts.sum(1) - same)[:-1]

    def kept(self) -> npt.NDArray[np.float64]:
        """Compute the share of the first's pixels of each class that have it in the second, too.

        NaN for a class that the first never has.
        """
        return ratio(np.diag(self.counts), self.counts.sum(1))[:-1]

    def _indices(self, labels: LabelMap, name: str) -> npt.NDArray[np.int32]:
        """Map labels to rows or columns of the counts; "no label" is the last."""
        LABEL_MAP.check(labels)
        table = np.full(256, -1, dtype=np.int32)
        table[: self.num_classes] = range(self.num_classes)
        table[NO_LABEL] = self.num_classes
        indices = table[labels]
        if indices.min() < 0:
            wrong = labels[indices < 0].max()
            raise ValueError(
                f"the {name} label map has label {wrong}, but there are {self.num_classes} classes"
            )
        return indices


def boundary_pixels(
    labels: LabelMap, counted: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Find the pixels that have a 4-neighbour of another label.

    Args:
        labels: (H, W) uint8.
        counted: (H, W) those that count; the others are on no boundary and make none. None counts
            all.

    Returns:
        (H, W) bool.
    """
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:] != labels[:-1]
    if counted is not None:
        across &= counted[:, 1:] & counted[:, :-1]
        down &= counted[1:] & counted[:-1]
    boundary = np.zeros(labels.shape, dtype=np.bool_)
    for part, differs in (
        (boundary[:, 1:], across),
        (boundary[:, :-1], across),
        (boundary[1:], down),
        (boundary[:-1], down),
    ):
        part |= differs
    return boundary


def near_boundary(label_map: LabelMap, radius: int = BOUNDARY_RADIUS) -> npt.NDArray[np.bool_]:
    """Find the pixels within `radius` of a boundary.

    A boundary is made of the pixels that have a 4-neighbour of another label, so it is two pixels
    wide; the edge of the image is none. Distance is the larger of the rows and the columns in
    between (Chebyshev's).

    Args:
        label_map: (H, W) uint8; "no label" is a label like any other.
        radius: In pixels; 0 is the boundary itself.

    Returns:
        (H, W) bool.
    """
    boundary = boundary_pixels(label_map).view(np.uint8)
    side = 2 * radius + 1
    near: npt.NDArray[np.uint8] = cv2.dilate(boundary, np.ones((side, side), dtype=np.uint8))
    return near.astype(np.bool_)


@dataclass(frozen=True, slots=True)
class _Share:
    """A share of some pixels."""

    part: int = 0
    total: int = 0

    @classmethod
    def of(cls, part: npt.NDArray[np.bool_], total: npt.NDArray[np.bool_]) -> _Share:
        return cls(int(np.count_nonzero(part)), int(np.count_nonzero(total)))

    def __add__(self, other: _Share) -> _Share:
        return _Share(self.part + other.part, self.total + other.total)

    @property
    def value(self) -> float:
        return self.part / self.total if self.total else float("nan")
