"""A comparison as a page to look at."""

from __future__ import annotations

from pathlib import Path

from fcn_trt.comparison.html_page import html_page
from fcn_trt.comparison.markdown_page import write_markdown
from fcn_trt.comparison.summary import Summary
from fcn_trt.files import write_atomic

__all__ = ["PAGE_SUFFIXES", "write_page"]

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
