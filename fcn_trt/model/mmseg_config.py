"""What an MMSegmentation config says of its model and its input, read as data and never run.

Checkpoints carry their config as Python text: 0.x under meta["config"], 1.x under meta["cfg"].
"""

from __future__ import annotations

import ast
from typing import Any

from fcn_trt.input_format import Rgb
from fcn_trt.model.architecture import Architecture

__all__ = ["config_describes", "config_normalisation", "config_variables", "model_config"]


def config_variables(text: str) -> dict[str, Any]:
    """The top-level variables of a config; none where the text is no Python."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    return {
        node.targets[0].id: _literal(node.value)
        for node in statements
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def model_config(config: dict[str, Any]) -> dict[str, Any] | None:
    """The model that a config's variables describe; None if it does not stand there whole."""
    model = config.get("model")
    if not isinstance(model, dict) or "_base_" in config:
        return None
    return model if {"backbone", "decode_head"} <= model.keys() else None


def config_describes(model: dict[str, Any], arch: Architecture) -> bool:
    """Whether a model's config describes this architecture; defaults are MMSegmentation's."""
    backbone, head = model["backbone"], model["decode_head"]
    if not isinstance(backbone, dict) or not isinstance(head, dict):
        return False
    described = (
        backbone.get("style", "pytorch"),
        backbone.get("strides", (1, 2, 2, 2)),
        backbone.get("dilations", (1, 1, 1, 1)),
        backbone.get("contract_dilation", False),
        backbone.get("multi_grid"),
        head.get("type"),
        head.get("dilation", 1),
        head.get("align_corners", False),
    )
    expected = ("pytorch", arch.strides, arch.dilations, True, None, "FCNHead")
    return described == (*expected, arch.head.dilation, arch.align_corners)


def config_normalisation(config: dict[str, Any]) -> tuple[Rgb, Rgb] | None:
    """How images were normalised: (mean, std) of pixels of 0 to 255; None if it does not say.

    Raises:
        ValueError: it says what the runtime does not do: BGR, or numbers that normalise nothing.

    Source: MMSegmentation 1.x mmseg/models/data_preprocessor.py (bgr_to_rgb is False by default);
        0.x mmcv.imnormalize behind the step Normalize (to_rgb is True by default).
    """
    if said := _preprocessor(config):
        name, is_rgb = "data_preprocessor", said.get("bgr_to_rgb", False)
    elif said := _normalize_step(config):
        name, is_rgb = "img_norm_cfg", said.get("to_rgb", True)
    else:
        return None
    if is_rgb is not True:
        raise ValueError(f"its {name} normalises BGR, but only networks that take RGB are exported")
    mean, std = _rgb(said.get("mean")), _rgb(said.get("std"))
    if mean is None or std is None or min(std) == 0:
        raise ValueError(
            f"its {name} has mean {said.get('mean')} and std {said.get('std')}, but each needs "
            "three numbers up to 255, and std above 0"
        )
    return mean, std


def _preprocessor(config: dict[str, Any]) -> dict[str, Any] | None:
    """1.x: part of the model, and in full configs a variable too."""
    model = config.get("model")
    said = model.get("data_preprocessor") if isinstance(model, dict) else None
    said = said or config.get("data_preprocessor")
    return said if isinstance(said, dict) else None


def _normalize_step(config: dict[str, Any]) -> dict[str, Any]:
    """0.x: a step of the pipeline, whose numbers mostly stand in a variable of their own."""
    variable, steps = config.get("img_norm_cfg"), config.get("train_pipeline")
    said = dict(variable) if isinstance(variable, dict) else {}
    for step in steps if isinstance(steps, tuple) else ():
        if isinstance(step, dict) and step.get("type") == "Normalize":
            said |= {key: value for key, value in step.items() if key in ("mean", "std", "to_rgb")}
    return said


def _rgb(values: Any) -> Rgb | None:
    match values:
        case (int() | float(), int() | float(), int() | float()):
            red, green, blue = map(float, values)
            return (red, green, blue) if 0 <= min(values) <= max(values) <= 255 else None
    return None


def _literal(node: ast.expr | None) -> Any:
    """The value of constants, lists, tuples and dicts, read and never run; None for the rest."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_literal(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {k.value: _literal(v) for k, v in pairs if isinstance(k, ast.Constant)}
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            return {k.arg: _literal(k.value) for k in keywords}
    return None
