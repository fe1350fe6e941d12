"""What is where: the plan of one street, and everything on it at a given moment.

The street has no end. It is laid out block by block, each from its own random stream, so that any
part of it can be made without the parts before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fcn_trt.scene import buildings, objects, vehicles
from fcn_trt.scene.drawing import Mesh
from fcn_trt.scene.style import Shade

BLOCK_M = 12.0
SIGHT_M = 108.0
_BLOCKS_KEPT = 64
_PLAN, _BLOCK, _TRAFFIC, _WALK, _RIDE = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The cross-section of a street and how full it is.

    Attributes:
        own_side: -1 drives on the left, 1 on the right.
        lane_m: Width of a lane.
        parking_m: Width of the parking strip on the left and on the right, 0 where there is none.
        pavement_m: Width of the pavements.
        built: Share of blocks with houses.
        floors: Usual storeys.
        trees: Street trees per block and side.
        people: Mean metres between pedestrians in one direction.
        riders: Mean metres between cyclists in one direction.
        cars: Mean metres between oncoming cars.
        speed_m_s: Of the camera.
        centre_dash_m: Length and period of the centre line's dashes.
        edge_lines: 0, 1 or 2 lines along each kerb.
    """

    own_side: float
    lane_m: float
    parking_m: tuple[float, float]
    pavement_m: float
    built: float
    floors: int
    trees: float
    people: float
    riders: float
    cars: float
    speed_m_s: float
    centre_dash_m: tuple[float, float]
    edge_lines: int

    def kerb(self, side: float) -> float:
        """Where across the street the kerb of one side is."""
        return side * (self.lane_m + self.parking_m[0 if side < 0 else 1])

    def line(self, side: float) -> float:
        """Where across the street the houses of one side begin."""
        return self.kerb(side) + side * self.pavement_m

    @property
    def camera_across_m(self) -> float:
        """The middle of the camera's lane."""
        return self.own_side * 0.5 * self.lane_m


