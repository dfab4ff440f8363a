"""The readers of PASCAL-Context's layout and of clothed people, on files made here; and the transforms."""

import itertools
import json
import math
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pascal_files as made
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from torch.utils.data import DataLoader

from geolessons.data import pascal
from geolessons.data.clothing import ClothingPeople
from geolessons.data.dense import IGNORE, PARTS, Dense
from geolessons.data.dense_files import pixels
from geolessons.data.dense_transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmented,
    Resized,
    Shuffled,
    augment,
    flip,
    mark_ignored,
    normalise,
    resample,
)
from geolessons.data.mat_files import mat, shape_in_mat
from geolessons.data.pascal import INDOOR, PascalContext
from geolessons.data.person_parts import GROUPS

KINDS = ("photo", "semseg", "parts", "normals", "saliency", "context")
MASK = np.ones((made.H, made.W), np.uint8)
OTHER = (12, 14)  # the size of the third picture in `two_sizes`


@pytest.fixture
def root(tmp_path):
    return tmp_path / "PASCAL_MT"


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory):
    """A folder of three pictures, the last of another size, and what is read from it."""
    root = tmp_path_factory.mktemp("pascal") / "PASCAL_MT"
    made.write(root, made.NAMES[2:], seed=1, size=OTHER)
    made.write(root, made.NAMES[:2])
    (root / "ImageSets/Context/train.txt").write_text("\n".join(made.NAMES))
    read = list(PascalContext(root))
    return root, lambda i: read[i]  # a function, since hypothesis prints what a test is given


def files_of(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- reading


def test_all_answers_are_the_files(root):
    truth = made.write(root)
    data = PascalContext(root)
    data.check()
    assert data.names == list(made.NAMES)
    assert len(data) == 3
    for name, sample in zip(data.names, data, strict=True):
        semseg, parts, saliency, normals, classes = truth[name]
        photo = np.asarray(Image.open(made.path(root, "photo", name)))
        assert torch.equal(sample.image, torch.tensor(photo / 255.0).permute(2, 0, 1).float())
        assert sample.semseg.dtype == sample.human_parts.dtype == sample.saliency.dtype == torch.int64
        assert np.array_equal(sample.semseg, semseg)
        assert np.array_equal(sample.human_parts, parts)
        assert np.array_equal(sample.saliency, saliency / 255 > 0.5)
        right = (2.0 * normals / 255 - 1) * (1, -1, 1)
        right /= np.linalg.norm(right, axis=-1, keepdims=True)
        right[(classes != made.FLOOR) | (normals == 128).all(-1)] = 0
        assert np.allclose(sample.normals.permute(1, 2, 0), right, atol=1e-6)
        assert not sample.normals[:, 0, 0].any()
    assert {made.FLOOR, 427} <= INDOOR
    assert made.SKY not in INDOOR
    assert 191 in INDOOR, "a guitar"
    assert 190 not in INDOOR, "a guardrail"
    assert len(truth[made.NAMES[0]][1].nonzero()[0]) > 0


def test_axes_and_indoor_classes_can_be_said(root):
    made.write(root)
    one, other = PascalContext(root)[0].normals, PascalContext(root, axes=(-1, 1, -1))[0].normals
    assert torch.equal(one, -other)
    sky = PascalContext(root, indoor=[made.SKY])[0].normals
    assert not (one.norm(dim=0) * sky.norm(dim=0)).any()
    assert sky.any()
    assert not PascalContext(root, indoor=[])[0].normals.any()


def test_voc_labels_go_before_those_of_context(root):
    made.write(root)
    name = made.NAMES[0]
    other = made.path(root, f"semseg/pascal-context/{name}.png", name)
    other.parent.mkdir()
    Image.fromarray(np.full((made.H, made.W), 7, np.uint8)).save(other)
    data = PascalContext(root)
    assert not (data[0].semseg == 7).all()
    made.path(root, "semseg", name).unlink()
    data.check()
    assert (data[0].semseg == 7).all()


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("head", "head hair mouth nose lear rear lebrow rebrow leye reye"),
        ("torso", "torso neck"),
        ("upper arm", "luarm ruarm"),
        ("lower arm", "llarm rlarm lhand rhand"),
        ("upper leg", "luleg ruleg"),
        ("lower leg", "llleg rlleg lfoot rfoot"),
    ],
)
def test_parts_come_into_their_groups(root, group, words):
    assert len(GROUPS) == 24
    made.write(root)
    name = made.NAMES[0]
    for word in words.split():
        objects = [made.person([("torso", slice(0, 4), slice(0, 4)), (word, slice(2, 6), slice(2, 6))])]
        savemat(made.path(root, "parts", name), made.anno(name, objects))
        parts = PascalContext(root)[0].human_parts
        assert PARTS[parts[3, 3]] == group  # the later over the earlier
        assert PARTS[parts[0, 0]] == "torso"
        assert PARTS[parts[9, 9]] == "background"


