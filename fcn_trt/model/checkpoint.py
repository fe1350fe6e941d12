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
from typing import Any, TypeAlias

import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.foreign import printable
from fcn_trt.input_format import InputFormat, Rgb
from fcn_trt.labels import MAX_CLASSES, LabelSet
from fcn_trt.model.architecture import (
    DEFAULT_THRESHOLD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Architecture,
    log_odds,
)
from fcn_trt.model.checkpoint_labels import checkpoint_labels
from fcn_trt.model.checkpoint_meta import CheckpointMeta
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.identify import identify
from fcn_trt.model.mmseg_config import config_colour, config_numbers, config_variables
from fcn_trt.model.mmseg_model import config_threshold, is_slid, unsupported
from fcn_trt.model.relatives import relative
from fcn_trt.model.safe_load import read_checkpoint
from fcn_trt.model.stored_tensor import StoredTensor, Tensors
from fcn_trt.model.weights import RandomWeights, WeightsFile

__all__ = ["LoadedModel", "load_checkpoint", "random_model"]

logger = logging.getLogger(__name__)

TRAINING_ONLY = re.compile(
    r"(auxiliary_head|aux_classifier|aux_head)\..*|backbone\.fc\..*|.*\.num_batches_tracked"
    r"|steps|(decode_head\.)?\w*(criterion|loss)\w*\..*"
)
"""Keys that inference does not need: auxiliary heads, ImageNet classifiers, counters, losses."""


MIN_WIDTH, MAX_WIDTH = 2, 1024
"""Channels of the first stage; 64 in every published model, and half of them in a V1b stem."""
_COUNTER = "num_batches_tracked"
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


Values: TypeAlias = dict[str, torch.Tensor]


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
    checkpoint = read_checkpoint(file.path, sha256=file.sha256, average=average)
    meta, config = checkpoint.meta, config_variables(checkpoint.meta.config)
    tensors = _translate(checkpoint.tensors, file.path)
    if what := unsupported(config):
        raise CheckpointError(
            f"{file.path} cannot be exported: its config says {what}; give a checkpoint without "
            "it, or, if it changes nothing, take it out of the checkpoint's config"
        )
    arch = identify(tensors, checkpoint, config, file, model)
    mean, std, is_bgr = _input(config, said, file, meta)
    classes, width = _classes_and_width(tensors, file.path)
    is_binary = classes == 1
    found_above = _threshold(classes, config, threshold, file.path)
    named = checkpoint_labels(2 if is_binary else classes, meta, file, labels, is_binary=is_binary)
    module = _empty(arch, classes, width)
    values = _values(module, tensors, checkpoint.size, file.path)
    if is_binary:
        module, values = _empty(arch, 2, width), _two_classes(values, found_above)
    module.load_state_dict(values, assign=True)
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
        labels=named,
        source_sha256=file.sha256,
        licence=meta.licence,
        mean=mean,
        std=std,
    )


def _translate(tensors: Tensors, path: Path) -> Tensors:
    """The tensors under the names of `Fcn`; refuse those of another network by what it is."""
    if what := relative(tensors):
        raise CheckpointError(
            f"{path} is {what}, and only FCNs on ResNet18, 50 and 101 as torchvision, "
            "mmsegmentation and pytorch-auto-drive have them are run here; `fcn-trt models` lists "
            "them"
        )
    ours = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _TO_OURS:
            name = pattern.sub(replacement, name)
        ours[name] = tensor
    needed = (_CLASSIFIER, _FIRST_BLOCK)
    if not all(name in ours and len(ours[name].shape) == 4 for name in needed):
        found = printable(", ".join(list(tensors)[:3])) or "no tensors"
        raise CheckpointError(
            f"{path} is no FCN of torchvision, mmsegmentation or pytorch-auto-drive: it needs "
            "classifier.4.weight or decode_head.conv_seg.weight on a ResNet backbone, and holds "
            f"{found}"
        )
    return ours


def _input(
    config: dict[str, Any], said: InputFormat, file: WeightsFile, meta: CheckpointMeta
) -> tuple[Rgb, Rgb, bool]:
    """(mean, std, whether the network takes BGR): as was said, else as the config says."""
    try:
        source = said if said.says_numbers else config_numbers(config)
    except ValueError as error:
        raise CheckpointError(f"{file.path} cannot be exported: {error}") from error
    colour = said.colour or config_colour(config) or "rgb"
    numbers = replace(source, colour=colour).normalisation()
    # Published models and our own are known to take what ImageNet's do.
    if numbers is None and not file.published and not meta.labels:
        logger.info(
            "%s does not say how its input was normalised; taking ImageNet's mean and std, %s "
            "(--mean, --std, --scale and --input-colour say otherwise)",
            *(file.path.name, colour.upper()),
        )
    return *(numbers or (IMAGENET_MEAN, IMAGENET_STD)), colour == "bgr"


