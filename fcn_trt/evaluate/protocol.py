"""Whole-image evaluation: every image once, at its own size, counts summed over all images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fcn_trt.errors import DatasetError
from fcn_trt.evaluate.datasets import LabelledImages, Sample
from fcn_trt.metrics import ConfusionMatrix
from fcn_trt.spec import Frame, Process

__all__ = ["Evaluation", "check_classes", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Agreement with the truth, as shares of 1.

    Attributes:
        images: How many were evaluated.
        miou: Mean IoU over the classes that occur.
        pixel_accuracy: Share of the labelled pixels that are right.
        per_class: IoU per class name; NaN where a class occurs nowhere.
    """

    images: int
    miou: float
    pixel_accuracy: float
    per_class: dict[str, float]


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


def evaluate(
    process: Process,
    dataset: LabelledImages,
    *,
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate over a whole data set.

    Args:
        process: Yields each frame with its label map of the same size, in order.
        dataset: Labelled images.
        on_image: Called after each image.

    Raises:
        DatasetError: a file of the data set is damaged or has other labels.
    """
    confusion = ConfusionMatrix(len(dataset.labels.classes))
    waiting: deque[Sample] = deque()

    def frames() -> Iterator[Frame]:
        for sample in dataset:
            waiting.append(sample)
            yield sample.frame

    images = 0
    for _, label_map in process(frames()):
        confusion.update(label_map, waiting.popleft().truth)
        images += 1
        on_image()
    iou = confusion.iou()
    return Evaluation(
        images=images,
        miou=confusion.miou(),
        pixel_accuracy=confusion.pixel_accuracy(),
        per_class=dict(zip(dataset.labels.classes, map(float, iou), strict=True)),
    )
