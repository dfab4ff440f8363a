"""The numbered checks on velocity fields, V1 to V12, and the claims of page 2B, V16 to V18."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from geolessons.adapters import LoRA
from geolessons.attaching import attach, merge_
from geolessons.fields import ConstantField, SoftmaxField, integrate
from geolessons.models import mlp
from geolessons.studies.record import read
from geolessons.velocity import VelocityLoRA

DOUBLE = torch.float64
RESULTS = Path(__file__).parents[2] / "book" / "results"


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frozen(d: int, k: int, seed: int = 0, std: float = 0.02) -> Tensor:
    """A weight of the usual size, float64."""
    return std * torch.randn(d, k, generator=draw(seed), dtype=DOUBLE)


def field_at(W: Tensor, rank: int, spread: float, seed: int = 0) -> SoftmaxField:
    """A field whose logits at W have the given standard deviation."""
    field = SoftmaxField(tuple(W.shape), rank, generator=draw(100 + seed), dtype=W.dtype)
    with torch.no_grad():
        field.W1.mul_(spread / field.logits(W).std())
    return field


def times(P: Tensor, Q: Tensor) -> tuple[int, ...] | None:
    """The shape of a product, if there is one."""
    try:
        return tuple((P @ Q).shape)
    except RuntimeError:
        return None


@pytest.mark.claim(
    "V1",
    paper="DELoRA",
    source="DELoRA, Eq. 7",
    expected="a shape error as printed; one arrangement fits",
)
def test_eq_7_as_printed_has_no_value(measured) -> None:
    """The field softmax((W2·W)(W·W1)ᵀ/√d) gives each weight a velocity."""
    fitting = []
    for d, k, r in ((12, 10, 3), (12, 12, 3)):
        W, W1, W2 = (torch.ones(s) for s in ((d, k), (k, r), (r, d)))
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            (W2 @ W) @ (W @ W1).T
        factors = {"W2·W": W2 @ W, "W·W1": W @ W1, "(W2·W)ᵀ": (W2 @ W).T, "(W·W1)ᵀ": (W @ W1).T}
        arrangements = [(a, b) for a, b in itertools.permutations(factors, 2) if ("W2" in a) != ("W2" in b)]
        assert len(arrangements) == 8
        if d != k:  # else a transpose would pass for W
            fitting = [(a, b) for a, b in arrangements if times(factors[a], factors[b]) == (d, k)]
        field = SoftmaxField((d, k), r, generator=draw(0))
        assert field.logits(W).shape == field(W).shape == (d, k)
        torch.testing.assert_close(field.logits(W), (W @ field.W1) @ (field.W2 @ W) / math.sqrt(d))
    assert fitting == [("W·W1", "W2·W")]
    measured(
        "a shape error, for square W too; of the eight arrangements one has the shape of W: (W·W1)(W2·W)",
        verdict="does not hold here",
    )


@pytest.mark.claim(
    "V2",
    paper="ours",
    source="ours, on DELoRA, Eq. 7",
    expected="row sums 1 to 1e-12; entries above 0 for logits of spread 5 or less, float64",
)
def test_the_field_only_raises_weights(measured) -> None:
    """For all parameters the field raises every weight, and each row by 1 in total."""
    rows, along, least = 0.0, 0.0, math.inf
    for seed, spread in itertools.product(range(5), (1e-4, 0.05, 1.0, 5.0, 50.0, 1000.0)):
        W = frozen(48, 64, seed)
        field = field_at(W, 8, spread, seed)
        v = field(W).detach()
        rows = max(rows, float((v.sum(1) - 1).abs().max()))
        along = max(along, float(((integrate(field, W).detach() - W).sum(1) - 1).abs().max()))
        assert float(v.min()) >= 0
        if spread <= 5:
            least = min(least, float(v.min()))
    assert max(rows, along) < 1e-12
    assert least > 0
    zero = float((v == 0).double().mean())
    assert zero > 0
    measured(
        "row sums 1 to 1e-12; every entry above 0 for logits of spread 5 or less, "
        "some round to 0 at 1000; float64"
    )


@pytest.mark.claim(
    "V3", paper="ours", source="ours, on DELoRA, Eq. 7", expected="√(d/k) − 1e-5 ≤ ‖v‖ ≤ √d + 1e-5"
)
def test_the_length_of_the_field_is_bounded_on_both_sides(measured) -> None:
    """The length of the field lies between √(d/k) and √d, whatever its parameters are."""
    lengths = []
    d, k = 48, 64
    for seed, spread in itertools.product(range(5), (0.0, 1e-4, 0.05, 0.5, 1.0, 5.0, 50.0, 1e4, 1e6)):
        W = frozen(d, k, seed)
        lengths.append(float(field_at(W, 8, spread, seed)(W).detach().norm()))
    low, high = math.sqrt(d / k), math.sqrt(d)
    assert low - 1e-5 <= min(lengths)
    assert max(lengths) <= high + 1e-5
    measured(
        f"from {min(lengths) / low:.4f}·√(d/k) to {max(lengths) / high:.4f}·√d, "
        "logits with a spread of 0 to 10⁶, float64"
    )


@pytest.mark.claim(
    "V4",
    paper="DELoRA",
    source="DELoRA, Eq. 7",
    expected="as many numbers as LoRA's; an update of higher rank than the parameters",
)
def test_the_parameters_are_few_and_the_update_is_not_low_rank(measured) -> None:
    """The field is a low-rank parameterisation: r·(d + k) numbers, as many as LoRA's."""
    shapes = ((64, 64), (128, 64), (10, 128), (96, 288), (768, 96), (8, 8))
    for (d, k), r in itertools.product(shapes, (1, 4, 8)):
        field, lora = SoftmaxField((d, k), r, generator=draw(0)), LoRA((d, k), r, generator=draw(0))
        counts = [sum(p.numel() for p in module.parameters()) for module in (field, lora)]
        assert counts == [r * (d + k)] * 2
    values = read(RESULTS / "pushes.json")
    assert {values[f"lora.{layer}.rank"]["high"] for layer in ("fc1", "fc2", "fc3")} == {8}
    trained = [values[f"literal.{layer}.rank"]["each"] for layer in ("fc1", "fc2", "fc3")]
    assert min(map(min, trained)) > 8
    measured(
        f"r·(d + k) numbers at {len(shapes)} shapes; the trained updates of our network, r = 8, have rank "
        f"{trained[0][0]:.0f} of 64, {min(trained[1]):.0f} to {max(trained[1]):.0f} of 128 and "
        f"{trained[2][0]:.0f} of 10, LoRA's have 8, singular values above 10⁻⁶ of the largest; n = 5",
        verdict="within limits",
        limits="the parameters are of low rank, the update is not",
    )


