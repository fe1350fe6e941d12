"""How much of what others made is taken in, where a user may have a reason to take in more.

Limits that nobody has a reason to raise stand beside the code that keeps them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from fcn_trt.errors import LimitError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Limit", "is_whole_number"]


def is_whole_number(text: str) -> bool:
    """Whether a text is the digits of a number of 64 bits; Python refuses to read thousands."""
    return text.isascii() and text.isdecimal() and len(text) <= 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number that an option raises, or the environment, which child processes inherit.

    Attributes:
        default: What it is if nobody says otherwise.
        option: Of the command line, before or behind any command.
        variable: Of the environment.
        unit: What is counted.
    """

    default: int
    option: str
    variable: str
    unit: str

    @property
    def value(self) -> int:
        """What it is now.

        Raises:
            LimitError: the environment holds no number for it.
        """
        text = os.environ.get(self.variable)
        return self.default if text is None else self._number(text, self.variable)

    def set(self, text: str) -> None:
        """Raise or lower it for this process and its children.

        Raises:
            LimitError: it is no whole number from 1 on.
        """
        os.environ[self.variable] = str(self._number(text, self.option))

    def exceeded(self, found: int) -> str:
        """What to say of what is larger, with the way out."""
        more = f"{self.option} raises that"
        return f"at most {self.value} {self.unit} are read, and it has {found} ({more})"

    def _number(self, text: str, where: str) -> int:
        if not is_whole_number(text) or int(text) == 0:
            raise LimitError(
                f"{where} is a whole number of {self.unit} from 1 on, and not {text!r}"
            )
        return int(text)


MAX_BYTES = Limit(default=4 << 30, option="--max-bytes", variable="FCN_TRT_MAX_BYTES", unit="bytes")
"""Of a checkpoint, an ONNX file with its external data, a file of a bundle, or an image's file."""

MAX_PIXELS = Limit(
    default=1 << 27, option="--max-pixels", variable="FCN_TRT_MAX_PIXELS", unit="pixels"
)
"""Of an image or a frame of a video: 134 million take 400 MB once they are decoded."""
