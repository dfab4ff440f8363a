"""Two processes train what one would: adapters under DistributedDataParallel and FSDP2, on the CPU."""

import copy
import datetime
import time
import warnings

import pytest
import torch
from cases import DOUBLE, drawn, moved, of, rows, velocity
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

from geolessons.adapters import LoRA
from geolessons.attaching import adapted_layers, attach, detach, effective_weights, merge_
from geolessons.geodesics import GeodesicLoRA, RampedLoRA, set_t
from geolessons.io import save

gloo = distributed.is_available() and distributed.is_gloo_available()
pytestmark = pytest.mark.skipif(not gloo, reason="this build of torch cannot run processes on the CPU")

STEPS, WIDTH = 4, 8
SCHEDULED = ("ramped", "geodesic")  # their t is moved before each step
CASES = {
    "lora": of(LoRA),
    "ramped": of(RampedLoRA, t=0.0),
    "geodesic": of(GeodesicLoRA, t=0.0, scope="row"),
    "geodesic-exact": of(GeodesicLoRA, t=0.4, detach_angle=False, norm_mode="direction_geometric"),
    "velocity": velocity(reference="uniform", normalise=True, steps=2),
    "rows": rows(of(GeodesicLoRA, t=0.5)),
    "rows-velocity": rows(velocity()),
}
RUNS = [(kind, case) for kind in ("ddp", "fsdp") for case in CASES]
APART = "fsdp, adapters apart"
RUNS += [(APART, case) for case in ("geodesic-exact", "rows-velocity")]
X = torch.randn(6, 4, 5, generator=drawn(1), dtype=DOUBLE)
Y = torch.randn(6, 4, 3, generator=drawn(2), dtype=DOUBLE)


class Block(nn.Module):
    """Attention and a perceptron; as in torchvision's Swin, `qkv` is not called, only its weight is read."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        qkv = F.linear(self.norm(x), self.qkv.weight, self.qkv.bias)
        x = x + self.proj(F.scaled_dot_product_attention(*qkv.chunk(3, -1)))
        return x + self.down(F.gelu(self.up(x)))


def plain():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, WIDTH), Block(), Block(), nn.Linear(WIDTH, 3)).double()


def network(case, kind="", seed=0):
    """A small transformer with adapters that are off zero; its norms are trained besides."""
    model, g = plain(), drawn(seed)
    attach(model, ["0", "?.qkv", "?.up"], lambda _, W: CASES[case](W.shape, g, W.dtype), train="*norm*")
    if kind == APART:
        model.float()
        for layer in adapted_layers(model).values():
            layer.adapter.double()
    return moved(model, seed)


def outputs(model, part=slice(None)):
    return model(X[part].to(next(p.dtype for p in model.parameters())))


def train(model, case, part):
    """A few steps on some of the batch; the names of the parameters that had a gradient."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for step in range(STEPS):
        if case in SCHEDULED:
            set_t(model, (step + 1) / STEPS)
        optimizer.zero_grad()
        y = outputs(model, part)
        F.mse_loss(y, Y[part].to(y.dtype)).backward()
        optimizer.step()
    return [name.removeprefix("module.") for name, p in model.named_parameters() if p.grad is not None]


# what each of the two processes runs


def wrap(model, kind):
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.nn.parallel import DistributedDataParallel

    if kind == "ddp":
        return DistributedDataParallel(model)
    if kind == APART:  # each adapter is a group of its own: only so can it have another dtype than its layer
        for layer in adapted_layers(model).values():
            fully_shard(layer.adapter)
            for method in ("linear", "weight"):
                register_fsdp_forward_method(layer.adapter, method)
    for block in (model[1], model[2], model):
        fully_shard(block)
    return model


def one_run(kind, case, half):
    from torch.distributed.checkpoint import state_dict as gathered

    whole = gathered.StateDictOptions(full_state_dict=True)
    model = wrap(network(case, kind), kind)
    grads = train(model, case, half)
    with torch.no_grad():
        y = outputs(model)
    state = gathered.get_model_state_dict(model, options=whole)
    found = {"grads": grads, "y": y, "state": {k.removeprefix("module."): v for k, v in state.items()}}
    if kind == "fsdp":
        found["shards"] = [p.to_local().numel() / p.numel() for p in model.parameters()]
        found["point"] = {name: W.full_tensor() for name, W in effective_weights(model).items()}
        other = wrap(network(case, kind, seed=5), kind)
        gathered.set_model_state_dict(other, state, options=whole)
        found["again"] = outputs(other).detach()
    return found


