"""How a scene looks from its camera and in its light: surfaces, shadows, textures, Lambert's law.

    colour = albedo·(sky·(soft light from above and below) + sun·max(0, n·l)·visible)

The sun is a second orthographic camera: what it does not see lies in shadow.  The sky's light fades towards
the corners of the room.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from geolessons.data.scene_plans import ROOM, Scene
from geolessons.data.solids import Camera, Solids, local_gradient, look, turned

__all__ = ["Surface", "paint", "shadow_map", "surface"]

SUN, SKY, BOUNCE = (1.06, 0.98, 0.86), (0.92, 0.98, 1.12), (1.0, 0.9, 0.8)
AROUND = 2.6  # metres around the room's middle in which things throw shadows


class Surface(NamedTuple):
    """What is seen at the m points of a grid of each of n images, row by row."""

    solid: Tensor  # (n, m), its place among the solids and the walls
    point: Tensor  # (3, n, m) in camera axes; a larger z is nearer
    normal: Tensor  # (3, n, m) in camera axes, a unit vector
    world: Tensor  # (3, n, m), the point in the world's axes
    own: Tensor  # (3, n, m), the point in the axes of its solid or wall, in metres


def surface(scene: Scene, solids: Solids, size: int, rows: int, offset: float) -> Surface:
    """The first surface on each ray; the grid is as in `solids.look`."""
    camera, (n, s) = scene.camera, solids.kind.shape
    seen = look(solids, camera, size, rows, offset)
    solid, depth = seen.solid.flatten(1), seen.depth.flatten(1)
    at = camera.reach[:, None] * (2 * (torch.arange(rows).to(camera.reach) + offset) / size - 1)
    x, y = at[:, None].expand(-1, rows, -1).flatten(1), -at[:, :, None].expand(-1, -1, rows).flatten(1)
    # the walls are planes, N·p = d; which of them is the nearest
    N = scene.walls[..., :3] @ camera.axes  # (n, 3, 3)
    d = scene.walls[..., 3] - (scene.walls[..., :3] @ camera.target[..., None])[..., 0]
    walls = []
    for i in range(ROOM):
        a, b, c = N[:, i, :, None].unbind(1)
        z = (d[:, i, None] - a * x - b * y) / c
        walls.append(torch.where(c > 1e-6, z, -math.inf))
    wall, which = torch.stack(walls).max(0)
    behind = wall > depth
    solid = torch.where(behind, s + which, solid)
    point = torch.stack([x, y, torch.maximum(wall, depth)])
    image = torch.arange(n)[:, None]
    world = _times(camera.axes[..., None], point) + camera.target.T[..., None]
    normal = N.flatten(0, 1).T.index_select(1, (ROOM * image + which).flatten())
    # stripes run across the third axis: let it be the world's x on ground and back wall
    own = torch.where(which < 2, world[[1, 2, 0]], world).flatten(1)
    front = (~behind).flatten().nonzero()[:, 0]
    place = (image * s + solid).flatten().index_select(0, front)
    centre, axes, M = turned(solids, camera)
    lengths = axes.square().sum(-2).sqrt()
    centre, lengths = (v.flatten(0, 1).T.index_select(1, place) for v in (centre, lengths))
    M = M.flatten(0, 1).permute(1, 2, 0).flatten(0, 1).index_select(1, place).view(3, 3, -1)
    kind, half = (v.flatten().index_select(0, place) for v in (solids.kind, solids.half))
    q = _times(M.permute(2, 0, 1), point.flatten(1).index_select(1, front) - centre)
    gradient = _times(M.permute(2, 1, 0), local_gradient(kind, q, half))
    normal.index_copy_(1, front, gradient / gradient.square().sum(0).sqrt())
    own.index_copy_(1, front, q * lengths)
    return Surface(solid, point, normal.view(3, n, -1), world, own.view(3, n, -1))


def shadow_map(scene: Scene, solids: Solids, size: int) -> tuple[Camera, Tensor]:
    """The sun's camera, and the depth (n, size, size) of what it sees first."""
    (azimuth, elevation), zero = scene.light.unbind(-1), torch.zeros_like(scene.sun)
    sa, ca, se, ce = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    columns = [ca, zero, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]
    axes = torch.stack([torch.stack(v, -1) for v in columns], -1)
    camera = Camera(axes, scene.camera.target, torch.full_like(scene.sun, AROUND))
    return camera, look(solids, camera, size, size, 0.5).depth


