"""The data sets that mean IoUs of published weights are of, and at which size they were measured.

Sources: mmsegmentation configs/_base_/datasets and configs/fcn; pytorch/vision
references/segmentation/presets.py.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DATA_SETS", "DEFAULT_DATA_SET", "DataSet", "data_set"]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, as authors measure FCNs on it.

    Attributes:
        name: As --dataset takes it.
        measured_on: As weights.json calls it.
        published_at: The size of the images, in words.
        short_side_px: Of the images: at smaller sizes less is to be expected.
    """

    name: str
    measured_on: str
    published_at: str
    short_side_px: int


DATA_SETS = (
    DataSet("cityscapes", "Cityscapes val", "1024x2048", 1024),
    DataSet("ade20k", "ADE20K val", "a short side of 512", 512),
    DataSet("coco_voc", "COCO val2017, VOC classes", "a short side of 520", 520),
    DataSet("voc", "PASCAL VOC 2012 val", "a short side of 512", 512),
    DataSet("pascal_context_60", "Pascal Context val", "windows of 480x480", 480),
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
