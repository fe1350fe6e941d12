"""How well label maps follow the boundaries of the classes: the boundary F-score.

Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?",
BMVC 2013, section 3: precision and recall of boundary pixels that lie within 0.75 % of the image
diagonal of the other side's. What the paper leaves open is decided so:

- A pixel is on the boundary of its class if one of its four neighbours has another label. The edge
  of the image is no boundary. "No label" in a prediction is another label, but no class.
- Pixels that the truth leaves out are left out of both sides, and a neighbour that is left out
  makes no boundary.
- Distance is Euclidean, between centres of pixels, and the tolerance itself is still within it.
- A class's score is the mean over the images that have it in the truth or in the prediction: 0 for
  an image with the class on one side alone, or with a boundary of it on one side alone. An image
  that both sides fill with the class has no boundary to judge and is not in the mean.
- The score of a data set is the mean over its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fcn_trt.spec import NO_LABEL, LabelMap, Size

__all__ = ["BoundaryScore", "boundary_f"]

_TOLERANCE_SQUARED = (9, 160_000)
"""(0.75 / 100) squared, as a fraction: compared in integers, no distance is on the wrong side."""


class BoundaryScore:
    """Boundary F-scores per class, averaged over any number of images.

    Args:
        num_classes: C, at most 255.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.sums: npt.NDArray[np.float64] = np.zeros(num_classes)
        self.images: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)

    def update(self, label_map: LabelMap, truth: LabelMap) -> None:
        """Add one image.

        Args:
            label_map: (H, W) uint8 predicted classes, 255 is "no label".
            truth: (H, W) uint8 true classes; 255 is left out.

        Raises:
            ValueError: the sizes differ.
        """
        scores = boundary_f(label_map, truth, self.num_classes)
        known = ~np.isnan(scores)
        self.sums[known] += scores[known]
        self.images += known

    def per_class(self) -> npt.NDArray[np.float64]:
        """(C,) means over the images, NaN for a class that none of them has."""
        with np.errstate(invalid="ignore"):
            return np.where(self.images > 0, self.sums / self.images, np.nan)

    def to_json(self) -> dict[str, Any]:
        """What JSON has of it; `from_json` reads it back."""
        return {"sums": self.sums.tolist(), "images": self.images.tolist()}

    @classmethod
    def from_json(cls, num_classes: int, value: Any) -> BoundaryScore:
        """What `to_json` gave.

        Raises:
            ValueError: these are no boundary scores of so many classes.
        """
        try:
            stored = TypeAdapter(_Stored).validate_python(value)
        except ValidationError as error:
            found = error.errors()[0]
            where = ".".join(map(str, found["loc"])) or "it"
            raise ValueError(f"these are no boundary scores: {where}: {found['msg']}") from error
        if {len(stored.sums), len(stored.images)} != {num_classes}:
            raise ValueError(
                f"boundary scores of {len(stored.sums)} classes and images of "
                f"{len(stored.images)} are none of {num_classes} classes"
            )
        score = cls(num_classes)
        score.sums += np.array(stored.sums)
        score.images += np.array(stored.images, dtype=np.int64)
        if np.any(score.sums > score.images):
            raise ValueError("a boundary score is above 1, which none can be")
        return score


def boundary_f(label_map: LabelMap, truth: LabelMap, num_classes: int) -> npt.NDArray[np.float64]:
    """Boundary F-score of each class in one image.

    Args:
        label_map: (H, W) uint8 predicted classes, 255 is "no label".
        truth: (H, W) uint8 true classes; 255 is left out.
        num_classes: C, at most 255.

    Returns:
        (C,) shares of 1; NaN where neither side has the class, or both fill the image with it.

    Raises:
        ValueError: the sizes differ.
    """
    if label_map.shape != truth.shape:
        raise ValueError(f"label map is {label_map.shape} but the truth is {truth.shape}")
    counted = truth != NO_LABEL
    sides = (truth, np.where(counted, label_map, np.uint8(NO_LABEL)))
    occurs = [_occurs(labels, num_classes) for labels in sides]
    edges = [_edges(labels, counted) for labels in sides]
    disc = _disc(truth.shape)
    scores = np.full(num_classes, np.nan)
    scores[occurs[0] ^ occurs[1]] = 0.0
    for index in np.flatnonzero(occurs[0] & occurs[1]):
        true, predicted = ((edge == index).view(np.uint8) for edge in edges)
        scores[index] = _f(true, predicted, disc)
    return scores


def _occurs(labels: LabelMap, num_classes: int) -> npt.NDArray[np.bool_]:
    """Which classes there are."""
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])
    return np.asarray(counts.ravel()[:num_classes] > 0)


def _edges(labels: LabelMap, counted: npt.NDArray[np.bool_]) -> LabelMap:
    """The label of each boundary pixel, and "no label" elsewhere."""
    boundary = np.zeros(labels.shape, dtype=np.bool_)
    across = (labels[:, 1:] != labels[:, :-1]) & counted[:, 1:] & counted[:, :-1]
    down = (labels[1:] != labels[:-1]) & counted[1:] & counted[:-1]
    boundary[:, 1:] |= across
    boundary[:, :-1] |= across
    boundary[1:] |= down
    boundary[:-1] |= down
    return np.where(boundary, labels, np.uint8(NO_LABEL))


def _disc(size: Size) -> npt.NDArray[np.uint8]:
    """The offsets within the tolerance, as a kernel of 0 and 1."""
    part, whole = _TOLERANCE_SQUARED
    squared = part * (size[0] ** 2 + size[1] ** 2)
    radius = int(np.hypot(*size) * 0.0075) + 1  # one more than may be needed; zeros do no harm
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc: npt.NDArray[np.uint8] = (whole * (rows**2 + columns**2) <= squared).astype(np.uint8)
    return disc


def _f(
    true: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], disc: npt.NDArray[np.uint8]
) -> float:
    """F-score of two boundaries of 0 and 1; NaN where there are none."""
    if not true.any() and not predicted.any():
        return float("nan")
    if not true.any() or not predicted.any():
        return 0.0
    where = _common_window(true, predicted, margin=len(disc) // 2)
    precision = _share_near(predicted, true, where, disc)
    recall = _share_near(true, predicted, where, disc)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _common_window(
    one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], *, margin: int
) -> tuple[slice, slice]:
    """Rows and columns outside of which nothing of either side is within the margin of the other.

    It is empty where the two are far from each other.
    """
    boxes = np.array([cv2.boundingRect(side) for side in (one, other)])
    starts = np.maximum((boxes[:, :2] - margin).max(0), 0)
    ends = (boxes[:, :2] + boxes[:, 2:] + margin).min(0)
    columns, rows = (slice(start, max(start, end)) for start, end in zip(starts, ends, strict=True))
    return rows, columns


def _share_near(
    mask: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    where: tuple[slice, slice],
    disc: npt.NDArray[np.uint8],
) -> float:
    """How much of a boundary is within the tolerance of the other one."""
    total = cv2.countNonZero(mask)
    if not other[where].size:
        return 0.0
    near = cv2.dilate(other[where], disc)
    return cv2.countNonZero(near & mask[where]) / total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The form of boundary scores in JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sums: list[Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]]
    images: list[Annotated[int, Field(strict=True, ge=0, lt=2**48)]]
