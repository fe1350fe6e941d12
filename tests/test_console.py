"""What reaches a terminal of texts that others made."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.progress import BarColumn
from rich.table import Table

import fcn_trt
from fcn_trt.console import PRINTED_CHARACTERS, PlainConsole, Words, progress
from fcn_trt.foreign import printable

HOSTILE = {
    "escape": "a\x1b[2J\x1b]0;title\x07b",
    "C1": "a\x9b31mb",
    "new row": "a\n│ precision proven │ 18 int8 │",
    "return": "ok\rno",
    "bidi": "a\u202etxt.exe\u2066b",
    "zero width": "ro\u200bad\ufeff",
    "line separator": "a\u2028b\u2029c",
    "surrogate": "a\udcffb",
    "private": "a\ue000b",
    "markup": "[red]a[/red] :smile: {task.total}",
}


EACH = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@pytest.fixture
def screen():
    """A terminal, and what it was sent."""
    stream = io.StringIO()
    return PlainConsole(file=stream, width=200, force_terminal=True, color_system=None), stream


def is_plain(text: str) -> bool:
    return text.isprintable() and text.encode() != b""


def test_no_password_is_printed(screen):
    console, stream = screen
    console.print("rtsp://eve:secret@camera/1 hangs")
    assert stream.getvalue() == "rtsp://***@camera/1 hangs\n"


@EACH
def test_sentence_title_and_cell_are_one_line_of_text(screen, text):
    console, stream = screen
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(text, soft_wrap=True)
    console.print(table)
    sentence, *others = stream.getvalue().splitlines()
    assert len(others) == 6  # title, border, header, rule, row, border
    assert all(is_plain(line) for line in (sentence, *others))
    assert sentence in others[-2]


@EACH
def test_bar_says_the_same(screen, text):
    console, stream = screen
    bar = progress(console, Words(), BarColumn(), Words("live"))
    bar.add_task(text, live=text)
    console.print(bar.get_renderable())
    line = stream.getvalue().rstrip("\n")
    assert is_plain(line)
    assert line.startswith(printable(text))
    assert line.rstrip().endswith(printable(text))


def test_endless_text_ends(screen):
    console, stream = screen
    console.print("a" * 1_000_000, soft_wrap=True)
    assert stream.getvalue().endswith("a... and 990000 characters more\n")
    assert len(stream.getvalue()) < PRINTED_CHARACTERS + 100


PRINTERS = {
    "print": {"cli/terminal.py"},
    "echo": {"cli/common.py"},
    "secho": set[str](),
    "Console": set[str](),
    "PlainConsole": {"api.py", "cli/terminal.py"},
    "Text": {"console.py"},
    "StreamHandler": set[str](),
    "print_exc": set[str](),
}
"""Who may call what prints, or makes what is printed as it is. A worker's pipe is no terminal."""


def test_nothing_else_prints():
    package = Path(fcn_trt.__file__).parent
    found = {name: set[str]() for name in PRINTERS}
    streams = set()
    for path in package.rglob("*.py"):
        here = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in found:
                    found[name].add(here)
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "sys.stdout",
                "sys.stderr",
            ):
                streams.add(here)
    assert found == PRINTERS
    assert streams == {"bench/worker.py", "cli/terminal.py"}
