"""What is in a scene, before it is looked at: people, objects, a room, paint, light and a camera.

A plan is a row of uniform numbers, drawn from (seed, i) alone, and a difficulty that says what they mean.
All is in metres and radians; the world's x is right, y up, z to the viewer, the ground is y = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geolessons.data.people import PARTS_OF_PERSON, POSES, WORN, person
from geolessons.data.solids import ABSENT, KINDS, Camera, Solids
from geolessons.draws import seed_of

__all__ = ["CLASSES", "OBJECTS", "PEOPLE", "ROOM", "Scene", "classes", "parts", "plan", "solids_of", "things"]

CLASSES = ("background", "person", "ball", "box", "cylinder", "cone", "pyramid")
PEOPLE, OBJECTS = 2, 8  # places for them in each scene
TEXTURES = ("plain", "checks", "stripes", "noise")
ROOM = 3  # ground, back wall, side wall
DICE = 400  # uniform numbers a scene; the last ones are spare, so that a new choice changes no old one

_THINGS = "e76f51 2a9d8f e9c46a f4a261 3d6b85 d1495b 5b8db8 8ab17d a78bbf f1ede0 a9543d 6d597a"
_WALLS = "f3e9dc dce7e3 e8dfea f5e0d3 d6e2ee e7e8d1"
_FLOORS = "c9a66b b8b8aa a3b18a c58b6c 9fb4c7 d8c3a5"
_SKIN = "f2c9a6 d9a073 a86b45 7a4a2e f7dac2"
_HAIR = "2b2118 5a3825 a4683a d9b26f 8c8c8c"
_TROUSERS = "34495e 5c677d 7a6c5d 3d405b 81624a 4a6fa5"
_SHOES = "2e2e2e 8c3b2e ededed"


@dataclass(frozen=True)
class Scene:
    """The plans of n scenes; every tensor has n as its first axis.

    Solids come in this order: 18 of each person, the objects, then ground, back wall and side wall.
    """

    joints: Tensor  # (n, 2, 2, 7), of people: left and right, `people.JOINTS`
    heading: Tensor  # (n, 2)
    where: Tensor  # (n, 2, 2), x and z
    height: Tensor  # (n, 2)
    there: Tensor  # (n, 2) bool
    objects: Solids  # (n, 8)
    walls: Tensor  # (n, 3, 4): inward normal N and d of ground, back and side wall; the room is N·p ≥ d
    colour: Tensor  # (n, 47, 3), linear RGB
    second: Tensor  # (n, 47, 3), of the texture
    texture: Tensor  # (n, 47) int64, an index into TEXTURES
    contrast: Tensor  # (n, 47), from 0 to 1
    frequency: Tensor  # (n, 47), periods a metre
    light: Tensor  # (n, 2), where it comes from: azimuth (0 from the front, π/2 from the right) and elevation
    sun: Tensor  # (n,), its strength
    sky: Tensor  # (n,), of the soft light from all around
    grain: Tensor  # (n,), standard deviation of the picture's noise
    seed: Tensor  # (n,) int64, of that noise
    camera: Camera

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.seed)

    def __getitem__(self, part: slice) -> Scene:
        """Some of them."""
        return self._map(lambda x: x[part])

    def double(self) -> Scene:
        """The same in float64."""
        return self._map(lambda x: x.double() if x.is_floating_point() else x)

    def _map(self, f: Callable[[Tensor], Tensor]) -> Scene:
        done: dict[str, Any] = {
            name: type(value)(*map(f, value)) if isinstance(value, tuple) else f(value)
            for name, value in vars(self).items()
        }
        return Scene(**done)


class _Dice:
    """Uniform numbers (n, …), dealt in order."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers, self.used = numbers, 0

    def __call__(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        dealt = self.numbers[:, self.used : self.used + count]
        self.used += count
        return dealt.reshape(len(dealt), *shape)

    def between(self, low: Tensor | float, high: Tensor | float, *shape: int) -> Tensor:
        return low + (high - low) * self(*shape)

    def index(self, count: int, *shape: int) -> Tensor:
        return (self(*shape) * count).long().clamp(max=count - 1)

    def colour(self, palette: str, *shape: int) -> Tensor:
        """One of a palette's colours, in linear light."""
        table = torch.tensor([list(bytes.fromhex(x)) for x in palette.split()]) / 255
        return table.square()[self.index(len(table), *shape)]


def plan(first: int, count: int, seed: int, difficulty: float) -> Scene:
    """Scenes `first` to `first + count − 1` of a seed; see `scenes.draw`."""
    numbers = torch.empty(count, DICE)
    grains = torch.empty(count, dtype=torch.int64)
    for i in range(count):
        g = torch.Generator().manual_seed(seed_of((seed, first + i), "scene"))
        torch.rand(DICE, generator=g, out=numbers[i])
        grains[i] = torch.randint(2**31, (), generator=g)
    dice, d = _Dice(numbers), difficulty
    there = dice(PEOPLE) < torch.tensor([0.85, 0.12 + 0.45 * d])
    there[:, 1] &= there[:, 0]
    apart = dice() < 0.6  # two people stand left and right, else also side by side
    column = torch.where(apart, 2 * dice.index(2), dice.index(3))
    other = torch.where(apart, 2 - column, (column + 1 + dice.index(2)) % 3)
    column = torch.stack([column, other], 1)  # of the middle row's middle three cells
    where = torch.stack([0.6 * (column - 1.0), torch.full_like(column, -0.1, dtype=torch.float32)], -1)
    where = where + dice.between(-0.06, 0.06, PEOPLE, 2)
    kind, spots = _choose(dice, there, column, d)
    objects = _objects(dice, kind, spots, d)
    yaw = dice.between(-0.4, 0.4)
    camera = _camera(yaw, dice.between(0.22, 0.5), dice.between(1.05, 1.4))
    colour, second, texture, contrast, frequency = _paint(dice, d)
    low, wide = 0.95 - 0.5 * d, 0.5 + 0.9 * d
    azimuth = dice.between(-wide, wide)
    return Scene(
        joints=_joints(dice),
        heading=yaw[:, None] + 1.4 * (dice(PEOPLE) + dice(PEOPLE) - 1),  # mostly to the viewer
        where=where,
        height=dice.between(1.35, 1.8, PEOPLE),
        there=there,
        objects=objects,
        walls=_walls(yaw, dice.between(1.4, 1.8), dice.between(1.5, 2.1), dice()),
        colour=colour,
        second=second,
        texture=texture,
        contrast=contrast,
        frequency=frequency,
        light=torch.stack([azimuth, dice.between(low, 1.05)], -1),
        sun=dice.between(0.75 - 0.15 * d, 0.85 + 0.15 * d),
        sky=dice.between(0.5 - 0.2 * d, 0.5),
        grain=dice.between(0.006 * d, 0.024 * d),
        seed=grains,
        camera=camera,
    )


def solids_of(scene: Scene) -> Solids:
    """All solids of the scenes but the room, (n, 44)."""
    people = person(scene.joints, scene.heading, scene.where, scene.height)
    there = scene.there.repeat_interleave(len(WORN), 1)
    people = people._replace(kind=torch.where(there, people.kind, ABSENT))
    return Solids(*(torch.cat(pair, 1) for pair in zip(people, scene.objects, strict=True)))


def parts() -> Tensor:
    """The human part of each solid and wall, (47,)."""
    return torch.tensor([*PARTS_OF_PERSON * PEOPLE, *[0] * (OBJECTS + ROOM)])


def things() -> Tensor:
    """The person or object (from 0 on) of each solid, (47,); each wall is a thing of its own."""
    return torch.tensor([*[p for p in range(PEOPLE) for _ in WORN], *range(PEOPLE, PEOPLE + OBJECTS + ROOM)])


def classes(scene: Scene) -> Tensor:
    """The class of each solid and wall, (n, 47)."""
    of_kind = torch.tensor([CLASSES.index(k) if k in CLASSES else 0 for k in KINDS] + [0])
    objects = of_kind[scene.objects.kind]  # ABSENT takes the last
    people = torch.ones(len(scene), PEOPLE * len(WORN), dtype=torch.int64)
    return torch.cat([people, objects, torch.zeros(len(scene), ROOM, dtype=torch.int64)], 1)


def _choose(dice: _Dice, there: Tensor, column: Tensor, d: float) -> tuple[Tensor, Tensor]:
    """What the objects are (n, 8) and where (n, 8, 2): in cells of 5 columns and 3 rows, no two in one."""
    many = 1 + (1.5 * dice() + d * dice.between(3, 6)).long()
    solid = torch.tensor([KINDS.index(name) for name in CLASSES[2:]])[dice.index(len(CLASSES) - 2, OBJECTS)]
    kind = torch.where(torch.arange(OBJECTS) < many[:, None], solid, ABSENT)
    order = dice(15)
    order[:, 11:14] += 1 - 2 * d  # before people: the harder, the more often
    taken = torch.nn.functional.one_hot(column + 6, 15) * there[..., None]
    order = order + 10 * taken.sum(1)
    cell = order.argsort(1)[:, :OBJECTS]
    spots = torch.stack([0.6 * (cell % 5 - 2.0), (0.75 - 0.2 * d) * (cell // 5 - 1.0) - 0.1], -1)
    return kind, spots + dice.between(-0.07, 0.07, OBJECTS, 2)


def _objects(dice: _Dice, kind: Tensor, spots: Tensor, d: float) -> Solids:
    """On the ground, turned about the vertical; some cylinders lie."""
    r = dice.between(0.15, 0.28, OBJECTS)
    tall = r * dice.between(0.7, 1.9 + 0.9 * d, OBJECTS)
    tall = torch.where(kind == KINDS.index("ball"), r, tall)
    lies = (dice(OBJECTS) < 0.4 * d) & (kind == KINDS.index("cylinder"))
    turn = dice.between(0, 2 * math.pi, OBJECTS)
    c, s, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    side, up, front = (torch.stack(v, -1) for v in ([c, zero, -s], [zero, zero + 1, zero], [s, zero, c]))
    standing = torch.stack([r[..., None] * side, -r[..., None] * front, tall[..., None] * up], -1)
    lying = torch.stack([r[..., None] * front, r[..., None] * up, tall[..., None] * side], -1)
    axes = torch.where(lies[..., None, None], lying, standing)
    centre = torch.stack([spots[..., 0], torch.where(lies, r, tall), spots[..., 1]], -1)
    return Solids(kind, centre, axes, zero)


def _joints(dice: _Dice) -> Tensor:
    """Two poses mixed, and each joint a little off, (n, 2, 2, 7)."""
    table = torch.tensor(list(POSES.values()), dtype=torch.float32)  # (poses, 2, 7), degrees
    table = torch.cat([table, table.flip(1)])
    one, two = (table[dice.index(len(table), PEOPLE)] for _ in range(2))
    mix = 0.35 * dice(PEOPLE)[..., None, None]
    return (one + mix * (two - one) + dice.between(-7, 7, PEOPLE, 2, 7)) * (math.pi / 180)


def _camera(yaw: Tensor, pitch: Tensor, reach: Tensor) -> Camera:
    cy, sy, cp, sp = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin()
    zero = torch.zeros_like(yaw)
    right, up, out = [cy, zero, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]
    axes = torch.stack([torch.stack(v, -1) for v in (right, up, out)], -1)
    return Camera(axes, torch.tensor([0, 0.78, -0.1]).expand(len(yaw), 3), reach)


def _walls(yaw: Tensor, back: Tensor, side: Tensor, coin: Tensor) -> Tensor:
    """The side wall is on the side that the camera can see, or too far to be seen."""
    zero = torch.zeros_like(yaw)
    ground, wall = [zero, zero + 1, zero, zero], [zero, zero, zero + 1, -back]
    third = [yaw.sign(), zero, zero, torch.where(coin < 0.5, -side, -30)]
    return torch.stack([torch.stack(v, -1) for v in (ground, wall, third)], 1)


def _paint(dice: _Dice, d: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Colours, second colours, textures, contrasts and frequencies of all solids and walls."""
    worn = {
        "skin": dice.colour(_SKIN, PEOPLE),
        "hair": dice.colour(_HAIR, PEOPLE),
        "eye": torch.full((len(dice.numbers), PEOPLE, 3), 0.01),
        "shirt": dice.colour(_THINGS, PEOPLE),
        "trousers": dice.colour(_TROUSERS, PEOPLE),
        "shoe": dice.colour(_SHOES, PEOPLE),
    }
    short = dice(PEOPLE, 2)[..., None] < 0.35  # sleeves, trousers
    worn["sleeve"] = torch.where(short[:, :, 0], worn["skin"], worn["shirt"])
    worn["shin"] = torch.where(short[:, :, 1], worn["skin"], worn["trousers"])
    people = torch.stack([worn[w] for w in WORN], 2).flatten(1, 2)  # (n, 36, 3)
    wall = dice.colour(_WALLS)
    room = torch.stack([dice.colour(_FLOORS), wall, wall], 1)
    colour = torch.cat([people, dice.colour(_THINGS, OBJECTS), room], 1)
    other = torch.cat([dice.colour(_THINGS, PEOPLE).repeat_interleave(len(WORN), 1),
                       dice.colour(_THINGS, OBJECTS), 0.75 * room], 1)  # fmt: skip
    many = PEOPLE + OBJECTS + ROOM
    chance = torch.tensor([0.15 + 0.6 * d] * (PEOPLE + OBJECTS) + [0.1 + 0.7 * d] * ROOM)
    kind = torch.where(dice(many) < chance, 1 + dice.index(len(TEXTURES) - 1, many), 0)
    kind[:, -1] = kind[:, -2]  # both walls alike
    contrast = dice.between(0.35, 0.5 + 0.5 * d, many)
    frequency = dice.between(3, 6, many)
    frequency[:, -1] = frequency[:, -2]
    frequency[:, -ROOM:] *= 0.6
    of = things()
    kind, contrast, frequency = kind[:, of], contrast[:, of], frequency[:, of]
    cloth = torch.tensor([w in ("shirt", "sleeve") for w in WORN] * PEOPLE + [True] * (OBJECTS + ROOM))
    bare = torch.tensor([w == "sleeve" for w in WORN] * PEOPLE + [False] * (OBJECTS + ROOM))
    short_sleeve = short[:, :, 0].expand(-1, -1, len(WORN)).flatten(1)
    short_sleeve = torch.nn.functional.pad(short_sleeve, (0, OBJECTS + ROOM))
    kind = torch.where(cloth & ~(bare & short_sleeve), kind, 0)
    return colour, other, kind, contrast, frequency
