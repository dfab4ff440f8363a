"""Sentences: words as numbers, words out of order, CoLA's files, Matthews' correlation, and the encoder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sentences import write
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from geolessons.data.cola import FILES, cola
from geolessons.data.words import PADDING, UNKNOWN, Vocabulary, misordered, words
from geolessons.metrics import matthews, roc_area
from geolessons.models.encoder import Encoder
from geolessons.trees import params_of

SENTENCES = st.lists(st.text("abc .,'", min_size=1).filter(lambda s: s.strip()), min_size=1, max_size=8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in CoLA's layout."""
    monkeypatch.setenv("GEOLESSONS_DATA", str(tmp_path))
    return write(tmp_path)


# ---------------------------------------------------------------- words


def test_a_mark_is_a_word_and_capitals_are_small() -> None:
    found = words("Who did Kim say—that SHE  left?")
    assert found == ["who", "did", "kim", "say", "—", "that", "she", "left", "?"]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(SENTENCES, st.integers(1, 3))
def test_a_vocabulary_holds_the_frequent_words_and_tells_them_apart(sentences: list[str], least: int) -> None:
    counts = Counter(word for sentence in sentences for word in words(sentence))
    wanted = {word for word, count in counts.items() if count >= least}
    if not wanted:
        with pytest.raises(ValueError, match="sentences hold no word"):
            Vocabulary(sentences, least=least)
        return
    known = Vocabulary(sentences, least=least)
    assert set(known.words) == wanted
    assert [counts[w] for w in known.words] == sorted((counts[w] for w in wanted), reverse=True)
    assert Vocabulary(sentences[::-1], least=least).words == known.words
    ids = known.encode(sentences, 6)
    assert ids.shape == (len(sentences), 6)
    assert int(ids.max()) < len(known) == len(wanted) + 2
    for row, sentence in zip(ids.tolist(), sentences, strict=True):
        heard = words(sentence)[:6]
        back = [None if i == UNKNOWN else known.words[i - 2] for i in row[: len(heard)]]
        assert back == [word if word in wanted else None for word in heard]
        assert row[len(heard) :] == [PADDING] * (6 - len(heard))


def test_words_that_were_never_seen_are_unknown() -> None:
    known = Vocabulary(["kim saw kim"])
    assert known.encode(["Pat saw KIM"], 3).tolist() == [[UNKNOWN, UNKNOWN, 2]]
    with pytest.raises(ValueError, match=r"sentences\[1\]='  ' has no word"):
        known.encode(["kim", "  "], 3)
    with pytest.raises(ValueError, match="length=0"):
        known.encode(["kim"], 0)
    with pytest.raises(ValueError, match="least=0"):
        Vocabulary(["kim"], least=0)


# ---------------------------------------------------------------- words out of order


def rows(n: int, size: int, length: int) -> torch.Tensor:
    """Sentences, n of them, of `size` different words."""
    ids = torch.zeros(n, length, dtype=torch.long)
    ids[:, :size] = torch.arange(2, size + 2)
    return ids


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 12])
def test_words_out_of_order_are_the_same_words(size: int) -> None:
    ids, state = rows(3000, size, 12), torch.get_rng_state()
    z = misordered(ids, torch.Generator().manual_seed(0))
    assert torch.equal(ids, rows(3000, size, 12))
    assert torch.equal(z, misordered(ids, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(z.sort(1).values, ids.sort(1).values)
    assert torch.equal(z[:, size - 1 :], ids[:, size - 1 :])
    if size < 3:
        assert torch.equal(z, ids)


def test_a_third_each_is_neighbours_any_two_and_shuffled() -> None:
    """Nine words, eight of which move.  A shuffle leaves six or more of them in place one time in 1,400."""
    n, ids = 30_000, rows(30_000, 9, 12)
    z = misordered(ids, torch.Generator().manual_seed(0))
    moved = z != ids
    two = moved.sum(1) == 2
    at = moved[two].nonzero()[:, 1].reshape(-1, 2)
    close = (at[:, 1] - at[:, 0] == 1).double().mean()
    assert float(two.double().mean()) == pytest.approx(2 / 3, abs=0.01)
    # of two drawn at random on the ring, the first never the last word, 13 in 49 are neighbours
    assert float(close) == pytest.approx((1 + 13 / 49) / 2, abs=0.02)
    assert float((moved.sum(1) > 2).double().mean()) == pytest.approx(1 / 3, abs=0.01)
    places = (z[~two] == 2).nonzero()[:, 1].bincount(minlength=8)  # where a shuffle puts the first word
    assert places.min() > 0.9 * places.double().mean()
    assert n == len(z)


# ---------------------------------------------------------------- CoLA's files


def test_cola_is_read_as_it_is_written(root: Path) -> None:
    found = cola()
    for file, sentences, y in zip(FILES, (found.train, found.dev), (found.y_train, found.y_dev), strict=True):
        written = [line.split("\t") for line in (root / "text/cola" / file).read_text("utf8").splitlines()]
        assert sentences == [row[3] for row in written]
        assert y.tolist() == [int(row[1]) for row in written]
        assert y.dtype == torch.int64
    assert cola(root).dev == found.dev


def test_cola_says_what_to_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "text/cola" / FILES[1]).unlink()
    with pytest.raises(FileNotFoundError, match="GEOLESSONS_DATA, must name the folder") as caught:
        cola()
    assert FILES[1] in str(caught.value)
    assert FILES[0] not in str(caught.value)
    monkeypatch.delenv("GEOLESSONS_DATA")
    with pytest.raises(ValueError, match="root is not given and GEOLESSONS_DATA is not set"):
        cola()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[: raw.rindex(b"\t") + 1], "is damaged at line 240"),
        (lambda raw: raw.replace(b"\t1\t", b"\t2\t", 1), "is damaged at line 2: it needs four columns"),
        (lambda raw: raw.replace(b"\t", b" "), "is damaged at line 1"),
        (lambda raw: raw.replace(b"\t0\t", b"\t1\t"), "one of the labels 0 and 1 is missing"),
        (lambda raw: b"", "among its 0 lines"),
        (lambda raw: raw[:-3] + b"\xff\xfe\n", "it is not UTF-8 text"),
        (lambda raw: b"<html>not found</html>", "is damaged at line 1"),
    ],
)
def test_cola_refuses_damaged_files(root: Path, damage, said: str) -> None:
    path = root / "text/cola" / FILES[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=said) as caught:
        cola()
    assert FILES[0] in str(caught.value)


