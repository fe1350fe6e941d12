"""The committed files: `seed-*`, which are accepted, and findings, named by what they showed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CORPUS", "UNMENDED", "committed"]

CORPUS = Path(__file__).with_name("corpus")
"""A folder for each target."""

UNMENDED: dict[str, str] = {
    "checkpoint/error-state-of-a-numpy-type": "a SystemError of torch.load",
    "checkpoint/memory-20-million-classes": "5.7 GB and 16 s for one tensor of stride 0",
    "checkpoint/memory-stride-0-of-3-billion-halves": "12 GB for one tensor of stride 0",
    "checkpoint/memory-width-6000": "9 GB and more for a network as wide as a tensor says",
    "onnx/error-function-that-calls-itself": "a ValidationError of shape inference",
    "onnx/error-input-of-unknown-type": "a ValueError of the type's name",
    "onnx/error-weights-of-no-type": "a ValueError of shape inference",
    "recipe/error-list-5000-deep": "a RecursionError of the TOML reader",
    "recipe/error-tables-5000-deep": "a RecursionError of the TOML reader",
    "image/error-bmp-of-60000x60000": "OpenCV's own error",
    "image/error-ppm-of-60000x60000": "OpenCV's own error",
    "image/memory-32000x32000": "6 GB for the pixels of a PNG of 124 KB",
}
"""Findings that are still there, by TARGET/FILE, and what they show."""


def committed(target: str) -> list[Path]:
    """The files of a target."""
    return sorted((CORPUS / target).iterdir())