@pytest.mark.claim(
    "V5", paper="ours", source="ours, on DELoRA, Eq. 7", expected="the same field to 1e-5, float32"
)
def test_only_the_product_of_the_parameters_counts(measured) -> None:
    """The parameters (W1·R, R⁻¹·W2) give the same field for every invertible R."""
    worst = {}
    for dtype, seed in itertools.product((torch.float32, DOUBLE), range(5)):
        W = frozen(48, 64, seed).to(dtype)
        field, other = field_at(W, 8, 1.0, seed), field_at(W, 8, 1.0, seed)
        R = torch.randn(8, 8, generator=draw(seed), dtype=DOUBLE)
        R = R / torch.linalg.matrix_norm(R, 2) + torch.eye(8, dtype=DOUBLE) * 1.5
        with torch.no_grad():
            other.W1.copy_(field.W1.double() @ R)
            other.W2.copy_(torch.linalg.solve(R, field.W2.double()))
            assert float((other.W1 - field.W1).norm() / field.W1.norm()) > 0.1
            gap = float((other(W) - field(W)).norm() / field(W).norm())
        worst[dtype] = max(worst.get(dtype, 0.0), gap)
    assert worst[torch.float32] < 1e-5
    assert worst[DOUBLE] < 1e-12
    measured("the same to 1e-5 in float32, to 1e-12 in float64")


