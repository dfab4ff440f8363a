"""People built of solids: 18 capsules and balls each, posed by joint angles.

    direction = R_heading·(side·sin a, −cos a·cos b, cos a·sin b)     of a limb: a sideways, b forwards

A forearm and a shin add their joint's bend to the limb that they hang on.  Lengths are of a person 1.75 tall.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geolessons.data.solids import KINDS, Solids

__all__ = ["JOINTS", "PARTS_OF_PERSON", "POSES", "WORN", "person"]

# on the left and on the right; a limb whose angles are 0 hangs straight down
JOINTS = ("arm out", "arm forward", "elbow out", "elbow forward", "leg out", "leg forward", "knee")

# left and right, each in the order of JOINTS, in degrees
_STAND = [10, 4, 4, 12, 5, 0, 0]
POSES = {
    "stand": (_STAND, _STAND),
    "stride": ([12, 32, 0, 40, 4, -24, 22], [12, -34, 0, 32, 4, 28, 8]),
    "wave": ([104, 0, 62, 0, 6, 0, 0], [14, 0, 8, 20, 6, 0, 0]),
    "cheer": ([140, 0, 16, 0, 14, 0, 0], [140, 0, 16, 0, 14, 0, 0]),
    "star": ([98, 0, 8, 0, 30, 0, 0], [98, 0, 8, 0, 30, 0, 0]),
    "hips": ([52, -8, -96, 0, 10, 0, 0], [52, -8, -96, 0, 10, 0, 0]),
    "point": ([18, 0, 4, 14, 6, 0, 0], [72, 34, 14, 0, 8, 4, 0]),
    "kick": ([50, -20, 12, 0, 6, -6, 10], [42, 30, 10, 20, 10, 58, 12]),
}

# the solids of a person in their order: the part that each belongs to, and what it wears
_ONE_SIDE = [(3, "shirt"), (4, "sleeve"), (4, "skin"), (5, "trousers"), (6, "shin"), (6, "shoe")]
_MIDDLE = [(1, "skin"), (1, "hair"), (1, "eye"), (1, "eye"), (2, "shirt"), (5, "trousers")]
_SOLIDS = [*_MIDDLE, *_ONE_SIDE, *_ONE_SIDE]
PARTS_OF_PERSON = tuple(part for part, _ in _SOLIDS)
WORN = tuple(worn for _, worn in _SOLIDS)


def person(joints: Tensor, heading: Tensor, where: Tensor, height: Tensor) -> Solids:
    """The solids of people who stand on the ground y = 0.

    Args:
        joints: (n, p, 2, 7) angles in radians, left and right, as `JOINTS` names them.
        heading: (n, p) in radians; 0 looks along z, π/2 along x.
        where: (n, p, 2), x and z.
        height: (n, p), of them when they stand.

    Returns:
        (n, p·18) solids, a person's after each other.
    """
    out, fore, elbow_out, elbow, leg_out, leg, knee = joints.unbind(-1)  # (n, p, 2)
    side = torch.tensor([-1.0, 1.0], dtype=joints.dtype)
    zero = torch.zeros_like(out)

    def at(x: Tensor | float, y: float, z: float) -> Tensor:
        return torch.stack([zero + x, zero + y, zero + z], -1)

    def along(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([side * a.sin(), -a.cos() * b.cos(), a.cos() * b.sin()], -1)

    shoulder, hip = at(side * 0.215, 1.25, 0), at(side * 0.1, 0.82, 0)  # (n, p, 2, 3)
    elbow_at = shoulder + 0.27 * along(out, fore)
    forearm = along(out + elbow_out, fore + elbow)
    hand = elbow_at + 0.25 * forearm
    knee_at = hip + 0.37 * along(leg_out, leg)
    shin = along(leg_out, leg - knee)
    ankle = knee_at + 0.37 * shin
    toes = torch.linalg.cross(shin, at(side.abs(), 0, 0))  # at right angles to the shin, forwards
    toes = torch.nn.functional.normalize(toes, dim=-1)
    middle = torch.zeros_like(hip[..., 0, :])
    head, chest, belly = (middle + torch.tensor([0, y, 0.0]).to(middle) for y in (1.58, 1.2, 0.98))
    hair = head + torch.tensor([0, 0.055, -0.045]).to(head)
    waist = hip + torch.tensor([0, 0.04, 0]).to(hip)
    eyes = head[..., None, :] + at(side * 0.07, 0.02, 0.172)
    parts = [
        _ball(head, 0.19),
        _ball(hair, 0.195),
        *(_ball(eyes[..., i, :], 0.026) for i in range(2)),
        _capsule(belly, chest, 0.185, 0.135),
        _capsule(waist[..., 0, :], waist[..., 1, :], 0.115),
    ]
    for i in range(2):
        a, b, c, d, e, f = (v[..., i, :] for v in (shoulder, elbow_at, hand, hip, knee_at, ankle))
        parts += [_capsule(a, b, 0.082), _capsule(b, c, 0.066), _ball(c + 0.03 * forearm[..., i, :], 0.082)]
        parts += [_capsule(d, e, 0.105), _capsule(e, f, 0.086)]
        shoe = f + 0.03 * shin[..., i, :]
        parts += [_capsule(shoe, shoe + 0.1 * toes[..., i, :], 0.09)]
    centre = torch.stack([p[0] for p in parts], -2)  # (n, p, 18, 3)
    axes = torch.stack([p[1] for p in parts], -3)
    half = torch.stack([p[2] for p in parts], -1)
    kind = torch.tensor([KINDS.index("capsule" if p[3] else "ball") for p in parts]).expand(half.shape)
    # the lowest point of a shoe touches the ground
    shoes = [i for i, worn in enumerate(WORN) if worn == "shoe"]
    tips = half[..., shoes, None] * axes[..., shoes, 1, 2:]
    low = centre[..., shoes, 1] - tips.abs()[..., 0] - 0.09
    scale = (height / 1.75)[..., None]
    lift = torch.stack([torch.zeros_like(scale[..., 0]), -low.amin(-1), torch.zeros_like(scale[..., 0])], -1)
    turn = _about_y(heading)[..., None, :, :]
    place = torch.stack([where[..., 0], torch.zeros_like(heading), where[..., 1]], -1)
    centre = (turn @ (centre + lift[..., None, :])[..., None])[..., 0]
    centre = scale[..., None] * centre + place[..., None, :]
    axes = scale[..., None, None] * (turn @ axes)
    return Solids(kind.flatten(1, 2), centre.flatten(1, 2), axes.flatten(1, 2), half.flatten(1, 2))


def _about_y(angle: Tensor) -> Tensor:
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = [[c, zero, s], [zero, zero + 1, zero], [-s, zero, c]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


_Part = tuple[Tensor, Tensor, Tensor, bool]


def _ball(centre: Tensor, radius: float) -> _Part:
    axes = radius * torch.eye(3, dtype=centre.dtype).expand(*centre.shape, 3)
    return centre, axes, torch.zeros_like(centre[..., 0]), False


def _capsule(start: Tensor, end: Tensor, radius: float, depth: float | None = None) -> _Part:
    """From start to end; `depth` makes it flatter from front to back."""
    length = (end - start).norm(dim=-1)
    third = (end - start) / length[..., None]
    # a body's front is z; a limb along z takes x instead
    x, _, z = torch.eye(3).to(third)
    front = torch.where(third[..., 2:].abs() < 0.9, z, x)
    first = torch.nn.functional.normalize(torch.linalg.cross(third, front), dim=-1)
    second = torch.linalg.cross(third, first)
    axes = torch.stack([radius * first, (depth or radius) * second, radius * third], -1)
    return (start + end) / 2, axes, length / (2 * radius), True
