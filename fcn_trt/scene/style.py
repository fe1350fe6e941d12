"""How a day looks: light, weather, sky, and what the camera's sensor makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from fcn_trt.scene.drawing import LABELS, Colour, Haze, View
from fcn_trt.scene.texture import TILE_PX, tile
from fcn_trt.spec import Frame, LabelMap

_NOISE_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """Brightness of surfaces by the way they face, 1 being plain colour."""

    left: float
    right: float
    front: float
    top: float

    def side(self, direction: float) -> float:
        """Of a wall that faces right (positive) or left."""
        return self.right if direction > 0 else self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One day's light and one camera's character.

    Attributes:
        sky_top: Colour overhead.
        sky_low: Colour at the horizon.
        cloud: Colour of clouds.
        cloudiness: 0 is none, 1 is overcast.
        haze: Air colour and distance.
        sun_side: -1 is sun from the left, 1 from the right.
        sun: 0 is no sun, 1 is hard light.
        wet: 0 is a dry road, 1 a mirror.
        shade: Brightness of surfaces.
        gains: (3,) exposure and colour temperature, BGR.
        gamma: Exponent of the tone curve; above 1 is darker.
        noise: Standard deviation of sensor noise.
        blur: Standard deviation of the lens blur as a share of the picture's height.
        vignette: Loss of light in the corners.
    """

    sky_top: Colour
    sky_low: Colour
    cloud: Colour
    cloudiness: float
    haze: Haze
    sun_side: float
    sun: float
    wet: float
    shade: Shade
    gains: Colour
    gamma: float
    noise: float
    blur: float
    vignette: float


def style_of(rng: np.random.Generator) -> Style:
    """Draw a day: clear, fair, overcast, hazy or rainy, at some hour."""
    weather = str(rng.choice(["clear", "fair", "overcast", "haze", "rain"], p=_WEATHER_SHARES))
    sun = {"clear": 0.9, "fair": 0.65, "haze": 0.25}.get(weather, 0.0) * rng.uniform(0.7, 1.0)
    sun_side = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.0))
    evening = float(max(0.0, rng.normal(0.0, 0.35)))
    grey = rng.uniform(195, 250)
    blue = np.array([rng.uniform(220, 252), rng.uniform(165, 205), rng.uniform(100, 160)])
    pale = np.array([grey + 4, grey, grey - 4])
    is_grey = weather in ("overcast", "rain", "haze")
    sky_top = pale * 0.86 if is_grey else blue
    sky_low = np.clip(pale * 1.04 if is_grey else 0.35 * blue + 0.65 * 245, 0, 255)
    sky_low = np.clip(sky_low + min(evening, 0.6) * np.array([-50.0, -12.0, 10.0]), 0, 255)
    distance_m = {"haze": rng.uniform(70, 150), "rain": rng.uniform(130, 300)}
    warmth = rng.normal(0.0, 0.05) + (0.04 if sun > 0.3 else -0.03)
    exposure = rng.uniform(0.95, 1.3) * (1.0 - 0.45 * min(evening, 1.0))
    return Style(
        sky_top=sky_top,
        sky_low=sky_low,
        cloud=np.full(3, rng.uniform(205, 250)) if not is_grey else pale * rng.uniform(0.7, 0.95),
        cloudiness=_CLOUDINESS[weather] * rng.uniform(0.7, 1.2),
        haze=Haze(
            colour=0.9 * sky_low, distance_m=distance_m.get(weather, float(rng.uniform(250, 500)))
        ),
        sun_side=sun_side,
        sun=float(sun),
        wet=float(rng.uniform(0.3, 0.7)) if weather == "rain" else 0.0,
        shade=_shade(sun=float(sun), sun_side=sun_side, front=float(rng.uniform(0.0, 0.5))),
        gains=exposure * np.array([1.0 - warmth, 1.0, 1.0 + warmth]),
        gamma=float(rng.uniform(0.75, 1.15)),
        noise=float(rng.uniform(1.0, 5.0)),
        blur=float(rng.uniform(0.0, 0.0025)),
        vignette=float(rng.uniform(0.05, 0.35)),
    )


_WEATHER_SHARES = (0.3, 0.25, 0.2, 0.12, 0.13)
_CLOUDINESS = {"clear": 0.15, "fair": 0.5, "overcast": 0.9, "haze": 0.4, "rain": 1.0}


def _shade(*, sun: float, sun_side: float, front: float) -> Shade:
    """Sky light from everywhere, sun light on what faces it."""
    ambient = 0.95 - 0.28 * sun
    lit = 0.6 * sun
    return Shade(
        left=ambient + lit * max(0.0, -sun_side),
        right=ambient + lit * max(0.0, sun_side),
        front=ambient + lit * front,
        top=ambient + 0.1 + 0.75 * lit,
    )