# ---------------------------------------------------------------- Matthews' correlation


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_matthews_is_scikit_learns_and_pearsons(pairs: list[tuple[int, int]]) -> None:
    says, true = (torch.tensor(column) for column in zip(*pairs, strict=True))
    found = matthews(says, true)
    constant = len(set(says.tolist())) == 1 or len(set(true.tolist())) == 1
    if constant:
        assert found == 0
        return
    assert found == pytest.approx(matthews_corrcoef(true.numpy(), says.numpy()), abs=1e-12)
    assert found == pytest.approx(pearsonr(true.double().numpy(), says.double().numpy())[0], abs=1e-12)
    assert matthews(1 - says, true) == pytest.approx(-found, abs=1e-12)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=1, max_size=40))
def test_the_area_under_the_curve_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    scores, y = (torch.tensor(column) for column in zip(*pairs, strict=True))
    if len(set(y.tolist())) == 1:
        with pytest.raises(ValueError, match="y must hold both 0 and 1"):
            roc_area(scores, y)
        return
    assert roc_area(scores, y) == pytest.approx(roc_auc_score(y.numpy(), scores.numpy()), abs=1e-12)


def test_answers_and_scores_that_do_not_fit_are_refused() -> None:
    y = torch.tensor([0, 1])
    for wrong in (torch.tensor([0, 2]), torch.tensor([0.5, 1])):
        with pytest.raises(ValueError, match="predicted must hold 0 and 1 alone"):
            matthews(wrong, y)
    with pytest.raises(ValueError, match=r"predicted has shape \(3,\), y \(2,\)"):
        matthews(torch.zeros(3), y)
    with pytest.raises(ValueError, match="n from 1"):
        matthews(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="y must hold 0 and 1 alone"):
        roc_area(torch.zeros(2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"scores has shape \(3,\)"):
        roc_area(torch.zeros(3), y)


# ---------------------------------------------------------------- the encoder


@pytest.fixture
def encoder() -> Encoder:
    g = torch.Generator().manual_seed(0)
    return Encoder(20, g, width=16, heads=2, layers=2, length=8, dtype=torch.float64)


def test_the_encoder_is_attention_by_hand(encoder: Encoder) -> None:
    ids = torch.tensor([[3, 7, 5]])
    x = encoder.words[ids[0]] + encoder.places[:3]
    for block in encoder.blocks:
        h = block.norm1(x)
        parts = []
        for head in range(2):
            at = slice(8 * head, 8 * head + 8)
            q, k, v = (part(h)[:, at] for part in (block.q, block.k, block.v))
            parts.append((q @ k.T / 8**0.5).softmax(1) @ v)
        x = x + block.o(torch.cat(parts, 1))
        x = x + block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(x))))
    expected = encoder.head(encoder.norm(x).mean(0))
    torch.testing.assert_close(encoder(ids)[0], expected, rtol=0, atol=1e-12)


def test_sentences_do_not_see_each_other_or_padding_but_see_their_order(encoder: Encoder) -> None:
    ids = torch.tensor([[3, 4, 5, 6, 0, 0, 0, 0], [7, 8, 0, 0, 0, 0, 0, 0], [3, 4, 6, 5, 0, 0, 0, 0]])
    together = encoder(ids)
    alone = torch.cat([encoder(ids[:1, :4]), encoder(ids[1:2, :2]), encoder(ids[2:])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert float((together[0] - together[2]).detach().abs().max()) > 1e-6


def test_the_encoder_draws_from_its_generator_and_refuses(encoder: Encoder) -> None:
    state = torch.get_rng_state()
    g = torch.Generator().manual_seed(0)
    again = Encoder(20, g, width=16, heads=2, layers=2, length=8, dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    other = Encoder(20, torch.Generator().manual_seed(1), width=16, heads=2, length=8, dtype=torch.float64)
    for name, W in params_of(encoder).items():
        assert torch.equal(W, params_of(again)[name])
        if W.dim() == 2:
            assert not torch.equal(W, params_of(other)[name])
    with pytest.raises(ValueError, match="width=15 must be a multiple of heads=2"):
        Encoder(20, g, width=15, heads=2)
    with pytest.raises(ValueError, match="layers=0 must be at least 1"):
        Encoder(20, g, layers=0)
    with pytest.raises(ValueError, match="a sentence without a word"):
        encoder(torch.tensor([[3], [0]]))
    with pytest.raises(ValueError, match="sentences of 9 words, the encoder places for 8"):
        encoder(torch.ones(1, 9, dtype=torch.long))
