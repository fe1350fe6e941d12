"""A comparison as a page to look at."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from html import escape as html_escape
from pathlib import Path
from urllib.parse import quote

from fcn_trt.comparison.measure import WorstImage
from fcn_trt.comparison.pictures import PANEL_LABELS, Panels
from fcn_trt.comparison.summary import Rows, Summary, caption, class_rows, summary_rows
from fcn_trt.comparison.thresholds import Verdict
from fcn_trt.errors import OutputError
from fcn_trt.files import write_atomic
from fcn_trt.foreign import printable

__all__ = ["PAGE_SUFFIXES", "html_page", "write_markdown", "write_page"]

PAGE_SUFFIXES = (".html", ".md")


def write_page(page: Summary, path: Path) -> None:
    """Write HTML in one file, or Markdown with its pictures beside it.

    Args:
        page: What is told.
        path: Ends in one of `PAGE_SUFFIXES`, which says the kind.

    Raises:
        OutputError: it cannot be written.
    """
    if path.suffix.lower() == ".md":
        write_markdown(page, path)
    else:
        write_atomic(path, html_page(page).encode())


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaa; --good: #3fb950; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, .facts td, .facts th { text-align: left; vertical-align: top; }
.facts td { overflow-wrap: anywhere; min-width: 8rem; }
th:first-child { white-space: nowrap; }
@media (max-width: 50rem) { th, td { padding: .25rem .4rem; } }
.good { color: var(--good); } .bad { color: var(--bad); } .dim { color: var(--dim); }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
  border: 1px solid var(--line); vertical-align: -.1em; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; }
@media (max-width: 50rem) { .panels { grid-template-columns: repeat(2, 1fr); } }
figure { margin: 0; } figcaption { font-size: .85rem; color: var(--dim); }
img { width: 100%; height: auto; display: block; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
"""


def html_page(page: Summary) -> str:
    """The page's text; it shows in light and dark, and on a phone."""
    comparison = page.comparison
    title = f"{page.first.name} and {page.second.name}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_escape(title)}</h1>",
        f"<p>{comparison.images} images of {_escape(page.images)}</p>",
        *(f"<p>{_escape(remark)}</p>" for remark in page.remarks),
        *map(_html_verdict, page.verdicts),
        _html_table(summary_rows(comparison)),
        "<h2>Sides</h2>",
        _html_table(page.predictors, css="facts"),
        "<h2>Classes, in percent</h2>",
        _html_table(class_rows(comparison), colours=page.first.spec.palette),
        "<h2>Images with the least agreement</h2>",
    ]
    if not comparison.worst:
        parts.append("<p>Every pixel of every image has the same label in both.</p>")
    parts += map(_html_image, comparison.worst)
    return "\n".join([*parts, "</body></html>", ""])


def _escape(text: str) -> str:
    """Text that HTML shows as it is, in one line."""
    return html_escape(printable(text))


def _html_verdict(verdict: Verdict) -> str:
    word, css = ("passed", "good") if verdict.passed else ("failed", "bad")
    return f'<p class="{css}"><b>{word}</b>: {_escape(verdict.describe())}</p>'


def _html_table(rows: Rows, *, css: str = "", colours: Sequence[str] = ()) -> str:
    """A table; each row gets a swatch where there are colours."""
    header, *body = rows
    lines = [f'<div class="wide"><table class="{css}"><thead><tr>']
    lines += [f'<th scope="col">{_escape(cell)}</th>' for cell in header]
    lines.append("</tr></thead><tbody>")
    for index, row in enumerate(body):
        first, *others = map(_escape, row)
        if colours:
            swatch = f'<span class="swatch" style="background:{_escape(colours[index])}"></span>'
            first = swatch + first
        cells = [f'<th scope="row">{first}</th>', *(f"<td>{cell}</td>" for cell in others)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def _html_image(image: WorstImage[Panels]) -> str:
    figures = []
    for panel, label in PANEL_LABELS.items():
        data = base64.b64encode(getattr(image.picture, panel)).decode()
        alt = _escape(f"{image.name}: {label}")
        figures.append(
            f'<figure><img alt="{alt}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{_escape(label)}</figcaption></figure>"
        )
    return f'<h3>{_escape(caption(image))}</h3>\n<div class="panels">{"".join(figures)}</div>'


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
    names = {panel: f"{rank:02}-{panel}.jpg" for panel in PANEL_LABELS}
    for panel, name in names.items():
        write_atomic(folder / name, getattr(panels, panel), durable=False)
    return names


def _markdown_table(rows: Rows, *, align: str = "--:") -> str:
    header, *body = ([_plain(cell) for cell in row] for row in rows)
    rule = [":--", *[align] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *body])


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~&])")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))


def _link(text: str) -> str:
    """A folder's name within the angle brackets of a link."""
    shown = "".join(c if c.isprintable() else quote(os.fsencode(c)) for c in text)
    return re.sub(r"([<>\\])", r"\\\1", shown)