def paint_sky(frame: Frame, view: View, style: Style, *, drift: float) -> None:
    """Fill the frame above the horizon: a gradient, and clouds on a plane overhead.

    Args:
        frame: (H, W, 3) uint8 BGR, written.
        view: The camera.
        style: The day.
        drift: How far the clouds have gone, in tiles.
    """
    height, width = view.size
    rows = int(np.clip(np.ceil(view.horizon_px) + 1, 1, height))
    above = (view.horizon_px - np.arange(rows, dtype=np.float32) - 0.5) / view.focal_px
    above = np.maximum(above, 0.01)[:, None]
    ramp = np.clip(above / 0.5, 0.0, 1.0)[..., None] ** 0.7
    gradient = style.sky_low + (style.sky_top - style.sky_low) * ramp
    across = (np.arange(width, dtype=np.float32) - view.centre_px) / view.focal_px
    depth = 1.0 / (above + 0.12)
    map_x = (across[None, :] * depth * 40.0).astype(np.float32)
    map_y = np.broadcast_to(depth * 60.0 + drift * TILE_PX, map_x.shape).astype(np.float32)
    cover = cv2.remap(tile("cloud"), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    threshold = 1.3 - 1.1 * style.cloudiness
    cover_share = np.clip((cover.astype(np.float32) / 128.0 - threshold) * 1.6, 0.0, 0.9)
    cover_share *= np.clip(above * 8.0, 0.0, 1.0)
    mixed = gradient + (style.cloud - gradient) * cover_share[..., None]
    frame[:rows] = np.clip(mixed, 0, 255).astype(np.uint8)


def reflect(frame: Frame, label_map: LabelMap, view: View, style: Style) -> None:
    """Mirror the street faintly in a wet road, in place; labels stay the road's."""
    if style.wet == 0.0:
        return
    height, width = view.size
    horizon = int(np.clip(round(view.horizon_px), 1, height - 1))
    mirrored = cv2.flip(frame[:horizon], 0)
    mirrored = cv2.resize(mirrored, (width // 4 + 1, height // 16 + 1))
    mirrored = cv2.resize(mirrored, (width, height - horizon), interpolation=cv2.INTER_LINEAR)
    ground = frame[horizon:]
    mixed = cv2.addWeighted(ground, 1.0 - 0.5 * style.wet, mirrored, 0.45 * style.wet, 0.0)
    road = label_map[horizon:] == LABELS["road"]
    np.copyto(ground, mixed, where=road[..., None])


def expose(frame: Frame, style: Style, *, shift: int) -> Frame:
    """What the sensor makes of the light: blur, vignette, colour, tone and noise.

    Args:
        frame: (H, W, 3) uint8 BGR.
        style: The day and the camera.
        shift: Start of this frame's noise in the noise tile.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = frame.shape[:2]
    sigma = style.blur * height
    if sigma > 0.2:
        frame = cv2.GaussianBlur(frame, (0, 0), sigma)
    frame = cv2.LUT(frame, _curve(style))
    frame = cv2.multiply(frame, _vignette((height, width), round(style.vignette, 2)), scale=1 / 255)
    grain = _grain(round(style.noise))
    rows = np.arange(shift, shift + height) % _NOISE_PX
    columns = np.arange(shift * 7, shift * 7 + width) % _NOISE_PX
    noise = grain[rows][:, columns]
    exposed: Frame = cv2.add(frame, noise, dtype=cv2.CV_8U)
    return exposed


def _curve(style: Style) -> npt.NDArray[np.uint8]:
    """(1, 256, 3) table from light to pixel value."""
    light = np.clip(np.linspace(0.0, 1.0, 256)[:, None] * style.gains, 0, 1)
    table: npt.NDArray[np.uint8] = np.rint(255 * light**style.gamma).astype(np.uint8)
    return table[None]


@cache
def _grain(deviation: int) -> npt.NDArray[np.int16]:
    """(_NOISE_PX, _NOISE_PX, 3) sensor noise; one table serves all frames, shifted."""
    rng = np.random.default_rng([deviation, 7])
    noise = rng.normal(scale=deviation, size=(_NOISE_PX, _NOISE_PX, 3))
    return np.rint(noise).astype(np.int16)


def _vignette(size: tuple[int, int], strength: float) -> npt.NDArray[np.uint8]:
    """(H, W, 3) factors, 255 in the middle."""
    rows = np.linspace(-1.0, 1.0, size[0], dtype=np.float32)[:, None] ** 2
    columns = np.linspace(-1.0, 1.0, size[1], dtype=np.float32)[None, :] ** 2
    factors = (255.0 - 127.0 * strength * (rows + columns)).astype(np.uint8)
    shaded: npt.NDArray[np.uint8] = cv2.cvtColor(factors, cv2.COLOR_GRAY2BGR)
    return shaded
