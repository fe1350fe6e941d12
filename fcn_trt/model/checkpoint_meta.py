"""What a checkpoint says of itself, beside its tensors: texts and colours, and nothing else.

Only what is used is taken, once, and only if it is of the kind that is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fcn_trt.input_format import is_number
from fcn_trt.labels import MAX_CLASSES
from fcn_trt.model.inert_pickle import LONG_TEXT, Inert, kind_of

__all__ = ["CheckpointMeta", "MetaError", "read_meta"]

MAX_CONFIG = 1 << 17
"""Characters; the longest of MMSegmentation's own have 15,000."""
MAX_TEXT = 1 << 14
MAX_CLASS_NAME = 200
MAX_COLOUR = 1 << 16


class MetaError(ValueError):
    """What a checkpoint says of itself is of another kind, or longer, than what is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointMeta:
    """What a checkpoint says of itself; "" and () where it does not.

    Attributes:
        model: Name of its architecture.
        config: MMSegmentation's, as Python text.
        labels: Name of its label set.
        classes: Their names.
        palette: A colour ``#rrggbb`` for each, as far as the numbers are colours.
        labels_fault: Why its labels or classes cannot be taken, which matters if they are needed.
        licence: Of the weights.
        trained_by: Whose training script packed the file: the two differ in what they add.
    """

    model: str = ""
    config: str = ""
    labels: str = ""
    classes: tuple[str, ...] = ()
    palette: tuple[str, ...] = ()
    labels_fault: str = ""
    licence: str = ""
    trained_by: str = ""


def read_meta(said: Mapping[Any, Any], keys: Mapping[Any, Any]) -> CheckpointMeta:
    """Take what is used.

    Args:
        said: What stands under "meta", or the metadata of safetensors.
        keys: The whole content, whose keys tell whose script packed it.

    Raises:
        MetaError: something that is used is no text, or is too long.
    """
    meta = CheckpointMeta(
        model=_text(said, "model", MAX_TEXT),
        config=_config(said),
        licence=_text(said, "licence", MAX_TEXT),
        trained_by=_trained_by(keys),
    )
    try:
        classes, palette = _classes(said)
        labels = _text(said, "labels", MAX_TEXT)
    except MetaError as error:
        return replace(meta, labels_fault=str(error))
    return replace(meta, labels=labels, classes=classes, palette=palette)


def _text(said: Mapping[Any, Any], key: str, most: int) -> str:
    text = said.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise MetaError(f"its {key} is a {kind_of(text)} and no text")
    return _short(text, key, most)


def _short(text: str, what: str, most: int) -> str:
    if len(text) > most:
        raise MetaError(f"its {what} has {len(text)} characters, and at most {most} are read")
    return text.encode("utf-8", "replace").decode()  # without halves of surrogate pairs


def _config(said: Mapping[Any, Any]) -> str:
    """0.x has it under "config", 1.x under "cfg"; what is no text says nothing."""
    text = said["config"] if "config" in said else said.get("cfg")
    if text is LONG_TEXT:
        raise MetaError(f"its config is a {kind_of(text)}, and at most {MAX_CONFIG} are read")
    return _short(text, "config", MAX_CONFIG) if isinstance(text, str) else ""


def _classes(said: Mapping[Any, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, colours), as MMSegmentation 0.x and 1.x store them."""
    own = said.get("dataset_meta")
    own = own if isinstance(own, Mapping) else {}
    names = own.get("classes") or said.get("CLASSES") or ()
    colours = own.get("palette") or said.get("PALETTE") or ()
    if not isinstance(names, list | tuple | str):
        raise MetaError(f"its classes are a {kind_of(names)} and no list of names")
    if len(names) > MAX_CLASSES:
        raise MetaError(f"{len(names)} classes: a label map holds 1 to {MAX_CLASSES}")
    if isinstance(colours, Inert):
        colours = ()  # MMSegmentation draws one as an array where a data set has none
    if not isinstance(colours, list | tuple):
        raise MetaError(f"its palette is a {kind_of(colours)} and no list of colours")
    if colours and len(colours) != len(names):
        raise MetaError(f"{len(names)} classes but {len(colours)} colours")
    return tuple(map(_class_name, names)), tuple(map(_colour, colours))


def _class_name(name: object) -> str:
    if type(name) is int:
        name = str(name)
    if not isinstance(name, str):
        raise MetaError(f"one of its classes is a {kind_of(name)} and no name")
    return _short(name, "class", MAX_CLASS_NAME).strip()  # ADE20K is published with "bed "


def _colour(values: object) -> str:
    if not (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(is_number(value) and abs(value) < MAX_COLOUR for value in values)
    ):
        raise MetaError("one of its colours is no list of three numbers")
    return "#" + "".join(f"{int(value):02x}" for value in values)


def _trained_by(keys: Mapping[Any, Any]) -> str:
    extras = set(keys) - {"model", "model_ema", "scaler"}
    if extras == {"optimizer", "lr_scheduler"}:
        return "pytorch-auto-drive"  # utils/common.py save_checkpoint
    if extras == {"optimizer", "lr_scheduler", "epoch", "args"}:
        return "torchvision"  # references/segmentation/train.py
    return ""
