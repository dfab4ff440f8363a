"""Checkpoints: a run that ends at any moment goes on bit for bit; what is damaged or another's is refused."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, TensorDataset

from geolessons import checkpoints
from geolessons.seeding import seeded
from geolessons.training import fit, read_in_batches


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("processes.py"),
            "killed",
            tmp_path_factory.mktemp("killed"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=180,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_run_killed_anywhere_in_a_checkpoints_writing_ends_at_the_same_weights(killed):
    assert set(killed["writing"]) == {killed["undisturbed"]}
    assert len(killed["writing"]) >= 12
    three, six, nine = (f"step-0000000{i}" for i in (3, 6, 9))
    seen = {tuple(left) for left in killed["left"]}
    assert seen == {(three, six), (three, six, nine + ".writing"), (three, six, nine), (six, nine)}


def test_a_run_killed_at_any_time_again_and_again_ends_at_the_same_weights(killed):
    assert killed["anytime"] == [killed["undisturbed"]] * 2


def order(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


X = torch.randn(22, 3, generator=order(1))
DATA = TensorDataset(X, X[:, :1] * X[:, 1:2])


def squares(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


class Net(nn.Module):
    """All that a checkpoint has to hold: dropout, averages, a tied weight that is not contiguous."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        with seeded(0):
            self.a, self.b = nn.Linear(3, width), nn.Linear(width, 3)
            self.a.weight = nn.Parameter(torch.randn(3, width).T)
            self.a_again = nn.Linear(3, width, bias=False)
            self.a_again.weight = self.a.weight
            self.norm, self.dropout, self.last = nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(width, 1)

    def forward(self, x):
        x = x + self.norm(self.b(self.dropout(self.a(x).tanh())))
        return self.last(self.a_again(x))


class Stop(Exception):
    pass


def run(
    folder, *, stop=None, net=Net, loader=None, make=None, schedule=True, mend=lambda parts: None, **options
):
    """12 steps, 6 an epoch; all that may be compared of how they end."""
    model = net()
    optimiser = (make or (lambda p: torch.optim.AdamW(p, lr=0.02)))(model.parameters())
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12) if schedule else None
    loader = loader() if loader else DataLoader(DATA, 4, shuffle=True, generator=order())
    parts = [part for part in (model, optimiser, plan) if part]
    mend(parts)
    steps = []

    def on_step(i, N):
        steps.append(i)
        if i == stop:
            raise Stop

    history = fit(
        model,
        squares,
        loader,
        optimiser,
        schedule=plan,
        on_step=on_step,
        checkpoints=folder,
        **{"epochs": 2, "after_epoch": lambda epoch, model: {"loss": squares(model, DATA.tensors)}} | options,
    )
    found = {name: value for name, value in asdict(history).items() if name != "seconds"}
    assert len(history.seconds) == len(history.loss)
    return [part.state_dict() for part in parts], found, steps


def same(a, b) -> bool:
    """Whether nested states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Lazily(Sampler):
    """Draws each index when it is asked for, so that its generator moves all through the epoch."""

    def __init__(self, generator):
        self.generator = generator

    def __iter__(self):
        return (int(torch.randint(22, (), generator=self.generator)) for _ in range(22))

    def __len__(self):
        return 22


class ByEpoch(Sampler):
    """Draws its order from the epoch's number, as samplers for several processes do."""

    def __init__(self):
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(torch.randperm(22, generator=order(self.epoch)).tolist())

    def __len__(self):
        return 22


def lazily():
    generator = order()
    return DataLoader(DATA, 4, sampler=Lazily(generator), generator=generator)


def with_replacement():
    generator = order()
    drawn = RandomSampler(DATA, replacement=True, generator=generator)
    return DataLoader(DATA, batch_sampler=BatchSampler(drawn, 4, False), generator=generator)


