"""What an orthographic camera sees of balls, capsules, cylinders, cones, boxes and pyramids, without a mesh.

    q = M·(p − c),   p = (x, y, z)      a camera's ray in a solid's own coordinates: a line in z
    z(x, y) = the largest z with q in the unit solid,   n ∝ Mᵀ·∇f(q)

Each solid is a unit shape under an affine map, all of them convex, so that a ray's first point is a root of a
linear or quadratic equation.  Only pixels in a solid's rectangle are tried.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ABSENT", "KINDS", "Camera", "Seen", "Solids", "local_gradient", "look", "turned"]

KINDS = ("ball", "capsule", "cylinder", "cone", "box", "pyramid")
ABSENT = -1
BALL, CAPSULE, CYLINDER, CONE, BOX, PYRAMID = range(len(KINDS))


class Solids(NamedTuple):
    """The solids of n scenes, s places each.

    The unit shapes: the ball of radius 1; the capsule, all within 1 of the axis from −h to h; the cylinder of
    radius 1 and the box [−1, 1]³, both from −1 to 1; cone and pyramid on the disc or square at −1, with their
    tip at 1.  The axis is the third.
    """

    kind: Tensor  # (n, s) int64, an index into KINDS, or ABSENT
    centre: Tensor  # (n, s, 3)
    axes: Tensor  # (n, s, 3, 3), the columns are the shape's three half axes, at right angles
    half: Tensor  # (n, s), h of a capsule


class Camera(NamedTuple):
    """n orthographic cameras; they see a square of side 2·reach around `target`."""

    axes: Tensor  # (n, 3, 3), the columns are right, up and to the viewer
    target: Tensor  # (n, 3)
    reach: Tensor  # (n,)


class Seen(NamedTuple):
    """What is first on each ray, (n, rows, rows): its place among the solids or −1, and its depth or −∞."""

    solid: Tensor
    depth: Tensor


def turned(solids: Solids, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """The solids in camera axes: centres (n, s, 3), half axes (n, s, 3, 3), and M (n, s, 3, 3)."""
    to_camera = camera.axes.mT[:, None]
    centre = (to_camera @ (solids.centre - camera.target[:, None])[..., None])[..., 0]
    axes = to_camera @ solids.axes
    return centre, axes, (axes / axes.square().sum(-2, keepdim=True)).mT


def look(solids: Solids, camera: Camera, size: int, rows: int, offset: float) -> Seen:
    """The first solid on each ray of a grid.

    Args:
        solids: Of n scenes.
        camera: n of them.
        size: Pixels along a side; a pixel is 2·reach/size wide.
        rows: Of the grid, and its columns.
        offset: 0.5 puts the grid on the pixels' centres, 0 on their corners (then rows is size + 1).
    """
    n, s = solids.kind.shape
    centre, axes, M = turned(solids, camera)
    flat = solids.kind.flatten()
    order = torch.argsort(torch.where(flat == ABSENT, len(KINDS), flat), stable=True)
    order = order[: int((flat != ABSENT).sum())]  # by kind, so that a kind's rays lie together
    kind, image = flat[order], order // s
    step = 2 / size * camera.reach[image]
    centre, half = centre.flatten(0, 1)[order], solids.half.flatten()[order]
    extent = _extent(kind, axes.flatten(0, 1)[order], half)
    # the rectangle: columns from left, rows from the top; one more on each side does no harm
    left = (centre[:, 0] - extent[:, 0]) / step + size / 2 - offset
    right = (centre[:, 0] + extent[:, 0]) / step + size / 2 - offset
    top = size / 2 - (centre[:, 1] + extent[:, 1]) / step - offset
    bottom = size / 2 - (centre[:, 1] - extent[:, 1]) / step - offset
    first = torch.stack([left, top]).floor().clamp(0, rows).long()
    last = torch.stack([right, bottom]).ceil().clamp(-1, rows - 1).long()
    wide, high = (last - first + 1).clamp(min=0)
    area = wide * high
    ends = area.cumsum(0)
    which = torch.repeat_interleave(area)  # (rays,)
    at = torch.arange(len(which)) - _pick(ends - area, which)
    width = _pick(wide, which)
    down = torch.div(at, width, rounding_mode="floor")
    column, row = _pick(first[0], which) + at - down * width, _pick(first[1], which) + down
    step = _pick(step, which)
    x = (column.to(step.dtype) + (offset - size / 2)) * step - _pick(centre[:, 0], which)
    y = ((size / 2 - offset) - row.to(step.dtype)) * step - _pick(centre[:, 1], which)
    m = [_pick(entry, which) for entry in M.flatten(0, 1)[order].flatten(1).T]
    o = [m[3 * i] * x + m[3 * i + 1] * y for i in range(3)]
    d = [m[3 * i + 2] for i in range(3)]
    counts = torch.bincount(kind, weights=area.double(), minlength=len(KINDS)).long().tolist()
    z, start = torch.empty_like(x), 0
    for this, count in enumerate(counts):
        part = slice(start, start + count)
        start += count
        if count:
            z[part] = _first(this, [v[part] for v in o], [v[part] for v in d], _pick(half, which[part]))
    hit = z.isfinite().nonzero()[:, 0]
    which = _pick(which, hit)
    z = _pick(z, hit) + _pick(centre[:, 2], which)
    pixel = (_pick(image, which) * rows + _pick(row, hit)) * rows + _pick(column, hit)
    depth = torch.full((n * rows * rows,), -math.inf, dtype=z.dtype)
    depth.scatter_reduce_(0, pixel, z, "amax")
    front = (z == _pick(depth, pixel)).nonzero()[:, 0]
    solid = torch.full((n * rows * rows,), -1)
    solid.scatter_reduce_(0, _pick(pixel, front), _pick(order % s, _pick(which, front)), "amax")
    return Seen(solid.view(n, rows, rows), depth.view(n, rows, rows))


def local_gradient(kind: Tensor, q: Tensor, half: Tensor) -> Tensor:
    """The outward normals, of any length, at points on unit shapes, in the shapes' own coordinates.

    Where a shape has several faces, the point lies on the one whose constraint is the tightest.

    Args:
        kind: (m,) indices into KINDS.
        q: (3, m) points.
        half: (m,) h of capsules.

    Returns:
        (3, m).
    """
    x, y, z = q
    zero, round_ = torch.zeros_like(x), torch.hypot(x, y)
    a, b, c = x.abs(), y.abs(), z.abs()
    found = q.clone()  # a ball's
    found[2] = torch.where(kind == CAPSULE, z - torch.maximum(torch.minimum(z, half), -half), z)
    cap, base = c > round_, -1 - z
    east, top = (a >= b) & (a >= c), (c > a) & (c > b)
    for k, shape in (
        (CYLINDER, (torch.where(cap, 0, x), torch.where(cap, 0, y), torch.where(cap, z, 0))),
        (BOX, (torch.where(east, x, 0), torch.where(east | top, 0, y), torch.where(top, z, 0))),
        (CONE, (x, y, round_ / 2)),
        (PYRAMID, (torch.where(a >= b, x, 0), torch.where(a >= b, 0, y), torch.maximum(a, b) / 2)),
    ):
        here = kind == k
        found = torch.where(here, torch.stack(shape), found)
        if k in (CONE, PYRAMID):
            side = (round_ if k == CONE else torch.maximum(a, b)) - (1 - z) / 2
            found = torch.where(here & (base > side), torch.stack([zero, zero, zero - 1]), found)
    return found


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """x[index], several times faster."""
    return x.contiguous().index_select(0, index)


def _extent(kind: Tensor, axes: Tensor, half: Tensor) -> Tensor:
    """Half the width and height (m, 2) that solids have for the camera, or more."""
    a = axes[:, :2].abs()
    ball = a.square().sum(2).sqrt()
    around = a[..., :2].square().sum(2).sqrt() + a[..., 2]
    capsule = ball + half[:, None] * a[..., 2]
    corner = a.sum(2)
    return torch.stack([ball, capsule, around, around, corner, corner])[kind, torch.arange(len(kind))]


def _first(kind: int, o: list[Tensor], d: list[Tensor], half: Tensor) -> Tensor:
    """The largest z with o + z·d in the unit shape; −∞ where the ray misses."""
    if kind == BALL:
        return _root(_dot(d, d), _dot(o, d), _dot(o, o) - 1)[0]
    if kind == CAPSULE:
        side = _within(_root(*_round(o, d))[0], o[2], d[2], half)
        ends = [_first(BALL, [o[0], o[1], o[2] - at], d, half) for at in (half, -half)]
        return torch.maximum(side, torch.maximum(*ends))
    if kind == CYLINDER:
        far, near = _root(*_round(o, d))
        below, above = _half_spaces([(o[2], d[2], 1.0), (-o[2], -d[2], 1.0)])
        return _between(torch.maximum(below, near), torch.minimum(above, far))
    if kind == CONE:
        A, B, C = _round(o, d)
        k = (1 - o[2]) / 2  # the cone's radius, k − z·d₂/2 along the ray
        A, B, C = A - d[2].square() / 4, B + k * d[2] / 2, C + 1 - k.square()
        sides = [_within(z, o[2], d[2], 1) for z in _root(torch.where(A.abs() < 1e-12, 1e-12, A), B, C)]
        base = (-1 - o[2]) / _safe(d[2])
        wide = (o[0] + base * d[0]).square() + (o[1] + base * d[1]).square()
        sides.append(torch.where(wide <= 1 + _slack(wide), base, -math.inf))
        return torch.stack(sides).amax(0)
    if kind == BOX:
        faces = [(sign * o[i], sign * d[i], 1.0) for i in range(3) for sign in (1, -1)]
    else:
        faces = [(s * o[i] + o[2] / 2, s * d[i] + d[2] / 2, 0.5) for i in range(2) for s in (1, -1)]
        faces.append((-o[2], -d[2], 1.0))
    return _between(*_half_spaces(faces))


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _round(o: list[Tensor], d: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The endless cylinder: A·z² + 2·B·z + C ≤ 0."""
    A, B = d[0].square() + d[1].square(), o[0] * d[0] + o[1] * d[1]
    return A.clamp(min=1e-12), B, o[0].square() + o[1].square() - 1


