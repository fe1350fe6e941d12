"""An MMSegmentation config, read as data and never run, and what it says of a network's input.

Checkpoints carry their config as Python text: 0.x under meta["config"], 1.x under meta["cfg"].
"""

from __future__ import annotations

import ast
import math
import warnings
from typing import Any

from fcn_trt.input_format import InputColour, InputFormat, Rgb

__all__ = ["config_colour", "config_numbers", "config_variables", "shown"]


LEAST_STD = 1e-6
"""By less no pixel can be divided and stay a number that matters."""
MAX_INTEGER = 1 << 63
"""Larger ones stand for infinity: they are no sizes, and may have too many digits to be shown."""


def config_variables(text: str) -> dict[str, Any]:
    """The top-level variables of a config; none where it is no text of Python."""
    variables: dict[str, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how a text that is not run is written
            body = ast.parse(text).body
        for node in body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                variables[node.targets[0].id] = _literal(node.value, variables)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {}
    return variables


def config_colour(config: dict[str, Any]) -> InputColour | None:
    """The order of the network's channels; None if the config does not say.

    Source: MMSegmentation 1.x mmseg/models/data_preprocessor.py (converts nothing by default);
        0.x mmcv.imnormalize behind the step Normalize (to_rgb is True by default).
    """
    name, said = _normalising(config)
    if not said:
        return None
    if name == "data_preprocessor":
        return "rgb" if True in (said.get("bgr_to_rgb"), said.get("rgb_to_bgr")) else "bgr"
    return "rgb" if said.get("to_rgb", True) is True else "bgr"


def config_numbers(config: dict[str, Any]) -> InputFormat:
    """Mean and std in the order of the network's channels; nothing if the config does not say.

    Raises:
        ValueError: it has numbers that normalise nothing.
    """
    name, said = _normalising(config)
    if not said:
        return InputFormat()
    if name == "data_preprocessor" and said.get("mean") is said.get("std") is None:
        return InputFormat(scale=255)  # it leaves the pixels as they are
    mean, std = _three(said.get("mean")), _three(said.get("std"))
    if mean is None or std is None or min(std) < LEAST_STD:
        raise ValueError(
            f"its {name} has mean {shown(said.get('mean'))} and std {shown(said.get('std'))}, but "
            "each needs three numbers up to 255, and std above 0; --mean and --std say others"
        )
    return InputFormat(mean=mean, std=std, scale=255)


def shown(value: object) -> str:
    """A value of a config for a message, which a short text may have grown large."""
    if isinstance(value, dict):
        return shown(value["type"]) if isinstance(value.get("type"), str) else "a dict"
    if isinstance(value, tuple):
        return (
            f"[{', '.join(map(shown, value))}]"
            if len(value) <= 4 and all(map(_is_short, value))
            else "a list"
        )
    return str(value)[:60]


def _is_short(value: object) -> bool:
    return not isinstance(value, dict | tuple)


def _normalising(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What prepares the images, and its name; empty if nothing does."""
    if said := _preprocessor(config):
        return "data_preprocessor", said
    return "img_norm_cfg", _normalize_step(config)


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


def _three(values: Any) -> Rgb | None:
    match values:
        case (int() | float(), int() | float(), int() | float()):
            if 0 <= min(values) <= max(values) <= 255:
                first, second, third = map(float, values)
                return first, second, third
    return None


def _literal(node: ast.expr, variables: dict[str, Any]) -> Any:
    """The value of constants, lists, tuples, dicts and earlier variables; else its own text."""
    match node:
        case ast.Constant(value=int() as number) if number >= MAX_INTEGER:
            return math.inf
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in variables:
            return variables[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float()) as number):
            return -_literal(number, variables)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_literal(item, variables) for item in items)
        case ast.Dict(keys=keys, values=values):
            pairs = [
                (_literal(k, variables) if k else None, v)
                for k, v in zip(keys, values, strict=True)
            ]
            return _dict(pairs, variables)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _dict([(k.arg, k.value) for k in keywords], variables)
    return ast.unparse(node)


def _dict(pairs: list[tuple[Any, ast.expr]], variables: dict[str, Any]) -> dict[Any, Any]:
    """A dict of (key, value); a key None stands for ``**value``."""
    made: dict[Any, Any] = {}
    for key, node in pairs:
        value = _literal(node, variables)
        if key is None:
            made |= value if isinstance(value, dict) else {"**": value}
        else:
            made[shown(key)] = value
    return made
