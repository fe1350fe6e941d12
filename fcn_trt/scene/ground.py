"""The ground: road, markings, kerbs, pavements, their texture, and the shadows on them."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from fcn_trt.scene.drawing import (
    NEAR_M,
    Canvas,
    Colour,
    Gain,
    Haze,
    Mesh,
    MeshBuilder,
    Points,
    View,
    fill_gain,
    multiply,
)
from fcn_trt.scene.shapes import on_ground
from fcn_trt.scene.street import BLOCK_M, SIGHT_M, Plan, Street
from fcn_trt.scene.style import Style
from fcn_trt.scene.texture import NEUTRAL, TILE_M, TILE_PX, tile

KERB_M = 0.13
_END_M = 240.0
_OPEN_LAND_M = 90.0


class Ground:
    """The surfaces of one street."""

    def __init__(self, rng: np.random.Generator, plan: Plan, style: Style) -> None:
        self._plan = plan
        self._style = style
        wet = 1.0 - 0.45 * style.wet
        asphalt = rng.uniform(70, 135) * np.array([1.02, 1.0, rng.uniform(0.95, 1.02)])
        self._road: Colour = asphalt * style.shade.top * wet
        tint = rng.normal(0.0, 7.0, size=3) + np.array([-6.0, 0.0, 5.0])
        stone = np.clip(rng.uniform(115, 165) + tint, 90, 185)
        self._paving: Colour = stone * style.shade.top * wet
        yellow = rng.random() < 0.35
        line = np.array([70.0, 190.0, 215.0] if yellow else [215.0, 218.0, 220.0])
        self._edge_paint: Colour = line * style.shade.top * 0.95
        self._paint: Colour = np.full(3, rng.uniform(185, 235)) * style.shade.top
        self._slab_m = float(rng.uniform(0.7, 1.3))
        self._grain = float(rng.uniform(0.5, 1.3))

    def paint(self, canvas: Canvas, view: View, street: Street, things: Iterable[Mesh]) -> None:
        """Paint the ground, and on it the shadows of houses and things."""
        alongs = view.along_m + np.geomspace(NEAR_M, _END_M, 32)
        for side in (-1.0, 1.0):
            kerb, line = self._plan.kerb(side), self._plan.line(side)
            out = line + side * _OPEN_LAND_M
            self._strip(
                canvas, view, alongs, ((kerb, KERB_M), (out, KERB_M)), self._paving, "pavement"
            )
        left, right = self._plan.kerb(-1.0), self._plan.kerb(1.0)
        self._strip(canvas, view, alongs, ((left, 0.0), (right, 0.0)), self._road, "road")
        for kerb in (left, right):
            kerbstone = self._paving * (0.8 if kerb < 0 else 0.9) + 8
            self._strip(canvas, view, alongs, ((kerb, 0.0), (kerb, KERB_M)), kerbstone, "pavement")
        canvas.paint(
            self._markings(view), view, Haze(colour=self._style.haze.colour, distance_m=60.0)
        )
        canvas.paint(self._joints(view), view, self._style.haze)
        horizon = int(np.clip(np.ceil(view.horizon_px) + 1, 0, view.size[0] - 2))
        gain = self._texture(view, horizon)
        self._shade(gain, view, horizon, street, things)
        multiply(canvas.frame[horizon:], gain)

    def _strip(
        self,
        canvas: Canvas,
        view: View,
        alongs: Points,
        edges: tuple[tuple[float, float], tuple[float, float]],
        colour: Colour,
        label: str,
    ) -> None:
        """A surface along the whole street between two (across, up) edges."""
        builder = MeshBuilder()
        near = [(edges[0][0], edges[0][1], float(a)) for a in alongs]
        far = [(edges[1][0], edges[1][1], float(a)) for a in alongs[::-1]]
        builder.face(near + far, colour, label=label, convex=False)
        canvas.paint(builder.build(), view, self._style.haze)

    def _markings(self, view: View) -> Mesh:
        """Centre dashes and edge lines; they are road to the labels."""
        builder = MeshBuilder()
        dash_m, period_m = self._plan.centre_dash_m
        first = int(view.along_m // period_m)
        for index in range(first, first + int(60.0 / period_m) + 1):
            start = index * period_m
            self._line(builder, 0.0, 0.14, start, start + dash_m)
        for side in (-1.0, 1.0):
            for number in range(self._plan.edge_lines):
                across = self._plan.kerb(side) - side * (0.28 + 0.24 * number)
                for along in np.arange(view.along_m + 1.5, view.along_m + 48.0, 3.0):
                    self._line(builder, across, 0.1, float(along), float(along) + 3.0)
        builder.face([(0.0, 0.0, view.along_m), (0.0, 0.0, view.along_m)], self._paint)
        return builder.build(detail_m=1.0)

    def _line(
        self, builder: MeshBuilder, across: float, width: float, start: float, end: float
    ) -> None:
        half = width / 2
        colour = self._paint if across == 0.0 else self._edge_paint
        builder.face(on_ground(0.0, across - half, across + half, start, end), colour)

    def _joints(self, view: View) -> Mesh:
        """Joints between the slabs of the pavements, near the camera."""
        builder = MeshBuilder()
        dark = self._paving * 0.78
        first = np.floor(view.along_m / self._slab_m) * self._slab_m
        for side in (-1.0, 1.0):
            inner, outer = self._plan.kerb(side) + 0.15 * side, self._plan.line(side)
            for along in first + np.arange(2, int(22.0 / self._slab_m)) * self._slab_m:
                builder.face(on_ground(KERB_M, inner, outer, along, along + 0.035), dark)
            for across in np.linspace(inner, outer, 4)[:3]:
                start, end = view.along_m + 1.5, view.along_m + 22.0
                corners = [(across, KERB_M, start), (across, KERB_M, end)]
                corners += [(across + 0.035, KERB_M, end), (across + 0.035, KERB_M, start)]
                builder.face(corners, dark)
        return builder.build(detail_m=1.0)

    def _texture(self, view: View, horizon: int) -> Gain:
        """Asphalt grain, fixed to the ground, fading with distance.

        Args:
            view: The camera.
            horizon: First row below the horizon.

        Returns:
            (H - horizon, W) uint8 in units of 1/128.
        """
        height, width = view.size
        below = np.arange(horizon, height, dtype=np.float32)[:, None] + 0.5 - view.horizon_px
        depth = view.height_m * view.focal_px / np.maximum(below, 0.5)
        columns = np.arange(width, dtype=np.float32)[None, :] + 0.5 - view.centre_px
        across = columns * (depth / view.focal_px) + view.across_m
        across -= 0.5 * view.bend_per_m * depth**2
        along = np.broadcast_to(depth + view.along_m % (TILE_M * 5), across.shape)
        fade = (128.0 * self._grain * np.exp(-depth / 22.0)).astype(np.float32)
        gain = np.full(across.shape, float(NEUTRAL), dtype=np.float32)
        for period_m, weight in ((TILE_M, 0.6), (TILE_M * 5, 1.0)):
            scale = TILE_PX / period_m
            map_x, map_y = (across * scale).astype(np.float32), (along * scale).astype(np.float32)
            values = cv2.remap(
                tile("asphalt"), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
            )
            gain += (values.astype(np.float32) - NEUTRAL) * (fade * (weight / NEUTRAL))
        textured: Gain = np.clip(gain, 30, 250).astype(np.uint8)
        return textured

    def _shade(
        self, gain: Gain, view: View, horizon: int, street: Street, things: Iterable[Mesh]
    ) -> None:
        """Shadows: of the houses on the sunny side, and under everything that stands."""
        shadows = np.full_like(gain, 255)
        up = np.array([0.0, float(horizon)])
        depth = int(255 * (1.0 - 0.5 * self._style.sun))
        side = 1.0 if self._style.sun_side > 0 else -1.0
        if self._style.sun > 0.3:
            first = int(view.along_m // BLOCK_M)
            for index in range(first, first + int(SIGHT_M / BLOCK_M)):
                eaves = street.block(index).eaves_m[0 if side < 0 else 1]
                line = self._plan.line(side)
                tip = line - side * eaves * (0.35 + 0.8 * abs(self._style.sun_side))
                start, end = index * BLOCK_M, (index + 1) * BLOCK_M
                corners = np.array(on_ground(0.0, line, tip, start, end))
                if eaves > 0 and end - view.along_m > 2.0:
                    fill_gain(shadows, view.project(corners) - up, depth)
        for thing in things:
            if thing.shadow is not None and thing.shadow[:, 2].max() - view.along_m > 2.0:
                fill_gain(shadows, view.project(thing.shadow) - up, 110)
        sigma = max(0.8, view.size[0] / 256)
        shadows = cv2.GaussianBlur(shadows, (0, 0), sigma)
        gain[:] = cv2.multiply(gain, shadows, scale=1 / 255)
