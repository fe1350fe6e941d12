"""What is measured of a bundle on a data set, by which protocol, and what is known of it."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.engine.manifest import Manifest
from fcn_trt.evaluation.datasets import Dataset, open_dataset
from fcn_trt.evaluation.family import ProtocolName, altered, protocol_for
from fcn_trt.evaluation.measure import Segments, spread
from fcn_trt.evaluation.protocol import Protocol, Slide
from fcn_trt.evaluation.record import Record, about, key_of
from fcn_trt.evaluation.sample import IndexedImages, check_classes
from fcn_trt.evaluation.scenes import HeldOutScenes
from fcn_trt.spec import Spec

__all__ = ["EvaluationOptions", "Task", "open_images", "prepare_evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """The options of an evaluation.

    Attributes:
        protocol: Whose protocol; None takes the family's own where it has one, and else "run".
        slide: Windows, or None to leave them as the protocol has them.
        scales: Factors of the image's size, or None for one.
        flip: Whether each is computed mirrored, too.
        limit: So many images at most, spread evenly; None takes all.
    """

    protocol: ProtocolName | None = None
    slide: Slide | None = None
    scales: tuple[float, ...] | None = None
    flip: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The arguments that `measure` needs.

    Attributes:
        protocol: What is done with each image.
        indices: Of the images that are measured.
        record: What was measured so far.
    """

    protocol: Protocol
    indices: tuple[int, ...]
    record: Record


class Described(Segments, typing.Protocol):
    """A segmenter to measure that says what it is; `Segmenter` is one."""

    @property
    def manifest(self) -> Manifest:
        """Of its bundle."""

    @property
    def description(self) -> str:
        """The engine's library, its version, the processor and the precision."""


def open_images(
    dataset: str,
    root: Path | None,
    *,
    spec: Spec,
    split: str | None = None,
    said: Mapping[int, int] | None = None,
) -> IndexedImages:
    """Open the labelled images to evaluate on.

    Args:
        dataset: Name of a layout, or "scene" for streets that are drawn.
        root: Folder of the data set; streets have none.
        spec: Of the network: streets are drawn in its size, and a data set of the user's own leaves
            out what the spec says.
        split, said: As for `open_dataset`.

    Raises:
        ValueError: the data set is not known, needs a folder, or takes none, or has known numbers.
        DatasetError, MissingExtraError: as for `open_dataset`.
    """
    if dataset == "scene":
        if root is not None:
            raise ValueError("scene draws its own images; leave root out")
        if said:
            raise ValueError("scene has no label files, so nothing can be said of their numbers")
        return HeldOutScenes(size=spec.input_size)
    if root is None:
        raise ValueError(f"{dataset} needs the folder of its images: root=...")
    return open_dataset(dataset, root, split=split, ignore=spec.ignore, said=said)


def prepare_evaluation(
    segmenter: Described,
    images: IndexedImages,
    *,
    options: EvaluationOptions,
    out: Path | None = None,
) -> Task:
    """Decide on everything before the first image is measured.

    Args:
        segmenter: Predicts the classes of the data set.
        out: Where the result is kept; what it has already is taken over.

    Raises:
        FcnTrtError: the family publishes nothing on this data set, and its protocol was asked for.
        DatasetError: the network predicts other classes, a file of the data set is gone, or its
            label files are masks of 0 and 255.
        OutputError: `out` is no result, or one of something else.
    """
    spec = segmenter.spec
    check_classes(images, spec.classes)
    protocol = altered(
        protocol_for(spec, images.name, wanted=options.protocol),
        slide=options.slide,
        scales=options.scales,
        flip=options.flip,
    )
    indices = spread(len(images), options.limit)
    if isinstance(images, Dataset):
        images.require_no_masks(indices)
    facts = about(
        segmenter.manifest, protocol, images, indices=indices, ran_on=segmenter.description
    )
    record = Record(key_of(facts), facts, spec.classes, out)
    return Task(protocol=protocol, indices=indices, record=record)
