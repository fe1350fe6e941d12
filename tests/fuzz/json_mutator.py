"""Changes in JSON texts that stay JSON, in what states a hash of itself, and in safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.mutation import BIG, INTEGERS, STRINGS, Havoc, edit_list

__all__ = ["mutate_json", "mutate_safetensors", "sealed"]

DIGEST = "sha256"

_RAW = {
    "\x01deep list": "[" * BIG + "]" * BIG,
    "\x01deep table": '{"a":' * BIG + "1" + "}" * BIG,
    "\x01digits": "9" * BIG,
    "\x01infinite": "1e999",
    "\x01no number": "NaN",
    "\x01tiny": "1e-400",
    "\x01twice": '{"a": 1, "a": 2}',
}
"""What Python's own writer refuses to write or cannot."""


def mutate_json(
    data: bytes, random: Random, havoc: Havoc, *, finish: Callable[[str], str] = str
) -> bytes:
    """Change values, keys and their order; bytes now and then.

    Args:
        finish: What is done to the text in the end.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return havoc(data)
    if random.random() < 0.05:
        return havoc(data)
    if isinstance(content, dict) and random.random() < 0.9:
        content.pop(DIGEST, None)
    holder = [content]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _edit(holder, random)
    try:
        text = json.dumps(holder[0], ensure_ascii=random.random() < 0.5)
    except (ValueError, RecursionError):
        return havoc(data)
    for marker, raw in _RAW.items():
        text = text.replace(json.dumps(marker), raw)
    return finish(text).encode("utf-8", "surrogatepass")


def sealed(text: str, *, sort_keys: bool) -> str:
    """A JSON object with the hash of its content, as manifests and caches state it."""
    try:
        content = json.loads(text)
        plain = json.dumps(content, sort_keys=sort_keys, separators=(",", ":"))
    except (ValueError, RecursionError, TypeError):
        return text
    if not isinstance(content, dict) or not content or DIGEST in content:
        return text
    return f'{{"{DIGEST}": "{hashlib.sha256(plain.encode()).hexdigest()}", {text[1:]}'


def mutate_safetensors(data: bytes, random: Random, havoc: Havoc) -> bytes:
    """Change the header, whose length is mended, or bytes."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8 or random.random() < 0.1:
        return havoc(data)
    header = data[8 : 8 + size]
    if random.random() < 0.3:
        header = mutate_json(header, random, havoc)
    else:
        header = _retyped(header, random) or havoc(header)
    length = random.choice(INTEGERS) % (1 << 64) if random.random() < 0.05 else len(header)
    return length.to_bytes(8, "little") + header + data[8 + size :]


_TYPES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1.0),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2.0),
    **dict.fromkeys(("F32", "I32", "U32"), 4.0),
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8.0),
    "F4": 0.5,
    "F6_E2M3": 0.75,
    "F6_E3M2": 0.75,
}
"""Bytes of an element."""


def _retyped(header: bytes, random: Random) -> bytes | None:
    """Tensors of other types, shapes and names in the same bytes, as the format demands."""
    try:
        content = json.loads(header)
        tensors = {k: v for k, v in content.items() if k != "__metadata__"}
        for name in random.sample(sorted(tensors), min(len(tensors), random.choice((1, 1, 2, 9)))):
            tensor = content.pop(name)
            start, end = tensor["data_offsets"]
            tensor["dtype"] = kind = random.choice(sorted(_TYPES))
            tensor["shape"] = _shape(int((end - start) / _TYPES[kind]), random)
            other = random.choice((*tensors, *STRINGS)) if random.random() < 0.2 else name
            content[other] = tensor
        return json.dumps(content).encode("utf-8", "surrogatepass")
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def _shape(elements: int, random: Random) -> list[int]:
    """A shape of so many elements, or of none although its sides are large."""
    if elements == 0 or random.random() < 0.05:
        return [0, random.choice((0, 1, 1 << 31, 1 << 60))]
    side = random.choice([n for n in (1, 2, 3, 4, 8) if elements % n == 0])
    return random.choice(([elements], [side, elements // side], [elements] + [1] * 70))


def _edit(holder: Any, random: Random) -> None:
    """Change one value somewhere below."""
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return None
    key = random.choice(keys)
    value = holder[key]
    if isinstance(value, dict | list) and value and random.random() < 0.9:
        if random.random() < 0.7:
            return _edit(value, random)
        if isinstance(value, list):
            return edit_list(value, random, lambda: _made(random), lambda v: _changed(v, random))
        items = list(value.items())
        edit_list(items, random, lambda: _item(random), lambda item: _changed_item(item, random))
        value.clear()
        value.update(items)
        return None
    holder[key] = _changed(value, random)
    return None


def _changed_item(item: tuple[str, Any], random: Random) -> tuple[str, Any]:
    key, value = item
    if random.random() < 0.2:
        return random.choice((*STRINGS, key + "x", key[:-1])), value
    return key, _changed(value, random)


def _item(random: Random) -> tuple[str, Any]:
    return random.choice(STRINGS), _made(random)


def _changed(value: Any, random: Random) -> Any:
    """Something else, of the same type mostly."""
    kind = random.random()
    if kind < 0.25:
        return _made(random)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((*INTEGERS, value + 1, value - 1, -value, 1e9))
    if isinstance(value, float):
        return random.choice((0.0, -0.0, -value, value * 1e30, value * 1e-30, 1e308, 5e-324))
    if isinstance(value, str):
        at = random.randint(0, len(value))
        return value[:at] + random.choice(STRINGS) + value[at + random.randint(0, 2) :]
    return [value] if kind < 0.6 else {"a": value}


def _made(random: Random) -> Any:
    others: tuple[Any, ...] = (None, True, False, [], {}, [[]], 0.5, -1.5, 1e308)
    return random.choice(
        (
            random.choice(others),
            random.choice(INTEGERS),
            random.choice(STRINGS),
            random.choice(list(_RAW)) if random.random() < 0.5 else {},
        )
    )
