"""What kind of file it is, told by its first bytes, because many are not what they are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

from fcn_trt.errors import CheckpointError
from fcn_trt.model.archive import archive_names
from fcn_trt.model.inert_pickle import DamagedError
from fcn_trt.model.torch_file import TORCH_MAGIC

__all__ = ["CheckpointFormat", "checkpoint_format"]

CheckpointFormat: TypeAlias = Literal["torch", "safetensors"]

_HEAD_BYTES = 512
_MAX_SAFETENSORS_HEADER = 100_000_000
"""As the format allows; how much of it is read, its reader says."""

_UNPACK = "unpack it and give the checkpoint in it"
_STATE_DICT = "save the model's state_dict() with torch.save and give that"
_FETCH = "open the link in a browser and fetch the file itself"
_ONNX = "give it a name that ends in .onnx"
_FROM_TORCH = "give the PyTorch checkpoint that it was made from"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        rb"version https://(git-lfs|hawser)",
        "is a Git LFS pointer and not the file that it stands for",
        "fetch that with `git lfs pull`",
    ),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|script)", "is a web page", _FETCH),
    (rb"(\xef\xbb\xbf)?\s*<", "is an XML text, such as a server's refusal", _FETCH),
    (rb"\x1f\x8b", "is a gzip archive", _UNPACK),
    (rb"BZh\d", "is a bzip2 archive", _UNPACK),
    (rb"\xfd7zXZ", "is an xz archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "is a Zstandard archive", _UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7z archive", _UNPACK),
    (rb"Rar!", "is a RAR archive", _UNPACK),
    (rb"[\s\S]{257}ustar", "is a tar archive", _UNPACK),
    (rb"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras and TensorFlow write", _FROM_TORCH),
    (rb"[\s\S]{4}TFL3", "is a TensorFlow Lite model", _FROM_TORCH),
    (rb"\x08\x01\x12", "is a TensorFlow SavedModel", _FROM_TORCH),
    (rb"\x93NUMPY", "is a NumPy array", _STATE_DICT),
    (rb"GGUF", "is a GGUF file", _FROM_TORCH),
    # ModelProto begins with ir_version, and a field of a higher number follows (onnx.proto).
    (rb"\x08[\x03-\x14][\x12\x1a\x22\x28\x32\x3a\x42\x72]", "is an ONNX file", _ONNX),
)
"""How files of other kinds begin, what they are, and what to do."""

_MEMBERS: tuple[tuple[str, str, str], ...] = (
    (
        r"(.*/)?constants\.pkl",
        "is a TorchScript archive, which holds a program beside the weights",
        "save these with torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')",
    ),
    (
        r"(.*/)?(archive_format|serialized_exported_program\.json)",
        "is a torch.export archive, which holds a program beside the weights",
        "save these with torch.save(torch.export.load(FILE).state_dict, 'weights.pth')",
    ),
    (r"(.*/)?\.data/extern_modules", "is a torch.package archive", _STATE_DICT),
    (r"(.*/)?data\.pkl", "", ""),
    (r".*\.npy", "is a NumPy archive (.npz)", _STATE_DICT),
    (r".*\.weights\.h5|keras_metadata\.pb", "is a Keras model", _FROM_TORCH),
)
"""Files in zip archives: the first that is there says what it is; torch.save writes data.pkl."""


def checkpoint_format(data: bytes, path: Path) -> CheckpointFormat:
    """Tell the two kinds of checkpoints that can be read.

    Args:
        data: The file.
        path: Its name, which decides where the bytes do not.

    Raises:
        CheckpointError: it is something else, which the message names.
    """
    head = data[:_HEAD_BYTES]
    if head.startswith(b"PK\x03\x04"):
        foreign = _foreign_zip(data, path)
    elif _is_safetensors(head):
        return "safetensors"
    else:
        foreign = _foreign(head)
    if foreign is not None:
        raise CheckpointError(f"{path} {foreign[0]}; {foreign[1]}")
    # What has the name and not the bytes is damaged, as the reader of safetensors then says.
    is_torch = head.startswith(b"PK") or path.suffix.lower() != ".safetensors"
    return "torch" if is_torch else "safetensors"


def _is_safetensors(head: bytes) -> bool:
    """A header of JSON with its length before it."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= _MAX_SAFETENSORS_HEADER


def _foreign(head: bytes) -> tuple[str, str] | None:
    """What begins so and is no checkpoint, and what to do; None if it may be one."""
    if not head:
        return "is empty", "fetch it again"
    for pattern, what, remedy in _BEGINNINGS:
        if re.match(pattern, head, re.IGNORECASE):
            return what, remedy
    if head.startswith(b"\x80") and len(head) > 32 and TORCH_MAGIC not in head[:32]:
        return "is a plain pickle and no PyTorch checkpoint", _STATE_DICT
    if len(head) > 8 and not re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return "is a text and no PyTorch checkpoint", "give what torch.save wrote"
    return None


def _foreign_zip(data: bytes, path: Path) -> tuple[str, str] | None:
    """As for `_foreign`; a zip archive that is damaged may be a checkpoint."""
    try:
        names = archive_names(data)
    except DamagedError:
        return None
    for pattern, what, remedy in _MEMBERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return (what, remedy.replace("FILE", repr(str(path)))) if what else None
    return "is a zip archive", _UNPACK
