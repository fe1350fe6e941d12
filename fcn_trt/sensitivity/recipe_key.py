"""The key `keep_float` of a recipe, set without touching any other line of the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fcn_trt.errors import RecipeError
from fcn_trt.files import atomic_path, sha256, temporary_folder
from fcn_trt.pipeline.recipe import read_recipe
from fcn_trt.pipeline.recipe_file import parse_recipe, read_text
from fcn_trt.spec import QuantisedPrecision

__all__ = ["KEY", "check_recipe", "set_keep_float", "write_keep_float"]

KEY = "keep_float"
BESIDE = "precision"
"""The key, which every recipe has, behind which a new one is put."""

LINE_LENGTH = 100

MAX_TRIED = 8 << 20
"""Characters that are parsed to find where a statement ends; lines of a text that only look like
one would have none."""


def write_keep_float(recipe: Path, names: Sequence[str]) -> None:
    """Write which convolutions stay in float into a recipe.

    The new file has been read as a recipe before it replaces the old one.

    Args:
        names: Of convolutions of the FP32 network; none removes the key.

    Raises:
        RecipeError: the recipe is not valid, or would not be with the key.
        OutputError: it cannot be written.
    """
    text = set_keep_float(read_text(recipe), names, recipe)
    with atomic_path(recipe) as temporary:
        _write_recipe(temporary, text, recipe)


def check_recipe(
    recipe: Path, names: Sequence[str], *, precision: QuantisedPrecision, calibration: Path
) -> None:
    """Refuse before long work a recipe that could not take the key after it.

    Args:
        names: Any that the key may get.
        calibration: With which it is measured.

    Raises:
        RecipeError: as `write_keep_float` says, or it is for another precision or calibration.
    """
    asked = read_recipe(recipe).type
    if asked is None:
        raise RecipeError(f"{recipe} gives no precision, without which {KEY} means nothing")
    if asked.precision != precision:
        raise RecipeError(
            f"{recipe} is for {asked.precision}, but {precision} is measured; choose --precision "
            f"{asked.precision}"
        )
    theirs = asked.calibration
    if not isinstance(theirs, Path) or not _same_content(theirs, calibration):
        raise RecipeError(
            f"{recipe} has the calibration {theirs}, whose content is not that of {calibration}; "
            "measure with the recipe's own"
        )
    text = set_keep_float(read_text(recipe), names, recipe)
    with temporary_folder() as folder:
        _write_recipe(folder / recipe.name, text, recipe)


def _same_content(first: Path, second: Path) -> bool:
    """Whether two files are equal; one that cannot be read is equal to none."""
    try:
        return sha256(first) == sha256(second)
    except OSError:
        return False


def set_keep_float(text: str, names: Sequence[str], recipe: Path) -> str:
    """A recipe's text with the key set, or without it where there are no names.

    Every other line stays as it is and where it is. Of the old key's own lines, a comment behind
    its value stays; comments among its names go with them.

    Args:
        text: Of the recipe, with its own ends of line.
        names: The key's value.
        recipe: What to call it in messages.

    Raises:
        RecipeError: the text is no TOML, or the key has no place that can be found.
    """
    content = parse_recipe(text, recipe)
    wanted = {key: value for key, value in content.items() if key != KEY}
    if names:
        wanted[KEY] = list(names)
    for changed in _candidates(text, names, is_there=KEY in content):
        if _loads(changed) == wanted:
            return changed
    raise RecipeError(
        f"{recipe} is laid out so that {KEY} cannot be set in it; write {_value(names)} there"
    )


def _candidates(text: str, names: Sequence[str], *, is_there: bool) -> Iterator[str]:
    """Texts with the key replaced, added or removed, wherever a line looks like the right place.

    A line can look so in the middle of a text of several lines; who asks checks what it means.
    """
    if not is_there and not names:
        yield text
        return
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if "\r\n" in text else "\n"
    for start, end in _statements(lines, KEY if is_there else BESIDE):
        before, after = lines[:start], lines[end:]
        if is_there:
            comment = _comment(lines[start:end])
            made = [_statement(names, comment, newline)] if names else []
            made += [f"{comment}{newline}"] if comment and not names else []
        else:
            before = [*lines[: end - 1], lines[end - 1].rstrip("\r\n") + newline]
            made = [_statement(names, "", newline)]
        yield "".join([*before, *made, *after])


def _statements(lines: Sequence[str], key: str) -> Iterator[tuple[int, int]]:
    """(first, behind the last) line of each statement that may set a key."""
    starts = re.compile(rf"""[ \t]*["']?{key}["']?[ \t]*=""")
    left = MAX_TRIED
    for start, line in enumerate(lines):
        if starts.match(line):
            for end in range(start + 1, len(lines) + 1):
                # It ends where it first is TOML for itself.
                statement = "".join(lines[start:end])
                left -= len(statement)
                if left < 0:
                    return
                if _loads(statement) is not None:
                    yield start, end
                    break


def _comment(lines: Sequence[str]) -> str:
    """The comment behind a statement's value, or nothing."""
    whole = "".join(lines).rstrip()
    value = _loads(whole)
    last = len("".join(lines[:-1]))
    for found in re.finditer("#", whole[last:]):
        place = last + found.start()
        if _loads(whole[:place]) == value:
            return whole[place:]
    return ""


def _statement(names: Sequence[str], comment: str, newline: str) -> str:
    """The key and its value on one line, or on one for each name where that is too long."""
    behind = f"  {comment}" if comment else ""
    line = f"{_value(names)}{behind}"
    if len(line) > LINE_LENGTH:
        listed = "".join(f"  {_text(name)},{newline}" for name in names)
        line = f"{KEY} = [{newline}{listed}]{behind}"
    return f"{line}{newline}"


def _value(names: Sequence[str]) -> str:
    return f"{KEY} = [{', '.join(map(_text, names))}]"


def _text(name: str) -> str:
    """A basic string of TOML, which escapes as JSON does, and DEL besides."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _loads(text: str) -> dict[str, Any] | None:
    """TOML, or None where it is none."""
    try:
        return parse_recipe(text, Path())
    except RecipeError:
        return None


def _write_recipe(path: Path, text: str, recipe: Path) -> None:
    """Write what is to replace a recipe, and refuse by that one's name what is none."""
    path.write_bytes(text.encode())
    try:
        read_recipe(path)
    except RecipeError as error:
        raise RecipeError(str(error).replace(str(path), str(recipe))) from error
