"""A bundle measured on a data set by a protocol, from wherever its record ends."""

from __future__ import annotations

import logging
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.inference import infer
from fcn_trt.evaluation.prepare import prepare_truth
from fcn_trt.evaluation.protocol import Protocol
from fcn_trt.evaluation.record import Record
from fcn_trt.evaluation.resize import best_class
from fcn_trt.evaluation.sample import IndexedImages, LabelledImages, Sample
from fcn_trt.evaluation.scores import Evaluation, Scores
from fcn_trt.spec import Frame, LabelMap, Logits, Process, Result, Spec

__all__ = ["Segments", "evaluate", "label_maps", "measure", "spread", "streamed"]

_log = logging.getLogger(__name__)


class Segments(typing.Protocol):
    """A segmenter to measure; `Segmenter` is one."""

    @property
    def spec(self) -> Spec:
        """What the network is."""

    def network(self, images: npt.NDArray[np.float32]) -> Logits:
        """Compute logits at the network's stride, of prepared images (N, 3, H, W)."""

    def stream(self, frames: Iterable[Frame]) -> Iterator[Result]:
        """Yield each frame with its label map, several in flight."""


def measure(
    segmenter: Segments,
    dataset: IndexedImages,
    protocol: Protocol,
    record: Record,
    *,
    indices: tuple[int, ...],
    on_image: Callable[[], None] = lambda: None,
) -> None:
    """Add the images that the record does not have yet, and finish it.

    Args:
        segmenter: Predicts the classes of the data set.
        record: What was measured so far, and where it is kept.
        indices: Of the images, all in the order in which they are measured.

    Raises:
        EngineError: the engine does not take images of the size that the protocol gives them.
        DatasetError: a file of the data set is damaged or has other labels, or none has any.
        OutputError: the record cannot be written.
    """
    samples = (dataset[index] for index in indices[record.scores.images :])
    for label_map, truth in label_maps(segmenter, samples, protocol):
        record.add(label_map, truth)
        on_image()
    if not record.scores.confusion.table().any():
        raise DatasetError(
            f"no pixel of the {len(indices)} images of {dataset.name} has a class, since all are "
            "left out, so that nothing can be measured; check the files of the labels"
        )
    _say_absent(dataset, record.scores.confusion.table().sum(axis=1).tolist())
    record.finish()


def _say_absent(dataset: IndexedImages, pixels: list[int]) -> None:
    """Warn of classes that no label file has, for which an IoU is 0 or not known."""
    absent = [name for name, count in zip(dataset.labels.classes, pixels, strict=True) if not count]
    if absent:
        names = ", ".join(absent[:5]) + (" and others" if absent[5:] else "")
        _log.warning(
            "%s: %d of %d classes occur in no label that was read: %s; their IoU is 0 where they "
            "are predicted, and not counted elsewhere",
            *(dataset.name, len(absent), len(pixels), names),
        )


def evaluate(
    process: Process,
    dataset: LabelledImages,
    *,
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate over a whole data set, every image once, as `fcn-trt run` would segment it.

    Args:
        process: Yields each frame with its label map of the same size, in order.

    Raises:
        DatasetError: a file of the data set is damaged or has other labels.
    """
    scores = Scores(dataset.labels.classes)
    for label_map, truth in streamed(process, iter(dataset)):
        scores.update(label_map, truth)
        on_image()
    return scores.evaluation()


def label_maps(
    segmenter: Segments, samples: Iterator[Sample], protocol: Protocol
) -> Iterator[tuple[LabelMap, LabelMap]]:
    """Yield each image's label map and truth, of the size at which they are compared."""
    if protocol.is_plain:
        yield from streamed(segmenter.stream, samples)
        return
    for sample in samples:
        decided = infer(segmenter.network, sample.frame, protocol, segmenter.spec)
        yield best_class(decided), prepare_truth(sample.truth, decided.size, protocol)


def streamed(process: Process, samples: Iterator[Sample]) -> Iterator[tuple[LabelMap, LabelMap]]:
    """Yield each image's label map and truth, as many images in flight as the process keeps."""
    waiting: deque[LabelMap] = deque()

    def frames() -> Iterator[Frame]:
        for sample in samples:
            waiting.append(sample.truth)
            yield sample.frame

    for _, label_map in process(frames()):
        yield label_map, waiting.popleft()


def spread(total: int, limit: int | None) -> tuple[int, ...]:
    """Choose the indices of at most a number of the images, spread evenly."""
    count = total if limit is None else min(limit, total)
    return tuple(index * total // count for index in range(count))