def paint(scene: Scene, shown: Surface, sun: Camera, shadows: Tensor) -> Tensor:
    """Colours (3, n, m) from 0 to 1, as a screen wants them."""
    normal, world = shown.normal, shown.world
    facing = _along(normal, (scene.camera.axes.mT @ sun.axes[..., 2:])[..., 0]).clamp(min=0)  # n·l
    direct = scene.sun[:, None] * facing * _visible(scene, shown, sun, shadows)
    up = _along(normal, scene.camera.axes[:, 1])
    # what is close to the ground or to a wall sees less of the sky
    clear = 1 - 0.4 * torch.exp(world[1].clamp(min=0) / -0.16) * (up < 0.95)
    back, side = (_along(world, scene.walls[:, i, :3]) - scene.walls[:, i, 3:] for i in (1, 2))
    ground = shown.solid == scene.texture.shape[1] - ROOM
    clear = clear - 0.35 * torch.exp(torch.minimum(back, side).clamp(min=0) / -0.22) * ground
    clear, above = scene.sky[:, None] * clear, 0.55 + 0.45 * up
    place = torch.arange(len(scene))[:, None] * scene.texture.shape[1] + shown.solid
    colours = _albedo(scene, place.flatten(), shown.own.flatten(1)).view_as(normal)
    for i, colour in enumerate(colours):
        colour *= clear * (0.8 * BOUNCE[i] + (SKY[i] - 0.8 * BOUNCE[i]) * above) + SUN[i] * direct
    return colours.clamp_(0, 1).sqrt_()


def _visible(scene: Scene, shown: Surface, sun: Camera, shadows: Tensor) -> Tensor:
    """How much of the sun the points see (n, m): 9 neighbours in its map, smoothly."""
    size = shadows.shape[1]
    texel = 2 * AROUND / size
    turn = (scene.camera.axes.mT @ sun.axes).mT  # camera axes to the sun's; both look at the same target
    x, y, z = _times(turn[..., None], shown.point + 1.5 * texel * shown.normal)
    z = z + 0.75 * texel  # a surface must not shade itself
    column, row = x / texel + size / 2, size / 2 - y / texel
    inside = (column > 2) & (column < size - 2) & (row > 2) & (row < size - 2)
    column, row = column.clamp(2, size - 2), row.clamp(2, size - 2)
    i, j = row.floor(), column.floor()
    image = torch.arange(len(scene))[:, None] * (size * size)
    corner = (image + (i.long() - 1) * size + j.long() - 1).flatten()
    flat, lit = shadows.flatten(), torch.zeros_like(x)
    across = _spline(column - j)
    for a, down in enumerate(_spline(row - i)):
        line = torch.zeros_like(x)
        for b, weight in enumerate(across):
            seen = flat.index_select(0, corner + (a * size + b)).view_as(z)
            line += torch.where(seen <= z, weight, 0)
        lit += down * line
    return torch.where(inside, lit, 1)


def _spline(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of a quadratic B-spline at the place t in the middle texel; their sum is 1."""
    return (1 - t).square() / 2, 0.75 - (t - 0.5).square(), t.square() / 2


def _albedo(scene: Scene, place: Tensor, own: Tensor) -> Tensor:
    """The colours (3, m) of points (3, m), given in the axes of the solids or walls at `place` (m,)."""
    colour = scene.colour.flatten(0, 1).T.index_select(1, place)
    kinds = scene.texture.flatten().index_select(0, place)
    for kind, pattern in enumerate((_checks, _stripes, _noise), start=1):
        here = (kinds == kind).nonzero()[:, 0]
        at = place.index_select(0, here)
        frequency, contrast = (v.flatten().index_select(0, at) for v in (scene.frequency, scene.contrast))
        p = own.index_select(1, here) * frequency + 0.37  # so that no edge lies on a flat side
        plain, second = colour.index_select(1, here), scene.second.flatten(0, 1).T.index_select(1, at)
        colour.index_copy_(1, here, plain + pattern(*p) * contrast * (second - plain))
    return colour


def _checks(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return (x.floor() + y.floor() + z.floor()).remainder(2)


def _stripes(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return (2 * z).floor().remainder(2)


def _noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Soft clouds: waves that bend each other."""
    a, b, c = ((3 * v) for v in (x, y, z))
    a, b, c = a + 1.7 * torch.sin(b), b + 1.7 * torch.sin(c), c + 1.7 * torch.sin(a)
    return (0.5 + 0.45 * (torch.sin(a) * torch.sin(b) + torch.sin(c))).clamp(0, 1)


def _times(M: Tensor, v: Tensor) -> Tensor:
    """M·v of matrices (n, 3, 3, …) and vectors (3, n, …), component by component: no small products."""
    return torch.stack([_sum(M[:, i].unbind(1), v) for i in range(3)])


def _along(v: Tensor, direction: Tensor) -> Tensor:
    """v·direction, (n, m), of (3, n, m) and (n, 3)."""
    return _sum(direction[..., None].unbind(1), v)


def _sum(a: tuple[Tensor, ...], v: Tensor) -> Tensor:
    return (a[0] * v[0]).addcmul_(a[1], v[1]).addcmul_(a[2], v[2])