def test_pictures_without_anyone_have_no_parts(root):
    made.write(root)
    name = made.NAMES[0]
    for objects in ([], [made.person([], class_ind=12)], [made.person([])]):
        savemat(made.path(root, "parts", name), made.anno(name, objects))
        data = PascalContext(root)
        assert not data[0].human_parts.any()
        assert (Resized(data, 8)[0].human_parts == IGNORE).all()


# ---------------------------------------------------------------- files that are not right


def spoil(path, how, rng):
    """Change a file in a way that its header or its end shows."""
    if how == "missing":
        return path.unlink()
    if how == "truncated":
        return path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    if how == "noise":
        return path.write_bytes(rng.randbytes(path.stat().st_size))
    if path.suffix == ".mat":  # another size, or another variable
        named = {"LabelMap": np.ones((made.H, made.W + 1))} if how == "size" else {"other": np.ones((2, 2))}
        return savemat(path, named)
    picture = Image.open(path)
    picture.load()
    picture = (
        picture.resize((made.W + 1, made.H))
        if how == "size"
        else picture.convert("CMYK" if path.suffix == ".jpg" else "LA")
    )
    return picture.save(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    how=st.sampled_from(["missing", "truncated", "noise", "size", "mode"]),
    which=st.sets(st.sampled_from(KINDS), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_check_names_every_file_that_is_not_right(root, how, which, seed):
    shutil.rmtree(root, ignore_errors=True)
    made.write(root)
    data, rng = PascalContext(root), random.Random(seed)
    spoiled = [made.path(root, kind, made.NAMES[rng.randrange(3)]) for kind in sorted(which)]
    for path in spoiled:
        spoil(path, how, rng)
    if how == "size" and "photo" in which:  # then its answers' sizes are blamed, each by its name
        with pytest.raises(
            ValueError, match=f"{spoiled[sorted(which).index('photo')].stem}.*where its photo"
        ):
            data.check()
        return
    with pytest.raises(ValueError) as caught:
        data.check()
    said = str(caught.value)
    assert said.startswith(f"{len(spoiled)} of 18 files are not right:")
    assert all(str(path) in said for path in spoiled)
    assert "Right is: for each name a JPEG" in said
    assert len(said.splitlines()) == len(spoiled) + 2
    for path in spoiled:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            data[made.NAMES.index(path.stem)]
        assert any(str(p) in str(caught.value) for p in spoiled)


def test_check_names_the_first_ten_and_how_many(root):
    made.write(root, [f"a{i}" for i in range(5)])
    data = PascalContext(root)
    for name in data.names:
        for kind in ("photo", "context", "saliency"):
            made.path(root, kind, name).unlink()
    with pytest.raises(ValueError, match="15 of 30 files are not right") as caught:
        data.check()
    assert str(caught.value).count(" is missing") == 10
    assert "and 5 more" in str(caught.value)


@st.composite
def exchanges(draw):
    """Two files that change places."""
    place = st.tuples(st.sampled_from(KINDS), st.integers(0, 2))
    return draw(st.tuples(place, place).filter(lambda x: x[0] != x[1]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exchange=exchanges())
def test_exchanged_files_are_refused_where_kind_or_size_or_values_betray_them(two_sizes, exchange):
    root, before = two_sizes
    (kind, i), (other, j) = exchange
    if kind == other != "parts" and 2 not in (i, j):
        return  # of one kind and one size: nobody can tell
    one, two = made.path(root, kind, made.NAMES[i]), made.path(root, other, made.NAMES[j])
    kept = one.read_bytes(), two.read_bytes()
    try:
        one.write_bytes(kept[1])
        two.write_bytes(kept[0])
        data = PascalContext(root)
        for k in {i, j}:
            with pytest.raises(ValueError, match=made.NAMES[k]):
                data[k]
        for k in {0, 1, 2} - {i, j}:
            assert all(torch.equal(a, b) for a, b in zip(data[k], before(k), strict=True))
    finally:
        one.write_bytes(kept[0])
        two.write_bytes(kept[1])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["semseg", "parts", "normals", "saliency", "context"]),
    i=st.integers(0, 1),
    cut=st.floats(0, 1),
    flips=st.integers(0, 255),
    seed=st.integers(0, 2**32),
)
def test_damaged_labels_are_refused_or_read_as_they_were(two_sizes, kind, i, cut, flips, seed):
    root, before = two_sizes
    path, rng = made.path(root, kind, made.NAMES[i]), random.Random(seed)
    whole = path.read_bytes()
    found = bytearray(whole if flips else whole[: int(cut * len(whole))])
    if flips:
        found[rng.randrange(len(found))] ^= flips
    try:
        path.write_bytes(bytes(found))
        sample, said = None, ""
        try:
            sample = PascalContext(root)[i]
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
        assert sample or str(path) in said
        if sample:
            plain = flips and path.suffix == ".mat" and i == 1  # not compressed: nothing guards its bytes
            assert plain or all(torch.equal(a, b) for a, b in zip(sample, before(i), strict=True))
            for x, allowed in zip(sample[1:4], ([*range(21), 255], range(7), range(2)), strict=True):
                assert set(x.unique().tolist()) <= set(allowed)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("semseg", np.full((10, 14), 21, np.uint8), r"holds the labels \[21\], which are none of its 22"),
        ("semseg", np.zeros((10, 14, 3), np.uint8), "has the mode RGB, where P or L is right"),
        ("semseg", np.zeros((10, 14), np.uint16), "has the mode I;16, where P or L is right"),
        ("semseg", np.zeros((14, 10), np.uint8), "is 14×10 .* where its photograph is 10×14"),
        ("normals", np.zeros((10, 14), np.uint8), "has the mode L, where RGB is right"),
        ("context", {"LabelMap": np.full((10, 14), 460)}, "numbers that are none of 0 to 459"),
        ("context", {"LabelMap": np.full((10, 14), -1)}, "numbers that are none of 0 to 459"),
        ("context", {"labels": np.ones((10, 14))}, "has no variable LabelMap; it has labels"),
        ("context", {"LabelMap": np.full((10, 14), np.nan)}, "numbers that are none of 0 to 459"),
        ("context", {"LabelMap": np.full((10, 14), 1.5)}, "numbers that are none of 0 to 459"),
        ("context", {"LabelMap": "words"}, "its LabelMap holds no numbers"),
        ("context", {"LabelMap": np.ones((10, 14, 2))}, "is 10×14×2 .* where its photograph is 10×14"),
        (
            "parts",
            made.anno(made.NAMES[0], [made.person([("paw", slice(2), slice(2))])]),
            "names the part 'paw'",
        ),
        (
            "parts",
            made.anno(made.NAMES[0], [made.person([("head", slice(2), slice(2))], size=(9, 9))]),
            "is 9×9",
        ),
        ("parts", {"anno": np.ones((2, 2))}, "not built as PASCAL-Part's: it is no single struct"),
        ("parts", {"anno": made.structs([{"imname": made.NAMES[0]}])}, "objects is missing"),
        ("parts", made.anno("2008_000009.jpg", []), "is of another picture, '2008_000009'"),
        (
            "parts",
            made.anno(made.NAMES[0], [{"class_ind": 15.0, "mask": "y"}]),
            "mask of an object is no picture",
        ),
        ("parts", made.anno(made.NAMES[0], [{"class": "person", "mask": MASK}]), "class_ind is missing"),
        (
            "parts",
            {"anno": made.structs([{"imname": made.NAMES[0], "objects": np.ones((1, 2))}])},
            "objects holds no structs",
        ),
        (
            "parts",
            made.anno(made.NAMES[0], [{"class_ind": 15.0, "mask": MASK, "parts": np.ones((1, 2))}]),
            "parts holds no structs",
        ),
        (
            "parts",
            made.anno(made.NAMES[0], [{"class_ind": 15.0, "mask": MASK, "parts": "y"}]),
            "parts holds no structs",
        ),
        (
            "parts",
            made.anno(
                made.NAMES[0],
                [
                    {
                        "class_ind": 15.0,
                        "mask": MASK,
                        "parts": made.structs([{"part_name": "head", "mask": "y"}]),
                    }
                ],
            ),
            "the mask of the part 'head' is no picture",
        ),
    ],
)
def test_what_no_label_is_gets_refused(root, kind, content, message):
    made.write(root)
    path = made.path(root, kind, made.NAMES[0])
    savemat(path, content) if isinstance(content, dict) else Image.fromarray(content).save(path)
    with pytest.raises(ValueError, match=message) as caught:
        PascalContext(root)[0]
    assert str(path) in str(caught.value)


