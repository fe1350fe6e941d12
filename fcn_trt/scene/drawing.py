"""Projection of the street into the picture, and the painter that fills frame and labels alike.

Street coordinates are (across, up, along) in metres: across grows to the right of the centre
line, up from the road surface, along in the direction of travel. Colours are BGR, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.labels import label_set
from fcn_trt.scene.texture import NEUTRAL, TILE_M, TILE_PX, tile
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, Size

Points: TypeAlias = npt.NDArray[np.float64]
"""(N, 3) street coordinates, or (N, 2) pixels."""
Colour: TypeAlias = npt.NDArray[np.float64]
"""(3,) BGR, 0 to 255."""
Gain: TypeAlias = npt.NDArray[np.uint8]
"""(H, W) brightness factors in units of 1/128."""

LABELS = {name: index for index, name in enumerate(label_set("camvid").classes)}
"""What the label map says of each class."""
DETAIL = -1
"""Label of a face that is painted on an object whose label is already in the map."""
NEAR_M = 1.0
_GRAIN_REACH_M = 45.0
_BESIDE_M, _SHORT_M = 1.5, 2.0
"""What is shorter than _SHORT_M leaves the picture whole when it comes nearer than _BESIDE_M; at
the near plane it would be squashed."""
_FRACTION_BITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where the camera is in one frame, as a pinhole without roll.

    Attributes:
        size: (height, width) in pixels.
        focal_px: Focal length.
        centre_px: Column of the direction of travel.
        horizon_px: Row of the horizon.
        height_m: Lens above the road.
        across_m: Lens from the centre line.
        along_m: Distance travelled.
        bend_per_m: Curvature of the street ahead; positive bends to the right.
    """

    size: Size
    focal_px: float
    centre_px: float
    horizon_px: float
    height_m: float
    across_m: float
    along_m: float
    bend_per_m: float

    def project(self, points: Points) -> Points:
        """Street coordinates to pixels.

        Points nearer than NEAR_M are moved to that distance. Walls and kerbs run along the street,
        so for them this is exactly the clipping at the near plane.

        Args:
            points: (N, 3) street coordinates.

        Returns:
            (N, 2) columns and rows, 0 at the outer edge of the first pixel.
        """
        depth_m = np.maximum(points[:, 2] - self.along_m, NEAR_M)
        scale = self.focal_px / depth_m
        bend_m = 0.5 * self.bend_per_m * depth_m**2
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.centre_px + (points[:, 0] - self.across_m + bend_m) * scale
        pixels[:, 1] = self.horizon_px + (self.height_m - points[:, 1]) * scale
        return pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Haze:
    """Air between camera and object: its colour, and the distance at which 63 % is air."""

    colour: Colour
    distance_m: float

    def over(self, colours: Points, depth_m: float) -> Points:
        """Colours as seen from depth_m away."""
        air = 1.0 - np.exp(-max(depth_m, 0.0) / self.distance_m)
        hazed: Points = colours + (self.colour - colours) * air
        return hazed


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Flat faces, painted in order.

    Attributes:
        points: (V, 3) street coordinates of all corners, face after face.
        faces: First corner, end corner, label (or DETAIL), convex; one row per face.
        colours: (F, 3) one per face.
        reach_m: Not drawn beyond this distance, where it would be too thin to be seen.
        detail_m: Size of the smallest detail; details are left out below one pixel.
        grain: First corner of the rectangular wall that gets the texture, and the texture's name.
        shadow: (4, 3) corners of the shadow on the ground, or None.
    """

    points: Points
    faces: tuple[tuple[int, int, int, bool], ...]
    colours: Points
    reach_m: float
    detail_m: float
    grain: tuple[int, str] | None
    shadow: Points | None

    @property
    def nearest_m(self) -> float:
        """Where along the street it begins."""
        return float(self.points[:, 2].min())

    def moved(self, across_m: float, along_m: float) -> Mesh:
        """The same thing somewhere else."""
        offset = np.array([across_m, 0.0, along_m])
        shadow = None if self.shadow is None else self.shadow + offset
        return replace(self, points=self.points + offset, shadow=shadow)


class MeshBuilder:
    """Collects faces; `build` makes the mesh."""

    def __init__(self) -> None:
        self._corners: list[Sequence[float]] = []
        self._faces: list[tuple[int, int, int, bool]] = []
        self._colours: list[Colour] = []
        self._grain: tuple[int, str] | None = None

    def face(
        self,
        corners: Sequence[tuple[float, float, float]],
        colour: Colour,
        *,
        label: str = "",
        convex: bool = True,
        grain: str = "",
    ) -> None:
        """Add a face in front of all faces so far; without a label it is a detail."""
        first = len(self._corners)
        self._corners.extend(corners)
        code = LABELS[label] if label else DETAIL
        self._faces.append((first, len(self._corners), code, convex))
        self._colours.append(colour)
        if grain:
            self._grain = (first, grain)

    def details(self, corners: Points, colours: Points) -> None:
        """Add many convex details with equally many corners.

        Args:
            corners: (F, K, 3) street coordinates.
            colours: (F, 3) one per face.
        """
        for face, colour in zip(corners.tolist(), colours, strict=True):
            self.face(face, colour)

    def build(
        self, *, reach_m: float = 1e9, detail_m: float = 0.1, shadow: Points | None = None
    ) -> Mesh:
        """The mesh of all faces added."""
        return Mesh(
            points=np.array(self._corners),
            faces=tuple(self._faces),
            colours=np.array(self._colours),
            reach_m=reach_m,
            detail_m=detail_m,
            grain=self._grain,
            shadow=shadow,
        )


class Canvas:
    """A frame and its label map, painted far to near with the same polygons.

    Edges are smooth in the frame and hard in the labels.

    Attributes:
        frame: (H, W, 3) uint8 BGR.
        label_map: (H, W) uint8.
    """

    def __init__(self, size: Size) -> None:
        self.frame: Frame = np.zeros((*size, 3), dtype=np.uint8)
        self.label_map: LabelMap = np.full(size, NO_LABEL, dtype=np.uint8)

    def paint(self, mesh: Mesh, view: View, haze: Haze) -> None:
        """Paint one object over everything painted so far."""
        depth_m = mesh.nearest_m - view.along_m
        end_m = mesh.points[:, 2].max() - view.along_m
        is_beside = depth_m < _BESIDE_M and end_m - depth_m < _SHORT_M
        if depth_m > mesh.reach_m or end_m < NEAR_M or is_beside:
            return
        pixels = view.project(mesh.points)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        height, width = view.size
        if high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height:
            return
        fixed = to_fixed(pixels)
        colours = haze.over(mesh.colours, depth_m).tolist()
        detailed = mesh.detail_m * view.focal_px >= max(depth_m, NEAR_M)
        for (first, end, label, convex), colour in zip(mesh.faces, colours, strict=True):
            if detailed or label != DETAIL:
                self._fill(fixed[first:end], colour, label, convex=convex)
            if mesh.grain is not None and first == mesh.grain[0] and depth_m < _GRAIN_REACH_M:
                # Before the faces in front of the wall, so that windows have no bricks.
                wall = slice(first, end)
                self._add_grain(mesh.points[wall], pixels[wall], mesh.grain[1], view)

    def _fill(
        self, corners: npt.NDArray[np.int32], colour: list[float], label: int, *, convex: bool
    ) -> None:
        if convex:
            cv2.fillConvexPoly(self.frame, corners, colour, cv2.LINE_AA, _FRACTION_BITS)
        else:
            cv2.fillPoly(self.frame, [corners], colour, cv2.LINE_AA, _FRACTION_BITS)
        if label == DETAIL:
            return
        if convex:
            cv2.fillConvexPoly(self.label_map, corners, (label,), cv2.LINE_8, _FRACTION_BITS)
        else:
            cv2.fillPoly(self.label_map, [corners], (label,), cv2.LINE_8, _FRACTION_BITS)

    def _add_grain(self, corners: Points, pixels: Points, name: str, view: View) -> None:
        """Texture a wall along the street; it is fixed to the wall and moves with it."""
        height, width = view.size
        left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, (width, height))
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int), 0, (width, height))
        if right - left < 4 or bottom - top < 4:
            return
        along_m = np.maximum(corners[:, 2], view.along_m + NEAR_M)
        along_m = along_m - np.floor(along_m.min() / TILE_M) * TILE_M
        on_tile = np.stack([along_m, corners[:, 1]], axis=1) * (TILE_PX / TILE_M)
        on_roi = pixels - (left, top)
        matrix = cv2.getPerspectiveTransform(on_roi.astype(np.float32), on_tile.astype(np.float32))
        gain = cv2.warpPerspective(
            tile(name),
            matrix,
            (int(right - left), int(bottom - top)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        mask = np.zeros(gain.shape, dtype=np.uint8)
        cv2.fillConvexPoly(mask, to_fixed(on_roi), (255,), cv2.LINE_8, _FRACTION_BITS)
        gain[mask == 0] = NEUTRAL
        multiply(self.frame[top:bottom, left:right], gain)


def to_fixed(pixels: Points) -> npt.NDArray[np.int32]:
    """Pixels as OpenCV draws them: fixed point, 0 at the centre of the first pixel."""
    limited = np.clip(pixels - 0.5, -30000.0, 30000.0)
    return np.rint(limited * (1 << _FRACTION_BITS)).astype(np.int32)


def fill_gain(gain: Gain, pixels: Points, value: int) -> None:
    """Draw a convex polygon into a layer of brightness factors, in units of 1/128."""
    cv2.fillConvexPoly(gain, to_fixed(pixels), (value,), cv2.LINE_AA, _FRACTION_BITS)


def multiply(frame: Frame, gain: Gain) -> None:
    """Scale the brightness of a frame, or part of one, in place.

    Args:
        frame: (H, W, 3) uint8 BGR, written.
        gain: (H, W) uint8 in units of 1/128.
    """
    factors = cv2.cvtColor(gain, cv2.COLOR_GRAY2BGR)
    frame[:] = cv2.multiply(frame, factors, scale=1.0 / NEUTRAL)
