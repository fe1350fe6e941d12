"""The classes of a checkpoint: as was asked, as it says itself, or numbered.

The number of classes says nothing of what they are.
"""

from __future__ import annotations

import logging
from typing import Any

from fcn_trt.errors import CheckpointError
from fcn_trt.labels import (
    LabelSet,
    binary_label_set,
    label_set,
    label_set_for,
    label_set_names,
    named_label_set,
)
from fcn_trt.model.weights import WeightsFile

__all__ = ["checkpoint_labels"]

logger = logging.getLogger(__name__)


def checkpoint_labels(
    classes: int,
    meta: dict[str, Any],
    file: WeightsFile,
    asked: LabelSet | None,
    *,
    is_binary: bool,
) -> LabelSet:
    """The classes that were asked for, else the checkpoint's own, else numbered ones.

    Args:
        classes: Of the network.
        meta: What the checkpoint says of itself.
        asked: What the user named.
        is_binary: Whether the classes are those of one logit.

    Raises:
        CheckpointError: the classes have another number, or are no classes.
    """
    try:
        named = asked or _own_labels(meta, file)
        labels = binary_label_set(named) if is_binary else label_set_for(classes, named)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file.path} cannot be labelled ({str(error).partition(';')[0]}); give --labels a "
            f"file with a line per class, or one of {', '.join(label_set_names())}"
        ) from error
    if named is None:
        logger.info(
            "%s does not name its classes; they are called %s to %s (--labels names them)",
            *(file.path.name, labels.classes[0], labels.classes[-1]),
        )
    return labels


def _own_labels(meta: dict[str, Any], file: WeightsFile) -> LabelSet | None:
    """What a published hash says, or what MMSegmentation or our trainer wrote into the checkpoint.

    Where a known label set has these classes, it is that one.
    """
    if name := (file.published.labels if file.published else meta.get("labels")):
        return label_set(name)
    own = meta.get("dataset_meta")
    own = own if isinstance(own, dict) else {}
    names = own.get("classes") or meta.get("CLASSES")
    if not names:
        return None
    colours = own.get("palette") or meta.get("PALETTE")
    palette = ["#" + "".join(f"{int(v):02x}" for v in colour) for colour in colours or ()]
    if palette and len(palette) != len(names):
        raise ValueError(f"{len(names)} classes but {len(palette)} colours")
    classes = tuple(str(name).strip() for name in names)  # ADE20K is published with "bed "
    known = (label_set(name) for name in label_set_names())
    same = next((k for k in known if k.classes == classes), None)
    return same or named_label_set(classes, palette or None)