def test_every_changed_byte_of_a_label_is_noticed(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 14), np.uint8)).save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"x\.png"):
            pixels(path, ("L",))


def test_a_lossy_file_named_png_is_no_label(root):
    made.write(root)
    path = made.path(root, "semseg", made.NAMES[0])
    Image.fromarray(np.zeros((10, 14), np.uint8)).save(path, format="JPEG")
    with pytest.raises(ValueError, match="is no PNG"):
        PascalContext(root).check()


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"", "it is empty"), (b"a\na\n", "twice"), (b"../a\n", "'../a' is no name"), (b"\xff\xfe", "no text")],
)
def test_damaged_lists_are_refused(root, text, message):
    made.write(root)
    (root / "ImageSets/Context/train.txt").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        PascalContext(root)


def test_bad_arguments_are_refused(root):
    with pytest.raises(FileNotFoundError, match=r"train\.txt is missing"):
        PascalContext(root)
    made.write(root)
    with pytest.raises(ValueError, match="split='test' is unknown; it is one of train, val"):
        PascalContext(root, "test")
    with pytest.raises(ValueError, match=r"axes=.*three signs"):
        PascalContext(root, axes=(1, 0, 1))


# ---------------------------------------------------------------- MATLAB's files

MATLAB = Path(scipy.io.matlab.__file__).parent / "tests" / "data"


