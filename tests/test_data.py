"""Digits and the MNIST reader, on files made up here."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from geolessons.data import digits, mnist
from geolessons.data.mnist import FILES, MEAN_STD

COUNTS = {"train": 6, "t10k": 3}


# ---------------------------------------------------------------- digits


@pytest.mark.parametrize("task", ["upright", "lying", "tilted"])
def test_digits_have_the_stated_shapes(task):
    before = torch.get_rng_state()
    data = digits(task)
    assert torch.equal(before, torch.get_rng_state())
    assert data.x_train.shape == (1200, 64)
    assert data.x_test.shape == (597, 64)
    assert data.y_train.shape == (1200,)
    assert data.y_test.shape == (597,)
    assert data.x_train.dtype == torch.float64
    assert data.y_train.dtype == torch.int64
    for x in (data.x_train, data.x_test):
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1
    assert float(data.x_train.max()) > 0.9
    assert set(data.y_test.tolist()) == set(range(10))
    again = digits(task)
    assert all(torch.equal(a, b) for a, b in zip(data, again, strict=True))


def test_digits_are_sklearns_each_once():
    data, bunch = digits(), load_digits()
    ours = torch.cat([data.x_train, data.x_test])
    labels = torch.cat([data.y_train, data.y_test])
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours * 16, torch.from_numpy(bunch.data)[order])
    assert torch.equal(labels, torch.from_numpy(bunch.target)[order])


def test_lying_is_an_exact_quarter_turn_to_the_left():
    upright, lying = digits("upright"), digits("lying")
    for up, down in ((upright.x_train, lying.x_train), (upright.x_test, lying.x_test)):
        images = up.reshape(-1, 8, 8)
        assert torch.equal(torch.rot90(images, 1, (1, 2)), down.reshape(-1, 8, 8))
        assert torch.equal(images[:, 0, 7], down.reshape(-1, 8, 8)[:, 0, 0])  # top right comes to top left
    assert torch.equal(upright.y_test, lying.y_test)


def test_tilted_is_between_upright_and_lying():
    upright, tilted, lying = (digits(task).x_train for task in ("upright", "tilted", "lying"))
    assert torch.equal(digits("tilted").y_train, digits().y_train)
    to_upright, to_lying = ((tilted - x).norm(dim=1).mean() for x in (upright, lying))
    assert 0.1 < to_upright < to_lying
    right = torch.rot90(upright.reshape(-1, 8, 8), -1, (1, 2)).reshape(-1, 64)
    assert to_lying < (tilted - right).norm(dim=1).mean()  # to the left as well


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", ["upright", "lying", "tilted"])
def test_digits_in_other_dtypes_are_the_rounded_ones(task, dtype):
    assert torch.equal(digits(task, dtype=dtype).x_test, digits(task).x_test.to(dtype))


def test_digits_refuse_an_unknown_task():
    with pytest.raises(ValueError, match="task='mirrored' is unknown; it is one of upright, lying, tilted"):
        digits("mirrored")


# ---------------------------------------------------------------- MNIST


def idx(array: torch.Tensor) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.dim()) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def arrays() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    found = {}
    for part, n in COUNTS.items():
        found[f"{part}-images-idx3-ubyte"] = torch.randint(0, 256, (n, 28, 28), generator=draw)
        found[f"{part}-labels-idx1-ubyte"] = torch.randint(0, 10, (n,), generator=draw)
    return found


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path, "MNIST")
    return tmp_path


def write(root: Path, name: str, *, zipped: bool = False) -> Path:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for file, array in arrays().items():
        raw = idx(array)
        (folder / (file + ".gz" * zipped)).write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_mnist_reads_plain_and_gzipped_files(tmp_path, name, zipped):
    write(tmp_path, name, zipped=zipped)
    data = mnist(name, root=tmp_path, dtype=torch.float64)
    mean, std = MEAN_STD[name]
    for x, y, part in ((data.x_train, data.y_train, "train"), (data.x_test, data.y_test, "t10k")):
        images = arrays()[f"{part}-images-idx3-ubyte"]
        assert x.shape == (COUNTS[part], 784)
        wanted = (images.double() / 255 - mean).div(std).reshape(len(images), -1)
        torch.testing.assert_close(x, wanted, rtol=0, atol=1e-15)
        assert torch.equal(y, arrays()[f"{part}-labels-idx1-ubyte"])
        assert y.dtype == torch.int64


def test_mnist_reads_what_torchvision_reads(root):
    datasets = pytest.importorskip("torchvision.datasets")
    data = mnist(root=root, dtype=torch.float64)
    for train, x, y in ((True, data.x_train, data.y_train), (False, data.x_test, data.y_test)):
        peer = datasets.MNIST(str(root), train=train)
        ours = (x * MEAN_STD["MNIST"][1] + MEAN_STD["MNIST"][0]).mul(255).round().reshape(-1, 28, 28)
        assert torch.equal(ours.to(torch.uint8), peer.data)
        assert torch.equal(y, peer.targets)


def test_mnist_turns_to_the_left(root):
    plain, turned = mnist(root=root), mnist(root=root, turn=90)
    quarter = torch.rot90(plain.x_train.reshape(-1, 28, 28), 1, (1, 2))
    torch.testing.assert_close(turned.x_train.reshape(-1, 28, 28), quarter, rtol=0, atol=1e-4)
    assert plain.x_train.dtype == torch.float32


def test_mnist_finds_its_root_in_the_environment(root, monkeypatch):
    monkeypatch.setenv("GEOLESSONS_DATA", str(root))
    assert mnist().x_test.shape == (3, 784)
    monkeypatch.delenv("GEOLESSONS_DATA")
    with pytest.raises(ValueError, match="root is not given and GEOLESSONS_DATA is not set"):
        mnist()


def test_mnist_names_the_missing_files(root):
    for file in FILES[1:3]:
        (root / "MNIST" / "raw" / file).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist(root=root)
    assert all(file in str(caught.value) for file in FILES[1:3])
    assert FILES[0] not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="FashionMNIST"):
        mnist("FashionMNIST", root=root)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[:-1], "is truncated or damaged: 13 bytes where its header promises 14"),
        (lambda raw: raw + b"x", "is truncated or damaged: 15 bytes where its header promises"),
        (lambda raw: raw[:6], "is truncated or damaged"),
        (lambda raw: b"", "is not an IDX file of bytes"),
        (lambda raw: b"\x00\x00\x09" + raw[3:], "is not an IDX file of bytes"),
        (lambda raw: b"<html>not found</html>", "is not an IDX file of bytes"),
        (lambda raw: idx(torch.zeros(5)), r"has labels of shape \(5,\) for images of shape \(6, 28, 28\)"),
        (lambda raw: idx(torch.zeros(6, 1)), r"has labels of shape \(6, 1\) for images"),
    ],
)
def test_mnist_refuses_damaged_files(root, damage, said):
    path = root / "MNIST" / "raw" / FILES[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=said) as caught:
        mnist(root=root)
    assert FILES[1] in str(caught.value)


@pytest.mark.parametrize(
    "cut", [lambda raw: raw[:-9], lambda raw: b"nonsense", lambda raw: raw[:20] + b"\0" * 20]
)
def test_mnist_refuses_damaged_gzip_files(tmp_path, cut):
    path = write(tmp_path, "MNIST", zipped=True) / (FILES[0] + ".gz")
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match="is not a whole gzip file") as caught:
        mnist(root=tmp_path)
    assert FILES[0] in str(caught.value)


def test_mnist_refuses_names_and_turns(root):
    with pytest.raises(ValueError, match="name='KMNIST' is unknown; it is one of MNIST, FashionMNIST"):
        mnist("KMNIST", root=root)
    for turn in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"turn=.* must be a finite number of degrees"):
            mnist(root=root, turn=turn)
