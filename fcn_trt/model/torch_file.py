"""What torch.save writes: a zip archive, and before PyTorch 1.6 pickles and numbers in a row.

Source: PyTorch torch/serialization.py, _save and _legacy_save.
"""

from __future__ import annotations

from typing import Any

from fcn_trt.model.archive import archive_records
from fcn_trt.model.inert_pickle import STORAGE_TYPES, DamagedError, Inert, read_pickle
from fcn_trt.model.stored_tensor import ITEM_BYTES, Storage

__all__ = ["TORCH_MAGIC", "read_torch_file"]

TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""torch.serialization.MAGIC_NUMBER, the first thing that torch.save pickled before 1.6."""
_VERSION = 1001
_COUNT_BYTES = 8
_NOTHING = memoryview(b"")
_OTHER_ORDER = "its numbers are not in the order of bytes of x86 and Arm"


def read_torch_file(data: bytes) -> Any:
    """What was saved, as `read_pickle` gives it.

    Raises:
        DamagedError: the bytes are not what torch.save writes.
        RefusedNameError: the pickle names what no checkpoint needs.
    """
    return _read_archive(data) if data.startswith(b"PK") else _read_sequence(data)


def _read_archive(data: bytes) -> Any:
    records = archive_records(data)
    pickles = [name for name in records if f"/{name}".endswith("/data.pkl")]
    if len(pickles) != 1:
        raise DamagedError(f"its zip archive has {len(pickles)} pickles instead of one")
    folder = pickles[0].removesuffix("data.pkl")
    if bytes(records.get(f"{folder}byteorder", b"little")[:8]) != b"little":
        raise DamagedError(_OTHER_ORDER)
    opened: dict[str, Storage] = {}

    def open_storage(kind: Any, key: Any, _: Any, elements: Any, *__: Any) -> Storage:
        storage, size = _described(kind, key, elements)
        if key not in opened:
            storage.data = records.get(f"{folder}data/{key}", _NOTHING)[:size]
            if len(storage.data) < size:
                raise DamagedError("its zip archive has not all of its tensors")
            opened[key] = storage
        return opened[key]

    return read_pickle(records[pickles[0]], 0, open_storage)[0]


def _read_sequence(data: bytes) -> Any:
    """Five pickles (magic number, version, machine, content, keys), then the storages."""
    whole = memoryview(data)
    opened: dict[str, tuple[Storage, int]] = {}
    views: list[tuple[Storage, Storage, int, int]] = []

    def open_storage(kind: Any, key: Any, _: Any, elements: Any, view: Any = None) -> Storage:
        described = _described(kind, key, elements)
        root, _ = opened.setdefault(key, described)
        if view is None:
            return root
        _, offset, length = view
        part, size = _described(kind, key, length)
        views.append((part, root, _described(kind, key, offset)[1], size))
        return part

    magic, at = read_pickle(whole, 0, open_storage)
    version, at = read_pickle(whole, at, open_storage)
    machine, at = read_pickle(whole, at, open_storage)
    if magic != int.from_bytes(TORCH_MAGIC, "little") or version != _VERSION:
        raise DamagedError("it does not begin as torch.save begins a file")
    if not (isinstance(machine, dict) and machine.get("little_endian") is True):
        raise DamagedError(_OTHER_ORDER)
    content, at = read_pickle(whole, at, open_storage)
    keys, at = read_pickle(whole, at, open_storage)
    for key in keys if isinstance(keys, list) else ():
        if not (isinstance(key, str) and key in opened):
            raise DamagedError("it holds the numbers of no tensor, or of one twice")
        storage, size = opened.pop(key)
        count, start = whole[at : at + _COUNT_BYTES], at + _COUNT_BYTES
        at = start + size
        is_said = int.from_bytes(count, "little") * ITEM_BYTES[storage.dtype] == size
        if not is_said or at > len(data):
            raise DamagedError("its tensors are cut off, or have other sizes than it says")
        storage.data = whole[start:at]
    for part, root, offset, size in views:
        part.data = root.data[offset : offset + size]
    return content


def _described(kind: Any, key: Any, elements: Any) -> tuple[Storage, int]:
    """A storage without its bytes, and how many it has."""
    name = kind.name.rpartition(".")[2] if isinstance(kind, Inert) else ""
    dtype = STORAGE_TYPES.get(name.removesuffix("Storage"))
    if dtype is None or not isinstance(key, str) or not isinstance(elements, int) or elements < 0:
        raise DamagedError("its pickle describes a storage as PyTorch does not")
    return Storage(dtype, _NOTHING), elements * ITEM_BYTES[dtype]