def plain(x):
    """What scipy reads, without the arrays around structs and text."""
    if x.dtype.names:
        return [{key: plain(place[key]) for key in x.dtype.names} for place in x.flatten(order="F")]
    return (x.item() if x.size else "") if x.dtype.kind == "U" else x


def equal(a, b):
    if isinstance(a, list):
        pairs = zip(a, b, strict=True)
        return all(x.keys() == y.keys() and all(equal(x[key], y[key]) for key in x) for x, y in pairs)
    if isinstance(a, str):
        return a == b
    return a.shape == b.shape and np.array_equal(a, b)


@pytest.mark.skipif(not MATLAB.is_dir(), reason="scipy is installed without its tests' files")
@pytest.mark.parametrize(
    "kind", ["double", "matrix", "minus", "3dmatrix", "string", "unicode", "structarr", "structnest"]
)
def test_files_that_matlab_wrote_are_read_as_scipy_reads_them(kind):
    paths = [*MATLAB.glob(f"test{kind}_[67]*.mat")]
    assert len(paths) >= 2
    for path in paths:
        right = scipy.io.loadmat(path)[f"test{kind}"]
        assert equal(mat(path, f"test{kind}"), plain(right))
        if right.dtype.kind != "U":
            assert shape_in_mat(path, f"test{kind}") == right.shape


@pytest.mark.skipif(not MATLAB.is_dir(), reason="scipy is installed without its tests' files")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("testcell_7.4_GLNX86", "class 1"),
        ("testsparse_7.4_GLNX86", "class 5"),
        ("testcomplex_7.4_GLNX86", "class 6 in 2 parts"),
        ("teststringarray_7.4_GLNX86", "in 3 rows"),
        ("testhdf5_7.4_GLNX86", "version 7.3"),
        ("testmatrix_4.2c_SOL2", "is no MATLAB file of level 5"),
        ("malformed1", "truncated or damaged"),
        ("corrupted_zlib_checksum", "incorrect data check"),
        ("corrupted_zlib_data", "incomplete"),
    ],
)
def test_other_files_are_refused(file, message):
    with pytest.raises(ValueError, match=message):
        mat(MATLAB / f"{file}.mat", file.split("_")[0])


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_numbers_of_all_kinds_are_read(tmp_path, kind, compress):
    x = (np.random.default_rng(0).standard_normal((3, 5, 2)) * 100).astype(kind)
    savemat(tmp_path / "x.mat", {"x": x, "other": 1.0, "none": np.zeros((0, 3))}, do_compression=compress)
    assert equal(mat(tmp_path / "x.mat", "x"), x)
    assert mat(tmp_path / "x.mat", "none").shape == (0, 3)
    assert shape_in_mat(tmp_path / "x.mat", "x") == (3, 5, 2)
    for read in (mat, shape_in_mat):
        with pytest.raises(ValueError, match="has no variable y; it has x, other, none"):
            read(tmp_path / "x.mat", "y")
        with pytest.raises(FileNotFoundError, match=r"y\.mat is missing"):
            read(tmp_path / "y.mat", "y")


