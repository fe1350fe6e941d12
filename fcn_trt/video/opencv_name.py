"""Names of files for OpenCV, which takes UTF-8 alone and crashes on any other name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcn_trt.errors import SourceError
from fcn_trt.files import temporary_folder

__all__ = ["opencv_name", "require_opencv_name"]


@contextmanager
def opencv_name(path: Path) -> Iterator[str]:
    """A name under which OpenCV can open or make a file within the block.

    Raises:
        SourceError: there is none.
    """
    if _is_utf8(str(path)):
        yield str(path)
        return
    with temporary_folder() as folder:
        link = folder / f"link{path.suffix if _is_utf8(path.suffix) else ''}"
        require_opencv_name(str(link))
        link.symlink_to(path.absolute())
        yield str(link)


def require_opencv_name(name: str) -> None:
    """Refuse a name that OpenCV would crash on.

    Raises:
        SourceError: it is not UTF-8.
    """
    if not _is_utf8(name):
        raise SourceError(f"{name} is not UTF-8, and OpenCV opens nothing else; name it otherwise")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
