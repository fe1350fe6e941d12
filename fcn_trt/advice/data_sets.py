"""The data sets that mean IoUs of published weights are of, and at which size they were measured.

A mIoU is known at that size alone: what a network reaches on smaller images is not published.

Sources: mmsegmentation configs/_base_/datasets and configs/fcn; pytorch/vision
references/segmentation/presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from fcn_trt.spec import Size

__all__ = ["DATA_SETS", "DEFAULT_DATA_SET", "DataSet", "data_set"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, as authors measure FCNs on it.

    Attributes:
        name: As --dataset takes it.
        measured_on: As weights.json calls it.
        published_at: The size of the images, in words.
        size: (height, width) of all images in pixels, or their short side alone; None where each
            is seen through several windows, which no single input is.
    """

    name: str
    measured_on: str
    published_at: str
    size: Size | int | None

    def is_published_at(self, size: Size) -> bool:
        """Whether a published mIoU is of inputs of this size."""
        return size == self.size or min(size) == self.size


DATA_SETS = (
    DataSet("cityscapes", "Cityscapes val", "1024x2048", (1024, 2048)),
    DataSet("ade20k", "ADE20K val", "a short side of 512", 512),
    DataSet("coco_voc", "COCO val2017, VOC classes", "a short side of 520", 520),
    DataSet("voc", "PASCAL VOC 2012 val", "a short side of 512", 512),
    DataSet("pascal_context_60", "Pascal Context val", "windows of 480x480", None),
)

DEFAULT_DATA_SET = "cityscapes"
"""Most weights are published for it."""


def data_set(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        ValueError: no published weights are of it.
    """
    known = {entry.name: entry for entry in DATA_SETS}
    if name not in known:
        raise ValueError(
            f"no mean IoU is published on a data set {name!r}; known are {', '.join(known)}"
        )
    return known[name]