@pytest.mark.claim(
    "V6",
    paper="ours",
    source="ours, on DELoRA, Eq. 7",
    expected="below 1e-3 of it; centred: no motion, exactly, and a gradient",
)
def test_the_field_starts_uniform(measured) -> None:
    """At its start the field is the constant matrix 1/k, and so does not look at the weight."""
    away = {}
    for C in (96, 192, 384, 768):
        W = frozen(C, C)
        v = SoftmaxField((C, C), 16, generator=draw(100), dtype=DOUBLE)(W).detach()
        away[C] = float((v - 1 / C).norm() / torch.full_like(v, 1 / C).norm())
    assert max(away.values()) < 1e-3
    measured(f"{away[96]:.1e} of it away at width 96, {away[768]:.1e} at 768")

    W = frozen(96, 96)
    field = SoftmaxField((96, 96), 16, reference="uniform", zero_init=True, generator=draw(100))
    for start in (W, W.float()):
        assert torch.equal(integrate(field, start), start)
    (integrate(field, W) * frozen(96, 96, 1)).sum().backward()
    assert float(field.W2.grad.norm()) > 0
    assert not field.W1.grad.any()
    measured("with the uniform part taken out and W2 = 0: no motion, exactly, and a gradient on W2")


@pytest.mark.claim(
    "V7",
    paper="ours",
    source="ours, on DELoRA, Eq. 7",
    expected="below 1e-3 after a layer norm, above 0.1 for inputs of mean 1",
)
def test_a_layer_norm_hides_the_start(measured) -> None:
    """At its start the field does not change what a layer makes of normalised inputs."""
    C = 96
    W, x = frozen(C, C), torch.randn(1000, C, generator=draw(7), dtype=DOUBLE)
    v = SoftmaxField((C, C), 16, generator=draw(100), dtype=DOUBLE)(W).detach()
    ratio = {
        name: float((y @ v.T).norm() / (y @ W.T).norm())
        for name, y in (("layer norm", layer_norm(x, (C,))), ("mean 1", x + 1))
    }
    assert ratio["layer norm"] < 1e-3
    assert ratio["mean 1"] > 0.1
    measured(
        f"outputs change by {ratio['layer norm']:.1e} of their size after a layer norm, "
        f"by {ratio['mean 1']:.1f} times their size for inputs of mean 1",
        verdict="within limits",
        limits="inputs of mean zero, as after a layer norm without an affine part",
    )


@pytest.mark.claim(
    "V8", paper="ours", source="ours, on DELoRA, Eq. 7", expected="LoRA's more than 1e3 times larger"
)
def test_the_field_hardly_feels_the_loss_at_its_start(measured) -> None:
    """At its start the field hardly feels the loss: its gradient is a thousand times smaller than LoRA's."""
    ratios = []
    for seed in range(5):
        W, G = frozen(96, 96, seed), torch.randn(96, 96, generator=draw(50 + seed), dtype=DOUBLE)
        lora = LoRA((96, 96), 8, generator=draw(100 + seed), dtype=DOUBLE)
        field = SoftmaxField((96, 96), 8, generator=draw(100 + seed), dtype=DOUBLE)
        for weight in (lora.weight(W), integrate(field, W)):
            (G * weight).sum().backward()  # the same gradient arrives at the weight
        ratios.append(float(lora.B.grad.norm() / field.W1.grad.norm()))
    assert min(ratios) > 1e3
    measured(
        f"the gradient of LoRA's B is {round(min(ratios), -3):,.0f} to {round(max(ratios), -3):,.0f} times "
        "that of W1, "
        "width 96, rank 8, n = 5"
    )


@pytest.mark.claim(
    "V9",
    paper="DELoRA",
    source="DELoRA, Eq. 5 and 6",
    expected="W0 + B·A to 2e-5 in 1, 8, 100 steps, float32",
)
def test_lora_is_a_constant_field(measured) -> None:
    """LoRA is the flow of a constant field, followed for a time of 1."""
    worst = 0.0
    for seed, K in itertools.product(range(5), (1, 8, 100)):
        W = frozen(96, 64, seed).float()
        lora = LoRA((96, 64), 8, generator=draw(seed))
        with torch.no_grad():
            lora.B.normal_(0, 0.1, generator=draw(seed))
            end = integrate(ConstantField(lora.A, lora.B, scale=lora.scale), W, steps=K)
            assert K > 1 or torch.equal(end, lora.weight(W))
            worst = max(worst, float((end - lora.weight(W)).norm() / lora.weight(W).norm()))
            assert float((end - lora.weight(W)).abs().max()) < 2e-5
    assert worst < 2e-5
    measured("the same in one step; to 2e-5 at most in 8 or 100, float32")