# ---------------------------------------------------------------- who is in it


def test_people_are_found_once_and_kept_outside_the_data(root, tmp_path, monkeypatch):
    made.write(root)
    before, cache = files_of(root), tmp_path / "cache"
    data = PascalContext(root)
    assert data.people(cache) == [0, 2]
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text()) == [0, 2]
    with monkeypatch.context() as m:
        m.setattr(pascal, "parts_of", lambda *_: pytest.fail("read again"))
        assert data.people(cache) == [0, 2]
    kept.write_text("[0, 1,")  # damaged
    assert data.people(cache) == [0, 2]
    kept.write_text("[0, 7]")
    assert data.people(cache) == [0, 2]
    assert files_of(root) == before
    savemat(made.path(root, "parts", made.NAMES[0]), made.anno(made.NAMES[0], []))
    assert data.people(cache) == [2]
    assert sorted(p.suffix for p in cache.iterdir()) == [".json", ".json"]


@pytest.mark.parametrize("inside", [".", "ImageSets/Parts", "x/../cache"])
def test_the_cache_is_never_in_the_data(root, inside):
    made.write(root)
    before = files_of(root)
    with pytest.raises(ValueError, match="lies in the data's folder"):
        PascalContext(root).people(root / inside)
    assert files_of(root) == before


def test_people_names_damaged_files_and_keeps_nothing(root, tmp_path):
    made.write(root)
    bad = [made.path(root, "parts", name) for name in made.NAMES[1:]]
    bad[0].unlink()
    bad[1].write_bytes(bad[1].read_bytes()[:-9])
    with pytest.raises(ValueError, match="2 of 3 files are not right") as caught:
        PascalContext(root).people(tmp_path / "cache")
    assert all(str(path) in str(caught.value) for path in bad)
    assert not (tmp_path / "cache").exists()


# ---------------------------------------------------------------- transforms


def scene(h=24, w=30, seed=0):
    """Random answers of every kind, some unknown."""
    g = torch.Generator().manual_seed(seed)
    n = torch.randn(3, h, w, generator=g)
    n = n / n.norm(dim=0) * (torch.rand(h, w, generator=g) > 0.3)
    semseg = torch.randint(0, 22, (h, w), generator=g)
    semseg[semseg == 21] = IGNORE
    parts, saliency = (torch.randint(0, k, (h, w), generator=g) for k in (7, 2))
    return Dense(torch.rand(3, h, w, generator=g), semseg, parts, saliency, n)


def sphere(size, centre, radius):
    """Normals (3, size, size) of a ball at (x right, y up) from the middle, and where it is."""
    at = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    x, y = (at[None, :] - centre[0]) / radius, (-at[:, None] - centre[1]) / radius
    x, y = torch.broadcast_tensors(x, y)
    z = (1 - x**2 - y**2).clamp(min=0).sqrt()
    return torch.stack([x, y, z]) * (z > 0), z > 0


def with_normals(n):
    label = torch.zeros(n.shape[1:], dtype=torch.int64)
    return Dense(torch.zeros(n.shape), label, label, label, n.float())


@settings(max_examples=12, deadline=None)
@given(degrees=st.floats(-180, 180), scale=st.floats(0.75, 1.25), x=st.floats(-20, 20), y=st.floats(-20, 20))
def test_a_turned_spheres_normals_are_the_turned_sphere(degrees, scale, x, y):
    size, radius = 160, 40
    found = resample(
        with_normals(sphere(size, (x, y), radius)[0]), size, degrees=degrees, scale=scale
    ).normals
    a = math.radians(degrees)
    turned = (x * math.cos(a) - y * math.sin(a)) * scale, (x * math.sin(a) + y * math.cos(a)) * scale
    right, there = sphere(size, turned, radius * scale)
    known = (found.norm(dim=0) > 0) & there
    assert known.sum() > 0.97 * there.sum()
    cosine = (found * right).sum(0)[known & (right[2] > 0.3)]  # at the rim, a pixel is many degrees
    assert float(cosine.min()) > math.cos(math.radians(1.5))


