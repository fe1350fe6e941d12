"""What a comparison must reach, for a script that has to decide."""

from __future__ import annotations

from dataclasses import dataclass
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
        drop = comparison.miou_drop
        shares = (
            ("--min-agreement", "pixel agreement", self.min_agreement, comparison.pixels),
            (
                "--min-boundary",
                "agreement near boundaries",
                self.min_boundary,
                comparison.near_boundary,
            ),
        )
        found = [
            Verdict(
                option=option,
                what=what,
                limit=limit,
                value=100 * share,
                passed=100 * share >= limit,
            )
            for option, what, limit, share in shares
            if limit is not None
        ]
        if self.max_miou_drop is not None and drop is not None:
            found.append(
                Verdict(
                    option="--max-miou-drop",
                    what="mIoU drop",
                    limit=self.max_miou_drop,
                    value=drop,
                    passed=drop <= self.max_miou_drop,
                )
            )
        return found