def refusals(folder):
    """What is said to calls that cannot work on a model spread over processes."""

    def said(call, model):
        try:
            call(model)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    def sharded():
        return wrap(network("lora"), "fsdp")

    def broken():
        model = network("velocity")
        with torch.no_grad():
            model[2].up.base_weight[-1, -1] = torch.nan
        return wrap(model, "fsdp")

    def late(model):
        attach(model, "*.qkv", lambda _, W: CASES["lora"](W.shape, drawn(0)))

    return {
        "attach, ddp": said(late, wrap(plain(), "ddp")),
        "attach, fsdp": said(late, wrap(plain(), "fsdp")),
        "detach": said(detach, sharded()),
        "merge_": said(merge_, sharded()),
        "save": said(lambda model: save(model, folder / "x"), sharded()),
        "run": said(lambda model: model(X), broken()),
    }


def rank_main(rank, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # a plain nn.Linear's too
    meet, patience = f"file://{folder}/meet", datetime.timedelta(seconds=240)
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=patience)
    half = slice(3 * rank, 3 * rank + 3)
    found = {(kind, case): one_run(kind, case, half) for kind, case in RUNS}
    torch.save(found | {"refusals": refusals(folder)}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the two processes found; they are killed if they do not end."""
    folder = tmp_path_factory.mktemp("ranks")
    running = multiprocessing.spawn(rank_main, (folder,), 2, join=False)
    end = time.monotonic() + 300
    try:
        while not running.join(timeout=1):
            assert time.monotonic() < end, "the two processes wait for each other"
    finally:
        for process in running.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    """The same steps in one process on the whole batch: (start, model, names of the gradients)."""

    def run(kind, case):
        model = network(case, kind)
        start = copy.deepcopy(model.state_dict())
        return start, model, train(model, case, slice(None))

    return {key: run(*key) for key in RUNS}


every = pytest.mark.parametrize("key", RUNS, ids=[f"{kind}-{case}" for kind, case in RUNS])


def close(found, true, key):
    tol = 1e-5 if key[0] == APART else 1e-12  # APART computes in float32
    torch.testing.assert_close(found, true, rtol=tol, atol=tol)


@every
def test_two_processes_train_what_one_would(key, ranks, alone):
    start, model, grads = alone[key]
    true = model.state_dict()
    moved = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(".adapter." in n or ".norm." in n for n in moved)
    for found in (rank[key] for rank in ranks):
        assert found["grads"] == grads == [n for n, p in model.named_parameters() if n in moved]
        state = found["state"]
        assert list(state) == list(start)
        close(state, dict(true), key)
        held = [n for n in state if n not in moved and not n.endswith(".t")]
        assert len(held) == 20  # weight and bias of ten layers
        assert all(torch.equal(state[n], start[n]) for n in held)
        assert not any(torch.equal(state[n], start[n]) for n in moved)
        close(found["y"], outputs(model).detach(), key)
    assert all(torch.equal(W, ranks[1][key]["state"][n]) for n, W in ranks[0][key]["state"].items())


@every
def test_the_gathered_state_is_a_model_in_one_process(key, ranks):
    found = ranks[0][key]
    model = network(key[1], key[0], seed=9)
    assert not torch.allclose(outputs(model), found["y"])
    model.load_state_dict(found["state"])
    close(outputs(model).detach(), found["y"], key)
    y = outputs(model)
    merge_(model)
    close(outputs(model), y.detach(), key)


@pytest.mark.parametrize("case", CASES)
def test_sharded_parameters_are_looked_at_and_filled(case, ranks):
    for found in (rank["fsdp", case] for rank in ranks):
        assert all(0.3 < share < 0.7 for share in found["shards"])
        torch.testing.assert_close(found["again"], found["y"], rtol=1e-12, atol=1e-12)
        model = network(case)
        model.load_state_dict(found["state"])
        point = effective_weights(model)
        assert list(found["point"]) == list(point)
        torch.testing.assert_close(found["point"], point, rtol=1e-12, atol=1e-12)


def test_what_cannot_work_is_refused(ranks):
    """A call that would leave processes untied, or a model that no longer runs, says what to do instead."""
    for said in (rank["refusals"] for rank in ranks):
        for what, who in {"ddp": "DistributedDataParallel", "fsdp": "DTensor, FSDPModule"}.items():
            start = f"ValueError: the model is spread over processes ({who})"
            assert said[f"attach, {what}"].startswith(start)
            assert said.pop(f"attach, {what}").endswith("attach first, then wrap it")
        assert said.pop("run") == "ValueError: W0 has NaN or infinite entries"
        for what in ("detach", "merge_", "save"):
            assert "in shards (DTensor, FSDPModule): gather its state_dict" in said.pop(what)
        assert not said