def _root(A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Both roots of A·z² + 2·B·z + C, the larger first if A > 0; without any, −∞ and ∞."""
    inside = B.square() - A * C
    root = inside.clamp(min=0).sqrt()
    miss = inside < 0
    return torch.where(miss, -math.inf, (root - B) / A), torch.where(miss, math.inf, (-root - B) / A)


def _within(z: Tensor, o: Tensor, d: Tensor, most: Tensor | float) -> Tensor:
    """Z where its point is between −most and most along the axis, else −∞."""
    return torch.where((o + z * d).abs() <= most + _slack(z), z, -math.inf)


def _half_spaces(faces: list[tuple[Tensor, Tensor, float]]) -> tuple[Tensor, Tensor]:
    """The interval of z in which o + z·d ≤ most for all faces (o, d, most)."""
    low, high = torch.full_like(faces[0][0], -math.inf), torch.full_like(faces[0][0], math.inf)
    for o, d, most in faces:
        d = _safe(d)
        z = (most - o) / d
        high = torch.where(d > 0, torch.minimum(high, z), high)
        low = torch.where(d > 0, low, torch.maximum(low, z))
    return low, high


def _between(low: Tensor, high: Tensor) -> Tensor:
    return torch.where(low <= high, high, -math.inf)


def _safe(d: Tensor) -> Tensor:
    return torch.where(d.abs() < 1e-12, torch.copysign(torch.full_like(d, 1e-12), d), d)


def _slack(z: Tensor) -> float:
    return 32 * torch.finfo(z.dtype).eps
