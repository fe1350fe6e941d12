"""The one console: whatever text reaches it, of whatever origin, is printed on one line as text.

No sentence, cell, title or bar is markup, a control character of a terminal, or a second line. That
holds here, where text becomes what is printed, so that nobody who prints has to think of it.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from fcn_trt.foreign import printable, without_secrets

__all__ = ["PRINTED_CHARACTERS", "PlainConsole", "Words", "progress"]

PRINTED_CHARACTERS = 10_000
"""Of one text; what is longer was made so that nobody reads what comes before it."""


class PlainConsole(Console):
    """Prints each text, also those in tables and bars, as `foreign` makes it fit to be seen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """What rich calls for each text that it is given."""
        return super().render_str(_shown(text), **options)


class Words(ProgressColumn):
    """What a bar's task is called, or another text of it; rich's own takes it for a template."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__()
        self._field = field

    def render(self, task: Task) -> Text:
        """The text as it is now."""
        return Text(_shown(task.fields[self._field] if self._field else task.description))


def _shown(text: str) -> str:
    rest = len(text) - PRINTED_CHARACTERS
    more = f"... and {rest} characters more" if rest > 0 else ""
    return printable(without_secrets(text[:PRINTED_CHARACTERS])) + more


def progress(console: Console, *columns: ProgressColumn) -> Progress:
    """Bars that are seen on a terminal only; logs get the steps and the result."""
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
