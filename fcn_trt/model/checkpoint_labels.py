"""The classes of a checkpoint: as was asked, as it says itself, or numbered.

The number of classes says nothing of what they are.
"""

from __future__ import annotations

import logging

from fcn_trt.errors import CheckpointError
from fcn_trt.labels import (
    LabelSet,
    binary_label_set,
    label_set,
    label_set_for,
    label_set_names,
    named_label_set,
)
from fcn_trt.model.checkpoint_meta import CheckpointMeta
from fcn_trt.model.weights import WeightsFile

__all__ = ["checkpoint_labels"]

logger = logging.getLogger(__name__)


def checkpoint_labels(
    classes: int,
    meta: CheckpointMeta,
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
    except ValueError as error:
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


def _own_labels(meta: CheckpointMeta, file: WeightsFile) -> LabelSet | None:
    """What a published hash says, or what MMSegmentation or our trainer wrote into the checkpoint.

    Where a known label set has these classes, it is that one.

    Raises:
        ValueError: they cannot be taken.
    """
    if file.published:
        return label_set(file.published.labels)
    if meta.labels_fault:
        raise ValueError(meta.labels_fault)
    if meta.labels:
        return label_set(meta.labels)
    if not meta.classes:
        return None
    known = (label_set(name) for name in label_set_names())
    same = next((k for k in known if k.classes == meta.classes), None)
    return same or named_label_set(meta.classes, meta.palette or None)
