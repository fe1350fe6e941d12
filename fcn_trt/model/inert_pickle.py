"""Reading a pickle as data: nothing in it is imported, called or built.

A pickle is a program for a machine with a stack. This machine knows plain values and descriptions
of tensors; whatever else a name stands for is `Inert`, and so is what calling it would make. A name
that is on no list here ends the reading.

Only what Python's pickle module writes in protocols 2 to 5 is known. No instruction copies what is
there already, so that their number bounds both work and memory.

Source: CPython Lib/pickle.py and Lib/pickletools.py; PyTorch torch/_utils.py and
    torch/serialization.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fcn_trt.model.stored_tensor import ITEM_BYTES, Storage, StoredTensor

__all__ = ["LONG_TEXT", "DamagedError", "Inert", "RefusedNameError", "kind_of", "read_pickle"]

MAX_PICKLE_BYTES = 1 << 28
"""Of one pickle: tensors lie outside, but arrays of curves inside, 40 MB in long trainings."""
MAX_INSTRUCTIONS = 1 << 19
"""Each makes at most a few hundred bytes; a ResNet101 with its optimiser's state has 50,000."""
MAX_TEXT_BYTES = 1 << 19
"""What is longer is no text that is read, but the bytes of an array."""
MAX_ALL_TEXT_BYTES = 1 << 25
"""Of all texts together: each byte may take four in memory."""
MAX_KEY = 1 << 53
"""Of integers as keys: above, others of the same hash are easily written."""
MAX_INTEGER_BYTES = 32
MAX_NAME_BYTES = 200
MAX_ARGUMENTS = 16

OpenStorage: TypeAlias = Callable[..., Storage]


class DamagedError(ValueError):
    """Bytes that are not what they should be; the text says what is wrong with them."""


class RefusedNameError(ValueError):
    """A pickle names something that no checkpoint needs; the text is the name."""


@dataclass(frozen=True, slots=True, eq=False)
class Inert:
    """What a name in a pickle stands for, and what calling it would have made.

    Attributes:
        name: With its module.
    """

    name: str


def kind_of(value: object) -> str:
    """What a value of a pickle is, for messages."""
    if isinstance(value, StoredTensor):
        return "tensor"
    return value.name if isinstance(value, Inert) else type(value).__name__


