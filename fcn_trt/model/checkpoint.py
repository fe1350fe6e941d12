"""A checkpoint of any family becomes an `Fcn` with its weights, or is refused with the reason.

Tensors tell the family, the depth, the stem, the widths and the number of classes. They do not
tell dilations, D6 or align_corners; those come from the model name, from the checkpoint's own
config, or from a published hash. If they come from nowhere, loading is refused.

Every tensor is used or is on `TRAINING_ONLY`.

Key layouts: torchvision.models.segmentation; MMSegmentation 0.x and 1.x mmseg/models; and
pytorch-auto-drive utils/models/segmentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fcn_trt.errors import AmbiguousModelError, CheckpointError
from fcn_trt.input_format import NOTHING_SAID, InputFormat, Rgb
from fcn_trt.labels import LabelSet, label_set, label_set_for, label_set_names, named_label_set
from fcn_trt.model import mmseg_config
from fcn_trt.model.architecture import (
    ARCHITECTURES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Architecture,
)
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.safe_load import Tensors, read_checkpoint
from fcn_trt.model.weights import RandomWeights, WeightsFile

__all__ = ["LoadedModel", "load_checkpoint", "random_model"]

TRAINING_ONLY = re.compile(
    r"(auxiliary_head|aux_classifier|aux_head)\..*|backbone\.fc\..*|.*\.num_batches_tracked|ema_.*"
)
"""Keys that inference does not need: auxiliary heads, ImageNet classifiers, step counters, EMA."""

_TO_OURS = (
    (re.compile(r"^backbone\.conv1\."), "backbone.stem.0."),
    (re.compile(r"^backbone\.bn1\."), "backbone.stem.1."),
    (re.compile(r"^classifier\.0\."), "decode_head.convs.0.conv."),
    (re.compile(r"^classifier\.1\."), "decode_head.convs.0.bn."),
    (re.compile(r"^classifier\.4\."), "decode_head.conv_seg."),
)
"""torchvision, pytorch-auto-drive and V1b stems, in the words of `Fcn` (MMSegmentation's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A network with its weights, ready to export.

    Attributes:
        module: In evaluation mode, float32, without auxiliary head.
        weights: What the weights are, for people.
        labels: Classes and colours.
        source_sha256: Of the checkpoint, or "" for random weights.
        licence: Of the weights, or "".
        mean: Per channel R, G, B, subtracted from pixels of 0 to 255.
        std: Per channel R, G, B, divides after the mean.
    """

    module: Fcn
    weights: str
    labels: LabelSet
    source_sha256: str
    licence: str
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD


def random_model(arch: Architecture, weights: RandomWeights, labels: LabelSet) -> LoadedModel:
    """A network with weights drawn from a seed, batch-norm statistics included."""
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(weights.seed)
    module = Fcn(arch, len(labels.classes)).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.1)
            torch.nn.init.uniform_(layer.running_var, 0.8, 1.25)
    torch.random.set_rng_state(generator_state)
    name = f"random (seed {weights.seed})"
    return LoadedModel(module=module, weights=name, labels=labels, source_sha256="", licence="")


def load_checkpoint(
    file: WeightsFile,
    model: str | None = None,
    *,
    labels: LabelSet | None = None,
    said: InputFormat = NOTHING_SAID,
    threshold: float | None = None,
    average: bool | None = None,
) -> LoadedModel:
    """Load a checkpoint of any family strictly.

    Args:
        file: The checkpoint: .pt or .pth of any family, or .safetensors with `Fcn`'s own keys.
        model: Name of its architecture; None finds it out or refuses.
        labels: Its classes; None takes the checkpoint's own, else numbered ones.
        said: How its input was made; what is not said is the checkpoint's own, else ImageNet's RGB.
        threshold: Probability from which a network with one logit has found what it looks for; None
            takes the config's, else 0.5. Other networks have none.
        average: Whether to take the averaged weights where there are two sets; None takes the
            others, and says so.

    Raises:
        AmbiguousModelError: several models fit and nothing says which one it is.
        CheckpointError: the file is damaged, unsafe, of another family, or does not fit `model`.
    """
    tensors, meta = read_checkpoint(file.path)
    config = mmseg_config.config_variables(str(meta.get("config") or meta.get("cfg") or ""))
    tensors = _translate(tensors, file.path)
    mean, std = _normalisation(config, file.path)
    arch = _architecture(tensors, meta, config, file, model)
    classes = tensors["decode_head.conv_seg.weight"].shape[0]
    module = Fcn(arch, classes, base_width=tensors["backbone.layer1.0.conv1.weight"].shape[0])
    _assign(module, tensors, file.path)
    return LoadedModel(
        module=module.eval(),
        weights=file.published.name if file.published else file.path.name,
        labels=_labels(classes, meta, file, labels),
        source_sha256=file.sha256,
        licence=str(meta.get("licence", "")),
        mean=mean,
        std=std,
    )


def _translate(tensors: Tensors, path: Path) -> Tensors:
    ours = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _TO_OURS:
            name = pattern.sub(replacement, name)
        ours[name] = tensor
    needed = ("decode_head.conv_seg.weight", "backbone.layer1.0.conv1.weight")
    if not all(name in ours and ours[name].dim() == 4 for name in needed):
        found = ", ".join(list(tensors)[:3]) or "no tensors"
        raise CheckpointError(
            f"{path} is no FCN of torchvision, MMSegmentation or pytorch-auto-drive: it needs "
            "classifier.4.weight or decode_head.conv_seg.weight on a ResNet backbone, and holds "
            f"{found}"
        )
    return ours


def _normalisation(config: dict[str, Any], path: Path) -> tuple[Rgb, Rgb]:
    """What the checkpoint's config says, else ImageNet's, which the families normalise with."""
    try:
        return mmseg_config.config_normalisation(config) or (IMAGENET_MEAN, IMAGENET_STD)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be exported: {error}") from error


def _architecture(
    tensors: Tensors,
    meta: dict[str, Any],
    config: dict[str, Any],
    file: WeightsFile,
    model: str | None,
) -> Architecture:
    """The one architecture that the tensors, the checkpoint's own words and `model` agree on."""
    fitting = _fitting(tensors)
    if not fitting:
        raise CheckpointError(f"{file.path} has the keys of an FCN, but of no known depth and stem")
    said = _said(fitting, meta, config, file, tensors)
    if model is None:
        # How the file is packed is only a hint: it decides where nothing was said, asked or named.
        hinted = [a for a in said if a.family == meta.get("trained_by")] or said
        if len(hinted) > 1:
            raise AmbiguousModelError(
                f"the tensors of {file.path} fit several models that compute different things; "
                f"name the one it was trained as: {', '.join(a.name for a in hinted)} "
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
    meta: dict[str, Any],
    config: dict[str, Any],
    file: WeightsFile,
    tensors: Tensors,
) -> list[Architecture]:
    """Those of `fitting` that the checkpoint's own words leave over; never none."""
    described = mmseg_config.model_config(config)
    if file.published is not None:
        left = [a for a in fitting if a.name == file.published.model]
    elif "model" in meta:
        left = [a for a in fitting if a.name == meta["model"]]
    elif described is not None:
        left = [a for a in fitting if mmseg_config.config_describes(described, a)]
    elif any(name.startswith("aux_classifier.") for name in tensors):
        # pytorch-auto-drive's FCN is built without one; torchvision's published files have it.
        left = [a for a in fitting if a.family == "torchvision"]
    else:
        left = fitting
    if not left:
        raise CheckpointError(
            f"{file.path} says it is {meta.get('model', 'a model that is not known here')}, but "
            f"its tensors are those of {' or '.join(a.name for a in fitting)}"
        )
    return left


def _labels(
    classes: int, meta: dict[str, Any], file: WeightsFile, asked: LabelSet | None
) -> LabelSet:
    """The classes that were asked for, else the checkpoint's own, else numbered ones."""
    try:
        return label_set_for(classes, asked or _own_labels(meta, file))
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file.path} cannot be labelled ({str(error).partition(';')[0]}); give --labels a "
            f"file with a line per class, or one of {', '.join(label_set_names())}"
        ) from error


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
    classes = tuple(str(name).strip() for name in names)  # ADE20K is published with "bed "
    known = (label_set(name) for name in label_set_names())
    same = next((k for k in known if k.classes == classes), None)
    return same or named_label_set(classes, palette or None)


def _assign(module: Fcn, tensors: Tensors, path: Path) -> None:
    """Copy every tensor into the module; refuse what is missing, left over or of another shape."""
    wanted = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    given = {name: t for name, t in tensors.items() if not TRAINING_ONLY.fullmatch(name)}
    both = sorted(wanted.keys() & given.keys())
    problems = [
        *(f"{name} is missing" for name in sorted(wanted.keys() - given.keys())),
        *(f"{name} is left over" for name in sorted(given.keys() - wanted.keys())),
        *(
            f"{name} is {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in both
            if given[name].shape != wanted[name].shape
        ),
        *(
            f"{name} holds values that are not finite"
            for name in both
            if not torch.isfinite(given[name]).all()
        ),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} does not fit {module.arch.name}: {'; '.join(problems[:3])}{more}"
        )
    module.load_state_dict(given, strict=False)
