"""Texts become vectors of norm 1, zeros where nothing is known, the same on every machine."""

import json
import logging
import sys
import types

import numpy as np
import pytest

from segue.data.features import text as module
from segue.data.features.text import text_encoder, text_encoder_from_dict
from segue.errors import ArgumentError

FILMS = ["Toy Story (1995)", "Toy Story 2 (1999)", "Heat (1995)", "The Matrix (1999)", "The Matrix Reloaded"]


@pytest.fixture
def without(monkeypatch):
    """Make a package look as if it were not installed."""

    def hide(name):
        monkeypatch.setitem(sys.modules, name, None)
        module._wordllama.cache_clear()

    yield hide
    module._wordllama.cache_clear()


def norms(vectors):
    return np.linalg.norm(vectors, axis=1)


def test_words_share_what_they_share_and_know_only_what_two_texts_hold():
    encoder = text_encoder("words", FILMS)
    assert encoder.words == ("1995", "1999", "matrix", "story", "the", "toy")
    assert encoder.counts == (2,) * 6
    toy, again, heat, unknown, empty = encoder.encode(["toy STORY", "Story: Toy!", "heat 1995", "Casino", ""])
    assert toy @ again == pytest.approx(1)
    assert abs(toy @ heat) < 0.5
    assert norms([toy, heat, unknown, empty]).round(5).tolist() == [1, 1, 0, 0]
    assert encoder.encode([]).shape == (0, 256)


def test_a_rare_word_weighs_more():
    encoder = text_encoder("words", ["a b", "a b", "a c", "a c", "a"])
    both, rare, frequent = encoder.encode(["a b", "b", "a"])
    assert both @ rare > both @ frequent


def test_words_of_other_alphabets_count():
    assert norms(text_encoder("words", ["Амели́ жизнь", "жизнь"]).encode(["ЖИЗНЬ"])).round(5) == [1]


def test_words_without_texts_are_refused():
    with pytest.raises(ArgumentError, match=r'encoder "words": expected texts to learn words from, came none. Give'):
        text_encoder("words", None)
    assert not text_encoder("words", []).encode(["anything"]).any()


@pytest.mark.parametrize("texts", [FILMS, [], ["one"]])
def test_words_are_stored_as_plain_values(texts):
    encoder = text_encoder("words", texts)
    back = text_encoder_from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert back == encoder
    np.testing.assert_array_equal(back.encode(FILMS), encoder.encode(FILMS))


def test_a_name_that_is_no_folder_says_what_may_be_given(tmp_path):
    with pytest.raises(ArgumentError, match=r'encoder ".*nowhere": expected "words", "wordllama", "auto" or a folder'):
        text_encoder(str(tmp_path / "nowhere"), FILMS)


def test_a_folder_needs_its_package(tmp_path, without):
    without("sentence_transformers")
    with pytest.raises(ArgumentError, match=r"expected the package sentence_transformers.*pip install sentence-tr"):
        text_encoder(str(tmp_path), FILMS)


def test_a_folder_is_opened_only_when_there_is_text(tmp_path, monkeypatch):
    class Model:
        def __init__(self, folder, local_files_only):
            assert (folder, local_files_only) == (str(tmp_path), True)

        def encode(self, texts, show_progress_bar):
            return np.array([[len(text), 1.0, 0.0] for text in texts], np.float32)

    package = types.ModuleType("sentence_transformers")
    package.SentenceTransformer = Model
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    module._folder_model.cache_clear()
    encoder = text_encoder(str(tmp_path), FILMS)
    assert encoder.width == 3
    assert norms(encoder.encode(["ab", "", "a longer one"])).round(5).tolist() == [1, 0, 1]
    module._folder_model.cache_clear()
    tmp_path.rmdir()
    back = text_encoder_from_dict(encoder.to_dict())
    assert back == encoder
    assert not back.encode(["", " "]).any()
    with pytest.raises(ArgumentError, match="found no such folder"):
        back.encode(["ab"])


def test_without_wordllama_auto_means_words(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert text_encoder("auto", FILMS).name == "words"


def test_wordllama_that_is_missing_is_named_when_text_must_be_encoded_and_not_before(without):
    without("wordllama")
    encoder = text_encoder_from_dict({"name": "wordllama", "mean": [0.0] * 256})
    assert not encoder.encode(["", "  "]).any()
    with pytest.raises(ArgumentError, match=r"expected the package wordllama.*Run pip install 'segue\[text\]'"):
        encoder.encode(["Heat"])


@pytest.fixture
def wordllama():
    pytest.importorskip("wordllama", reason="wordllama is not installed: the extra `text` is not tested")


@pytest.mark.usefixtures("wordllama")
def test_wordllama_finds_what_is_alike_and_leaves_logging_alone():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    encoder = text_encoder("auto", FILMS)
    assert (root.handlers, root.level) == before
    assert (encoder.name, encoder.width) == ("wordllama", 256)
    dog, puppy, tax, empty = encoder.encode(["a dog in the garden", "puppies and hounds", "income tax law", ""])
    assert dog @ puppy > dog @ tax + 0.1
    assert norms([dog, puppy, tax, empty]).round(5).tolist() == [1, 1, 1, 0]
    assert text_encoder_from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder


@pytest.mark.usefixtures("wordllama")
def test_wordllama_gives_a_text_the_same_vector_in_any_company():
    encoder = text_encoder("wordllama", FILMS)
    texts = [*FILMS, "long " * 2_000, "", *("word " * n for n in range(70))]
    together = encoder.encode(texts)
    for place in (0, 5, 6, 20):
        np.testing.assert_allclose(encoder.encode([texts[place]])[0], together[place], atol=1e-6)


@pytest.mark.usefixtures("wordllama")
def test_wordllama_subtracts_the_mean_and_nothing_where_there_is_none():
    vectors = text_encoder("wordllama", FILMS).encode(FILMS)
    raw = text_encoder("wordllama").encode(FILMS)
    assert np.abs(vectors.mean(axis=0)).sum() < np.abs(raw.mean(axis=0)).sum() / 2
    assert not text_encoder("wordllama", ["same", "same"]).encode(["same"]).any()
