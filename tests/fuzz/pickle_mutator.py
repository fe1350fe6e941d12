"""Changes in what torch.save writes: opcodes of the pickles, in the zip archive or before the data.

Opcodes are moved and replaced as whole ones, so that most of what comes out is still a pickle.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from random import Random
from typing import TypeAlias

from tests.fuzz.mutation import BIG, INTEGERS, STRINGS, Havoc, edit_list

__all__ = ["mutate_checkpoint"]

_Code: TypeAlias = tuple[str, bytes]
"""Name of an opcode, and its bytes with those of its argument."""

_GLOBALS = (
    *("collections OrderedDict", "collections defaultdict", "argparse Namespace", "builtins set"),
    *("builtins getattr", "builtins bytearray", "_codecs encode", "numpy ndarray", "numpy dtype"),
    *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray scalar", "torch Size"),
    *("torch device", "torch float16", "torch complex64", "torch qint8", "torch sparse_coo"),
    *("torch FloatStorage", "torch HalfStorage", "torch BoolStorage", "torch Tensor"),
    *("torch.storage UntypedStorage", "torch._utils _rebuild_tensor_v2"),
    *("torch._utils _rebuild_parameter", "torch._utils _rebuild_qtensor"),
    *("torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_nested_tensor"),
    *("torch._utils _rebuild_meta_tensor_no_storage", "torch._tensor _rebuild_from_type_v2"),
    *("torch.serialization _get_layout", "torch.nn.parameter Parameter", "os system"),
    "mmengine.logging.history_buffer HistoryBuffer",
)
_PLAIN = (
    *(bytes([code]) for code in b"(.012NQR]})abdelostu\x81\x85\x86\x87\x88\x89"),
    *(bytes([code]) for code in b"\x8f\x90\x91\x92\x93\x94"),
    *(b"]" * BIG + b"a" * (BIG - 1), b"(" * 100, b"2" * 100, b"\x86" * BIG, b"]\x94(h\0h\0e"),
)
_INTEGER_CODES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"}
_STRING_CODES = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING"}

_NO_ZIP = (
    *(ValueError, LookupError, RuntimeError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What zipfile raises on altered bytes."""


def mutate_checkpoint(data: bytes, random: Random, havoc: Havoc) -> bytes:
    """Change the pickle of a checkpoint of either form, or the archive around it."""
    if random.random() < 0.05:
        return havoc(data)
    try:
        if data.startswith(b"PK"):
            return _mutate_archive(data, random, havoc)
        *pickles, tail = _pickles(data)
    except _NO_ZIP:
        return havoc(data)
    if len(pickles) > 3 and random.random() < 0.9:
        pickles[3] = _mutate_pickle(pickles[3], random, havoc)
    elif pickles:
        at = random.randrange(len(pickles))
        pickles[at] = _mutate_pickle(pickles[at], random, havoc)
    return b"".join(pickles) + (havoc(tail) if random.random() < 0.1 else tail)


def _mutate_archive(data: bytes, random: Random, havoc: Havoc) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [(info.filename, archive.read(info)) for info in archive.infolist()]
    if random.random() < 0.85:
        files = [
            (name, _mutate_pickle(body, random, havoc) if name.endswith("data.pkl") else body)
            for name, body in files
        ]
    else:
        edit_list(
            files,
            random,
            lambda: (random.choice(STRINGS[:8]), b""),
            lambda file: (file[0], havoc(file[1])),
        )
    made = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if random.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(made, "w", kind) as archive:
        for name in dict(files):  # a name a second time would be a warning
            archive.writestr(zipfile.ZipInfo(name), dict(files)[name], kind)
    return made.getvalue()


def _pickles(data: bytes) -> list[bytes]:
    """The pickles that a file begins with, and what is behind them."""
    stream = io.BytesIO(data)
    parts: list[bytes] = []
    while True:
        start = stream.tell()
        try:
            for _ in pickletools.genops(stream):
                pass
        except Exception:  # noqa: BLE001  # pickletools raises anything
            return [*parts, data[start:]]
        parts.append(data[start : stream.tell()])


def _mutate_pickle(data: bytes, random: Random, havoc: Havoc) -> bytes:
    try:
        found = list(pickletools.genops(data))
    except Exception:  # noqa: BLE001  # pickletools raises anything
        return havoc(data)
    ends = [at for _, _, at in found[1:]] + [len(data)]
    codes = [(code.name, data[at:end]) for (code, _, at), end in zip(found, ends, strict=True)]
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        edit_list(codes, random, lambda: _made(random), lambda code: _changed(code, random, havoc))
    return b"".join(raw for _, raw in codes)


def _changed(code: _Code, random: Random, havoc: Havoc) -> _Code:
    name, raw = code
    if name in _INTEGER_CODES:
        return _integer(random)
    if name in _STRING_CODES:
        return _string(random)
    if name == "GLOBAL":
        return _global(random)
    if len(raw) > 1 and random.random() < 0.3:
        return name, havoc(raw)
    return _made(random)


def _made(random: Random) -> _Code:
    match random.randrange(6):
        case 0:
            return _integer(random)
        case 1:
            return _string(random)
        case 2:
            return _global(random)
        case 3:
            place = random.choice((0, 1, 2, 3, 5, 10, 50, random.randrange(256)))
            return "BINGET", random.choice((b"h", b"q")) + bytes([place])
        case _:
            return "PLAIN", random.choice(_PLAIN)


def _integer(random: Random) -> _Code:
    number = random.choice(INTEGERS)
    if random.random() < 0.05:
        number <<= 30_000
    body = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    is_short = len(body) < 256
    head = b"\x8a" + bytes([len(body)]) if is_short else b"\x8b" + struct.pack("<i", len(body))
    return "LONG1", head + body


def _string(random: Random) -> _Code:
    text = random.choice((*STRINGS, "cpu", "cuda:0", "0", "storage", "meta", "cfg", "CLASSES"))
    body = text.encode("utf-8", "surrogatepass")
    return "BINUNICODE", b"X" + struct.pack("<I", len(body)) + body


def _global(random: Random) -> _Code:
    text = random.choice(_GLOBALS)
    return "GLOBAL", b"c" + text.replace(" ", "\n").encode() + b"\n"
