"""Rulers for four dense answers, fed batch by batch, and one number from all of them.

    semseg, human_parts   mean over classes of #(P ∩ T) / #(P ∪ T), counted over the whole set
    saliency              max over thresholds of the mean over pictures of #(P ∩ T) / #(P ∪ T)
    normals               mean angle, and root mean square angle, in degrees
    all                   Δ_m = (100 / tasks) Σ ± (value - single) / single

as the PASCAL-Context multi-task benchmark counts (Maninis et al. 2019, arXiv 1904.08918; MTLoRA, Agiza et al.
2024, arXiv 2403.20320).  Three of its habits are easily missed: a class that never occurs counts as 0,
saliency picks its best threshold on the very set it is graded on, and the column of normals called rmse holds
the mean angle.  Values do not depend on how pictures are batched, and unknown pixels have no say.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from geolessons.angles import measure
from geolessons.data.dense import IGNORE
from geolessons.multitask_losses import known_normals, known_pixels
from geolessons.trees import wide

__all__ = ["THRESHOLDS", "Absent", "AngleErrors", "MeanIoU", "NormalAngles", "SaliencyIoU", "delta_m"]

Absent = Literal["zero", "left out"]
THRESHOLDS = tuple(i / 20 for i in range(4, 19))  # 0.20, 0.25, …, 0.90


class MeanIoU:
    """Mean intersection over union of classes, from one table of counts for the whole set.

    Args:
        classes: 21 for semseg, 7 for human_parts.

    Attributes:
        counts: Pixels by true class (rows) and predicted class (columns), int64 (classes, classes).

    Raises:
        ValueError: If `classes` is not a whole number from 1 to 255.

    References:
        Everingham et al. 2015, IJCV 111, 98-136.

    Example:
        >>> meter = MeanIoU(3)  # of which the last never occurs
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
        >>> meter.update(logits.reshape(1, 3, 1, 3), torch.tensor([[[0, 1, 255]]]))
        >>> round(meter.compute(), 4), meter.compute(absent="left out")
        (0.6667, 1.0)
    """

    def __init__(self, classes: int) -> None:
        if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= IGNORE:
            raise ValueError(f"classes={classes!r} must be a whole number from 1 to {IGNORE}")
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (n, classes, H, W); a pixel's answer is the class of its largest.
            label: (n, H, W), a class, or 255 where nothing is known.

        Raises:
            TypeError: If `label` is not of whole numbers.
            ValueError: If shapes or labels do not fit, or a logit at a known pixel is not finite.
        """
        # imported here: the package takes seconds to load, with all that it loads
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        known = known_pixels(logits, label, len(self.counts))
        _check_finite(logits, known, "logits")
        if not bool(known.any()):
            return
        found = multiclass_confusion_matrix(
            logits.argmax(1), label, len(self.counts), ignore_index=IGNORE, validate_args=False
        )
        self.counts += found.cpu()

    def per_class(self) -> Tensor:
        """The IoU of each class, float64 (classes,); NaN where it is neither true nor predicted anywhere."""
        both = self.counts.diagonal().double()
        return both / (self.counts.sum(0) + self.counts.sum(1) - both)

    def compute(self, *, absent: Absent = "zero") -> float:
        """The mean over classes, from 0 to 1.

        Args:
            absent: What a class counts for that is neither true nor predicted anywhere: "zero", as in the
                benchmark, or "left out" of the mean.  A class that is predicted and never true is 0 in both.

        Raises:
            ValueError: If no known pixel was seen, or `absent` is neither.
        """
        if absent not in get_args(Absent):
            raise ValueError(f"absent={absent!r} is unknown; it is one of {', '.join(get_args(Absent))}")
        _check_seen(int(self.counts.sum()))
        each = self.per_class()
        return float(each.nan_to_num(0.0).mean() if absent == "zero" else each.nanmean())


