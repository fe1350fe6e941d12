"""What an MMSegmentation config says of its model: what `Fcn` computes, or what it does not.

A key that changes what the network computes is honoured or refused by its name, and so is one that
stands in no table here: it may be of a later version, or of a fork.

Source: MMSegmentation 0.x and 1.x, mmseg/models: segmentors/encoder_decoder.py,
    backbones/resnet.py, decode_heads/decode_head.py and fcn_head.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fcn_trt.input_format import is_number
from fcn_trt.model.architecture import Architecture
from fcn_trt.model.mmseg_config import shown

__all__ = [
    "config_describes",
    "config_threshold",
    "is_slid",
    "model_config",
    "unsupported",
]

EPS = 1e-5
"""What batch normalisation adds to the variance, in PyTorch and in all published FCNs."""
HEAD_THRESHOLD = 0.3
"""Of a head with one output (decode_head.py)."""

_NORMS = (
    *("BN", "SyncBN", "BN2d", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm"),
    *("naiveSyncBN", "naiveSyncBN2d", "NaiveSyncBN", "NaiveSyncBatchNorm"),
)
"""Batch normalisation over one device or several: the same when it does not train."""
_FREE = None
"""Says nothing of inference, or what the tensors tell, or what is compared elsewhere."""
_LAYERS: dict[str, tuple[object, ...] | None] = {
    "conv_cfg": (None, "Conv2d", "Conv"),
    "act_cfg": ("ReLU",),
    "norm_cfg": _NORMS,
}
_PARTS: dict[str, dict[str, tuple[object, ...] | None]] = {
    "model": {
        "type": ("EncoderDecoder",),
        "neck": (None,),
        **dict.fromkeys(("backbone", "decode_head", "auxiliary_head", "data_preprocessor"), _FREE),
        **dict.fromkeys(("train_cfg", "test_cfg", "pretrained", "init_cfg", "_scope_"), _FREE),
    },
    "backbone": {
        "type": ("ResNet", "ResNetV1c"),
        "style": ("pytorch",),
        "in_channels": (3,),
        "num_stages": (4,),
        "avg_down": (False,),
        "multi_grid": (None,),
        "dcn": (None,),
        "plugins": (None, ()),
        **_LAYERS,
        **dict.fromkeys(("depth", "strides", "dilations", "out_indices", "deep_stem"), _FREE),
        **dict.fromkeys(("contract_dilation", "stem_channels", "base_channels"), _FREE),
        **dict.fromkeys(("frozen_stages", "norm_eval", "stage_with_dcn", "with_cp"), _FREE),
        **dict.fromkeys(("zero_init_residual", "pretrained", "init_cfg", "_scope_"), _FREE),
    },
    "decode_head": {
        "type": ("FCNHead",),
        "kernel_size": (3,),
        "input_transform": (None,),
        "resize_mode": ("bilinear",),
        **_LAYERS,
        **dict.fromkeys(
            ("in_channels", "channels", "num_convs", "concat_input", "in_index"), _FREE
        ),
        **dict.fromkeys(("num_classes", "out_channels", "threshold", "align_corners"), _FREE),
        **dict.fromkeys(("dilation", "dropout_ratio", "loss_decode", "ignore_index"), _FREE),
        **dict.fromkeys(("sampler", "init_cfg", "_scope_"), _FREE),
    },
}
"""Every key that is known: the values that `Fcn` computes, or `_FREE`."""
_NORM_KEYS = {"type", "eps", "requires_grad", "momentum", "affine", "track_running_stats"}


def model_config(config: dict[str, Any]) -> dict[str, Any] | None:
    """The model that a config's variables describe; None if it does not stand there whole."""
    model = _model(config)
    return model if {"backbone", "decode_head"} <= model.keys() and "_base_" not in config else None


