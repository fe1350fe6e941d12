"""Which architecture a checkpoint has: what its tensors, its own words and the user agree on."""

from __future__ import annotations

from typing import Any

from fcn_trt.errors import AmbiguousModelError, CheckpointError
from fcn_trt.foreign import printable
from fcn_trt.model.architecture import ARCHITECTURES, Architecture
from fcn_trt.model.checkpoint_meta import CheckpointMeta
from fcn_trt.model.mmseg_model import config_describes, model_config
from fcn_trt.model.safe_load import Checkpoint
from fcn_trt.model.stored_tensor import Tensors
from fcn_trt.model.weights import WeightsFile

__all__ = ["identify"]


def identify(
    tensors: Tensors,
    checkpoint: Checkpoint,
    config: dict[str, Any],
    file: WeightsFile,
    model: str | None,
) -> Architecture:
    """The one architecture that the tensors, the checkpoint's own words and `model` agree on.

    Args:
        tensors: Under the names of `Fcn`.
        checkpoint: What it says of itself, and how it is packed.
        config: The variables of its MMSegmentation config.
        model: The architecture that the user named.

    Raises:
        AmbiguousModelError: several are left that compute different things.
        CheckpointError: none is left.
    """
    fitting = _fitting(tensors)
    if not fitting:
        raise CheckpointError(f"{file.path} has the keys of an FCN, but of no known depth and stem")
    said = _said(fitting, checkpoint.meta, config, file, tensors)
    if model is None:
        # How the file is packed is only a hint: it decides where nothing was said, asked or named.
        hinted = [a for a in said if a.family == checkpoint.meta.trained_by] or said
        if len(hinted) > 1:
            kind = " (safetensors)" if checkpoint.format == "safetensors" else ""
            raise AmbiguousModelError(
                f"the tensors of {file.path}{kind} fit several models that compute different "
                f"things; name the one it was trained as: {', '.join(a.name for a in hinted)} "
                f"(`fcn-trt export NAME --weights {file.path}`)"
            )
        return hinted[0]
    for arch in said:
        if arch.name == model:
            return arch
    raise CheckpointError(f"{file.path} is not {model}; it is {' or '.join(a.name for a in said)}")


def _fitting(tensors: Tensors) -> list[Architecture]:
    """The architectures whose tensors these could be."""
    depth = 18
    if "backbone.layer1.0.conv3.weight" in tensors:
        depth = 101 if "backbone.layer3.22.conv1.weight" in tensors else 50
    stem = "3x3" if "backbone.stem.3.weight" in tensors else "7x7"
    concat = "decode_head.conv_cat.conv.weight" in tensors
    return [
        a
        for a in ARCHITECTURES.values()
        if (a.depth, a.stem, a.head.concat) == (depth, stem, concat)
    ]


def _said(
    fitting: list[Architecture],
    meta: CheckpointMeta,
    config: dict[str, Any],
    file: WeightsFile,
    tensors: Tensors,
) -> list[Architecture]:
    """Those of `fitting` that the checkpoint's own words leave over; never none."""
    described = model_config(config)
    if file.published is not None:
        left = [a for a in fitting if a.name == file.published.model]
    elif meta.model:
        left = [a for a in fitting if a.name == meta.model]
    elif described is not None:
        left = [a for a in fitting if config_describes(described, a)]
    elif any(name.startswith("aux_classifier.") for name in tensors):
        # pytorch-auto-drive's FCN is built without one; torchvision's published files have it.
        left = [a for a in fitting if a.family == "torchvision"]
    else:
        left = fitting
    if not left:
        said = printable(meta.model[:60]) or "a model that is not known here"
        raise CheckpointError(
            f"{file.path} says it is {said}, but its tensors are those of "
            f"{' or '.join(a.name for a in fitting)}"
        )
    return left
