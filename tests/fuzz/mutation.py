"""What all mutators share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol, TypeVar

__all__ = ["BIG", "INTEGERS", "STRINGS", "Havoc", "Mutate", "edit_list", "some_bytes"]

Havoc = Callable[[bytes], bytes]
"""Changes a few bytes, blindly."""

T = TypeVar("T")


class Mutate(Protocol):
    """Changes a file a little; the same for the same `random` and `havoc`."""

    def __call__(self, data: bytes, random: Random, havoc: Havoc) -> bytes:
        """The changed file."""


INTEGERS = (
    *(0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 65535, 65536),
    *(1 << 20, 20_000_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -2, -128, -(1 << 31), -(1 << 63)),
)
"""Where counters end, and sizes that no file fills."""

STRINGS = (
    *("", " ", ".", "..", "/", "../x", "/dev/zero", "\x00", "\n", "\r\n", "\t", "\x1b[31m", "\x9b"),
    *("\u202e", "\u2028", "\ufeff", "\ud800", "ß", "\U0001f6a6", "%s%n", "{}", "a" * 300, "-1"),
    *("nan", "inf", "1e999", "0x0", "true", "null", "#804080", "512x1024", "fp32", "imagenet"),
)
"""What terminals, paths and parsers take for something else."""

BIG = 5000
"""How deep or long something gets that is to be too deep; Python's own limits are 1000 and 4300."""


def some_bytes(data: bytes, random: Random) -> bytes:
    """Change a few bytes, where no fuzzer does it."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at = random.randint(0, len(changed))
        match random.randrange(3):
            case 0 if at < len(changed):
                changed[at] = random.randrange(256)
            case 1:
                del changed[at : at + random.choice((1, 1, 4, 64))]
            case _:
                changed[at:at] = random.randbytes(random.choice((1, 1, 4, 64)))
    return bytes(changed)


def edit_list(
    items: list[T], random: Random, make: Callable[[], T], change: Callable[[T], T]
) -> None:
    """Take an element out, put one in, double, swap or change one."""
    if not items or random.random() < 0.15:
        items.insert(random.randint(0, len(items)), make())
        return
    at, other = random.randrange(len(items)), random.randrange(len(items))
    match random.randrange(8):
        case 0:
            del items[at]
        case 1:
            items.insert(other, items[at])
        case 2:
            items[at], items[other] = items[other], items[at]
        case _:
            items[at] = change(items[at])
