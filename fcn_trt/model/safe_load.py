"""Reading a checkpoint file without trusting it.

Nothing is unpickled but tensors, plain containers and the names in `_harmless`, one by one; a file
that asks for more is refused, never retried with less care.
"""

from __future__ import annotations

import argparse
import pickle  # noqa: TID251  # only for the error that torch.load raises
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.model.file_format import checkpoint_format
from fcn_trt.model.wrapping import Tensors, find_weights

__all__ = ["Tensors", "read_checkpoint"]

_DAMAGE = (
    *(RuntimeError, OSError, EOFError, MemoryError, ValueError, TypeError),
    *(AttributeError, LookupError, ArithmeticError, AssertionError, struct.error),
)
"""What torch.load raises on altered bytes besides UnpicklingError (found by altering bytes)."""


def read_checkpoint(path: Path, *, average: bool | None = None) -> tuple[Tensors, dict[str, Any]]:
    """Read a checkpoint file without running anything from it.

    Args:
        path: What torch.save or safetensors wrote, under any name.
        average: Which of two sets of weights to take, as for `load_checkpoint`.

    Returns:
        The tensors under their own names (floating-point ones as float32, on the CPU), and
        whatever the checkpoint says about itself.

    Raises:
        CheckpointError: the file is damaged, is no checkpoint, or wants to run code.
    """
    if checkpoint_format(path) == "safetensors":
        content, meta = _read_safetensors(path)
    else:
        content = _unpickle(path)
        if not isinstance(content, Mapping):
            raise CheckpointError(
                f"{path} holds a {type(content).__name__}, not a dict of tensors; save the model's "
                "state_dict() with torch.save"
            )
        said = content.get("meta")
        meta = (dict(said) if isinstance(said, Mapping) else {}) | _trained_by(content)
    weights = find_weights(content, path, average=average)
    return {name: _float32(name, value, path) for name, value in weights.items()}, meta


def _float32(name: str, value: torch.Tensor, path: Path) -> torch.Tensor:
    try:
        return value.float() if value.is_floating_point() else value
    except RuntimeError as error:  # a type that torch does not convert, or no such memory
        kind = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{path} holds {name} as {kind} of shape {tuple(value.shape)}, which does not become "
            "float32 here; save the weights as float32"
        ) from error


def _trained_by(content: Mapping[Any, Any]) -> dict[str, str]:
    """Whose training script packed the file: the two differ in what they add to the weights."""
    extras = set(content) - {"model", "model_ema", "scaler"}
    if extras == {"optimizer", "lr_scheduler"}:
        return {"trained_by": "pytorch-auto-drive"}  # utils/common.py save_checkpoint
    if extras == {"optimizer", "lr_scheduler", "epoch", "args"}:
        return {"trained_by": "torchvision"}  # references/segmentation/train.py
    return {}


def _read_safetensors(path: Path) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or truncated ({error}); fetch it again"
        ) from error


def _unpickle(path: Path) -> Any:
    try:
        with (
            path.open("rb") as file,  # by its name torch.load would take it for safetensors
            torch.serialization.safe_globals(_harmless()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of what it then raises anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise CheckpointError(
                f"{path} is not a PyTorch checkpoint, or is damaged; give what torch.save wrote, "
                "or fetch it again"
            ) from error
        raise CheckpointError(
            f"{path} wants to run {refused[1]} while it is read, which is refused because it could "
            "be harmful; save only its state_dict with torch.save and load that"
        ) from error
    except _DAMAGE as error:
        first_sentence = re.split(r"\n|\. ", str(error))[0][:120]
        raise CheckpointError(
            f"{path} is damaged or truncated ({first_sentence}); fetch it again"
        ) from error


class HistoryBuffer:
    """Stands in for mmengine's class of this name: training curves that nobody reads here."""


def _no_attribute(*_: Any) -> None:
    """Stands in for getattr, with which HistoryBuffer names its own methods in the file."""


def _harmless() -> list[Any]:
    """What training scripts store besides tensors; pairs are (object, pickled name).

    MMSegmentation 1.x its curves, torchvision's reference script its arguments.
    """
    rebuild_array, rebuild_scalar = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    names = ["numpy.core.multiarray", "numpy._core.multiarray"]  # before and since numpy 2
    return [
        argparse.Namespace,
        (HistoryBuffer, "mmengine.logging.history_buffer.HistoryBuffer"),
        (_no_attribute, "builtins.getattr"),
        *((rebuild_array, f"{name}._reconstruct") for name in names),
        *((rebuild_scalar, f"{name}.scalar") for name in names),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
    ]
