"""What the doctor says of one part."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CANNOT_LOAD", "Finding", "broken", "present", "useless"]

CANNOT_LOAD = (ImportError, AttributeError, OSError, RuntimeError)
"""What a library raises at its import or start when its own libraries are missing or do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        part: What was looked for.
        found: What is there, or "missing".
        ok: Whether it is there and of use.
        advice: The command or sentence that helps, or "".
    """

    part: str
    found: str
    ok: bool
    advice: str = ""


def present(part: str, found: str | None, advice: str = "") -> Finding:
    """Something that is there as `found` says, or is missing, and then `advice` helps."""
    return Finding(
        part=part, found=found or "missing", ok=found is not None, advice="" if found else advice
    )


def useless(part: str, found: str, advice: str) -> Finding:
    """Something that is not of use as it is found, until `advice` is followed."""
    return Finding(part=part, found=found, ok=False, advice=advice)


def broken(part: str, error: Exception, advice: str) -> Finding:
    """Something that is installed but cannot be loaded."""
    return useless(part, f"cannot be loaded: {' '.join(str(error).split())}", advice)