def read_pickle(data: memoryview, start: int, open_storage: OpenStorage) -> tuple[Any, int]:
    """The value of the pickle that begins at `start`, and where its bytes end.

    Args:
        data: May go on behind the pickle.
        open_storage: Makes a storage of what the pickle says of one: its type as `Inert`, its key,
            its device, its elements, and in old files more; all of any kind.

    Returns:
        Dicts, lists, tuples, texts, numbers and None, `StoredTensor` and `Storage`, and `Inert` for
        everything else.

    Raises:
        DamagedError: it is no such pickle, or goes beyond the limits.
        RefusedNameError: it names something that is on no list.
    """
    machine = _Machine(data[start : start + MAX_PICKLE_BYTES], open_storage)
    try:
        value = machine.run()
    except (DamagedError, RefusedNameError):
        raise
    # Arguments of an instruction that are none of its: they are not looked at one by one.
    except (AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise DamagedError("its pickle is none that torch.save writes") from error
    return value, start + machine.at


class _Machine:
    """The stack, what is remembered, and where the next instruction is."""

    def __init__(self, data: memoryview, open_storage: OpenStorage) -> None:
        self.data, self.at = data, 0
        self.open_storage = open_storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.instructions = self.text_bytes = 0

    def run(self) -> Any:
        data = self.data
        while (code := data[self.at]) != _STOP:
            self.at += 1
            self.count(1)
            _INSTRUCTIONS[code](self)
        self.at += 1
        return self.pop()

    def count(self, instructions: int) -> None:
        self.instructions += instructions
        if self.instructions > MAX_INSTRUCTIONS:
            raise DamagedError(f"its pickle has over {MAX_INSTRUCTIONS} instructions")

    def take(self, size: int) -> memoryview:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            is_cut = len(self.data) == MAX_PICKLE_BYTES
            what = f"has over {MAX_PICKLE_BYTES} bytes" if is_cut else "ends too early"
            raise DamagedError(f"its pickle {what}")
        self.at += size
        return taken

    def line(self) -> str:
        text, end, _ = bytes(self.data[self.at : self.at + MAX_NAME_BYTES]).partition(b"\n")
        if not end:
            raise DamagedError(f"its pickle has a name of over {MAX_NAME_BYTES} bytes")
        self.at += len(text) + 1
        return _text(text)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_text(self, data: memoryview) -> None:
        if len(data) > MAX_TEXT_BYTES:
            return self.push(LONG_TEXT)
        self.text_bytes += len(data)
        if self.text_bytes > MAX_ALL_TEXT_BYTES:
            raise DamagedError(f"its pickle has over {MAX_ALL_TEXT_BYTES} bytes of text")
        return self.push(_text(data))

    def push_bytes(self, _: memoryview) -> None:
        self.push(_BYTES)

    def push_integer(self, data: memoryview) -> None:
        is_long = len(data) > MAX_INTEGER_BYTES
        self.push(_LONG_INTEGER if is_long else int.from_bytes(data, "little", signed=True))

    def skip(self, argument: Any) -> None:
        """The protocol, and how many bytes to read at once, change nothing."""

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DamagedError("its pickle takes what is not there")
        return self.stack.pop()

    def top(self) -> Any:
        self.push(value := self.pop())
        return value

    def pop_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop_tuple(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(items)))

    def pop_to_set(self) -> None:
        self.pop_to_mark()
        self.push(_SET)

    def remember(self, key: int) -> None:
        self.memo[key] = self.top()

    def recall(self, key: int) -> None:
        self.push(self.memo[key])

    def find(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise DamagedError("its pickle has a name that is no text")
        name = f"{_MODULES.get(module, module)[:MAX_NAME_BYTES]}.{name[:MAX_NAME_BYTES]}"
        if name not in _KNOWN:
            raise RefusedNameError(name)
        self.push(_KNOWN[name])

    def find_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def set_items(self, items: list[Any]) -> None:
        """Of a dict; what is inert has none."""
        into = self.top()
        if isinstance(into, dict):
            _fill(into, zip(items[::2], items[1::2], strict=True))
        elif not isinstance(into, Inert):
            raise DamagedError(f"its pickle sets items of a {kind_of(into)}")

    def append(self, items: list[Any]) -> None:
        into = self.top()
        if isinstance(into, list):
            into.extend(items)
        elif not isinstance(into, Inert):
            raise DamagedError(f"its pickle appends to a {kind_of(into)}")

    def build(self) -> None:
        """Set attributes, which nothing that is known here has."""
        self.pop()
        if not isinstance(self.top(), dict | Inert):
            raise DamagedError(f"its pickle sets attributes of a {kind_of(self.top())}")

    def arguments(self) -> tuple[Any, ...]:
        arguments = self.pop()
        if not isinstance(arguments, tuple) or len(arguments) > MAX_ARGUMENTS:
            raise DamagedError("its pickle calls with other arguments than PyTorch writes")
        return arguments

    def call(self) -> None:
        arguments, function = self.arguments(), self.pop()
        make = _MADE.get(function.name)
        self.push(make(self, *arguments) if make else function)

    def call_with_names(self) -> None:
        self.pop()
        self.call()

    def open(self) -> None:
        kind, *described = self.arguments()
        if kind != "storage":
            raise DamagedError("its pickle refers to what is no storage")
        self.push(self.open_storage(*described))


def _fill(into: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    """Under other keys than these stands nothing that is read, and their hashes can be chosen."""
    for key, value in pairs:
        kind = type(key)
        if kind in _KEYS or (kind is int and abs(key) < MAX_KEY):
            into[key] = value


def _text(data: bytes | memoryview) -> str:
    # Half a surrogate pair, which pickle writes, is no text that could be written again.
    return str(data, "utf-8", "replace")


def _dict(machine: _Machine, given: Any = None, *_: Any) -> dict[Any, Any]:
    """Of a dict (Counter), of pairs (OrderedDict in Python 2), or empty (but for a factory)."""
    if isinstance(given, dict):
        return given
    made: dict[Any, Any] = {}
    if isinstance(given, list):
        machine.count(len(given))
        _fill(made, given)
    return made


def _first(_: _Machine, first: Any, *__: Any) -> Any:
    """A size is its tuple, a parameter its tensor, and so is what lay on another device."""
    return first


def _strided(
    _: _Machine, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any
) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise DamagedError("its pickle describes a tensor without a storage")
    return StoredTensor(
        dtype=_dtype(rest[2]) if len(rest) > 2 and isinstance(rest[2], Inert) else storage.dtype,
        shape=shape,
        strides=strides,
        offset=offset,
        storage=storage,
    )


def _of_class(machine: _Machine, function: Any, _: Any, arguments: Any, *__: Any) -> StoredTensor:
    """With attributes, which are left."""
    if not isinstance(arguments, tuple) or len(arguments) > MAX_ARGUMENTS:
        raise DamagedError("its pickle describes a tensor by other arguments than PyTorch writes")
    return _TENSORS[function.name](machine, *arguments)


def _sparse(_: _Machine, layout: Any, parts: Any) -> StoredTensor:
    """Compressed ones have two tensors of indices before their values."""
    if layout not in _SPARSE:
        raise DamagedError("its pickle has a tensor of an unknown layout")
    values, shape = parts[1:3] if layout == _SPARSE[0] else parts[2:4]
    return StoredTensor(dtype=values.dtype, shape=shape, layout=layout.removeprefix("torch."))


def _meta(_: _Machine, dtype: Any, shape: Any, *__: Any) -> StoredTensor:
    return StoredTensor(dtype=_dtype(dtype), shape=shape, layout="meta")


def _wrapped(_: _Machine, __: Any, dtype: Any, shape: Any, *___: Any) -> StoredTensor:
    return StoredTensor(dtype=_dtype(dtype), shape=shape, layout="wrapped")


def _nested(_: _Machine, values: Any, *__: Any) -> StoredTensor:
    return StoredTensor(dtype=values.dtype, shape=values.shape, layout="nested")


def _dtype(named: Any) -> str:
    dtype: str = named.name.removeprefix("torch.")
    if dtype not in ITEM_BYTES:
        raise DamagedError(f"its pickle has a tensor of {named.name}")
    return dtype


_KEYS = (str, bool, type(None))
_BYTES = Inert("bytes")
LONG_TEXT = Inert(f"str of over {MAX_TEXT_BYTES} bytes")
_LONG_INTEGER = Inert(f"int of over {MAX_INTEGER_BYTES} bytes")
_SET = Inert("set")
_SPARSE = tuple(f"torch.sparse_{kind}" for kind in ("coo", "csr", "csc", "bsr", "bsc"))
_TENSORS: dict[str, Callable[..., StoredTensor]] = {
    f"torch._utils._rebuild_{name}": make
    for name, make in (
        *(("tensor", _strided), ("tensor_v2", _strided), ("tensor_v3", _strided)),
        *(("qtensor", _strided), ("sparse_tensor", _sparse), ("nested_tensor", _nested)),
        *(("meta_tensor_no_storage", _meta), ("wrapper_subclass", _wrapped)),
    )
}
_MADE: dict[str, Callable[..., Any]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _of_class,
    **{f"collections.{name}": _dict for name in ("OrderedDict", "Counter", "defaultdict")},
    **dict.fromkeys(("torch.Size", "torch.serialization._get_layout"), _first),
    **{
        f"torch._utils._rebuild_{name}": _first
        for name in (
            *("parameter", "parameter_with_state"),
            *("device_tensor_from_cpu_tensor", "device_tensor_from_numpy"),
        )
    },
}
"""What calling a name makes; calling any other makes nothing."""
STORAGE_TYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QInt32": "qint32",
    "QUInt8": "quint8",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
    "Untyped": "uint8",
}
"""The first part of a storage's class, and the type of its elements."""
_NUMPY = ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
_KNOWN = {
    name: Inert(name)
    for name in (
        *_MADE,
        *(f"torch.{dtype}" for dtype in ITEM_BYTES),
        *(f"torch.{place}{kind}Storage" for place in ("", "cuda.") for kind in STORAGE_TYPES),
        *(f"torch.storage.{kind}Storage" for kind in ("Untyped", "Typed")),
        *(
            f"torch.per_{kind}"
            for kind in (
                *("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric"),
                "channel_affine_float_qparams",
            )
        ),
        *("torch.device", "torch.Tensor", "torch.nn.parameter.Parameter"),
        *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in _NUMPY),
        *("numpy.ndarray", "numpy.dtype", "_codecs.encode", "argparse.Namespace"),
        *(f"builtins.{name}" for name in ("getattr", "set", "bytearray", "complex")),
        "mmengine.logging.history_buffer.HistoryBuffer",
    )
}
"""Every name that is let through: PyTorch's own, and what training scripts store beside tensors.

mmengine stores its curves, which name their methods by way of getattr, and torchvision's reference
script its arguments.
"""
_MODULES = {"__builtin__": "builtins", "torch.tensor": "torch._tensor"}
"""What Python 2 and early versions of PyTorch called them."""


