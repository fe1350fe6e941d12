"""The committed files: `seed-*`, which are accepted, and findings, named by what they showed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CORPUS", "committed"]

CORPUS = Path(__file__).with_name("corpus")
"""A folder for each target."""


def committed(target: str) -> list[Path]:
    """The files of a target."""
    return sorted((CORPUS / target).iterdir())
