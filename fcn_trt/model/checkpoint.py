"""A checkpoint of any family becomes an `Fcn` with its weights, or is refused with the reason.

Tensors tell the family, the depth, the stem, the widths and the number of classes. They do not
tell dilations, D6 or align_corners; those come from the model name, from the checkpoint's own
config, or from a published hash. If they come from nowhere, loading is refused.

Every tensor is used or is on `TRAINING_ONLY`, and what is assumed is logged.

Key layouts: torchvision.models.segmentation; MMSegmentation 0.x and 1.x mmseg/models; and
pytorch-auto-drive utils/models/segmentation.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.foreign import printable
from fcn_trt.input_format import InputFormat, Rgb
from fcn_trt.labels import LabelSet
from fcn_trt.model.architecture import (
    DEFAULT_THRESHOLD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Architecture,
    log_odds,
)
from fcn_trt.model.checkpoint_labels import checkpoint_labels
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.identify import identify
from fcn_trt.model.mmseg_config import config_colour, config_numbers, config_variables
from fcn_trt.model.mmseg_model import config_threshold, is_slid, unsupported
from fcn_trt.model.relatives import relative
from fcn_trt.model.safe_load import read_checkpoint
from fcn_trt.model.weights import RandomWeights, WeightsFile
from fcn_trt.model.wrapping import Tensors

__all__ = ["LoadedModel", "load_checkpoint", "random_model"]

logger = logging.getLogger(__name__)

TRAINING_ONLY = re.compile(
    r"(auxiliary_head|aux_classifier|aux_head)\..*|backbone\.fc\..*|.*\.num_batches_tracked"
    r"|steps|(decode_head\.)?\w*(criterion|loss)\w*\..*"
)
"""Keys that inference does not need: auxiliary heads, ImageNet classifiers, counters, losses."""


_CLASSIFIER = "decode_head.conv_seg.weight"
_CLASSIFIER_BIAS = "decode_head.conv_seg.bias"
_FIRST_BLOCK = "backbone.layer1.0.conv1.weight"

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
    said: InputFormat = InputFormat(),
    threshold: float | None = None,
    average: bool | None = None,
) -> LoadedModel:
    """Load a checkpoint of any family strictly.

    Args:
        file: The checkpoint: what torch.save or safetensors wrote, in any of the usual wrappings.
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
    tensors, meta = read_checkpoint(file.path, average=average)
    config = config_variables(meta["config"] if "config" in meta else meta.get("cfg"))
    tensors = _translate(tensors, file.path)
    if what := unsupported(config):
        raise CheckpointError(
            f"{file.path} cannot be exported: its config says {what}; give a checkpoint without "
            "it, or, if it changes nothing, take it out of the checkpoint's config"
        )
    arch = identify(tensors, meta, config, file, model)
    mean, std, is_bgr = _input(config, said, file, meta)
    tensors, is_binary = _two_classes(tensors, config, threshold, file.path)
    classes = tensors[_CLASSIFIER].shape[0]
    module = Fcn(arch, classes, base_width=tensors[_FIRST_BLOCK].shape[0])
    _assign(module, tensors, file.path)
    if is_bgr:
        first = module.backbone.stem[0].weight
        first.data = first.data.flip(1)
    if is_slid(config):
        logger.info(
            "%s was tested in windows; here it takes whole images (`fcn-trt eval --slide` measures "
            "it in windows)",
            file.path.name,
        )
    return LoadedModel(
        module=module.eval(),
        weights=file.published.name if file.published else printable(file.path.name),
        labels=checkpoint_labels(classes, meta, file, labels, is_binary=is_binary),
        source_sha256=file.sha256,
        licence=str(meta.get("licence", "")),
        mean=mean,
        std=std,
    )


