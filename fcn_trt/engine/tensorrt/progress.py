"""How far a TensorRT build is, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tensorrt_types import IProgressMonitor, TensorRt

__all__ = ["BuildPhase", "OnPhase", "Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPhase:
    """One phase of a build; the names are the library's own and change between releases.

    Attributes:
        name: Such as "Building engine".
        parent: Name of the phase it is part of, or None.
        done: Steps that are done; `total` when it is over.
        total: All steps.
    """

    name: str
    parent: str | None
    done: int
    total: int


OnPhase: TypeAlias = Callable[[BuildPhase], None]
"""Called, in one of the library's threads, when a phase begins, makes a step, or is over."""


class Progress:
    """Passes on what the builder reports, and asks it to stop after `cancel`.

    Attributes:
        error: What `on_phase` raised first, which stops the builder; for the caller to raise.
    """

    def __init__(self, on_phase: OnPhase) -> None:
        self._on_phase = on_phase
        self._phases: dict[str, BuildPhase] = {}
        self._cancelled = threading.Event()
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """Let the builder stop at its next step."""
        self._cancelled.set()

    def monitor(self, trt: TensorRt) -> IProgressMonitor:
        """A monitor of the library's own class; it must outlive the build."""
        progress = self

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, name: str, parent: Any, num_steps: int) -> None:
                progress.report(BuildPhase(name=name, parent=parent, done=0, total=num_steps))

            def step_complete(self, name: str, step: int) -> bool:
                return progress.step(name, step + 1)

            def phase_finish(self, name: str) -> None:
                progress.step(name, None)

        return Monitor()

    def report(self, phase: BuildPhase) -> None:
        """A phase has begun or moved on."""
        self._phases[phase.name] = phase
        try:
            self._on_phase(phase)
        except BaseException as error:  # noqa: BLE001  # it must not pass through the library
            self.error = self.error or error
            self.cancel()

    def step(self, name: str, done: int | None) -> bool:
        """A phase has made a step, or is over; returns whether the build is to go on."""
        phase = self._phases.get(name)
        if phase is not None:
            done = phase.total if done is None else done
            self.report(BuildPhase(name=name, parent=phase.parent, done=done, total=phase.total))
        return not self._cancelled.is_set()
