"""Reader and writer of each dataclass that goes to a file and back, made once per process."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

__all__ = ["type_adapter"]

T = TypeVar("T")


def type_adapter(kind: type[T]) -> TypeAdapter[T]:
    """Pydantic's reader and writer of a type.

    To make one takes up to 0.1 s, so it is made when it is first asked for, and once.

    Args:
        kind: A dataclass, with its own `__pydantic_config__`, or another type with annotations.
    """
    return _made(kind)  # type: ignore[arg-type]  # mypy: a class is hashable


@cache
def _made(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