class SaliencyIoU:
    """IoU of the salient pixels picture by picture, averaged, at the best of 15 thresholds.

    The threshold is chosen on the set itself, so this is a little above what one fixed beforehand would
    give; `curve` has them all.  A picture without salient pixels, true or predicted, counts as 1; a picture
    without known pixels does not count.

    Attributes:
        pictures: How many counted so far.
        total: Sum of their IoU at each of `THRESHOLDS`, float64 (15,).

    References:
        Maninis et al. 2019, arXiv 1904.08918.

    Example:
        >>> meter, label = SaliencyIoU(), torch.tensor([[[1, 1, 0, 0]]])
        >>> meter.update(torch.tensor([3.0, -1.0, -2.0, -3.0]).reshape(1, 1, 1, 4), label)
        >>> meter.compute()  # sigmoid(-1) is 0.27: right at 0.20 and 0.25
        1.0
        >>> float(meter.curve()[2])  # one of two at 0.30
        0.5
    """

    def __init__(self) -> None:
        self.pictures = 0
        self.total = torch.zeros(len(THRESHOLDS), dtype=torch.float64)

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (n, 1, H, W), also for n = 1; salient where the sigmoid is above the threshold.
            label: (n, H, W), 0, 1, or 255 where nothing is known.

        Raises:
            TypeError: If `label` is not of whole numbers.
            ValueError: If shapes or labels do not fit, or a logit at a known pixel is not finite.
        """
        known = known_pixels(logits, label, 2, channels=1)
        _check_finite(logits, known, "logits")
        counts = known.flatten(1).any(1)  # (n,)
        chance = wide(logits[:, 0]).sigmoid()
        for i, threshold in enumerate(THRESHOLDS):
            says, true = (chance > threshold) & known, label == 1
            both = (says & true).flatten(1).sum(1).double()
            either = (says | true).flatten(1).sum(1)
            iou = torch.where(either > 0, both / either, 1.0)  # (n,)
            self.total[i] += iou[counts].sum().cpu()
        self.pictures += int(counts.sum())

    def curve(self) -> Tensor:
        """The mean IoU at each of `THRESHOLDS`, float64 (15,).

        Raises:
            ValueError: If no known pixel was seen.
        """
        _check_seen(self.pictures)
        return self.total / self.pictures

    def compute(self) -> float:
        """The best mean IoU, from 0 to 1.

        Raises:
            ValueError: If no known pixel was seen.
        """
        return float(self.curve().max())


class AngleErrors(NamedTuple):
    """Errors of normals in degrees, over `valid` known pixels.

    `mean_angle_deg` is what the benchmark's papers print, though their code calls it rmse.  `rmse_deg` is the
    root of the mean squared angle: never below the mean, and equal if all angles are.
    """

    mean_angle_deg: float
    rmse_deg: float
    valid: int


class NormalAngles:
    """Angles between predicted and true normals, over the known pixels of the whole set.

    A prediction of length 0 has no direction and counts as 90°: neither right nor wrong.

    References:
        MTLoRA's evaluation code (scale-lab/MTLoRA) sets "rmse" to the sum of angles over their number.

    Example:
        >>> meter, label = NormalAngles(), torch.zeros(1, 3, 1, 3)
        >>> label[0, 2, 0, :2] = 1  # towards the viewer, and one unknown
        >>> meter.update(torch.tensor([[0.0, 1, 1], [0, 0, 0], [5, 0, 0]]).reshape(1, 3, 1, 3), label)
        >>> mean, rmse, valid = meter.compute()  # 0° and 90°
        >>> round(mean, 2), round(rmse, 2), valid
        (45.0, 63.64, 2)
    """

    def __init__(self) -> None:
        self._sum = self._sum_of_squares = 0.0
        self._valid = 0

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: (n, 3, H, W), of any length.
            label: (n, 3, H, W), zero where unknown.

        Raises:
            ValueError: If shapes do not fit, or a prediction at a known pixel is not finite.
        """
        known = known_normals(prediction, label)
        _check_finite(prediction, known, "prediction")
        if not bool(known.any()):
            return
        # a row a pixel; arccos of the product would round small angles to nothing
        found = measure(*(wide(x.movedim(1, -1)[known]) for x in (prediction, label)))
        angles = found.omega.where(~found.zero0, math.pi / 2).rad2deg()
        self._sum += float(angles.sum())
        self._sum_of_squares += float(angles.square().sum())
        self._valid += len(angles)

    def compute(self) -> AngleErrors:
        """Mean angle and root mean square angle.

        Raises:
            ValueError: If no known pixel was seen.
        """
        _check_seen(self._valid)
        return AngleErrors(
            self._sum / self._valid, math.sqrt(self._sum_of_squares / self._valid), self._valid
        )


def delta_m(
    values: Mapping[str, float], single: Mapping[str, float], lower_is_better: Collection[str]
) -> float:
    """Mean relative change over tasks against single-task values, in %; above 0 is better.

    Each task counts the same, so a percent of an angle weighs as much as a percent of an IoU.  A task left
    out of `lower_is_better` by mistake turns the sign of its part, and nothing tells: so it has no default.

    Args:
        values: Task to value.
        single: Task to the value of a network trained for it alone; above 0.
        lower_is_better: Tasks whose values are errors, such as ("normals",).

    Raises:
        ValueError: If the tasks differ or there are none, one of `lower_is_better` is not among them, a value
            is not finite, or a single-task value is not above 0.

    References:
        Maninis et al. 2019, arXiv 1904.08918.

    Example:
        >>> single = {"semseg": 50.0, "normals": 20.0}
        >>> delta_m({"semseg": 55.0, "normals": 21.0}, single, lower_is_better=("normals",))  # +10 %, -5 %
        2.5
    """
    if isinstance(lower_is_better, str):
        raise ValueError(f"lower_is_better={lower_is_better!r} must be a collection: ({lower_is_better!r},)")
    if not values or values.keys() != single.keys():
        raise ValueError(
            f"values has {', '.join(values) or 'no task'}, single {', '.join(single) or 'no task'}; they "
            "must be the same, one or more"
        )
    if unknown := [task for task in lower_is_better if task not in values]:
        raise ValueError(f"lower_is_better has {', '.join(unknown)}; the tasks are {', '.join(values)}")
    for name, figures in (("values", values), ("single", single)):
        for task, figure in figures.items():
            if not math.isfinite(figure):
                raise ValueError(f"{name}[{task!r}] is {figure}; it must be finite")
            if name == "single" and figure <= 0:
                raise ValueError(f"single[{task!r}] is {figure}; a change relative to it needs it above 0")
    changes = [
        (-1 if task in lower_is_better else 1) * (value - single[task]) / single[task]
        for task, value in values.items()
    ]
    return 100 * math.fsum(changes) / len(changes)


def _check_seen(count: int) -> None:
    if not count:
        raise ValueError("no known pixel was seen: call update with labels that are not all unknown first")


def _check_finite(prediction: Tensor, known: Tensor, name: str) -> None:
    """A comparison with NaN is an answer, so a network that has diverged would get a grade."""
    if bool((known & ~prediction.isfinite().all(1)).any()):
        raise ValueError(f"{name} is not finite at a known pixel")
