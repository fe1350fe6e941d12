"""A comparison as one HTML file, without scripts and with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import fields
from html import escape

from fcn_trt.comparison.measure import WorstImage
from fcn_trt.comparison.pictures import PANEL_LABELS, Panels
from fcn_trt.comparison.summary import Rows, Summary, caption, class_rows, summary_rows
from fcn_trt.comparison.thresholds import Verdict

__all__ = ["html_page"]

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
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{comparison.images} images of {escape(page.images)}</p>",
        *(f"<p>{escape(remark)}</p>" for remark in page.remarks),
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


def _html_verdict(verdict: Verdict) -> str:
    word, css = ("passed", "good") if verdict.passed else ("failed", "bad")
    return f'<p class="{css}"><b>{word}</b>: {escape(verdict.describe())}</p>'


def _html_table(rows: Rows, *, css: str = "", colours: Sequence[str] = ()) -> str:
    """A table; each row gets a swatch where there are colours."""
    header, *body = rows
    lines = [f'<div class="wide"><table class="{css}"><thead><tr>']
    lines += [f'<th scope="col">{escape(cell)}</th>' for cell in header]
    lines.append("</tr></thead><tbody>")
    for index, row in enumerate(body):
        first, *others = map(escape, row)
        if colours:
            swatch = f'<span class="swatch" style="background:{escape(colours[index])}"></span>'
            first = swatch + first
        cells = [f'<th scope="row">{first}</th>', *(f"<td>{cell}</td>" for cell in others)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def _html_image(image: WorstImage[Panels]) -> str:
    figures = []
    for field in fields(image.picture):
        data = base64.b64encode(getattr(image.picture, field.name)).decode()
        label = PANEL_LABELS[field.name]
        alt = escape(f"{image.name}: {label}")
        figures.append(
            f'<figure><img alt="{alt}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{escape(label)}</figcaption></figure>"
        )
    return f'<h3>{escape(caption(image))}</h3>\n<div class="panels">{"".join(figures)}</div>'
