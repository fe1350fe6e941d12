"""A comparison as Markdown, with its pictures in a folder beside it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from fcn_trt.comparison.pictures import PANEL_LABELS, Panels
from fcn_trt.comparison.summary import Rows, Summary, caption, class_rows, summary_rows
from fcn_trt.errors import OutputError
from fcn_trt.files import write_atomic

__all__ = ["write_markdown"]


def write_markdown(page: Summary, path: Path) -> None:
    """Write the pictures, then the page, so that no page names one that is not there.

    Args:
        page: What is told.
        path: Ends in .md; the pictures go into a folder of its name with "_files" behind it.

    Raises:
        OutputError: a file cannot be written.
    """
    comparison = page.comparison
    folder = path.with_name(f"{path.stem}_files")
    parts = [
        f"# {_plain(page.first.name)} and {_plain(page.second.name)}",
        f"{comparison.images} images of {_plain(page.images)}",
        *map(_plain, page.remarks),
        *(
            f"**{'passed' if v.passed else 'failed'}**: {_plain(v.describe())}"
            for v in page.verdicts
        ),
        _markdown_table(summary_rows(comparison)),
        "## Sides",
        _markdown_table(page.predictors, align=":--"),
        "## Classes, in percent",
        _markdown_table(class_rows(comparison)),
        "## Images with the least agreement",
    ]
    if not comparison.worst:
        parts.append("Every pixel of every image has the same label in both.")
    for rank, image in enumerate(comparison.worst, start=1):
        names = _write_panels(folder, rank, image.picture)
        pictures = [
            f"![{PANEL_LABELS[panel]}](<{_link(folder.name)}/{name}>)"
            for panel, name in names.items()
        ]
        rows = [list(PANEL_LABELS.values()), [":-:"] * len(pictures), pictures]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"### {_plain(caption(image))}", table]
    write_atomic(path, ("\n\n".join(parts) + "\n").encode())


def _write_panels(folder: Path, rank: int, panels: Panels) -> dict[str, str]:
    """Write the pictures of an image, and give the file name of each panel."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = "a file is in its way" if isinstance(error, FileExistsError) else error.strerror
        raise OutputError(f"{folder} cannot be made: {reason}; choose another place") from error
    names = {}
    for field in fields(panels):
        name = f"{rank:02}-{field.name}.jpg"
        write_atomic(folder / name, getattr(panels, field.name), durable=False)
        names[field.name] = name
    return names


def _markdown_table(rows: Rows, *, align: str = "--:") -> str:
    header, *body = ([_plain(cell) for cell in row] for row in rows)
    rule = [":--", *[align] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *body])


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~&])")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _link(text: str) -> str:
    """A folder's name within the angle brackets of a link."""
    return re.sub(r"([<>\\])", r"\\\1", text)