_Instruction: TypeAlias = Callable[[_Machine], Any]


def _number(format_: str) -> Callable[[_Machine], Any]:
    layout = struct.Struct(format_)
    return lambda machine: layout.unpack(machine.take(layout.size))[0]


def _sized(format_: str) -> Callable[[_Machine], memoryview]:
    """Bytes behind their number."""
    size = _number(format_)
    return lambda machine: machine.take(size(machine))


def _with(read: Callable[[_Machine], Any], act: Callable[[_Machine, Any], None]) -> _Instruction:
    return lambda machine: act(machine, read(machine))


def _constant(value: Any) -> _Instruction:
    return lambda machine: machine.push(value)


_STOP = b"."[0]
_INSTRUCTIONS: dict[int, _Instruction] = {
    code[0]: instruction
    for code, instruction in {
        b"\x80": _with(_number("<B"), _Machine.skip),
        b"\x95": _with(_number("<Q"), _Machine.skip),
        # plain values
        b"N": _constant(None),
        b"\x88": _constant(True),
        b"\x89": _constant(False),
        b"J": _with(_number("<i"), _Machine.push),
        b"K": _with(_number("<B"), _Machine.push),
        b"M": _with(_number("<H"), _Machine.push),
        b"G": _with(_number(">d"), _Machine.push),
        b"\x8a": _with(_sized("<B"), _Machine.push_integer),
        b"\x8b": _with(_sized("<I"), _Machine.push_integer),
        b"\x8c": _with(_sized("<B"), _Machine.push_text),
        b"X": _with(_sized("<I"), _Machine.push_text),
        b"\x8d": _with(_sized("<Q"), _Machine.push_text),
        b"U": _with(_sized("<B"), _Machine.push_text),
        b"T": _with(_sized("<I"), _Machine.push_text),
        b"C": _with(_sized("<B"), _Machine.push_bytes),
        b"B": _with(_sized("<I"), _Machine.push_bytes),
        b"\x8e": _with(_sized("<Q"), _Machine.push_bytes),
        b"\x96": _with(_sized("<Q"), _Machine.push_bytes),
        # containers
        b"(": lambda m: m.marks.append(len(m.stack)),
        b"0": _Machine.pop,
        b"1": _Machine.pop_to_mark,
        b")": _constant(()),
        b"\x85": lambda m: m.pop_tuple(1),
        b"\x86": lambda m: m.pop_tuple(2),
        b"\x87": lambda m: m.pop_tuple(3),
        b"t": lambda m: m.push(tuple(m.pop_to_mark())),
        b"]": lambda m: m.push([]),
        b"a": lambda m: m.append([m.pop()]),
        b"e": lambda m: m.append(m.pop_to_mark()),
        b"}": lambda m: m.push({}),
        b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        b"u": lambda m: m.set_items(m.pop_to_mark()),
        b"\x8f": _constant(_SET),
        b"\x90": lambda m: m.append(m.pop_to_mark()),
        b"\x91": _Machine.pop_to_set,
        # what was there before
        b"q": _with(_number("<B"), _Machine.remember),
        b"r": _with(_number("<I"), _Machine.remember),
        b"\x94": lambda m: m.remember(len(m.memo)),
        b"h": _with(_number("<B"), _Machine.recall),
        b"j": _with(_number("<I"), _Machine.recall),
        # names, and what they would make
        b"c": lambda m: m.find(m.line(), m.line()),
        b"\x93": _Machine.find_on_stack,
        b"R": _Machine.call,
        b"\x81": _Machine.call,
        b"\x92": _Machine.call_with_names,
        b"b": _Machine.build,
        b"Q": _Machine.open,
    }.items()
}
"""What each code does: Lib/pickletools.py."""