def _classes_and_width(tensors: Tensors, path: Path) -> tuple[int, int]:
    """Of the classifier and of the first stage, which tell the shapes of all tensors."""
    classes, width = tensors[_CLASSIFIER].shape[0], tensors[_FIRST_BLOCK].shape[0]
    if not 1 <= classes <= MAX_CLASSES:
        raise CheckpointError(f"{path} has {classes} classes; a label map holds 1 to {MAX_CLASSES}")
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise CheckpointError(
            f"{path} has {width} channels in its first stage; it must have {MIN_WIDTH} to "
            f"{MAX_WIDTH}"
        )
    return classes, width


def _threshold(classes: int, config: dict[str, Any], threshold: float | None, path: Path) -> float:
    """Probability from which a network with one logit has found its class; others have none."""
    if classes != 1:
        if threshold is not None:
            raise CheckpointError(
                f"{path} has {classes} classes, of which each pixel gets the best; leave "
                "--threshold out, which is for networks with one logit"
            )
        return DEFAULT_THRESHOLD
    own = config_threshold(config)
    chosen = threshold or own or DEFAULT_THRESHOLD
    if threshold is None:
        logger.info(
            "%s has one logit, which is taken as found above probability %g, %s (--threshold says "
            "otherwise)",
            *(path.name, chosen, "as by its config" if own else "as nothing says another"),
        )
    return chosen


def _two_classes(values: Values, threshold: float) -> Values:
    """A classifier of one logit as one of two classes.

    They are (logit, 2 logit - log(t / (1 - t))): the second is the larger where the logit's sigmoid
    is above t, and the first is still what the checkpoint computes. As one row of weights is twice
    the other, both get the same codes in INT8, and nothing is lost between them.
    """
    weight, bias = values[_CLASSIFIER], values[_CLASSIFIER_BIAS]
    return values | {
        _CLASSIFIER: torch.cat([weight, 2 * weight]),
        _CLASSIFIER_BIAS: torch.cat([bias, 2 * bias - log_odds(threshold)]),
    }


def _empty(arch: Architecture, classes: int, width: int) -> Fcn:
    """A network whose tensors have shapes and no memory."""
    with torch.device("meta"):
        return Fcn(arch, classes, base_width=width)


def _values(module: Fcn, tensors: Tensors, file_bytes: int, path: Path) -> Values:
    """The value of every tensor of a module, read once all have its shapes.

    Raises:
        CheckpointError: some are missing, left over, of other shapes, or no finite numbers.
    """
    state = module.state_dict()
    wanted = {name for name in state if not name.endswith(_COUNTER)}
    given = {name: t for name, t in tensors.items() if not TRAINING_ONLY.fullmatch(name)}
    both = sorted(wanted & given.keys())
    problems = [
        *(f"{name} is missing" for name in sorted(wanted - given.keys())),
        *(f"{name} is left over" for name in sorted(given.keys() - wanted)),
        *(f"{name} {fault}" for name in both if (fault := _fault(given[name], state[name]))),
    ]
    if not problems and sum(given[name].bytes_claimed for name in both) > file_bytes:
        problems.append("its tensors lie in each other's place")
    values = {} if problems else {name: given[name].read() for name in both}
    problems += [
        f"{name} holds values that are not finite"
        for name, value in values.items()
        if not _is_finite(value)
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} does not fit {module.arch.name}: {printable('; '.join(problems[:3]))}{more}"
        )
    counters = state.keys() - wanted  # of batches, which only training counts
    return values | {name: torch.zeros((), dtype=torch.int64) for name in counters}


def _is_finite(values: torch.Tensor) -> bool:
    """Their sum is, as a rule, and takes no memory; where it is not, it may be too large."""
    return bool(torch.isfinite(values.sum()) or torch.isfinite(values).all())


def _fault(given: StoredTensor, wanted: torch.Tensor) -> str | None:
    """What keeps a tensor from standing for another; None if nothing does."""
    if given.shape != wanted.shape:
        return f"is {given.shape} instead of {tuple(wanted.shape)}"
    return given.fault
