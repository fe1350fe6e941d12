"""What a comparison must reach, for a script that has to decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import ge, le
from typing import Any

from fcn_trt.comparison.measure import Comparison

__all__ = ["Thresholds", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One threshold and what was measured.

    Attributes:
        option: Of the command line, such as "--min-agreement".
        what: What is measured, for people.
        limit: In percent, or in points of mIoU.
        value: In the same unit; NaN where it is not defined.
        passed: Whether the value keeps the limit; one that is not defined does not.
    """

    option: str
    what: str
    limit: float
    value: float
    passed: bool

    def describe(self) -> str:
        """Value and limit, such as "pixel agreement 99.1 %, --min-agreement 99.5"."""
        unit = "points" if self.option == "--max-miou-drop" else "%"
        # Four digits, so that a value that only just fails does not look like its limit.
        value = "not defined" if self.value != self.value else f"{self.value:.4f} {unit}"
        return f"{self.what} {value}, {self.option} {self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Limits; None is no limit.

    Attributes:
        min_agreement: Of all pixels, in percent.
        min_boundary: Of the pixels near a boundary of A, in percent.
        max_miou_drop: Points of mean IoU that B may have less than A.
    """

    min_agreement: float | None = None
    min_boundary: float | None = None
    max_miou_drop: float | None = None

    def verdicts(self, comparison: Comparison[Any]) -> list[Verdict]:
        """Judge a comparison by each limit that there is."""
        pixels, near = 100 * comparison.pixels, 100 * comparison.near_boundary
        rows: tuple[tuple[str, str, float | None, float | None, Callable[..., bool]], ...] = (
            ("--min-agreement", "pixel agreement", self.min_agreement, pixels, ge),
            ("--min-boundary", "agreement near boundaries", self.min_boundary, near, ge),
            ("--max-miou-drop", "mIoU drop", self.max_miou_drop, comparison.miou_drop, le),
        )
        return [
            Verdict(option=option, what=what, limit=limit, value=value, passed=keeps(value, limit))
            for option, what, limit, value, keeps in rows
            if limit is not None and value is not None
        ]
