"""Which files are images: of a folder, or of a pattern; and what is written of each is called."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from fcn_trt.errors import SourceError
from fcn_trt.images import IMAGE_SUFFIXES, warn_once

__all__ = ["folder_images", "has_wildcards", "is_image", "output_names", "pattern_images"]

_DIGITS = re.compile(r"(\d+)")
_NUMBER = re.compile(r"%0?(\d{0,3})d")


def folder_images(folder: Path) -> list[Path]:
    """The images of a folder, in natural order; hidden files and folders inside are left out.

    Other files are left out with a warning, as one may be an image of a kind that is not read.

    Raises:
        SourceError: the folder cannot be read or holds no image.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"folder {folder} cannot be read: {error.strerror}") from error
    others = sorted(path.name for path in found if not is_image(path) and path.is_file())
    images = _sorted_images(found, where=f"folder {folder} holds no image")
    if others:
        warn_once(
            (folder, len(others)),
            f"{len(others)} of the {len(images) + len(others)} files in {folder} are left out, the "
            f"first is {others[0]!r}; images end in {_SUFFIXES}",
        )
    return images


def has_wildcards(pattern: str) -> bool:
    """Whether `pattern_images` takes it."""
    return _NUMBER.search(pattern) is not None or any(sign in pattern for sign in "*?[")


def pattern_images(pattern: str) -> list[Path]:
    """The images that match a pattern, in natural order.

    ``*``, ``?``, ``[0-9]`` and ``**`` are as in a shell, where nothing has that very name: a
    folder ``clips [a]`` is itself. ``%d`` and ``%06d`` stand for digits, at least so many.

    Raises:
        SourceError: no image matches.
    """
    known, wild = _known_folder(pattern)
    ends = ["/"] * (len(wild) - 1) + [""]
    number = re.compile("".join(map(_numbers_of, wild, ends)))
    shell = "/".join(
        _NUMBER.sub("*", part.replace("[", "[[]")) if _NUMBER.search(part) else part
        for part in wild
    )
    # glob and not Path.glob: it skips hidden files, as a shell does.
    names = glob.glob(shell, root_dir=known, recursive=True)  # noqa: PTH207
    found = [known / name for name in names if number.fullmatch(name)]
    return _sorted_images(found, where=f"no image matches {pattern!r}")


def output_names(images: Sequence[Path]) -> list[str]:
    """What is made of each image is called, without a suffix, each by a name of its own.

    That is the image's own name, below the folders in which the images differ. Where two have the
    same besides their suffix, all keep theirs: ``a.jpg`` and ``a.png``.
    """
    folders = {path.absolute().parent for path in images}
    first = min(folders)
    shared = next(
        parent
        for parent in (first, *first.parents)
        if all(folder.is_relative_to(parent) for folder in folders)
    )
    below = [path.absolute().relative_to(shared) for path in images]
    stems = [path.with_suffix("").as_posix() for path in below]
    if max(Counter(map(str.casefold, stems)).values()) == 1:
        return stems
    return [path.as_posix() for path in below]


def _known_folder(pattern: str) -> tuple[Path, list[str]]:
    """The folder in front of a pattern's first wildcard, and the parts from there on."""
    path = Path(pattern)
    known = Path(path.anchor)
    parts = list(path.parts[bool(path.anchor) :])
    while parts[1:] and (known / parts[0]).is_dir():
        known /= parts.pop(0)
    return known, parts


def _numbers_of(part: str, end: str) -> str:
    """Expression of a part of a pattern that says no more than where its digits are."""
    if part == "**":
        return "(?:[^/]+/)*" if end else ".*"
    texts = _NUMBER.split(part)
    if not texts[1:]:
        return f"[^/]*{end}"
    pieces = (
        rf"\d{{{text or 1},}}" if place % 2 else _shell_text(text)
        for place, text in enumerate(texts)
    )
    return "".join(pieces) + end


def _shell_text(text: str) -> str:
    return re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


_SUFFIXES = ", ".join(sorted(IMAGE_SUFFIXES))


def is_image(path: Path) -> bool:
    """Tell by its suffix whether a file is an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _sorted_images(paths: Iterable[Path], *, where: str) -> list[Path]:
    images = [path for path in paths if is_image(path) and path.is_file()]
    if not images:
        raise SourceError(f"{where}; images end in {_SUFFIXES}")
    return sorted(images, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sort key: the numbers in a path by value, so that frame2 comes before frame10."""
    parts = enumerate(_DIGITS.split(str(path)))
    return [int(part) if place % 2 else part for place, part in parts], str(path)