def config_describes(model: dict[str, Any], arch: Architecture) -> bool:
    """Whether a model's config describes this architecture; defaults are MMSegmentation's."""
    backbone, head = model["backbone"], model["decode_head"]
    described = (
        backbone.get("strides", (1, 2, 2, 2)),
        backbone.get("dilations", (1, 1, 1, 1)),
        backbone.get("contract_dilation", False),
        head.get("dilation", 1),
        head.get("align_corners", False),
    )
    return described == (arch.strides, arch.dilations, True, arch.head.dilation, arch.align_corners)


def unsupported(config: dict[str, Any]) -> str | None:
    """The first thing in a config, whole or not, that is not what `Fcn` computes; None without."""
    return next(_unsupported(config), None)


def config_threshold(config: dict[str, Any]) -> float | None:
    """Probability from which a head with one output has found it; None without such a head."""
    head = _part(config, "decode_head")
    threshold = head.get("threshold")
    return (HEAD_THRESHOLD if threshold is None else float(threshold)) if head else None


def is_slid(config: dict[str, Any]) -> bool:
    """Whether the model is tested in windows: part of the model, and in early 0.x a variable."""
    test = _model(config).get("test_cfg") or config.get("test_cfg")
    return isinstance(test, dict) and test.get("mode") == "slide"


def _unsupported(config: dict[str, Any]) -> Iterator[str]:
    model = _model(config)
    for part, known in _PARTS.items():
        found = model if part == "model" else model.get(part, {})
        if not isinstance(found, dict):
            yield f"{part} = {shown(found)}, but only a dict is read here"
            return
        for key, value in found.items():
            name = f"{part}.{key}"
            if key not in known:
                yield f"{name} = {shown(value)}, a key that is not known here"
            elif (allowed := known[key]) is not _FREE and not _is_among(value, allowed):
                yield f"{name} = {shown(value)}, but only {shown(allowed[0])} is run here"
        yield from _unsupported_norm(part, _norm(found))
    yield from _unsupported_head(model)


def _unsupported_norm(part: str, norm: dict[str, Any]) -> Iterator[str]:
    eps = norm.get("eps", EPS)
    if eps != EPS:
        same = f" (each running_var with {eps - EPS:g} added is the same)" if is_number(eps) else ""
        yield f"{part}.norm_cfg.eps = {shown(eps)}, but only {EPS:g} is run here{same}"
    for key, value in norm.items():
        if key not in _NORM_KEYS:
            yield f"{part}.norm_cfg.{key} = {shown(value)}, a key that is not known here"


def _unsupported_head(model: dict[str, Any]) -> Iterator[str]:
    head, stages = model.get("decode_head", {}), model.get("backbone", {}).get("out_indices")
    index, stages = head.get("in_index", -1), (0, 1, 2, 3) if stages is None else stages
    try:
        is_last = stages[index] == 3
    except (TypeError, LookupError):
        is_last = False
    if not is_last:
        yield f"decode_head.in_index = {shown(index)}, but only the last stage is read here"
    threshold = head.get("threshold")
    if threshold is not None and not (is_number(threshold) and 0 < threshold < 1):
        yield f"decode_head.threshold = {shown(threshold)}, which is not between 0 and 1"


def _is_among(value: object, allowed: tuple[object, ...]) -> bool:
    """By the last word of its type, as scopes and modules stand before: mmseg.FCNHead."""
    if isinstance(value, dict):
        value = value.get("type", allowed[0] if allowed is _NORMS else "a dict")
    if isinstance(value, str):
        value = value.rpartition(".")[2]
    return any(value == one and type(value) is type(one) for one in allowed)


def _model(config: dict[str, Any]) -> dict[str, Any]:
    model = config.get("model")
    return model if isinstance(model, dict) else {}


def _part(config: dict[str, Any], part: str) -> dict[str, Any]:
    found = _model(config).get(part)
    return found if isinstance(found, dict) else {}


def _norm(part: dict[str, Any]) -> dict[str, Any]:
    norm = part.get("norm_cfg")
    return norm if isinstance(norm, dict) else {}
