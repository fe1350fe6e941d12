"""What `benchmarks.device` finds: one comparison a row, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measure import ratios, summary

__all__ = ["Comparison", "Skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One thing timed beside another.

    Attributes:
        case: What was timed.
        seconds: Of one of it, each turn.
        reference: What it is compared with.
        reference_seconds: Of one of that, in the same turns.
        sense: "at least" asks how many times as fast it is, "at most" how many times as long it
            takes.
        asked: Limit of that ratio's median, or None where none was set.
    """

    case: str
    seconds: list[float]
    reference: str
    reference_seconds: list[float]
    sense: Literal["at least", "at most"]
    asked: float | None

    @property
    def ratio(self) -> dict[str, float]:
        """Median, smallest and largest of the turns."""
        if self.sense == "at least":
            return ratios(self.reference_seconds, self.seconds)
        return ratios(self.seconds, self.reference_seconds)

    @property
    def is_met(self) -> bool | None:
        """Whether the median is within what was asked."""
        if self.asked is None:
            return None
        median = self.ratio["median"]
        return median >= self.asked if self.sense == "at least" else median <= self.asked

    def to_dict(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "case": self.case,
            "measured": summary(self.seconds),
            "reference": self.reference,
            "reference_measured": summary(self.reference_seconds),
            "ratio": self.ratio,
            "asked": None if self.asked is None else f"{self.sense} {self.asked:g}",
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What this machine cannot run, and why."""

    case: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """As it is saved."""
        return {"case": self.case, "skipped": self.reason}
