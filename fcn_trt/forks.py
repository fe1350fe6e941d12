"""What a fork leaves behind: OpenVINO's threads and CUDA's contexts stay with the parent.

A forked process inherits the objects of both, but waits for ever for threads that it does not have
as soon as it uses them, or only frees them; CUDA refuses. So a process says here which of the
libraries it uses and what they made. After a fork (os.fork, multiprocessing's "fork", a server
that loads before it forks) that library refuses work in one sentence, even on what is loaded anew:
OpenVINO hands idle executors, whose threads are gone, to new networks. What it made is never freed
there.
"""

from __future__ import annotations

import ctypes
import os
import sys
import weakref
from typing import Literal, TypeAlias, TypeVar

from fcn_trt.errors import EngineError

__all__ = ["ForkedLibrary", "keep", "require_unforked", "use", "was_forked"]

ForkedLibrary: TypeAlias = Literal["OpenVINO", "CUDA"]

_Made = TypeVar("_Made")

_made: dict[ForkedLibrary, weakref.WeakSet[object]] = {}
"""Of each library that this process uses: what it made and is still alive."""

_lost: set[ForkedLibrary] = set()
"""Libraries that a process used before this one was forked from it."""


def use(library: ForkedLibrary) -> None:
    """Say that this process uses a library from now on, before it starts threads."""
    _made.setdefault(library, weakref.WeakSet())


def keep(library: ForkedLibrary, made: _Made) -> _Made:
    """Remember what a library made, so that a forked process does not free it."""
    use(library)
    _made[library].add(made)
    return made


def was_forked(library: ForkedLibrary) -> bool:
    """Tell whether a library was used before this process was forked, and so is lost to it."""
    return library in _lost


def require_unforked(library: ForkedLibrary, work: str) -> None:
    """Refuse work that would wait for what stayed in the parent.

    Args:
        work: What is to be done, for "cannot ...".

    Raises:
        EngineError: this process was forked from one that used the library.
    """
    if library in _lost:
        raise EngineError(
            f"{library} cannot {work} in process {os.getpid()}, which was forked from one that "
            f"had used {library} already and whose threads it lacks; start processes by 'spawn' "
            "or 'forkserver', or load bundles in the forked ones only"
        )


def _after_fork() -> None:
    """Refuse the libraries in the child, and make what they made immortal."""
    for library, made in _made.items():
        _lost.add(library)
        for thing in made:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
