"""What the demo model learns from: crops of scenes and of CamVid."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils import data

from fcn_trt.evaluation.datasets import Dataset
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from fcn_trt.scene.scene import HELD_OUT_SEED, SCENE_FRAMES, StreetScene
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, Size

__all__ = ["MixedSamples", "Settings", "normalise"]

LABELS = "camvid"
CLASSES = label_set(LABELS).classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train.

    Attributes:
        iterations: Steps of the optimiser, over which the learning rate falls to zero.
        batch: Crops per step.
        scene_share: Share of the crops that are of scenes; the others are of CamVid.
        crop: (height, width) of a crop in pixels.
        scenes: Scenes to learn from, seeds from 0 up; each takes 0.8 MB of memory.
        learning_rate: Of SGD with momentum 0.9, after the warm-up.
        rare_weight: Weight in the cross entropy of the thin and small classes, against 1.
        jaccard_from: Step from which 1 - soft IoU is added to the loss and rare_weight dropped.
        average: Share that the moving average of the weights keeps at each step.
        evaluate_every: Steps between measurements.
        save_s: Seconds between saved states.
        seed: Of every random choice.
        workers: Processes that prepare crops; 0 prepares them between the steps.
        held_out_scenes: Streets per measurement, one frame of each.
    """

    iterations: int = 4100
    batch: int = 8
    scene_share: float = 0.75
    crop: Size = (256, 384)
    scenes: int = 2500
    learning_rate: float = 0.04
    rare_weight: float = 1.3
    jaccard_from: int = 2900
    average: float = 0.998
    evaluate_every: int = 500
    save_s: float = 120.0
    seed: int = 0
    workers: int = 1
    held_out_scenes: int = 40

    def __post_init__(self) -> None:
        if not 1 <= self.scenes <= HELD_OUT_SEED:
            raise ValueError(f"scenes is {self.scenes}; seeds from {HELD_OUT_SEED} are held out")
        if min(self.iterations, self.batch, self.evaluate_every, self.held_out_scenes) < 1:
            raise ValueError("iterations, batch, evaluate_every and held_out_scenes start at 1")


class MixedSamples(data.Dataset):
    """Crops of scenes and of CamVid, each a function of its number alone.

    Args:
        camvid: CamVid train.
        settings: How to train.
    """

    def __init__(self, camvid: Dataset, settings: Settings) -> None:
        self.camvid = camvid
        self.settings = settings
        self._scenes: dict[int, tuple[Frame, LabelMap]] = {}

    def __len__(self) -> int:
        return self.settings.iterations * self.settings.batch

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, H, W) uint8 RGB and (H, W) uint8 labels."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng((self.settings.seed, number))
        height, width = self.settings.crop
        if rng.random() < self.settings.scene_share:
            frame, labels = self._scene(int(rng.integers(self.settings.scenes)))
        else:
            sample = self.camvid[int(rng.integers(len(self.camvid)))]
            scale = float(np.exp(rng.uniform(np.log(0.5), np.log(1.75))))
            frame, labels = sample.frame, sample.truth
            frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            labels = cv2.resize(labels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
            frame = _jitter(frame, rng)  # scenes have light and weather of their own
        frame, labels = _random_crop(frame, labels, (height, width), rng)
        rgb = np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1))
        return torch.from_numpy(rgb), torch.from_numpy(labels)

    def _scene(self, seed: int) -> tuple[Frame, LabelMap]:
        """The one frame that is learnt of a scene, kept because drawing costs more than a step."""
        if seed not in self._scenes:
            rng = np.random.default_rng(seed)
            height, width = self.settings.crop
            # Mostly near the size that scenes are measured at, now and then up to 1.6 times it.
            height = round(height * (1 + 0.6 * float(rng.random()) ** 4))
            size = (height, max(2 * height, width))
            self._scenes[seed] = StreetScene(seed).render(int(rng.integers(SCENE_FRAMES)), size)
        return self._scenes[seed]


def _random_crop(
    frame: Frame, labels: LabelMap, size: Size, rng: np.random.Generator
) -> tuple[Frame, LabelMap]:
    """A crop at a random place, mirrored half of the time; what lies outside is 255."""
    height, width = size
    below, right = max(0, height - labels.shape[0]), max(0, width - labels.shape[1])
    if below or right:
        border = (0, below, 0, right, cv2.BORDER_CONSTANT)
        frame = cv2.copyMakeBorder(frame, *border, value=(104, 116, 124))
        labels = cv2.copyMakeBorder(labels, *border, value=(NO_LABEL,))
    top = int(rng.integers(labels.shape[0] - height + 1))
    left = int(rng.integers(labels.shape[1] - width + 1))
    window = np.s_[top : top + height, left : left + width]
    frame, labels = frame[window], labels[window]
    if rng.random() < 0.5:
        frame, labels = frame[:, ::-1], labels[:, ::-1]
    return frame, np.ascontiguousarray(labels)


def _jitter(frame: Frame, rng: np.random.Generator) -> Frame:
    """Random saturation, contrast, brightness and colour cast."""
    pixels = frame.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0.6, 1.4))
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.93, 1.07, size=3)
    pixels = pixels * gain.astype(np.float32) + np.float32(rng.uniform(-16, 16))
    jittered: Frame = np.clip(pixels, 0, 255).astype(np.uint8)
    return jittered


def normalise(rgb: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) uint8 RGB as the network takes it: float32, channels last in memory."""
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    tensor = (rgb.float() - mean) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return tensor.contiguous(memory_format=torch.channels_last)
