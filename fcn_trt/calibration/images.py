"""The images on which a network shows how large its tensors get: the user's, or drawn streets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

from fcn_trt.files import combined_sha256
from fcn_trt.scene.scene import HELD_OUT_SEED, SCENE_FRAMES, StreetScene
from fcn_trt.spec import Frame, Size
from fcn_trt.video.stills import Still, find_stills

__all__ = ["RangeImages"]

STREETS = 8
FIRST_STREET = HELD_OUT_SEED + 1000
"""Streets from here on the demo was neither trained on, nor is it evaluated on them."""
MOST_IMAGES = 64
"""More do not make a largest magnitude much larger, and take their time."""


@dataclass(frozen=True, kw_only=True)
class RangeImages(Sequence[Frame]):
    """Some frames, each decoded or drawn when its turn comes, first the images, then the streets.

    Attributes:
        folders: Folders of images of the user's, image files, or videos.
        limit: How many frames are taken of these at most, spread evenly over all; None takes all.
        streets: How many of the demo's streets are drawn, none of which it was trained on.
        first_street: Seed of the first one.
        size: (height, width) of drawn streets in pixels.
    """

    folders: tuple[Path, ...] = ()
    limit: int | None = MOST_IMAGES
    streets: int = 0
    first_street: int = FIRST_STREET
    size: Size

    @classmethod
    def few(cls, folder: Path | None, size: Size) -> RangeImages:
        """What is enough for the largest magnitudes: some of the user's frames, or some streets."""
        if folder is None:
            return cls(streets=STREETS, size=size)
        return cls(folders=(folder,), size=size)

    @property
    def name(self) -> str:
        """What they are, for people."""
        return self._named([str(folder) for folder in self.folders])

    @property
    def title(self) -> str:
        """The same without where on this machine they are."""
        return self._named([folder.resolve().name for folder in self.folders])

    @cached_property
    def stills(self) -> list[Still]:
        """The frames that are taken of the folders and videos.

        Raises:
            SourceError: one cannot be read, or a folder holds no image.
        """
        return find_stills(self.folders, self.limit)

    def sha256(self, index: int) -> str:
        """SHA-256 of an image's file, of a video's and the frame's place, or of drawn pixels."""
        if index < len(self.stills):
            return self.stills[index].sha256()
        return hashlib.sha256(self[index].tobytes()).hexdigest()

    def content_sha256(self) -> str:
        """SHA-256 of what all of them are: of the files, and of which streets are drawn."""
        streets = [self.streets, self.first_street, *self.size] if self.streets else []
        return combined_sha256([*(still.sha256() for still in self.stills), *map(str, streets)])

    def __len__(self) -> int:
        return len(self.stills) + self.streets

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        """A frame, decoded or drawn now.

        Raises:
            SourceError: an image cannot be decoded.
        """
        places = range(len(self))[index]
        return self._frame(places) if isinstance(places, int) else [*map(self._frame, places)]

    def _named(self, folders: list[str]) -> str:
        drawn = [f"{self.streets} drawn streets"] if self.streets else []
        return " and ".join([*folders, *drawn])

    def _frame(self, place: int) -> Frame:
        if place < len(self.stills):
            return self.stills[place].read()
        seed = self.first_street + place - len(self.stills)
        frame, _ = StreetScene(seed).render(seed * 37 % SCENE_FRAMES, self.size)
        return frame