def plan_of(seed: int) -> Plan:
    """Draw the street of a seed."""
    rng = np.random.default_rng([seed, _PLAN])
    parking = [2.2 if rng.random() < 0.4 else 0.0 for _ in range(2)]
    dash_m = float(rng.choice([2.0, 3.0, 4.0]))
    return Plan(
        own_side=float(rng.choice([-1.0, 1.0])),
        lane_m=float(rng.uniform(3.1, 4.2)),
        parking_m=(parking[0], parking[1]),
        pavement_m=float(rng.uniform(2.0, 3.8)),
        built=float(rng.uniform(0.35, 0.8)),
        floors=int(rng.integers(2, 4)),
        trees=float(rng.uniform(0.1, 0.6)),
        people=float(rng.uniform(9.0, 22.0)),
        riders=float(rng.uniform(13.0, 26.0)),
        cars=float(rng.uniform(28.0, 70.0)),
        speed_m_s=float(rng.uniform(6.0, 11.0)),
        centre_dash_m=(dash_m, dash_m + float(rng.uniform(2.0, 5.0))),
        edge_lines=int(rng.integers(0, 3)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One stretch of street.

    Attributes:
        outer: Houses, fences and what is behind them, in the order of painting.
        inner: What stands on road and pavement.
        eaves_m: Height of the houses on the left and on the right, 0 in gaps.
    """

    outer: tuple[Mesh, ...]
    inner: tuple[Mesh, ...]
    eaves_m: tuple[float, float]


class Street:
    """Everything on one street."""

    def __init__(self, seed: int, shade: Shade) -> None:
        self.seed = seed
        self.plan = plan_of(seed)
        self._shade = shade
        self._blocks: dict[int, Block] = {}

    def block(self, index: int) -> Block:
        """The stretch from index x BLOCK_M on; kept for the frames that follow."""
        if index not in self._blocks:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[index] = self._lay_out(index)
        return self._blocks[index]

    def movers(self, along_m: float, time_s: float) -> list[Mesh]:
        """Traffic and people in sight of a camera that is at along_m."""
        return [
            *self._cars(along_m, time_s),
            *self._riders(along_m, time_s),
            *self._people(along_m, time_s),
        ]

    def _lay_out(self, index: int) -> Block:
        outer: list[Mesh] = []
        inner: list[Mesh] = []
        eaves = [0.0, 0.0]
        start = index * BLOCK_M
        for number, side in enumerate((-1.0, 1.0)):
            rng = np.random.default_rng([self.seed, _BLOCK, index + 2**20, number])
            if rng.random() < self.plan.built:
                houses = self._houses(rng, side, start)
                eaves[number] = float(houses[0].points[2, 1])
                outer += houses
            else:
                outer += self._gap(rng, side, start)
            inner += self._furniture(rng, side, start)
        return Block(outer=tuple(outer), inner=tuple(inner), eaves_m=(eaves[0], eaves[1]))

    def _houses(self, rng: np.random.Generator, side: float, start: float) -> list[Mesh]:
        """One or two houses, far to near."""
        across = self.plan.line(side)
        cuts = [start, start + BLOCK_M]
        if rng.random() < 0.5:
            cuts.insert(1, start + BLOCK_M * float(rng.uniform(0.4, 0.6)))
        return [
            buildings.house(
                *(rng, self._shade),
                across=across,
                start=first,
                end=last,
                floors=max(2, self.plan.floors + int(rng.integers(-1, 2))),
            )
            for first, last in zip(cuts[-2::-1], cuts[:0:-1], strict=True)
        ]

    def _gap(self, rng: np.random.Generator, side: float, start: float) -> list[Mesh]:
        """Trees, perhaps a house set back, and in front of them a fence or a hedge."""
        line, end = self.plan.line(side), start + BLOCK_M
        meshes = []
        if rng.random() < 0.3:
            back = line + side * 9.0
            meshes.append(
                buildings.house(rng, self._shade, across=back, start=start, end=end, floors=2)
            )
        for place in (0.75, 0.3):
            if rng.random() < 0.8:
                across = line + side * float(rng.uniform(2.5, 6.0))
                along = start + BLOCK_M * place + float(rng.uniform(-1.5, 1.5))
                meshes.append(buildings.tree(rng, self._shade, across=across, along=along))
        border = buildings.fence if rng.random() < 0.68 else buildings.hedge
        meshes.append(border(rng, self._shade, across=line, start=start, end=end))
        return meshes

    def _furniture(self, rng: np.random.Generator, side: float, start: float) -> list[Mesh]:
        """Lamps, signs, bollards, street trees and parked cars of one block and side."""
        plan, shade = self.plan, self._shade
        kerb = plan.kerb(side) + side * 0.45
        slots = start + (np.arange(4) + rng.uniform(0.2, 0.8, size=4)) * (BLOCK_M / 4)
        along = [float(slot) for slot in rng.permutation(slots)]
        meshes = []
        if rng.random() < 0.5:
            meshes.append(objects.lamp(rng, shade, across=kerb, along=along[0]))
        if rng.random() < 0.65:
            meshes.append(objects.sign(rng, shade, across=kerb + 0.1 * side, along=along[1]))
        if rng.random() < 0.4:
            meshes.append(objects.bollard(rng, shade, across=kerb, along=along[2]))
        if rng.random() < plan.trees:
            across = plan.line(side) - side * 0.7
            meshes.append(buildings.tree(rng, shade, across=across, along=along[3]))
        if plan.parking_m[0 if side < 0 else 1] > 0:
            meshes += self._parked(rng, side, start)
        return meshes

    def _parked(self, rng: np.random.Generator, side: float, start: float) -> list[Mesh]:
        across = self.plan.kerb(side) - side * 1.15
        cars = []
        for slot in (0.5, 6.5):
            if rng.random() < 0.42:
                car = self._car(rng, across, side)
                cars.append(car.moved(0.0, start + slot + float(rng.uniform(0, 0.8))))
        return cars

    def _car(self, rng: np.random.Generator, across: float, side: float) -> Mesh:
        return vehicles.car(
            *(rng, self._shade),
            across=across,
            seen_from=self.plan.camera_across_m,
            is_oncoming=side != self.plan.own_side,
        )

    def _cars(self, along_m: float, time_s: float) -> Iterator[Mesh]:
        """Oncoming cars, and one or two ahead that keep the camera's pace."""
        plan = self.plan

        def make(rng: np.random.Generator, side: float) -> Mesh:
            across = side * 0.5 * plan.lane_m + float(rng.normal(0, 0.15))
            return self._car(rng, across, side)

        shift = -0.9 * plan.speed_m_s * time_s
        for rng, along in self._column(_TRAFFIC, along_m, shift, spacing_m=plan.cars, reach_m=80.0):
            yield make(rng, -plan.own_side).moved(0.0, along)
        rng = np.random.default_rng([self.seed, _TRAFFIC])
        gap_m = float(rng.uniform(11.0, 55.0))
        for _ in range(2):
            sway_m = 3.0 * float(np.sin(0.3 * time_s + rng.uniform(0, 6.3)))
            yield make(rng, plan.own_side).moved(0.0, along_m + gap_m + sway_m)
            gap_m += float(rng.uniform(14.0, 40.0))

    def _riders(self, along_m: float, time_s: float) -> Iterator[Mesh]:
        plan = self.plan
        for number, (side, speed) in enumerate(((plan.own_side, 4.2), (-plan.own_side, -4.2))):
            parked = plan.parking_m[0 if side < 0 else 1]
            across = side * (plan.lane_m - (0.55 if parked == 0 else 0.2))
            spacing = plan.riders * (1.0 if number == 0 else 1.4)
            for rng, along in self._column(
                _RIDE + 16 * number, along_m, speed * time_s, spacing_m=spacing, reach_m=42.0
            ):
                rider = vehicles.cyclist(
                    rng,
                    self._shade,
                    across=across + float(rng.normal(0, 0.12)),
                    is_oncoming=speed < 0,
                    phase=1.1 * time_s + float(rng.random()),
                )
                yield rider.moved(0.0, along)

    def _people(self, along_m: float, time_s: float) -> Iterator[Mesh]:
        plan = self.plan
        for number, (side, speed) in enumerate(((-1, 1.3), (-1, -1.2), (1, 1.2), (1, -1.3))):
            base = plan.kerb(side) + side * (0.9 if number % 2 else plan.pavement_m - 0.6)
            for rng, along in self._column(
                _WALK + 16 * number, along_m, speed * time_s, spacing_m=plan.people, reach_m=40.0
            ):
                stride = float(np.sin(2 * np.pi * (0.9 * time_s + rng.random())))
                walker = objects.pedestrian(
                    rng, self._shade, across=base + float(rng.normal(0, 0.2)), stride=stride
                )
                yield walker.moved(0.0, along)

    def _column(
        self, purpose: int, along_m: float, shift_m: float, *, spacing_m: float, reach_m: float
    ) -> Iterator[tuple[np.random.Generator, float]]:
        """An endless column that moves as one: those in sight, each with its random stream."""
        first = int(np.floor((along_m - 6.0 - shift_m) / spacing_m)) - 1
        last = int(np.ceil((along_m + reach_m - shift_m) / spacing_m))
        for number in range(first, last + 1):
            rng = np.random.default_rng([self.seed, purpose, number + 2**20])
            along = (number + rng.uniform(0.0, 0.8)) * spacing_m + shift_m
            yield rng, float(along)
