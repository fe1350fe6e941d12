"""The images on which a network shows how large its tensors get: the user's, or drawn streets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.demo.held_out import HeldOutScenes
from fcn_trt.spec import Frame, Size
from fcn_trt.video.image_source import folder_images, read_image

__all__ = ["RangeImages"]

STREETS = 8
MOST_IMAGES = 64
"""More do not make a largest magnitude much larger, and take their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeImages:
    """Some frames, each decoded or drawn when its turn comes.

    Attributes:
        folder: Images of the user's, of which `MOST_IMAGES` at most are taken, spread evenly; None
            draws some of the demo's streets.
        size: (height, width) of drawn streets in pixels.
    """

    folder: Path | None
    size: Size

    @property
    def name(self) -> str:
        """What they are, for people."""
        return f"{STREETS} drawn streets" if self.folder is None else str(self.folder)

    def paths(self) -> list[Path]:
        """The images that are taken from the folder.

        Raises:
            SourceError: the folder cannot be read or holds no image.
        """
        if self.folder is None:
            return []
        found = folder_images(self.folder)
        step = max(1, -(-len(found) // MOST_IMAGES))
        return found[::step]

    def __len__(self) -> int:
        return STREETS if self.folder is None else len(self.paths())

    def __iter__(self) -> Iterator[Frame]:
        if self.folder is None:
            yield from (sample.frame for sample in HeldOutScenes(count=STREETS, size=self.size))
        else:
            yield from map(read_image, self.paths())
