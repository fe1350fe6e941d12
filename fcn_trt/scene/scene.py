"""A drive down a made-up street, with the exact label of every pixel.

It stands in for a labelled data set where none can be downloaded: the demo trains on it, tests run
on it, and any number of frames of any size can be had from a seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fcn_trt.scene.drawing import LABELS, Canvas, Mesh, MeshBuilder, View
from fcn_trt.scene.ground import Ground
from fcn_trt.scene.street import BLOCK_M, SIGHT_M, Street
from fcn_trt.scene.style import expose, paint_sky, reflect, style_of
from fcn_trt.spec import Frame, LabelMap, Size

__all__ = ["HELD_OUT_SEED", "SCENE_FRAMES", "StreetScene", "require_drawable"]

HELD_OUT_SEED = 1_000_000
"""The demo model's training draws its streets from seeds below this one."""

SCENE_FRAMES = 300
"""Training draws its frames from the first of each street."""

_STYLE, _CAMERA, _GROUND, _SKYLINE = 101, 102, 103, 104
_START_M = 1000.0
_SKYLINE_M = 300.0
_MIN_SIDE_PX = 16


class StreetScene:
    """A drive down one street; the same seed is the same street, everywhere.

    Args:
        seed: Decides street, weather and camera; at least 0.
        rate_fps: Frames per second of travel.

    Raises:
        ValueError: seed is negative, or rate_fps is not positive.
    """

    def __init__(self, seed: int, *, rate_fps: float = 15.0) -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be at least 0")
        if not rate_fps > 0:
            raise ValueError(f"rate_fps is {rate_fps}; it must be positive")
        self._rate_fps = rate_fps
        self._style = style_of(np.random.default_rng([seed, _STYLE]))
        self._street = Street(seed, self._style.shade)
        ground_rng = np.random.default_rng([seed, _GROUND])
        self._ground = Ground(ground_rng, self._street.plan, self._style)
        self._skyline = _skyline(np.random.default_rng([seed, _SKYLINE]))
        rng = np.random.default_rng([seed, _CAMERA])
        self._focal = float(rng.uniform(0.68, 0.95))
        self._horizon = float(rng.uniform(0.44, 0.53))
        self._heading = float(rng.normal(0.0, 0.03))
        self._height_m = float(rng.uniform(1.25, 1.85))
        self._bend_per_m = float(rng.uniform(0.0, 1 / 300))
        self._phases = rng.uniform(0.0, 2 * np.pi, size=5)

    def render(self, index: int, size: Size) -> tuple[Frame, LabelMap]:
        """Draw one frame; no frame depends on the frames drawn before it.

        Args:
            index: Number of the frame, from 0.
            size: (height, width) in pixels, each at least 16.

        Returns:
            The frame, (height, width, 3) uint8 BGR, and its label map, (height, width) uint8 with
            the 11 CamVid classes in the order of `label_set("camvid")`.

        Raises:
            ValueError: index is negative, or a side is less than 16 pixels.
        """
        if index < 0:
            raise ValueError(f"frame index is {index}; it must be at least 0")
        require_drawable(size)
        time_s = index / self._rate_fps
        view = self._view(time_s, size)
        canvas = Canvas(size)
        paint_sky(canvas.frame, view, self._style, drift=0.004 * time_s)
        canvas.label_map[: int(np.clip(np.ceil(view.horizon_px) + 1, 1, size[0]))] = LABELS["sky"]
        far = replace(view, across_m=0.0, along_m=0.0, bend_per_m=0.0)
        canvas.paint(self._skyline, far, self._style.haze)
        blocks = self._blocks(view, time_s)
        things = [thing for _, inner in blocks for thing in inner]
        self._ground.paint(canvas, view, self._street, things)
        for outer, inner in blocks:
            for mesh in (*outer, *inner):
                canvas.paint(mesh, view, self._style.haze)
        reflect(canvas.frame, canvas.label_map, view, self._style)
        return expose(canvas.frame, self._style, shift=index * 131), canvas.label_map

    def _view(self, time_s: float, size: Size) -> View:
        """The camera: it drives on, sways a little and nods a little."""
        height, width = size
        sway = np.sin(np.array([0.31, 0.83, 5.1, 0.11, 0.23]) * time_s + self._phases)
        plan = self._street.plan
        focal_px = self._focal * float(np.sqrt(height * width))
        heading = self._heading + 0.012 * float(sway[1])
        return View(
            size=size,
            focal_px=focal_px,
            centre_px=width / 2 - heading * focal_px,
            horizon_px=self._horizon * height + 0.004 * height * float(sway[2]),
            height_m=self._height_m,
            across_m=plan.camera_across_m + 0.25 * float(sway[0]),
            along_m=_START_M + plan.speed_m_s * time_s,
            bend_per_m=self._bend_per_m * float(0.7 * sway[3] + 0.3 * sway[4]),
        )

    def _blocks(self, view: View, time_s: float) -> list[tuple[tuple[Mesh, ...], list[Mesh]]]:
        """Blocks in sight, far to near: what is behind the pavements, then what is on them."""
        first = int(view.along_m // BLOCK_M)
        last = int((view.along_m + SIGHT_M) // BLOCK_M)
        things: dict[int, list[Mesh]] = {index: [] for index in range(first - 1, last + 1)}
        for mover in self._street.movers(view.along_m, time_s):
            home = int(mover.nearest_m // BLOCK_M)
            if home in things:
                things[home].append(mover)
        blocks = []
        for index in range(last, first - 2, -1):
            block = self._street.block(index)
            inner = [*block.inner, *things[index]]
            inner.sort(key=lambda mesh: mesh.nearest_m, reverse=True)
            blocks.append((block.outer, inner))
        return blocks


def require_drawable(size: Size) -> None:
    """Refuse a size that no street can be drawn at.

    Raises:
        ValueError: a side is less than 16 pixels.
    """
    if min(size) < _MIN_SIDE_PX:
        raise ValueError(
            f"size is {size[0]}x{size[1]}; each side must be at least {_MIN_SIDE_PX} pixels"
        )


def _skyline(rng: np.random.Generator) -> Mesh:
    """Distant houses and woods all along the horizon, where the street's own blocks end."""
    builder = MeshBuilder()
    across = -900.0
    while across < 900.0:
        width, high = float(rng.uniform(14, 50)), float(rng.uniform(7, 22))
        if rng.random() < 0.55:
            colour, label = np.array([80.0, 98.0, 88.0]) * rng.uniform(0.7, 1.2), "tree"
            xs = np.linspace(across - 8, across + width + 8, 10)
            bumps = high * (0.55 + 0.45 * np.sin(np.linspace(0, np.pi, 10))) + rng.normal(0, 1, 10)
            top = [(float(x), float(y), _SKYLINE_M) for x, y in zip(xs, bumps, strict=True)]
        else:
            colour, label = np.full(3, rng.uniform(90, 150)), "building"
            top = [(across, high, _SKYLINE_M), (across + width, high, _SKYLINE_M)]
        foot = [(top[-1][0], -2.0, _SKYLINE_M), (top[0][0], -2.0, _SKYLINE_M)]
        builder.face(top + foot, colour, label=label, convex=False)
        across += width * 0.8
    return builder.build()
