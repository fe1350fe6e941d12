"""Overlays on the screen."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable

import cv2

from fcn_trt.errors import SinkError
from fcn_trt.files import Closing
from fcn_trt.spec import Frame, LabelMap, Result

__all__ = ["WindowSink"]

TITLE = "fcn-trt"
PROBE_TIMEOUT_S = 20.0

_END_KEYS = (27, ord("q"))
_PROBE = f"import cv2; cv2.namedWindow({TITLE!r}); cv2.destroyAllWindows()"


class WindowSink(Closing):
    """A window; Esc, q, or closing it ends the run.

    It is opened with the first result, by the thread that writes: window toolkits want one thread
    for everything.

    Args:
        render: Draws the overlay.

    Raises:
        SinkError: no window can be opened here.
    """

    def __init__(self, *, render: Callable[[Frame, LabelMap], Frame]) -> None:
        _check_display()
        self.has_ended = False
        self._render = render
        self._is_open = False

    def write(self, result: Result) -> None:
        """Show one overlay, and notice keys and a window that was closed."""
        view = self._render(result.frame, result.label_map)
        if not self._is_open:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(TITLE, view.shape[1], view.shape[0])
            self._is_open = True
        cv2.imshow(TITLE, view)
        key = cv2.waitKey(1) & 0xFF
        self.has_ended = self.has_ended or key in _END_KEYS or not _is_visible()

    def close(self) -> None:
        """Take the window down."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(cv2.error):  # its user has closed it already
                cv2.destroyWindow(TITLE)


def _is_visible() -> bool:
    try:
        is_visible: bool = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # Qt, once its last window was closed
        return False
    return is_visible


def _check_display() -> None:
    """Try in a process of its own: without a display, Qt ends the process that asks.

    Raises:
        SinkError: no window can be opened.
    """
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SinkError(_no_window(f"no answer within {PROBE_TIMEOUT_S:.0f} s")) from error
    if probe.returncode:
        lines = probe.stderr.decode(errors="replace").strip().splitlines()
        raise SinkError(_no_window(lines[0].strip() if lines else f"status {probe.returncode}"))


def _no_window(reason: str) -> str:
    return (
        f"no window can be opened here ({reason}); run it where there is a screen and an OpenCV "
        "that is not headless, or write to a file such as out.mp4"
    )