def signed(interval: dict, digits: int) -> str:
    """The interval of a share or of a change, in % or points."""
    return " to ".join(f"{100 * interval[end]:.{digits}f}".replace("-", "−") for end in ("low", "high"))


@pytest.mark.claim(
    "V10",
    paper="DELoRA",
    source="DELoRA, Eq. 3",
    expected="more than 20 points lost within ten steps",
)
def test_the_whole_push_at_every_step(measured) -> None:
    """The weights take the whole push of the field at every training step, as Eq. 3 prints it."""
    values = read(RESULTS / "pushes.json")
    rows, whole = ({i: values[f"piled.{axis}.{i}.read"] for i in (1, 5, 10, 50)} for axis in ("rows", "all"))
    before = values["before.upright.read"]
    assert before["low"] - rows[10]["high"] > 0.2
    with_gradient = max(values[f"piled.rows.{lr}.50.read"]["high"] for lr in ("0.01", "0.1"))
    assert with_gradient < 0.25
    assert before["mean"] - whole[50]["mean"] < 0.02
    assert values["piled.all.2000.read"]["high"] < 0.15
    saved = values["piled.all.0.1.500.read"]
    assert saved["low"] > values["before.tilted.read"]["high"]
    alone = values["piled.all.2000.read"]
    measured(
        f"softmax over rows: {100 * before['mean']:.0f} % are read before, "
        f"{100 * rows[1]['mean']:.0f} % after 1 step, {signed(rows[5], 0)} % after 5, "
        f"{100 * rows[50]['mean']:.0f} % after 50, with gradient steps {100 * with_gradient:.0f} % at most; "
        f"over the whole matrix: {100 * whole[50]['mean']:.0f} % after 50, {100 * alone['mean']:.0f} % after "
        f"2,000, and with gradient steps of 0.1 on all weights {signed(saved, 0)} % of the new task after "
        "500; n = 5",
        verdict="within limits",
        limits="softmax over the whole matrix, all weights trained beside it",
    )


