"""Losses and rulers of four dense answers: by hand, beside scikit-learn, and what changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import Tensor
from torch.nn import functional as F

from geolessons.data.dense import IGNORE, TASKS, Dense
from geolessons.multitask_losses import (
    LOSS_WEIGHTS,
    balanced_cross_entropy,
    known_normals,
    multitask_loss,
    normals_l1,
    pixel_cross_entropy,
)
from geolessons.multitask_metrics import THRESHOLDS, MeanIoU, NormalAngles, SaliencyIoU, delta_m

DOUBLE = torch.float64
CLASSES = {"semseg": 5, "human_parts": 7, "saliency": 2}
LOSS = {
    "semseg": pixel_cross_entropy,
    "human_parts": pixel_cross_entropy,
    "saliency": balanced_cross_entropy,
    "normals": normals_l1,
}
METER: dict[str, Callable[[], Any]] = {
    "semseg": lambda: MeanIoU(5),
    "human_parts": lambda: MeanIoU(7),
    "saliency": SaliencyIoU,
    "normals": NormalAngles,
}
examples = settings(deadline=None, max_examples=25, derandomize=True)
draws = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(0, 9999))


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(task: str, n: int, H: int, W: int, seed: int, unknown: float = 0.3) -> tuple[Tensor, Tensor]:
    """A prediction and a label with unknown pixels, the first pixel known."""
    g = draw(seed)
    lost = torch.rand(n, H, W, generator=g) < unknown
    lost[0, 0, 0] = False
    if task == "normals":
        p, label = (torch.randn(n, 3, H, W, generator=g, dtype=DOUBLE) for _ in range(2))
        return p, F.normalize(label, dim=1).where(~lost[:, None], 0)
    channels = 1 if task == "saliency" else CLASSES[task]
    label = torch.randint(CLASSES[task], (n, H, W), generator=g)
    return torch.randn(n, channels, H, W, generator=g, dtype=DOUBLE), label.where(~lost, IGNORE)


def known(task: str, prediction: Tensor, label: Tensor) -> Tensor:
    return known_normals(prediction, label) if task == "normals" else label != IGNORE


def figures(task: str, *batches: tuple[Tensor, Tensor]) -> list[float]:
    """All that a meter says."""
    meter = METER[task]()
    for prediction, label in batches:
        meter.update(prediction, label)
    if task == "normals":
        return [*meter.compute()]
    if task == "saliency":
        return [meter.compute(), *meter.curve().tolist(), meter.pictures]
    each = meter.per_class().nan_to_num(-1)
    return [meter.compute(), meter.compute(absent="left out"), *each.tolist()]


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("task", TASKS)
def test_gradients_of_losses_are_right(task: str) -> None:
    prediction, label = case(task, 2, 3, 4, seed=0)
    assert not bool(known(task, prediction, label).all())
    assert torch.autograd.gradcheck(lambda p: LOSS[task](p, label), prediction.requires_grad_())


@pytest.mark.parametrize("task", TASKS)
def test_nothing_known_is_a_loss_of_0_without_gradient(task: str) -> None:
    prediction, label = case(task, 2, 3, 4, seed=0)
    nothing = torch.zeros_like(label) if task == "normals" else torch.full_like(label, IGNORE)
    for fill in (1.0, math.nan):
        p = (prediction * fill).requires_grad_()
        loss = LOSS[task](p, nothing)
        loss.backward()
        assert float(loss.detach()) == 0
        assert not bool(p.grad.any())  # NaN would count as true


def test_cross_entropy_is_the_mean_over_known_pixels() -> None:
    logits, label = case("semseg", 2, 3, 4, seed=1)
    chances = logits.softmax(1)
    terms = [
        -math.log(float(chances[i, int(label[i, y, x]), y, x]))
        for i in range(2)
        for y in range(3)
        for x in range(4)
        if label[i, y, x] != IGNORE
    ]
    assert len(terms) < 24
    assert float(pixel_cross_entropy(logits, label)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_balanced_cross_entropy_by_hand() -> None:
    """Three ones among five known pixels of two pictures: weights 2/5 and 3/5."""
    logits = torch.tensor([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]], dtype=DOUBLE).reshape(2, 1, 1, 3)
    label = torch.tensor([[1, 0, 1], [0, IGNORE, 1]]).reshape(2, 1, 3)
    p = {x: 1 / (1 + math.exp(-x)) for x in (0.5, -1.0, 2.0, 0.0, 1.0)}
    ones = -0.4 * (math.log(p[0.5]) + math.log(p[2.0]) + math.log(p[1.0]))
    zeros = -0.6 * (math.log(1 - p[-1.0]) + math.log(1 - p[0.0]))
    assert float(balanced_cross_entropy(logits, label)) == pytest.approx((ones + zeros) / 5, rel=1e-12)


@examples
@given(st.integers(1, 30), st.integers(1, 30))
def test_both_kinds_of_pixel_pull_alike(ones: int, zeros: int) -> None:
    """At one logit everywhere of 0 the gradients of the two kinds sum to opposite numbers."""
    label = torch.tensor([1] * ones + [0] * zeros).reshape(1, 1, -1)
    logits = torch.zeros(1, 1, 1, ones + zeros, dtype=DOUBLE, requires_grad=True)
    balanced_cross_entropy(logits, label).backward()
    pull = logits.grad[0, 0, 0]
    assert float(pull[:ones].sum()) == pytest.approx(-float(pull[ones:].sum()), rel=1e-12)
    assert float(pull[:ones].sum()) == pytest.approx(-ones * zeros / (2 * (ones + zeros) ** 2), rel=1e-12)


@pytest.mark.parametrize("only", [0, 1])
def test_a_batch_of_one_kind_gives_0(only: int) -> None:
    logits = torch.randn(2, 1, 2, 2, generator=draw(0)).requires_grad_()
    loss = balanced_cross_entropy(logits, torch.full((2, 2, 2), only))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not bool(logits.grad.any())


def test_normals_are_compared_by_direction() -> None:
    prediction, label = case("normals", 2, 3, 4, seed=2)
    seen = known_normals(prediction, label)
    p = prediction / prediction.square().sum(1, keepdim=True).sqrt()
    wanted = float((p - label).abs().movedim(1, -1)[seen].mean())
    assert float(normals_l1(prediction, label)) == pytest.approx(wanted, rel=1e-12)
    lengths = torch.rand(2, 1, 3, 4, generator=draw(3), dtype=DOUBLE) + 0.1
    assert float(normals_l1(lengths * prediction, label)) == pytest.approx(wanted, rel=1e-12)


def test_a_prediction_without_length_has_a_finite_gradient() -> None:
    label = F.normalize(torch.tensor([1.0, -2.0, 2.0]), dim=0).reshape(1, 3, 1, 1)
    p = torch.zeros(1, 3, 1, 1, requires_grad=True)
    loss = normals_l1(p, label)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(5 / 9)
    assert p.grad.flatten().tolist() == pytest.approx([-1 / 3, 1 / 3, -1 / 3])


def batch(seed: int = 0) -> tuple[dict[str, Tensor], Dense]:
    cases = {task: case(task, 2, 3, 4, seed) for task in TASKS}
    labels = {task: label for task, (_, label) in cases.items()}
    return {task: p for task, (p, _) in cases.items()}, Dense(torch.zeros(2, 3, 3, 4), **labels)


def test_the_total_is_the_weighted_sum() -> None:
    assert dict(LOSS_WEIGHTS) == {"semseg": 1, "human_parts": 2, "saliency": 5, "normals": 10}
    predictions, sample = batch()
    total, parts = multitask_loss(predictions, sample)
    alone = {task: float(LOSS[task](p, getattr(sample, task))) for task, p in predictions.items()}
    assert {task: float(part) for task, part in parts.items()} == pytest.approx(alone, rel=1e-12)
    wanted = alone["semseg"] + 2 * alone["human_parts"] + 5 * alone["saliency"] + 10 * alone["normals"]
    assert float(total) == pytest.approx(wanted, rel=1e-12)
    total, parts = multitask_loss({"normals": predictions["normals"]}, sample, {"normals": 3.0})
    assert list(parts) == ["normals"]
    assert float(total) == pytest.approx(3 * alone["normals"], rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    predictions, sample = batch()
    half = {task: p.to(dtype) for task, p in predictions.items()}
    sample = sample._replace(normals=sample.normals.float())
    found, _ = multitask_loss(half, sample)
    wanted, _ = multitask_loss({task: p.float() for task, p in half.items()}, sample)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)


def test_refusals_of_the_total() -> None:
    predictions, sample = batch()
    with pytest.raises(ValueError, match="predictions is empty; it needs one or more of semseg"):
        multitask_loss({}, sample)
    with pytest.raises(ValueError, match="predictions has 'edges', which is not one of"):
        multitask_loss({"edges": predictions["saliency"]}, sample)
    with pytest.raises(ValueError, match="weights has none for 'semseg'; it has saliency"):
        multitask_loss(predictions, sample, {"saliency": 1.0})


@pytest.mark.parametrize("task", TASKS)
def test_refusals_of_shapes_and_labels(task: str) -> None:
    prediction, label = case(task, 2, 3, 4, seed=0)
    for use in (LOSS[task], METER[task]().update):
        for p, q in ((prediction[0], label[0]), (prediction, label[:1]), (prediction.mT, label)):
            with pytest.raises(ValueError, match="must be"):
                use(p, q)
        if task != "normals":
            with pytest.raises(TypeError, match="it must be of whole numbers"):
                use(prediction, label.double())
            for wrong in (CLASSES[task], -1, 254):
                label[1, 2, 3] = wrong
                with pytest.raises(ValueError, match=f"label holds {wrong}; it must be from 0 to"):
                    use(prediction, label)
            label[1, 2, 3] = IGNORE
    with pytest.raises(ValueError, match="must be"):
        METER[task]().update(prediction[:, :0], label)
    if task == "saliency":
        with pytest.raises(ValueError, match=r"\(n, 1, H, W\)"):
            LOSS[task](prediction.expand(-1, 2, -1, -1), label)


# ---------------------------------------------------------------- what changes nothing


@pytest.mark.parametrize("task", TASKS)
@examples
@given(draws, st.data())
def test_batches_and_the_order_of_pixels_change_no_metric(
    task: str, shape: tuple[int, ...], data: st.DataObject
) -> None:
    n, H, W, seed = shape
    prediction, label = case(task, n, H, W, seed)
    wanted = figures(task, (prediction, label))
    cut = data.draw(st.integers(0, n))
    found = figures(task, (prediction[cut:], label[cut:]), (prediction[:cut], label[:cut]))
    assert found == pytest.approx(wanted, abs=1e-12, rel=1e-12)
    order = torch.randperm(H * W, generator=draw(seed))
    mixed = [x.flatten(-2)[..., order].unflatten(-1, (H, W)) for x in (prediction, label)]
    assert figures(task, (mixed[0], mixed[1])) == pytest.approx(wanted, abs=1e-12, rel=1e-12)
    if task != "saliency":  # which is averaged picture by picture: pixels stay in theirs
        row = [torch.cat([*x], -1)[None] for x in (prediction, label)]
        assert figures(task, (row[0], row[1])) == pytest.approx(wanted, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("task", TASKS)
@examples
@given(draws)
def test_the_order_of_pixels_changes_no_loss(task: str, shape: tuple[int, ...]) -> None:
    n, H, W, seed = shape
    prediction, label = case(task, n, H, W, seed)
    order = torch.randperm(H * W, generator=draw(seed))
    mixed = [x.flatten(-2)[..., order].unflatten(-1, (H, W)) for x in (prediction, label)]
    wanted = float(LOSS[task](prediction, label))
    assert float(LOSS[task](mixed[0], mixed[1])) == pytest.approx(wanted, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("task", TASKS)
@examples
@given(draws, st.sampled_from([0.0, 50.0, -1e4, math.inf, math.nan]))
def test_what_is_predicted_at_unknown_pixels_changes_nothing(
    task: str, shape: tuple[int, ...], fill: float
) -> None:
    prediction, label = case(task, *shape, unknown=0.5)
    seen = known(task, prediction, label)[:, None]
    other = prediction.where(seen, fill)
    assert figures(task, (other, label)) == figures(task, (prediction, label))
    gradients = []
    for p in (prediction.clone().requires_grad_(), other.clone().requires_grad_()):
        loss = LOSS[task](p, label)
        loss.backward()
        gradients.append(p.grad)
        assert not bool(p.grad.where(~seen, 0).any())
        assert float(loss.detach()) == pytest.approx(
            float(LOSS[task](prediction, label)), rel=1e-12, abs=1e-14
        )
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pictures", [1, 3])
def test_pictures_without_anything_known_change_nothing(task: str, pictures: int) -> None:
    prediction, label = case(task, 2, 3, 4, seed=5)
    more, _ = case(task, pictures, 3, 4, seed=6)
    blank = torch.zeros(pictures, *label.shape[1:], dtype=label.dtype) + (0 if task == "normals" else IGNORE)
    wanted = figures(task, (prediction, label))
    assert figures(task, (prediction, label), (more, blank)) == wanted
    joined = torch.cat([prediction, more]), torch.cat([label, blank])
    assert figures(task, joined) == pytest.approx(wanted, abs=1e-12)
    assert float(LOSS[task](*joined)) == pytest.approx(float(LOSS[task](prediction, label)), rel=1e-12)
    meter = METER[task]()
    meter.update(more, blank)
    with pytest.raises(ValueError, match="no known pixel was seen"):
        meter.compute()


@pytest.mark.parametrize("task", TASKS)
def test_a_network_that_has_diverged_gets_no_grade(task: str) -> None:
    prediction, label = case(task, 2, 3, 4, seed=5)
    for fill in (math.nan, math.inf):
        prediction[0, 0, 0, 0] = fill
        with pytest.raises(ValueError, match="is not finite at a known pixel"):
            METER[task]().update(prediction, label)


# ---------------------------------------------------------------- rulers


@pytest.mark.parametrize("classes", [5, 9])
def test_mean_iou_beside_scikit_learn_and_torchmetrics(classes: int) -> None:
    """Nine classes, of which 5 is predicted and never true, and 6 to 8 are neither."""
    from torchmetrics.classification import MulticlassJaccardIndex

    g = draw(3)
    logits = torch.randn(4, classes, 6, 7, generator=g)
    logits[:, 6:] = -99
    label = torch.randint(5, (4, 6, 7), generator=g)
    label[:, :2] = IGNORE
    meter, theirs = MeanIoU(classes), MulticlassJaccardIndex(classes, ignore_index=IGNORE)
    for i in range(4):
        meter.update(logits[i : i + 1], label[i : i + 1])
        theirs.update(logits[i : i + 1], label[i : i + 1])
    seen = label != IGNORE
    true, says = label[seen].numpy(), logits.argmax(1)[seen].numpy()
    ids = np.arange(classes)
    assert np.array_equal(meter.counts.numpy(), confusion_matrix(true, says, labels=ids))
    wanted = jaccard_score(true, says, labels=ids, average="macro", zero_division=0)
    assert meter.compute() == pytest.approx(wanted, rel=1e-12)
    present = np.union1d(true, says)
    left_out = jaccard_score(true, says, labels=present, average="macro", zero_division=0)
    assert meter.compute(absent="left out") == pytest.approx(left_out, rel=1e-12)
    assert float(theirs.compute()) == pytest.approx(left_out, rel=1e-6)
    assert int(meter.per_class().isnan().sum()) == max(classes - 6, 0)
    if classes == 9:
        assert float(meter.per_class()[5]) == 0
        assert meter.compute() == pytest.approx(left_out * 6 / 9, rel=1e-12)


def test_labels_of_bytes_count_as_well() -> None:
    logits, label = case("semseg", 2, 3, 4, seed=1)
    assert figures("semseg", (logits, label.to(torch.uint8))) == figures("semseg", (logits, label))
    for task in ("semseg", "saliency"):
        p, q = case(task, 2, 3, 4, seed=1)
        assert float(LOSS[task](p, q.to(torch.uint8))) == float(LOSS[task](p, q))


def test_refusals_of_mean_iou() -> None:
    for classes in (0, 256, True, 2.0):
        with pytest.raises(ValueError, match="must be a whole number from 1 to 255"):
            MeanIoU(classes)
    with pytest.raises(ValueError, match="absent='none' is unknown; it is one of zero, left out"):
        MeanIoU(3).compute(absent="none")


def test_saliency_beside_scikit_learn() -> None:
    logits, label = case("saliency", 6, 5, 5, seed=7)
    label[1], logits[1] = 0, -9  # nothing salient, nothing predicted: 1
    label[2] = 0  # nothing salient, something predicted: 0
    label[3] = IGNORE  # does not count
    label[4], logits[4] = 1, -9  # all salient, nothing predicted: 0
    wanted = []
    for t in range(20, 91, 5):
        each = []
        for p, q in zip(logits[:, 0].sigmoid().numpy(), label.numpy(), strict=True):
            if (seen := q != IGNORE).any():
                each.append(jaccard_score(q[seen], p[seen] > t / 100, zero_division=1))
        wanted.append(np.mean(each))
    meter = SaliencyIoU()
    meter.update(logits, label)
    assert meter.pictures == 5
    assert len(THRESHOLDS) == 15
    assert meter.curve().tolist() == pytest.approx(wanted, rel=1e-12)
    assert meter.compute() == pytest.approx(max(wanted), rel=1e-12)
    assert len(set(wanted)) > 5


def test_a_salient_pixel_is_above_its_threshold() -> None:
    """sigmoid(0) is 1/2, which is not above 0.50."""
    meter = SaliencyIoU()
    meter.update(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, dtype=torch.int64))
    assert meter.curve().tolist() == [float(t < 0.5) for t in THRESHOLDS]


def test_angles_by_hand() -> None:
    """0°, 60°, 90°, 180° at predictions of any length; without length 90°; the last is unknown."""
    s = math.sqrt(3) / 2
    p = torch.tensor([[0, 0, 3], [0, s, 0.5], [9, 0, 0], [0, 0, -1], [0, 0, 0], [1, 0, 0]], dtype=DOUBLE)
    label = torch.tensor([[0.0, 0, 1]] * 5 + [[0, 0, 0]], dtype=DOUBLE)
    meter = NormalAngles()
    meter.update(p.mT.reshape(1, 3, 2, 3), label.mT.reshape(1, 3, 2, 3))
    mean, rmse, valid = meter.compute()
    assert valid == 5
    assert mean == pytest.approx((60 + 90 + 180 + 90) / 5, rel=1e-12)
    assert rmse == pytest.approx(math.sqrt((60**2 + 90**2 + 180**2 + 90**2) / 5), rel=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.01, 45.0, 179.99])
def test_small_and_large_angles_keep_their_digits(degrees: float) -> None:
    a = math.radians(degrees)
    p = torch.tensor([math.sin(a), 0, math.cos(a)], dtype=DOUBLE).reshape(1, 3, 1, 1)
    label = torch.tensor([0, 0, 1.0], dtype=DOUBLE).reshape(1, 3, 1, 1)
    meter = NormalAngles()
    meter.update(p, label)
    assert meter.compute() == pytest.approx((degrees, degrees, 1), rel=1e-9)


@examples
@given(draws)
def test_the_mean_angle_is_never_above_the_rmse(shape: tuple[int, ...]) -> None:
    meter = NormalAngles()
    meter.update(*case("normals", *shape))
    found = meter.compute()
    assert found.mean_angle_deg <= found.rmse_deg * (1 + 1e-14)


# ---------------------------------------------------------------- one number from four

SINGLE = {"semseg": 67.21, "human_parts": 61.93, "saliency": 62.35, "normals": 17.97}


def test_delta_m_by_hand() -> None:
    values = {"semseg": 73.931, "human_parts": 61.93, "saliency": 31.175, "normals": 8.985}
    assert delta_m(values, SINGLE, ("normals",)) == pytest.approx((10 + 0 - 50 + 50) / 4)
    assert delta_m(values, SINGLE, ()) == pytest.approx((10 + 0 - 50 - 50) / 4)
    assert delta_m(SINGLE, SINGLE, {"normals"}) == 0


@examples
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 100)), min_size=1, max_size=6), st.floats(0.01, 99)
)
def test_delta_m_has_no_unit_and_a_sign(pairs: list[tuple[float, float]], unit: float) -> None:
    values = {str(i): v for i, (v, _) in enumerate(pairs)}
    single = {str(i): s for i, (_, s) in enumerate(pairs)}
    found = delta_m(values, single, ())
    assert delta_m(values, single, values) == pytest.approx(-found, rel=1e-9, abs=1e-9)
    scaled = ({task: unit * x for task, x in d.items()} for d in (values, single))
    assert delta_m(*scaled, ()) == pytest.approx(found, rel=1e-9, abs=1e-7)


@pytest.mark.parametrize(
    ("values", "single", "lower", "message"),
    [
        ({}, {}, (), "values has no task, single no task; they must be the same"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, (), "values has a, single a, b; they must be the same"),
        ({"a": 1.0, "b": 2.0}, {"a": 1.0}, (), "values has a, b, single a; they must be the same"),
        ({"a": 1.0}, {"a": 0.0}, (), r"single\['a'\] is 0.0; a change relative to it needs it above 0"),
        ({"a": 1.0}, {"a": -1.0}, (), "needs it above 0"),
        ({"a": math.nan}, {"a": 1.0}, (), r"values\['a'\] is nan; it must be finite"),
        ({"a": 1.0}, {"a": math.inf}, (), r"single\['a'\] is inf; it must be finite"),
        ({"a": 1.0}, {"a": 1.0}, ("b",), "lower_is_better has b; the tasks are a"),
        ({"a": 1.0}, {"a": 1.0}, "a", "must be a collection"),
    ],
)
def test_refusals_of_delta_m(values: Any, single: Any, lower: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delta_m(values, single, lower)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_normals_that_are_no_numbers_are_refused_as_labels(bad):
    label = torch.zeros(1, 3, 2, 2)
    label[0, 1, 0, 0] = bad
    with pytest.raises(ValueError, match="label holds NaN or infinity"):
        NormalAngles().update(torch.ones(1, 3, 2, 2), label)
    with pytest.raises(ValueError, match="label holds NaN or infinity"):
        normals_l1(torch.ones(1, 3, 2, 2), label)
