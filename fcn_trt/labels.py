"""Class names and colours of the data sets that FCN checkpoints are trained on.

Colours are written ``#rrggbb``, so that no reader has to know a channel order; `palette_array`
makes the BGR table that drawing needs. The names and colours themselves stand in labels.json.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

__all__ = [
    "LabelSet",
    "hsv_palette",
    "hub_palette",
    "label_set",
    "label_set_names",
    "palette_array",
]

MAX_CLASSES = 255
"""Label maps are uint8 and 255 means "no label"."""

_USUAL = {
    11: "camvid",
    19: "cityscapes",
    21: "voc",
    59: "pascal_context_59",
    60: "pascal_context_60",
    150: "ade20k",
}
"""The data set that has this many classes, where only one known set does."""

_HUB_PRIMES = (2**25 - 1, 2**15 - 1, 2**21 - 1)
_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """The classes of a data set, in index order.

    Attributes:
        name: Key in `label_set_names`, or "custom".
        classes: One name per class index.
        palette: One ``#rrggbb`` colour per class index.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"{len(self.classes)} classes: a label map holds 1 to {MAX_CLASSES}")
        if len(self.classes) != len(self.palette):
            raise ValueError(
                f"{len(self.classes)} classes but {len(self.palette)} colours in {self.name!r}"
            )
        check_palette(self.palette)


def check_palette(palette: Sequence[str]) -> None:
    """Refuse colours that are not written ``#rrggbb`` in lower case.

    Raises:
        ValueError: a colour has another form.
    """
    for colour in palette:
        if not _COLOUR.fullmatch(colour):
            raise ValueError(f"colour {colour!r} is not of the form #rrggbb in lower case")


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    text = resources.files("fcn_trt").joinpath("labels.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, list[str]]] = json.loads(text)
    return table


def label_set_names() -> list[str]:
    """The data sets whose classes are known, sorted."""
    return sorted(_table())


def label_set(name: str) -> LabelSet:
    """The classes and colours of a data set.

    Raises:
        ValueError: the data set is not known.
    """
    if name not in _table():
        raise ValueError(f"unknown label set {name!r}; known are {', '.join(label_set_names())}")
    entry = _table()[name]
    return LabelSet(name=name, classes=tuple(entry["classes"]), palette=tuple(entry["palette"]))


def numbered_label_set(count: int) -> LabelSet:
    """Classes called class_0, class_1, ... for a network whose classes nobody named."""
    names = tuple(f"class_{index}" for index in range(count))
    return LabelSet(name="custom", classes=names, palette=hub_palette(count))


def label_set_for(count: int, name: str | None = None) -> LabelSet:
    """The label set of a network with `count` classes.

    Args:
        count: Classes of the network.
        name: The set that was asked for; None takes the known set with this many classes, and
            numbers the classes where there is none.

    Raises:
        ValueError: the set is unknown or has another number of classes.
    """
    name = name or _USUAL.get(count)
    if name is None:
        return numbered_label_set(count)
    labels = label_set(name)
    if len(labels.classes) != count:
        raise ValueError(f"{name} has {len(labels.classes)} classes, but the network has {count}")
    return labels


def hub_palette(count: int) -> tuple[str, ...]:
    """Colours of the PyTorch Hub example: index x (2^25-1, 2^15-1, 2^21-1) mod 255, as RGB.

    Source: PyTorch Hub, pytorch_vision_fcn_resnet101, "palette".
    """
    return tuple(
        "#" + "".join(f"{index * prime % 255:02x}" for prime in _HUB_PRIMES)
        for index in range(count)
    )


def hsv_palette(count: int) -> tuple[str, ...]:
    """Colours of the ONNX Model Zoo example: black, then hues i/count at saturation and value 0.75.

    Source: onnx/models, vision/object_detection_segmentation/fcn, "get_palette"; channels are
    truncated, not rounded, as there.
    """
    return tuple(
        "#000000"
        if index == 0
        else "#"
        + "".join(f"{int(v * 255):02x}" for v in colorsys.hsv_to_rgb(index / count, 0.75, 0.75))
        for index in range(count)
    )


def palette_array(palette: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Colours as the table that drawing indexes with labels.

    Args:
        palette: C colours ``#rrggbb``.

    Returns:
        (C, 3) uint8 BGR.

    Raises:
        ValueError: a colour has another form.
    """
    check_palette(palette)
    return np.array([[int(c[i : i + 2], 16) for i in (5, 3, 1)] for c in palette], dtype=np.uint8)