def test_a_quarter_turn_is_exact():
    before = scene(20, 20)
    after = resample(before, 20, degrees=90)
    for a, b in zip(before[1:4], after[1:4], strict=True):
        assert torch.equal(torch.rot90(a, 1, (-2, -1)), b)
    assert torch.allclose(torch.rot90(before.image, 1, (-2, -1)), after.image, atol=1e-5)
    x, y, z = torch.rot90(before.normals, 1, (-2, -1))
    assert torch.allclose(torch.stack([-y, x, z]), after.normals, atol=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_flipped_twice_is_as_before_and_once_is_mirrored(seed):
    before = scene(seed=seed)
    once = flip(before)
    assert all(torch.equal(a, b) for a, b in zip(flip(once), before, strict=True))
    assert torch.equal(once.normals[0, :, 0], -before.normals[0, :, -1])
    assert torch.equal(once.normals[1:, :, 0], before.normals[1:, :, -1])
    assert torch.equal(once.semseg[:, 0], before.semseg[:, -1])
    assert once.image.data_ptr() != before.image.data_ptr()


def test_a_mirrored_spheres_normals_are_the_mirrored_sphere():
    found = flip(with_normals(sphere(64, (9, 4), 20)[0])).normals
    assert torch.allclose(found, sphere(64, (-9, 4), 20)[0].float(), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_augmented_answers_are_answers(seed, size):
    before = scene(seed=seed % 7)
    found = augment(before, torch.Generator().manual_seed(seed), size=size)
    assert found.image.shape == found.normals.shape == (3, *size)
    assert found.semseg.shape == found.human_parts.shape == found.saliency.shape == size
    assert [x.dtype for x in found] == [torch.float32, *[torch.int64] * 3, torch.float32]
    for x, allowed in zip(found[1:4], (range(21), range(7), range(2)), strict=True):
        assert set(x.unique().tolist()) <= {*allowed, IGNORE}
    assert 0 <= float(found.image.min()) <= float(found.image.max()) <= 1
    length = found.normals.norm(dim=0)
    assert bool(((length == 0) | ((length - 1).abs() < 1e-5)).all())


def test_what_comes_in_from_outside_is_unknown():
    before = scene(90, 120)
    before = before._replace(
        image=torch.ones_like(before.image),
        semseg=torch.ones_like(before.semseg),
        human_parts=torch.ones_like(before.human_parts),
        normals=torch.tensor([0.0, 0, 1])[:, None, None].expand(3, 90, 120),
    )
    found = resample(before, (90, 120), degrees=20, scale=0.8)
    y, x = torch.meshgrid(torch.arange(90) + 0.5 - 45, torch.arange(120) + 0.5 - 60, indexing="ij")
    c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
    inside = ((x * c - y * s).abs() / 0.8 < 60) & ((x * s + y * c).abs() / 0.8 < 45)
    assert 0.5 < inside.float().mean() < 0.7
    for label in (found.semseg, found.human_parts):
        assert torch.equal(label, torch.where(inside, 1, IGNORE))
    assert torch.equal(found.saliency == IGNORE, ~inside)
    assert torch.equal(found.normals.norm(dim=0) > 0, inside)
    assert torch.allclose(found.image[0], inside.float(), atol=1e-6)


@pytest.mark.parametrize("size", [(48, 60), (31, 77), (17, 19)])
def test_resizing_is_that_of_torch_cut_off_at_black_and_white(size):
    before = scene()
    before = before._replace(image=(before.image > 0.5).float())  # overshoots on both sides
    found = resample(before, size)
    right = torch.nn.functional.interpolate(before.image[None], size, mode="bicubic")[0]
    assert right.max() > 1.01
    assert right.min() < -0.01
    assert torch.allclose(found.image, right.clamp(0, 1), atol=1e-4)
    for a, b in zip(before[1:4], found[1:4], strict=True):
        nearest = torch.nn.functional.interpolate(a[None, None].double(), size, mode="nearest-exact")
        assert torch.equal(nearest[0, 0].long(), b)


def test_unknown_normals_bend_none_and_stay_unknown():
    g = torch.Generator().manual_seed(0)
    known = torch.rand(30, 30, generator=g) > 0.5
    n = torch.tensor([0.6, 0.0, 0.8])[:, None, None] * known
    for size in (30, 71, 448):
        found = resample(with_normals(n), size, degrees=7).normals
        there = found.norm(dim=0) > 0
        c, s = math.cos(math.radians(7)), math.sin(math.radians(7))
        right = torch.tensor([0.6 * c, 0.6 * s, 0.8])[:, None]
        assert torch.allclose(found[:, there], right.expand(-1, int(there.sum())), atol=1e-5)
        assert 0.3 < there.float().mean() < 0.6
    assert not resample(with_normals(0 * n), 50, degrees=7).normals.any()


def test_opposite_normals_leave_units():
    n = torch.zeros(3, 8, 8)
    n[0] = torch.tensor([1.0, -1.0]).repeat(4)
    found = resample(with_normals(n), 33).normals
    assert torch.allclose(found.norm(dim=0), torch.ones(33, 33), atol=1e-5)


def test_parts_are_unknown_where_nobody_is_labelled():
    before = scene()
    nobody = before._replace(human_parts=torch.zeros_like(before.human_parts))
    nobody.human_parts[:3] = IGNORE
    assert (mark_ignored(nobody).human_parts == IGNORE).all()
    assert not nobody.human_parts[4:].any()
    nobody.human_parts[5, 5] = 6
    assert mark_ignored(nobody) is nobody


def test_draws_are_spread_as_asked(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "geolessons.data.dense_transforms.resample",
        lambda sample, size, degrees, scale: seen.append((sample is flat, degrees, scale)) or sample,
    )
    flat, g = scene(4, 4), torch.Generator().manual_seed(0)
    for _ in range(2000):
        augment(flat, g)
    same, degrees, scales = (torch.tensor(x, dtype=torch.float64) for x in zip(*seen, strict=True))
    assert abs(float(same.mean()) - 0.5) < 0.04
    for x, low, high in ((degrees, -20, 20), (scales, 0.75, 1.25)):
        unit = (x - low) / (high - low)
        assert 0 <= unit.min() < 0.01
        assert 0.99 < unit.max() <= 1
        assert abs(float(unit.mean()) - 0.5) < 0.03
        assert abs(float(unit.std()) - 12**-0.5) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([same, degrees, scales])).triu(1).abs().max())) < 0.07