def _translate(tensors: Tensors, path: Path) -> Tensors:
    """The tensors under the names of `Fcn`; refuse those of another network by what it is."""
    if what := relative(tensors):
        raise CheckpointError(
            f"{path} is {what}, and only FCNs on ResNet18, 50 and 101 as torchvision, "
            "MMSegmentation and pytorch-auto-drive have them are run here; `fcn-trt models` lists "
            "them"
        )
    ours = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _TO_OURS:
            name = pattern.sub(replacement, name)
        ours[name] = tensor
    needed = (_CLASSIFIER, _FIRST_BLOCK)
    if not all(name in ours and ours[name].dim() == 4 for name in needed):
        found = ", ".join(list(tensors)[:3]) or "no tensors"
        raise CheckpointError(
            f"{path} is no FCN of torchvision, MMSegmentation or pytorch-auto-drive: it needs "
            "classifier.4.weight or decode_head.conv_seg.weight on a ResNet backbone, and holds "
            f"{found}"
        )
    return ours


def _input(
    config: dict[str, Any], said: InputFormat, file: WeightsFile, meta: dict[str, Any]
) -> tuple[Rgb, Rgb, bool]:
    """(mean, std, whether the network takes BGR): as was said, else as the config says."""
    try:
        source = said if said.says_numbers else config_numbers(config)
    except ValueError as error:
        raise CheckpointError(f"{file.path} cannot be exported: {error}") from error
    colour = said.colour or config_colour(config) or "rgb"
    numbers = replace(source, colour=colour).normalisation()
    # Published models and our own are known to take what ImageNet's do.
    if numbers is None and not file.published and "labels" not in meta:
        logger.info(
            "%s does not say how its input was normalised; taking ImageNet's mean and std, %s "
            "(--mean, --std, --scale and --input-colour say otherwise)",
            *(file.path.name, colour.upper()),
        )
    return *(numbers or (IMAGENET_MEAN, IMAGENET_STD)), colour == "bgr"


def _two_classes(
    tensors: Tensors, config: dict[str, Any], threshold: float | None, path: Path
) -> tuple[Tensors, bool]:
    """A classifier of one logit as one of two classes, and whether it was one.

    They are (logit, 2 logit - log(t / (1 - t))): the second is the larger where the logit's sigmoid
    is above t, and the first is still what the checkpoint computes. As one row of weights is twice
    the other, both get the same codes in INT8, and nothing is lost between them.
    """
    weight = tensors[_CLASSIFIER]
    if weight.shape[0] != 1:
        if threshold is not None:
            raise CheckpointError(
                f"{path} has {weight.shape[0]} classes, of which each pixel gets the best; leave "
                "--threshold out, which is for networks with one logit"
            )
        return tensors, False
    own = config_threshold(config)
    chosen = threshold or own or DEFAULT_THRESHOLD
    if threshold is None:
        logger.info(
            "%s has one logit, which is taken as found above probability %g, %s (--threshold says "
            "otherwise)",
            *(path.name, chosen, "as by its config" if own else "as nothing says another"),
        )
    made = tensors | {_CLASSIFIER: torch.cat([weight, 2 * weight])}
    bias = tensors.get(_CLASSIFIER_BIAS)
    if bias is not None and bias.shape == (1,):
        made[_CLASSIFIER_BIAS] = torch.cat([bias, 2 * bias - log_odds(chosen)])
    return made, True


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
        *(f"{name} {fault}" for name in both if (fault := _fault(given[name], wanted[name]))),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} does not fit {module.arch.name}: {'; '.join(problems[:3])}{more}"
        )
    module.load_state_dict(given, strict=False)


def _fault(given: torch.Tensor, wanted: torch.Tensor) -> str | None:
    """What keeps a tensor from standing for another; None if nothing does."""
    if given.shape != wanted.shape:
        return f"is {tuple(given.shape)} instead of {tuple(wanted.shape)}"
    if not given.is_floating_point() or given.layout != torch.strided:
        kind = given.layout if given.is_floating_point() else given.dtype
        return f"holds {str(kind).removeprefix('torch.')} values instead of plain numbers"
    return None if torch.isfinite(given).all() else "holds values that are not finite"
