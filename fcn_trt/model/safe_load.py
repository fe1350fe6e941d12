"""Reading a checkpoint file without trusting it.

Its bytes are read once. What they claim is looked at before anything is allocated for it, and
nothing in them is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_trt.errors import CheckpointError
from fcn_trt.foreign import printable, read_limited
from fcn_trt.model.checkpoint_meta import CheckpointMeta, MetaError, read_meta
from fcn_trt.model.file_format import CheckpointFormat, checkpoint_format
from fcn_trt.model.inert_pickle import DamagedError, RefusedNameError, kind_of
from fcn_trt.model.safetensors_file import read_safetensors
from fcn_trt.model.stored_tensor import Tensors
from fcn_trt.model.torch_file import read_torch_file
from fcn_trt.model.wrapping import find_weights

__all__ = ["Checkpoint", "read_checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a file holds of one model.

    Attributes:
        tensors: By their own names, unread.
        meta: What it says of itself.
        format: Of the file.
        size: Of the file, in bytes.
    """

    tensors: Tensors
    meta: CheckpointMeta
    format: CheckpointFormat
    size: int


def read_checkpoint(
    path: Path, *, sha256: str | None = None, average: bool | None = None
) -> Checkpoint:
    """Read a checkpoint file without running anything from it.

    Args:
        path: What torch.save or safetensors wrote, under any name.
        sha256: The hash that its bytes must have; None takes any.
        average: Which of two sets of weights to take, as for `load_checkpoint`.

    Raises:
        CheckpointError: the file is damaged, is no checkpoint, has changed, wants to run code, or
            goes beyond a limit.
    """
    try:
        data = read_limited(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path} was changed while it was read; run this again")
    format_ = checkpoint_format(data, path)
    content, said = _content(data, format_, path)
    try:
        meta = read_meta(said, content)
    except MetaError as error:
        raise CheckpointError(
            f"{path} cannot be exported: {error}; take it out of the checkpoint's meta"
        ) from error
    tensors = find_weights(content, path, average=average)
    return Checkpoint(tensors=tensors, meta=meta, format=format_, size=len(data))


def _content(
    data: bytes, format_: CheckpointFormat, path: Path
) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """All that the file holds, and what of it describes the rest."""
    try:
        if format_ == "safetensors":
            return read_safetensors(data)
        content = read_torch_file(data)
    except DamagedError as error:
        raise CheckpointError(
            f"{path} is damaged or truncated ({error}); fetch it again"
        ) from error
    except RefusedNameError as error:
        raise CheckpointError(
            f"{path} wants to run {printable(str(error))} while it is read, which is refused "
            "because it could be harmful; save only its state_dict with torch.save and load that"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {kind_of(content)}, not a dict of tensors; save the model's "
            "state_dict() with torch.save"
        )
    said = content.get("meta")
    return content, said if isinstance(said, dict) else {}