def test_normalise_makes_imagenets_statistics_zero_and_one():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 5, generator=g, dtype=torch.float64)
    scaled = [
        x[:, i] * std + mean for i, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    ]
    assert torch.allclose(normalise(torch.stack(scaled, 1)), x, atol=1e-12)
    assert (IMAGENET_MEAN, IMAGENET_STD) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"semseg": torch.zeros(3, 3)}, {}, r"sample.semseg has shape \(3, 3\)"),
        ({"normals": torch.zeros(24, 30)}, {}, r"sample.normals has shape .* needs \(3, 24, 30\)"),
        ({"image": torch.zeros(1, 3, 24, 30)}, {}, r"one picture is \(3, H, W\)"),
        ({}, {"size": 0}, "size=0 must be positive"),
        ({}, {"scale": 0.0}, "scale positive"),
        ({}, {"degrees": math.nan}, "must be finite"),
    ],
)
def test_the_impossible_is_refused(change, options, message):
    with pytest.raises(ValueError, match=message):
        resample(scene()._replace(**change), **({"size": 9} | options))


# ---------------------------------------------------------------- in a loader


def batches(data, seed, workers, epochs=2):
    g = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        Augmented(data, 20), batch_size=2, sampler=Shuffled(len(data), g), generator=g, num_workers=workers
    )
    return [[batch for batch in loader] for _ in range(epochs)]


def test_batches_follow_the_generator_with_any_number_of_workers(root):
    made.write(root)
    data, before = PascalContext(root), torch.get_rng_state()
    first = batches(data, 0, workers=2)
    assert torch.equal(before, torch.get_rng_state())
    assert isinstance(first[0][0], Dense)
    assert first[0][0].image.shape == (2, 3, 20, 20)
    assert [len(batch.semseg) for batch in first[0]] == [2, 1]
    for workers in (2, 0):
        again = batches(data, 0, workers)
        for a, b in zip(itertools.chain(*first), itertools.chain(*again), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    images = [torch.cat([b.image for b in epoch]) for epoch in (*first, *batches(data, 1, 0))]
    for i, one in enumerate(images):
        for other in images[:i]:
            assert not any(torch.equal(x, y) for x in one for y in other)


def test_an_index_without_a_seed_is_refused(root):
    made.write(root)
    with pytest.raises(ValueError, match=r"index=0 must be a pair .* sampler=Shuffled"):
        Augmented(PascalContext(root))[0]


def test_evaluation_is_resizing_only(root):
    made.write(root)
    data = PascalContext(root, "train")
    for raw, found in zip(data, Resized(data, (9, 11)), strict=True):
        right = mark_ignored(resample(raw, (9, 11)))
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert len(Resized(data)) == len(Augmented(data)) == 3


# ---------------------------------------------------------------- clothed people


@pytest.fixture
def clothed(tmp_path):
    folder, rng = tmp_path / "ccp", np.random.default_rng(0)
    rows = [f"{i},class {i},{i % 8},{int(i > 0)}" for i in range(59)]
    for name in ("0001", "0002"):
        for split in ("train", "val"):
            for kind in ("JPEGImages", "semseg"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 6, 3), np.uint8)).save(
                folder / f"{split}/JPEGImages/{name}.jpg"
            )
            Image.fromarray(rng.integers(0, 59, (17, 12), np.uint8)).save(
                folder / f"{split}/semseg/{name}.png"
            )
    (folder / "classes.csv").write_text("\n".join(["id,name,part_group,foreground", *rows]) + "\n")
    return folder


