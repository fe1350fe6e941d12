"""Files that are written at the end of long work, looked at before it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fcn_trt.errors import OutputError
from fcn_trt.files import require_folder_of

__all__ = ["require_writable"]


def require_writable(path: Path) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        OutputError: the folder is missing or cannot be written in, or `path` is a folder or a
            device.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no regular file, and would be replaced; choose another name")
    require_folder_of(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}; choose another place"
        ) from error
