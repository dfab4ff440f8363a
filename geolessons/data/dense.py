"""What a picture with four dense answers is: one form for rendered scenes and for photographs.

    image        (3, H, W)  float32 in [0, 1]
    semseg       (H, W)     int64, a class per pixel
    human_parts  (H, W)     int64, 0 where there is no person, else 1 to 6 as in PARTS
    saliency     (H, W)     int64, 1 on what the eye goes to, else 0
    normals      (3, H, W)  float32, unit vectors (x right, y up, z to the viewer)

255 (IGNORE) in a label, and the zero vector in `normals`, say that nothing is known there: such pixels never
change a loss or a metric.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from torch import Tensor

__all__ = ["IGNORE", "PARTS", "TASKS", "Dense", "Task"]

Task = Literal["semseg", "human_parts", "saliency", "normals"]
TASKS: tuple[Task, ...] = get_args(Task)
IGNORE = 255
PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")


class Dense(NamedTuple):
    """A picture, or a batch of them (a leading axis n), with its four answers."""

    image: Tensor
    semseg: Tensor
    human_parts: Tensor
    saliency: Tensor
    normals: Tensor
