"""Class names and colours: those of known data sets, and those that the user names.

Colours are written ``#rrggbb``, so that no reader has to know a channel order; `palette_array`
makes the BGR table that drawing needs. Those of known data sets stand in labels.json.
"""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcn_trt.foreign import read_limited

__all__ = [
    "LabelSet",
    "binary_label_set",
    "distinct_palette",
    "find_label_set",
    "label_set",
    "label_set_for",
    "label_set_names",
    "named_label_set",
    "numbered_label_set",
    "palette_array",
    "read_label_file",
]

MAX_CLASSES = 255
"""Label maps are uint8 and 255 means "no label"."""

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LINE = re.compile(r"(?P<name>.*?)(?:\s+(?P<colour>#[0-9a-fA-F]{6}))?")
_STRANGE = re.compile(
    r"#(?![0-9a-fA-F]{6}$)"  # half a colour, a comment behind a name
    r"|^\d+\s*[,:;]|,\s*\d|,.*,|\b\d+\s+\d+\s+\d+\b"  # columns of a table
    r"|^[\[\]{}-]|[\"{}]|:$|:\s*[\[{]"  # JSON, YAML
    r"|[\x00-\x1f\x7f]"
)
"""What no line holds, so that no file of another kind shifts every class by a line."""
MAX_LABEL_FILE_BYTES = 1 << 20

_BACKGROUND = {"background", "unlabeled", "unlabelled", "void", "none"}
_SHADES = ((1.0, 1.0), (0.55, 1.0), (1.0, 0.6), (0.55, 0.65))
_GOLDEN = (5**0.5 - 1) / 2
"""Turn of the hue from one class to the next, which leaves no two hues near each other for long."""


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
    return named_label_set([f"class_{index}" for index in range(count)])


def binary_label_set(labels: LabelSet | None = None) -> LabelSet:
    """The two classes of a network with one logit.

    Args:
        labels: Both, or the one that is looked for, which gets a background beside it; None calls
            it "foreground".

    Raises:
        ValueError: there are more than two.
    """
    if labels is None:
        return named_label_set(("background", "foreground"))
    if len(labels.classes) == 1:
        return LabelSet(
            name="custom",
            classes=("background", *labels.classes),
            palette=("#000000", *labels.palette),
        )
    return label_set_for(2, labels)


def label_set_for(count: int, labels: LabelSet | None = None) -> LabelSet:
    """The label set of a network with `count` classes.

    Args:
        count: Classes of the network.
        labels: What was asked for, or what the network itself says; None numbers the classes, as
            their number says nothing of what they are.

    Raises:
        ValueError: the set has another number of classes.
    """
    if labels is None:
        return numbered_label_set(count)
    if len(labels.classes) != count:
        raise ValueError(
            f"{labels.name} has {len(labels.classes)} classes, but the network has {count}"
        )
    return labels


def find_label_set(name: str, folder: Path | None = None) -> LabelSet:
    """A built-in label set by its name, or one from a file.

    Args:
        name: Of the set, or path of a file as `read_label_file` takes it.
        folder: Where a relative path begins; None is the working folder.

    Raises:
        ValueError: there is neither, or the file is not valid.
    """
    if name in _table():
        return label_set(name)
    path = (folder or Path()) / name
    if not path.is_file():
        raise ValueError(
            f"{name!r} is neither a file of class names nor a known label set; known are "
            f"{', '.join(label_set_names())}"
        )
    return read_label_file(path)


def read_label_file(path: Path) -> LabelSet:
    """Read class names and colours: a line per class, ``name`` or ``name #rrggbb``.

    Empty lines, and lines that begin with "#", are skipped. A class without a colour gets one.

    Raises:
        ValueError: the file cannot be read, names no class or too many, or has a line of another
            form, such as a table's.
    """
    try:
        text = read_limited(path, MAX_LABEL_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"{path} cannot be read ({reason})") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    for number, line in lines:
        if _STRANGE.search(line) and not line.startswith("#"):
            raise ValueError(
                f"{path} has {line[:80]!r} in line {number}; a line is a class's name, or a "
                "name and its colour such as #804080"
            )
    found = [_LINE.fullmatch(line) for _, line in lines if line and not line.startswith("#")]
    if not 1 <= len(found) <= MAX_CLASSES:
        raise ValueError(
            f"{path} names {len(found)} classes; 1 to {MAX_CLASSES} were expected, a line each"
        )
    pairs = [(match["name"], match["colour"]) for match in found if match]
    return named_label_set([name for name, _ in pairs], [colour for _, colour in pairs])


def named_label_set(
    classes: Sequence[str], colours: Sequence[str | None] | None = None
) -> LabelSet:
    """Classes of the user's own.

    Args:
        classes: Their names.
        colours: One ``#rrggbb`` each, in either case; None, or a None in it, takes one that differs
            from the others.

    Raises:
        ValueError: there are too many classes, or a colour has another form.
    """
    own = distinct_palette(classes)
    given = colours or [None] * len(classes)
    palette = tuple((colour or other).lower() for colour, other in zip(given, own, strict=True))
    return LabelSet(name="custom", classes=tuple(classes), palette=palette)


def distinct_palette(classes: Sequence[str]) -> tuple[str, ...]:
    """A colour of its own for each of up to 256 classes; black for a first one that is background.

    Neighbours differ most: the hue turns by the golden ratio, and brightness changes beside it.
    """
    colours = []
    for index in range(len(classes)):
        saturation, value = _SHADES[index % len(_SHADES)]
        rgb = colorsys.hsv_to_rgb(index * _GOLDEN % 1, saturation, value)
        colours.append("#" + "".join(f"{round(part * 255):02x}" for part in rgb))
    if classes and classes[0].strip().lower() in _BACKGROUND:
        colours[0] = "#000000"
    return tuple(colours)


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
