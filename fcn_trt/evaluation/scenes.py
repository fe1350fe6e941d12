"""Streets that the demo model was never trained on, as labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fcn_trt.evaluation.datasets import Sample
from fcn_trt.labels import LabelSet, label_set
from fcn_trt.scene.scene import HELD_OUT_SEED, SCENE_FRAMES, StreetScene
from fcn_trt.spec import Size

__all__ = ["HeldOutScenes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutScenes:
    """A frame, drawn when it is read, of each of some streets.

    Attributes:
        count: Streets, with the seeds from `HELD_OUT_SEED` up.
        size: (height, width) of the frames in pixels.
    """

    count: int = 40
    size: Size = (256, 512)

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "scene"

    @property
    def labels(self) -> LabelSet:
        """The 11 classes of CamVid."""
        return label_set("camvid")

    @property
    def split(self) -> None:
        """None: they have no parts."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Draw one street."""
        seed = HELD_OUT_SEED + range(self.count)[index]
        frame_index = seed * 37 % SCENE_FRAMES  # spread over the street's length
        frame, truth = StreetScene(seed).render(frame_index, self.size)
        return Sample(name=f"{seed}-{frame_index}", frame=frame, truth=truth)

    def key_parts(self, indices: Iterable[int]) -> Iterable[str]:
        """Yield what tells these streets from others, drawn by the same code."""
        return (self.name, repr(self), *map(str, indices))