def test_clothed_people_have_three_answers_from_one(clothed):
    data = ClothingPeople(clothed.parent, "val")
    data.check()
    assert data.names == ["0001", "0002"]
    full = np.asarray(Image.open(clothed / "val/semseg/0001.png"))
    sample = data[0]
    assert torch.equal(sample.human_parts, sample.semseg % 8)
    assert torch.equal(sample.saliency, (sample.semseg > 0).long())
    assert not sample.normals.any()
    rows = (np.floor((np.arange(8) + 0.5) * 17 / 8)).astype(int)
    assert np.array_equal(sample.semseg, full[rows][:, 1::2])
    found = Resized(data, 12)[0]
    assert found.image.shape == (3, 12, 12)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda f: (f / "train/semseg/0001.png").unlink(), "1 of 4 .*\n.*0001.png is missing"),
        (lambda f: (f / "train/JPEGImages/0002.jpg").unlink(), "1 of 4 .*\n.*0002.jpg is missing"),
        (
            lambda f: Image.new("L", (6, 8)).save(f / "train/semseg/0001.png"),
            "not twice its photograph's 8×6",
        ),
        (lambda f: Image.new("RGB", (12, 16)).save(f / "train/semseg/0001.png"), "has the mode RGB"),
        (lambda f: (f / "train/semseg/0001.png").write_bytes(b"x"), "is no PNG"),
    ],
)
def test_clothed_people_are_checked(clothed, how, message):
    data = ClothingPeople(clothed.parent)
    how(clothed)
    with pytest.raises(ValueError, match=message):
        data.check()


def test_what_clothed_people_need_is_named(clothed, monkeypatch):
    monkeypatch.delenv("GEOLESSONS_DATA", raising=False)
    with pytest.raises(ValueError, match="GEOLESSONS_DATA is not set"):
        ClothingPeople()
    with pytest.raises(ValueError, match="split='x'"):
        ClothingPeople(clothed.parent, "x")
    Image.fromarray(np.full((16, 12), 59, np.uint8)).save(clothed / "train/semseg/0001.png")
    with pytest.raises(ValueError, match=r"holds the labels \[59\]"):
        ClothingPeople(clothed.parent)[0]
    shutil.rmtree(clothed / "val")
    with pytest.raises(ValueError, match="holds no photographs"):
        ClothingPeople(clothed.parent, "val")
    text = (clothed / "classes.csv").read_text()
    for damaged in (text.replace("58,", "57,"), text[:-3], text.replace(",7,", ",8,"), "x", ""):
        (clothed / "classes.csv").write_text(damaged)
        with pytest.raises(ValueError, match=r"classes\.csv is damaged"):
            ClothingPeople(clothed.parent)
    (clothed / "classes.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"classes\.csv is missing"):
        ClothingPeople(clothed.parent)


@pytest.mark.skipif(not os.environ.get("GEOLESSONS_DATA"), reason="GEOLESSONS_DATA is not set")
def test_the_real_photographs_of_clothed_people():
    train, val = ClothingPeople(split="train"), ClothingPeople(split="val")
    assert (len(train), len(val)) == (300, 50)
    val.check()
    assert train.classes[41] == "skin"
    share = torch.zeros(8)
    for i in range(0, 50, 5):
        sample = val[i]
        assert sample.image.shape[2] == 275
        share += sample.human_parts.flatten().bincount(minlength=8) / sample.semseg.numel() / 10
        assert torch.equal(sample.saliency, (sample.semseg > 0).long())
    assert 0.65 < float(share[0]) < 0.85  # 0.765 in training
    assert bool((share > 0).all())
    g = torch.Generator().manual_seed(0)
    order = Shuffled(len(train), g)
    batch = next(iter(DataLoader(Augmented(train, 96), batch_size=4, sampler=order, generator=g)))
    assert batch.semseg.shape == (4, 96, 96)
    assert (batch.semseg == IGNORE).any()
    assert int(batch.semseg[batch.semseg != IGNORE].max()) < 59
