"""What only the user knows of a network's input: how the pixels that it was trained on were made.

A checkpoint and a foreign ONNX file seldom say it. `normalisation` turns it into what a spec holds:
a mean and a standard deviation per channel R, G, B, of pixels of 0 to 255. The order of the
channels is no part of a spec: a network that takes BGR gets the input channels of its first
convolution swapped when it is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

__all__ = [
    "InputColour",
    "InputFormat",
    "Rgb",
    "Scale",
    "is_number",
    "parse_channels",
    "three_channels",
]

Rgb: TypeAlias = tuple[float, float, float]
"""One number per channel R, G, B."""
InputColour: TypeAlias = Literal["rgb", "bgr"]
Scale: TypeAlias = Literal[1, 255]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """What was said of a network's input; None is what was not said.

    Attributes:
        mean: Per channel in the network's own order, subtracted from the scaled pixels.
        std: The same, divides after the mean.
        scale: What the brightest pixel is before the mean is subtracted: 255, or 1. None is found
            out from mean and std.
        colour: Order of the network's input channels.

    Raises:
        ValueError: the numbers normalise nothing, or fit both scales.
    """

    mean: Rgb | None = None
    std: Rgb | None = None
    scale: Scale | None = None
    colour: InputColour | None = None

    def __post_init__(self) -> None:
        if self.colour not in (None, *get_args(InputColour)):
            raise ValueError(f"input colour {self.colour!r} is none of rgb, bgr")
        if self.scale is not None and (
            isinstance(self.scale, bool | float) or self.scale not in (1, 255)
        ):
            raise ValueError(f"scale {self.scale!r} is none of 1, 255")
        if (self.mean is None) != (self.std is None):
            missing = "mean" if self.mean is None else "std"
            raise ValueError(f"mean and std go together; {missing} is missing")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std {_text(self.std)} must be above 0 in each channel")
        if self.says_numbers:
            self.normalisation()

    @property
    def says_numbers(self) -> bool:
        """Whether anything but the order of the channels was said."""
        return (self.mean, self.std, self.scale) != (None, None, None)

    def normalisation(self) -> tuple[Rgb, Rgb] | None:
        """(mean, std) per channel R, G, B of pixels of 0 to 255; None if no numbers were said."""
        if not self.says_numbers:
            return None
        mean, std = self.mean or (0.0, 0.0, 0.0), self.std or (1.0, 1.0, 1.0)
        factor = 255 / (self.scale or _scale_of(mean, std))
        scaled = [tuple(value * factor for value in values) for values in (mean, std)]
        if self.colour == "bgr":
            scaled = [values[::-1] for values in scaled]
        (mr, mg, mb), (sr, sg, sb) = scaled
        return (mr, mg, mb), (sr, sg, sb)


def _scale_of(mean: Rgb, std: Rgb) -> Scale:
    """What pixels these numbers are of: those of 0 to 1 have a mean within it that is not 0."""
    if max(*mean, *std) > 1:
        return 255
    if max(mean) > 0:
        return 1
    raise ValueError(
        f"mean {_text(mean)} and std {_text(std)} fit pixels of 0 to 1 and of 0 to 255; say which: "
        "scale 1 or scale 255"
    )


def parse_channels(text: str) -> Rgb:
    """Read one number for all channels, or three with commas between, such as "0.5" or "1,2,3".

    Raises:
        ValueError: the text has another form.
    """
    try:
        return three_channels([float(part) for part in text.split(",")])
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a number nor three with commas between, such as 0.485,0.456,0.406"
        ) from None


def is_number(value: object) -> bool:
    """Whether a value that somebody wrote is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def three_channels(values: float | Sequence[float]) -> Rgb:
    """One number for all channels, or three, in a list, a tuple or an array.

    Raises:
        ValueError: there are others, or one is no finite number.
    """
    listed: list[Any] = [values] if isinstance(values, int | float | str) else list(values)
    if (
        len(listed) not in (1, 3)
        or any(isinstance(value, bool | str) for value in listed)
        or not all(abs(value) < float("inf") for value in listed)
    ):
        raise ValueError(f"{listed} is neither one finite number nor three")
    red, green, blue = map(float, listed * 3 if len(listed) == 1 else listed)
    return red, green, blue


def _text(values: Rgb) -> str:
    return ",".join(f"{value:g}" for value in values)
