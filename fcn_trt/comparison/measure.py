"""Both predictors over all images once, and what came out in numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from fcn_trt.comparison.images import CompareImage, CompareImages
from fcn_trt.comparison.predictor import Predictor
from fcn_trt.evaluation.agreement import Agreement
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.spec import Frame, LabelMap

__all__ = [
    "WORST_IMAGES",
    "Accuracy",
    "ClassAgreement",
    "Comparison",
    "Draw",
    "WorstImage",
    "compare",
]

WORST_IMAGES = 10

Picture = TypeVar("Picture")
Draw = Callable[[CompareImage, LabelMap, LabelMap], Picture]
"""Makes what is kept of an image that is among the worst so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAgreement:
    """How alike the two predictors are in one class, as shares of 1.

    Attributes:
        iou: Intersection over union of the pixels of both; NaN where neither has any.
        kept: Share of A's pixels that are of this class in B, too; NaN where A has none.
    """

    iou: float
    kept: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Against the labels, as shares of 1.

    Attributes:
        miou: Mean IoU over the classes that occur.
        pixel_accuracy: Share of the labelled pixels that are right.
        per_class: IoU per class name; NaN where a class occurs nowhere.
    """

    miou: float
    pixel_accuracy: float
    per_class: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstImage(Generic[Picture]):
    """One of the images that the predictors agree on least.

    Attributes:
        name: Of its file.
        pixels: Share of its pixels that have the same label.
        near_boundary: The same of those near a boundary of A; NaN where it has none.
        picture: What was drawn of it.
    """

    name: str
    pixels: float
    near_boundary: float
    picture: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Generic[Picture]):
    """How alike two predictors are, as shares of 1.

    Attributes:
        images: How many were compared.
        pixels: Of all pixels, those with the same label.
        near_boundary: Of those within `radius` pixels of a boundary in A; NaN where it has none.
        elsewhere: Of the others.
        boundary_share: How many pixels are near a boundary.
        radius: In pixels.
        per_class: By name.
        accuracy: Of A and of B where there are labels, or None.
        worst: The images with the least agreement, the worst first; none that agree wholly.
    """

    images: int
    pixels: float
    near_boundary: float
    elsewhere: float
    boundary_share: float
    radius: int
    per_class: dict[str, ClassAgreement]
    accuracy: tuple[Accuracy, Accuracy] | None
    worst: tuple[WorstImage[Picture], ...]

    @property
    def miou_drop(self) -> float | None:
        """Points of mean IoU that B has less than A, or None where there are no labels."""
        if self.accuracy is None:
            return None
        first, second = self.accuracy
        return 100 * (first.miou - second.miou)


def compare(
    first: Predictor,
    second: Predictor,
    images: CompareImages,
    *,
    draw: Draw[Picture],
    on_image: Callable[[], None] = lambda: None,
) -> Comparison[Picture]:
    """Run both predictors over all images, each of which is read once.

    Memory does not grow with the number of images: beyond those in flight, only what `draw` makes
    of the worst is kept.

    Args:
        first: A, whose boundaries count.
        second: B, of the same classes.
        images: At least one.
        draw: Called with image, label map of A and of B when it is among the worst so far.

    Raises:
        SourceError, DatasetError: an image or its labels cannot be read.
        EngineError: a predictor cannot run.
    """
    classes = first.spec.classes
    agreement = Agreement(len(classes))
    confusions = (ConfusionMatrix(len(classes)), ConfusionMatrix(len(classes)))
    worst: list[WorstImage[Picture]] = []
    for image, here, there in _both(first, second, images):
        found = agreement.update(here, there)
        if image.truth is not None:
            confusions[0].update(here, image.truth)
            confusions[1].update(there, image.truth)
        is_among_worst = len(worst) < WORST_IMAGES or found.pixels < worst[-1].pixels
        if found.pixels < 1 and is_among_worst:
            worst.append(
                WorstImage(
                    name=image.name,
                    pixels=found.pixels,
                    near_boundary=found.near_boundary,
                    picture=draw(image, here, there),
                )
            )
            worst.sort(key=lambda entry: entry.pixels)  # stable: of equals, the first ones stay
            del worst[WORST_IMAGES:]
        on_image()
    accuracy = (_accuracy(confusions[0], classes), _accuracy(confusions[1], classes))
    shares = zip(classes, agreement.iou(), agreement.kept(), strict=True)
    return Comparison(
        images=len(images),
        pixels=agreement.pixels,
        near_boundary=agreement.near_boundary,
        elsewhere=agreement.elsewhere,
        boundary_share=agreement.boundary_share,
        radius=agreement.radius,
        per_class={
            name: ClassAgreement(iou=float(iou), kept=float(kept)) for name, iou, kept in shares
        },
        accuracy=None if images.dataset is None else accuracy,
        worst=tuple(worst),
    )


def _both(
    first: Predictor, second: Predictor, images: CompareImages
) -> Iterator[tuple[CompareImage, LabelMap, LabelMap]]:
    """Each image with both label maps; both run in step, so few images are in flight.

    itertools.tee would keep them in blocks of 57, which are 360 MB of 1024x2048 pixels.
    """
    unread = iter(images)
    waiting: deque[CompareImage] = deque()
    queues: tuple[deque[Frame], deque[Frame]] = (deque(), deque())

    def frames_of(own: deque[Frame]) -> Iterator[Frame]:
        while True:
            if not own:
                image = next(unread, None)
                if image is None:
                    return
                waiting.append(image)
                for queue in queues:
                    queue.append(image.frame)
            yield own.popleft()

    here_in, there_in = map(frames_of, queues)
    results = zip(first.process(here_in), second.process(there_in), strict=True)
    for (_, here), (_, there) in results:
        yield waiting.popleft(), here, there


def _accuracy(confusion: ConfusionMatrix, classes: tuple[str, ...]) -> Accuracy:
    return Accuracy(
        miou=confusion.miou(),
        pixel_accuracy=confusion.pixel_accuracy(),
        per_class=dict(zip(classes, map(float, confusion.iou()), strict=True)),
    )
