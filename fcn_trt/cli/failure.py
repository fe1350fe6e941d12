"""What ended a command, in one sentence; what nobody foresaw gets a file to report it with."""

from __future__ import annotations

import datetime as dt
import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fcn_trt.cache import cache_folder
from fcn_trt.cli.common import missing_sentence
from fcn_trt.errors import FcnTrtError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import printable, without_secrets
from fcn_trt.machine import DISTRIBUTIONS, OPENCV_DISTRIBUTIONS, installed_versions
from fcn_trt.version import __version__

__all__ = ["sentence_of"]

_OUT_OF_MEMORY = ("bad_alloc", "can't allocate memory", "Insufficient memory", "out of memory")
"""What libraries in C++ say instead of a MemoryError."""

_LIBRARIES = {
    **DISTRIBUTIONS,
    "cv2": OPENCV_DISTRIBUTIONS,
    **{name: (name,) for name in ("numpy", "torch", "onnx", "pillow", "pydantic", "rich", "typer")},
}


def sentence_of(problem: BaseException, arguments: Sequence[str]) -> str:
    """What a user reads of an error.

    Args:
        problem: What reached the end of the command.
        arguments: Of the command line.
    """
    text = str(problem)
    if isinstance(problem, FcnTrtError):
        return text
    if isinstance(problem, ImportError):
        return missing_sentence(problem)
    if isinstance(problem, MemoryError) or any(said in text for said in _OUT_OF_MEMORY):
        return (
            "the memory of this machine does not suffice; take a smaller --size or fewer images at "
            "once, or another machine (--debug shows where it ran out)"
        )
    if text and (isinstance(problem, OSError) or _is_ours(problem)):
        return text
    kind = f"{type(problem).__name__}: {text.splitlines()[0]}" if text else type(problem).__name__
    path = _write_report(problem, arguments)
    way_out = f"with {path}" if path else "with what --debug shows; no file could be written of it"
    return without_secrets(f"this should not happen ({kind}); please report it {way_out}")


def _is_ours(problem: BaseException) -> bool:
    """Whether it is a value that code of this package itself refused, and not one of a library."""
    if not isinstance(problem, ValueError) or isinstance(problem, UnicodeError):
        return False
    modules = [f.f_globals.get("__name__") for f, _ in traceback.walk_tb(problem.__traceback__)]
    name = str(modules[-1]) if modules else ""
    # pydantic's errors are of several lines, and come from its compiled half without a frame.
    return name.partition(".")[0] == "fcn_trt" and not type(problem).__module__.startswith("pyd")


def _write_report(problem: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write what developers need, for the user's eyes only; None where nothing can be written."""
    versions = [f"{name} {found}" for name, found in installed_versions(_LIBRARIES).items()]
    lines = [
        f"fcn_trt {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(versions),
        f"arguments: {list(arguments)}",
        *"".join(traceback.format_exception(problem)).splitlines(),
    ]
    text = "".join(f"{printable(without_secrets(line))}\n" for line in lines)
    now = f"{dt.datetime.now(dt.timezone.utc):%Y%m%d-%H%M%S}-{os.getpid()}"
    with suppress(FcnTrtError, OSError):
        return _written(cache_folder("reports") / f"{now}.txt", text)
    with suppress(FcnTrtError, OSError):
        return _written(Path(tempfile.gettempdir()) / f"fcn_trt-{now}.txt", text)
    return None


def _written(path: Path, text: str) -> Path:
    write_atomic(path, text.encode(), rights=0o600)
    return path