@pytest.mark.claim(
    "V11",
    paper="ours",
    source="ours, on DELoRA, Eq. 7",
    expected="rank above r once the logits spread by 0.05; LoRA's at most r",
)
def test_the_change_is_not_of_low_rank(measured) -> None:
    """Parameters of rank r give a change of the weights that is not of rank r, unlike LoRA's."""
    C, r = 96, 8
    start, spread = {}, {}
    for seed in range(3):
        W = frozen(C, C, seed)
        lora = LoRA((C, C), r, generator=draw(seed), dtype=DOUBLE)
        with torch.no_grad():
            lora.B.normal_(generator=draw(seed))
        assert int(torch.linalg.matrix_rank(lora.weight(W).detach() - W, rtol=1e-13)) == r
        for dtype, rtol in ((torch.float32, 1e-6), (DOUBLE, 1e-13)):
            field = SoftmaxField((C, C), r, generator=draw(100 + seed), dtype=dtype)
            v = field(W.to(dtype)).detach()
            start.setdefault(dtype, set()).add(int(torch.linalg.matrix_rank(v, rtol=rtol)))
        for std in (0.05, 0.5, 1.5):
            v = field_at(W, r, std, seed)(W).detach()
            spread.setdefault(std, set()).add(int(torch.linalg.matrix_rank(v)))
            single = field_at(W.float(), r, std, seed)(W.float()).detach()
            assert int(torch.linalg.matrix_rank(single)) > r
    assert start == {torch.float32: {1 + r}, DOUBLE: {1 + r + r * (r + 1) // 2}}
    assert set().union(*spread.values()) == {C}
    measured(
        f"LoRA's update has rank {r}; the field's has {1 + r} in float32 and {1 + r + r * (r + 1) // 2} in "
        f"float64 at its start, and all {C} in float64 once its logits spread by 0.05"
    )


@pytest.mark.claim("V12", paper="DELoRA", source="DELoRA, Table 1", expected="merged forward equals, to 1e-5")
def test_the_merged_weight_answers_in_one_pass(measured) -> None:
    """Inference takes one pass of a plain network: the field is merged into its weights once."""
    g = torch.Generator().manual_seed(0)
    model = mlp((16, 32, 8), g, dtype=torch.float32)
    plain = {name: p.shape for name, p in model.named_parameters()}
    attach(model, "fc*", lambda name, W: VelocityLoRA(W.shape, 4, generator=g))
    x = torch.randn(64, 16, generator=g)
    with torch.no_grad():
        before = model(x)
        merge_(model)
        apart = float((model(x) - before).abs().max() / before.abs().max())
    assert apart < 1e-5
    assert {name: p.shape for name, p in model.named_parameters()} == plain
    assert all(type(m).__module__.startswith("torch.") for m in model.modules())
    measured("answers equal to 1e-5, float32; after merging every layer is a plain one again")


@pytest.mark.claim(
    "V16",
    paper="DELoRA",
    source="DELoRA, Eq. 2",
    expected="a field trained in one step changes when followed in more",
)
def test_one_step_is_not_the_flow(measured) -> None:
    """Fine-tuning follows the flow of the trained velocity field."""
    values = read(RESULTS / "pushes.json")
    said = []
    for name, words in (
        ("literal", "the field"),
        ("centred", "centred"),
        ("normalised", "normalised as well"),
    ):
        change = values[f"{name}.change.read"]
        assert change["n"] == 5
        assert change["high"] < -0.02, "all variants lose, and more than two points"
        assert values[f"{name}.change.loss"]["low"] > 0
        said.append(
            f"{words} {100 * values[f'{name}.1.read']['mean']:.0f} to "
            f"{100 * values[f'{name}.32.read']['mean']:.0f} % "
            f"(change {signed(change, 0)} points)"
        )
    assert abs(values["lora.change.read"]["mean"]) < 1e-12
    four = values["four.after four.read"]
    assert four["low"] < 0 < four["high"]
    measured(
        f"tilted digits, trained with 1 step, followed in 32: {', '.join(said)}; trained with 4 steps, "
        f"followed in 32: change {signed(four, 1)} points; n = 5",
        verdict="within limits",
        limits="LoRA's constant field, and fields trained with several steps",
    )


@pytest.mark.claim(
    "V17",
    paper="DELoRA",
    source="DELoRA, 2.2",
    expected="no constraint in the method",
)
def test_no_manifold_is_constructed(measured) -> None:
    """The weights move on a low-dimensional manifold M, the field being tangent to it."""
    found = []
    for d, k, r in ((6, 5, 1), (6, 5, 2), (5, 6, 2), (8, 8, 3)):
        W = frozen(d, k, std=1.0)
        pushes = torch.stack([field_at(W, r, 3.0, seed)(W).detach().flatten() for seed in range(3 * d * k)])
        found.append((int(torch.linalg.matrix_rank(pushes[1:] - pushes[0])), d * (k - 1)))
    assert all(dimension == allowed for dimension, allowed in found)
    measured(
        "no M is given to test against; over its parameters the pushes at one W span all d·(k − 1) "
        "directions that keep row sums, four shapes",
        verdict="not testable here",
    )


@pytest.mark.claim(
    "V18",
    paper="DELoRA",
    source="DELoRA, text and Table 1",
    expected="the two exclude each other",
)
def test_two_fields_are_two_networks(measured) -> None:
    """Each task has its own velocity field (text), and one forward pass serves all tasks (table)."""
    W = frozen(96, 96)
    first, second = (integrate(field_at(W, 8, 1.0, seed), W).detach() for seed in (0, 1))
    apart = float((first - second).norm() / W.norm())
    assert apart > 0.1
    measured(
        f"two fields make two weights, {apart:.1f} of ‖W₀‖ apart for logits of spread 1, and one pass has "
        "one; we read the table: one field, shared by all tasks (V12)",
        verdict="not testable here",
    )
