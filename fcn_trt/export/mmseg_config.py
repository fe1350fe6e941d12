"""What an MMSegmentation config says of its model, read as data and never run.

Checkpoints carry their config as Python text: 0.x under meta["config"], 1.x under meta["cfg"].
"""

from __future__ import annotations

import ast
from typing import Any

from fcn_trt.export.fcn import Architecture

__all__ = ["config_describes", "model_config"]


def model_config(text: str) -> dict[str, Any] | None:
    """The model that an MMSegmentation config describes; None if it does not stand there whole."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    found = {
        node.targets[0].id: _literal(node.value)
        for node in statements
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    model = found.get("model")
    if not isinstance(model, dict) or "_base_" in found:
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
        head.get("type"),
        head.get("dilation", 1),
        head.get("align_corners", False),
    )
    expected = ("pytorch", arch.strides, arch.dilations, True, "FCNHead", arch.head.dilation)
    return described == (*expected, arch.align_corners)


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