@pytest.mark.parametrize(
    "loader",
    [
        None,
        lazily,
        with_replacement,
        lambda: DataLoader(DATA, 4, sampler=ByEpoch(), generator=order()),
        lambda: read_in_batches(*DATA.tensors, batch=4, generator=order()),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_run_that_stops_before_any_step_goes_on_bit_for_bit(loader, accumulate, tmp_path):
    options = {"loader": loader, "accumulate": accumulate, "every": 3}
    whole = run(None, **options)
    steps = whole[2]
    for stop in steps if loader is None else {4, len(steps) - 1}:
        with pytest.raises(Stop):
            run(tmp_path / str(stop), stop=stop, **options)
        again = run(tmp_path / str(stop), **options)
        assert same(again[:2], whole[:2]), stop
        assert again[2] == steps[(stop - 1) // 3 * 3 :]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_with_workers_a_run_goes_on_bit_for_bit(tmp_path):
    def loader():
        return DataLoader(DATA, 4, shuffle=True, generator=order(), num_workers=2)

    whole = run(None, loader=loader)
    with pytest.raises(Stop):
        run(tmp_path, stop=9, loader=loader)
    again = run(tmp_path, loader=loader)
    assert same(again[:2], whole[:2])
    assert again[2] == [7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_ctrl_c_writes_a_checkpoint_from_which_the_run_goes_on(precision, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        history = fit(
            model := Net(),
            squares,
            DataLoader(DATA, 4, shuffle=True, generator=order()),
            torch.optim.SGD(model.parameters(), lr=0.01),
            epochs=2,
            on_step=lambda i, N: signal.raise_signal(signal.SIGINT) if i == 4 else None,
            checkpoints=tmp_path,
            precision=precision,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(history.loss), history.finished) == (4, False)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
    options = {"schedule": False, "make": lambda p: torch.optim.SGD(p, lr=0.01), "after_epoch": None}
    again = run(tmp_path, precision=precision, **options)
    assert again[2][0] == 5
    assert same(again[:2], run(None, precision=precision, **options)[:2])


def test_a_finished_run_is_read_and_not_run_again(tmp_path):
    whole = run(tmp_path)
    again = run(tmp_path)
    assert same(again[:2], whole[:2])
    assert again[2] == []


def test_the_two_newest_are_kept_and_strangers_let_be(tmp_path):
    (tmp_path / "step-00000005.writing").mkdir()
    (tmp_path / "step-00000005.writing" / "pytorch_model.bin").write_bytes(b"half")
    (tmp_path / "step-00000099.writing").mkdir()
    (tmp_path / "step-00000099.writing" / checkpoints.MARK).write_text("{}")
    (tmp_path / "step-00000098").mkdir()  # the mark was removed first
    (tmp_path / "step-best").mkdir()
    (tmp_path / "step-best" / checkpoints.MARK).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    whole = run(tmp_path, every=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "step-00000010",
        "step-00000012",
        "step-best",
    ]
    assert checkpoints.newest(tmp_path) == tmp_path / "step-00000012"
    assert len(whole[2]) == 12


def test_nothing_of_an_unfinished_one_gets_into_the_next(tmp_path):
    (tmp_path / "step-00000006.writing").mkdir()
    (tmp_path / "step-00000006.writing" / "random_states_1.pkl").write_bytes(b"of a run with more processes")
    with pytest.raises(Stop):
        run(tmp_path, stop=7)
    assert sorted(path.name for path in (tmp_path / "step-00000006").iterdir()) == list(FILES)


def test_without_every_there_is_one_an_epoch(tmp_path):
    run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000006", "step-00000012"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"checkpoints='.*file' is a file; name a folder"):
        run(tmp_path / "file")


def test_the_folder_may_be_below_home_and_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Stop):
        run("~/runs/first", stop=8)
    assert run(Path("~/runs/first"))[2][0] == 7
    assert (tmp_path / "runs" / "first").is_dir()


def test_a_disk_that_is_full_spoils_nothing(tmp_path, monkeypatch):
    with pytest.raises(Stop):
        run(tmp_path, stop=8)

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    again = run(tmp_path)
    assert again[2][0] == 7
    assert same(again[:2], run(None)[:2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000006", "step-00000012"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Checkpoints of the steps 8 and 10 of 12."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(Stop):
        run(folder, stop=11, every=2)
    return folder


@pytest.fixture
def copy(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    return tmp_path / "run"


def refused(folder, said, **options):
    """Running must be refused, and change neither model, optimiser, schedule nor folder."""
    kept = []

    def mend(parts):
        kept.extend(
            (part, json.loads(json.dumps(part.state_dict(), default=torch.Tensor.tolist))) for part in parts
        )

    with pytest.raises(ValueError, match=said):
        run(folder, mend=mend, **{"every": 2} | options)
    for part, before in kept:
        now = json.loads(json.dumps(part.state_dict(), default=torch.Tensor.tolist))
        assert now == before, type(part).__name__


FILES = (
    "complete.json",
    "custom_checkpoint_0.pkl",
    "optimizer.bin",
    "pytorch_model.bin",
    "random_states_0.pkl",
    "run.json",
)


def test_these_are_all_the_files(begun):
    for folder in begun.iterdir():
        assert tuple(sorted(path.name for path in folder.iterdir())) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_found_out(name, copy):
    newest = copy / "step-00000010"
    whole = (newest / name).read_bytes()
    damaged = [whole[: int(len(whole) * share)] for share in (0, 0.01, 0.5, 0.9)] + [
        whole[:-1],
        whole + b"\0",
    ]
    for place in range(0, len(whole), math.ceil(len(whole) / 12)):
        damaged.append(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
    for content in damaged:
        (newest / name).write_bytes(content)
        refused(
            copy, r"step-00000010 is damaged \(.*: delete this folder to go on from the checkpoint before it"
        )
    (newest / name).write_bytes(whole)
    assert run(copy, every=2)[2] == [11, 12]


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_found_out(name, copy):
    (copy / "step-00000010" / name).unlink()
    refused(copy, rf"is damaged \({name} is not as it was written\)")


@pytest.mark.parametrize(
    "garbage", ["", "{", "null", "[]", "3", '"run.json"', "{}", '{"run.json": null}', "\x00"]
)
def test_garbage_in_the_mark_is_found_out(garbage, copy):
    (copy / "step-00000010" / "complete.json").write_text(garbage)
    refused(copy, r"is damaged \((complete|run).json is not as it was written\)")


def test_the_advice_helps(copy):
    (copy / "step-00000010" / "pytorch_model.bin").write_bytes(b"")
    refused(copy, "delete this folder")
    shutil.rmtree(copy / "step-00000010")
    again = run(copy, every=2)
    assert again[2] == [9, 10, 11, 12]
    assert same(again[:2], run(None)[:2])


def test_without_its_mark_a_checkpoint_is_none(copy):
    (copy / "step-00000010" / "complete.json").unlink()
    again = run(copy, every=2)
    assert again[2] == [9, 10, 11, 12]
    assert same(again[:2], run(None)[:2])


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 3}, "epochs=3, there 2: name another folder"),
        ({"loader": lambda: DataLoader(DATA, 5, shuffle=True, generator=order())}, "batch size=5, there 4"),
        (
            {"loader": lambda: DataLoader(DATA, 4, shuffle=True, generator=order(1))},
            "loader's seed=1, there 0",
        ),
        (
            {"loader": lambda: read_in_batches(X[:16], X[:16, :1], batch=4, generator=order())},
            "batches=4, there 6",
        ),
        ({"seed": 1}, "seed=1, there 0"),
        ({"accumulate": 2}, "accumulate=2, there 1"),
        ({"clip": 1.0}, "clip=1.0, there None"),
        ({"precision": "bf16"}, "precision='bf16', there 'no'"),
        ({"schedule": False}, "schedule='NoneType', there 'CosineAnnealingLR'"),
        ({"make": sgd}, "optimiser='SGD', there 'AdamW'"),
        ({"make": lambda p: torch.optim.AdamW(p, lr=0.03)}, "optimiser's lr='0.03', there '0.02'"),
        (
            {"net": lambda: Net().double()},
            r"dtypes=\['torch.float64', 'torch.int64'\], there \['torch.float32'",
        ),
        ({"net": lambda: Net(width=5)}, "does not fit this model, optimiser or schedule"),
    ],
)
def test_another_runs_checkpoint_is_refused(options, said, copy):
    refused(copy, said, **options)
    assert run(copy, every=2)[2] == [11, 12]


def test_a_model_of_the_same_tensors_and_other_names_is_left_as_it_was(copy):
    class Renamed(Net):
        def __init__(self):
            super().__init__()
            self.first, self.a = self.a, nn.Identity()

    refused(copy, "does not fit", net=Renamed)


def test_a_schedule_that_cannot_be_read_leaves_all_as_it_was(copy, monkeypatch):
    def fails(self, state):
        if state["last_epoch"]:
            raise KeyError("a schedule of another version")
        self.__dict__.update(state)

    monkeypatch.setattr(torch.optim.lr_scheduler.CosineAnnealingLR, "load_state_dict", fails)
    refused(copy, "does not fit .*another version")


def test_workers_that_persist_cannot_go_on_and_are_refused(tmp_path):
    def loader():
        return DataLoader(DATA, 4, generator=order(), num_workers=1, persistent_workers=True)

    with pytest.raises(
        ValueError, match=r"loader has persistent_workers=True: .* leave it out, or do without"
    ):
        run(tmp_path, loader=loader)
    assert run(None, loader=loader)[1]["finished"]


def test_a_run_may_go_on_with_the_same_objects(tmp_path):
    """As in a notebook, where the cell is run again after Ctrl-C."""
    model = Net()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12)
    loader = DataLoader(DATA, 4, shuffle=True, generator=order())

    def go(stop=None):
        def on_step(i, N):
            if i == stop:
                raise Stop

        return fit(
            model,
            squares,
            loader,
            optimiser,
            epochs=2,
            schedule=schedule,
            on_step=on_step,
            checkpoints=tmp_path,
        )

    with pytest.raises(Stop):
        go(9)
    assert go().finished
    whole = run(None, after_epoch=None)
    assert same([part.state_dict() for part in (model, optimiser, schedule)], whole[0])
