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

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from fcn_trt.evaluation.agreement import boundary_pixels
from fcn_trt.evaluation.metrics import ratio, read_stored
from fcn_trt.spec import NO_LABEL, LabelMap, Size

__all__ = ["BoundaryScore", "boundary_f"]

_TOLERANCE_SQUARED = (9, 160_000)
"""(0.75 / 100) squared, as a fraction: compared in integers, no distance is on the wrong side."""

PART = 192
"""Pixels of the side of a part that is dilated at once: half a megabyte of words."""

FEW_PARTS = 8
"""Up to this number, starting threads costs more than they save."""

Counts: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


class BoundaryScore:
    """The boundary F-scores per class, averaged over any number of images.

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
        """Compute the means over the images, (C,), NaN for a class that none of them has."""
        return ratio(self.sums, self.images)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON values, which `from_json` reads back."""
        return {"sums": self.sums.tolist(), "images": self.images.tolist()}

    @classmethod
    def from_json(cls, num_classes: int, value: Any) -> BoundaryScore:
        """Read what `to_json` returned.

        Raises:
            ValueError: these are no boundary scores of that number of classes.
        """
        stored = read_stored(_Stored, value, refusal="these are no boundary scores")
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
    """Compute the boundary F-score of each class in one image.

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
    edges = (_edges(sides[0], counted), _edges(sides[1], counted))
    totals = [_count(edge)[:num_classes] for edge in edges]
    scores = np.full(num_classes, np.nan)
    scores[(occurs[0] ^ occurs[1]) | ((totals[0] > 0) ^ (totals[1] > 0))] = 0.0
    both = np.flatnonzero((totals[0] > 0) & (totals[1] > 0))
    near = _near(edges, both)
    recall, precision = (near[side, both] / totals[side][both] for side in (0, 1))
    total = precision + recall
    scores[both] = 2 * precision * recall / np.where(total > 0, total, 1)
    return scores


def _occurs(labels: LabelMap, num_classes: int) -> npt.NDArray[np.bool_]:
    """Tell which classes occur."""
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])
    return np.asarray(counts.ravel()[:num_classes] > 0)


def _edges(labels: LabelMap, counted: npt.NDArray[np.bool_]) -> LabelMap:
    """Keep the label of each boundary pixel, and put "no label" elsewhere."""
    return np.where(boundary_pixels(labels, counted), labels, np.uint8(NO_LABEL))


def _count(labels: LabelMap) -> npt.NDArray[np.int64]:
    """Count the pixels of each label, (256,); those without one, which are most, are left out."""
    return np.bincount(labels[labels != NO_LABEL], minlength=256).astype(np.int64)


def _near(edges: tuple[LabelMap, LabelMap], classes: npt.NDArray[np.int64]) -> Counts:
    """Find boundary pixels of each side that lie within the tolerance of the other side's.

    A class is a bit of a word, so that up to 32 of them are dilated at once: what an image costs
    at most depends on its size alone. It is done in parts that fit a processor's cache.

    Args:
        edges: (H, W) uint8 of truth and prediction: a class on its boundary, 255 elsewhere.
        classes: Those that both sides have.

    Returns:
        (2, 256) pixels of each class.
    """
    reach = _reach(edges[0].shape)
    margin = len(reach) - 1
    padded = [np.pad(edge, margin, constant_values=NO_LABEL) for edge in edges]
    height, width = edges[0].shape
    corners = [(top, left) for top in range(0, height, PART) for left in range(0, width, PART)]
    bits = [_bits(classes[first : first + 32]) for first in range(0, len(classes), 32)]

    def count(corner: tuple[int, int]) -> Counts:
        rows, columns = (slice(start, start + PART + 2 * margin) for start in corner)
        part = [edge[rows, columns] for edge in padded]
        return sum((_near_of_part(part, table, reach) for table in bits), _nothing())

    if len(corners) <= FEW_PARTS:
        return sum(map(count, corners), _nothing())
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return sum(pool.map(count, corners), _nothing())


def _reach(size: Size) -> list[int]:
    """Compute how far the tolerance goes to the side, in the same row and in those below it."""
    part, whole = _TOLERANCE_SQUARED
    squared = part * (size[0] ** 2 + size[1] ** 2) // whole
    return [math.isqrt(squared - row**2) for row in range(math.isqrt(squared) + 1)]


def _bits(classes: npt.NDArray[np.int64]) -> Words:
    """Make the bit of each class, (256,), 0 for all others, in words as small as possible."""
    kind = np.uint8 if len(classes) <= 8 else np.uint16 if len(classes) <= 16 else np.uint32
    table = np.zeros(256, dtype=kind)
    table[classes] = 1 << np.arange(len(classes))
    return table


def _near_of_part(part: list[LabelMap], bits: Words, reach: list[int]) -> Counts:
    """Do the work of `_near` on a part; it has a margin, of which nothing is counted."""
    margin = len(reach) - 1
    inner = tuple(slice(margin, side - margin) for side in part[0].shape)
    words = [bits[edge] for edge in part]
    found = _nothing()
    for side, (ours, theirs) in enumerate(((0, 1), (1, 0))):
        if words[ours][inner].any() and words[theirs].any():
            near = (_dilated(words[theirs], reach) & words[ours][inner]) > 0
            found[side] = _count(part[ours][inner][near])
    return found


def _dilated(words: Words, reach: list[int]) -> Words:
    """Join each word with all within the tolerance of it; the result lacks the margin."""
    margin = len(reach) - 1
    height, width = (side - 2 * margin for side in words.shape)
    wide = words[:, margin : margin + width].copy()
    made = np.zeros((height, width), dtype=words.dtype)
    done = 0
    for row in range(margin, -1, -1):  # the nearer a row, the farther the tolerance goes in it
        for aside in range(done + 1, reach[row] + 1):
            wide |= words[:, margin - aside : margin - aside + width]
            wide |= words[:, margin + aside : margin + aside + width]
        done = reach[row]
        for top in {margin - row, margin + row}:
            made |= wide[top : top + height]
    return made


def _nothing() -> Counts:
    return np.zeros((2, 256), dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The form of boundary scores in JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sums: list[Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]]
    images: list[Annotated[int, Field(strict=True, ge=0, lt=2**48)]]
