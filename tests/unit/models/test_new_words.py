"""New words: read as diffusers reads their file, known words as before, whole in a LoRA's metadata."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fashion_ml.errors import InputError
from fashion_ml.models.new_words import (
    WORDS,
    NewWord,
    as_metadata,
    initial_vectors,
    mean_of,
    put_words,
    spelt,
    together,
    without_words,
    words_in,
    words_of,
    write_embedding,
)
from fashion_ml.models.stable_diffusion import encode_captions, load_pipeline
from fashion_ml.models.text_encoding import TextSettings, token_counter
from fashion_ml.runtime.whole_words import whole_word

SMALL = {"num_inference_steps": 2, "output_type": "np", "height": 64, "width": 64}


def vectors(count: int = 2, seed: int = 0, width: int = 0) -> torch.Tensor:
    width = width or load_pipeline("embedded").text_encoder.config.hidden_size
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_a_pictures_prompt_is_read_as_diffusers_reads_the_words_file(tmp_path: Path):
    ours, theirs = load_pipeline("embedded"), load_pipeline("embedded")
    put_words(ours, [NewWord("Zarya", vectors(), "dress")])
    write_embedding(tmp_path / "zarya.safetensors", words_of(ours)[0])
    theirs.load_textual_inversion(str(tmp_path / "zarya.safetensors"), token="zarya")
    made = ours(spelt(ours.tokenizer, "a red ZARYA, striped"), generator=torch.Generator().manual_seed(0), **SMALL).images
    same = theirs("a red zarya, striped", generator=torch.Generator().manual_seed(0), **SMALL).images
    plain = theirs("a red dress, striped", generator=torch.Generator().manual_seed(0), **SMALL).images
    assert (made == same).all()
    assert abs(made - plain).max() > 0.1


def test_what_the_base_knows_stays_as_it_was_and_the_word_goes_again():
    pipeline = load_pipeline("embedded")
    before, count = encode_captions(pipeline, ["a red dress, zarya"]), token_counter(pipeline.tokenizer)
    alone = count("zarya")
    known = encode_captions(pipeline, ["a red dress"])
    put_words(pipeline, [NewWord("zarya", vectors(3), "dress")])
    assert torch.equal(encode_captions(pipeline, ["a red dress"]), known)
    assert not torch.equal(encode_captions(pipeline, ["a red dress, zarya"]), before)
    assert (alone, count("zarya"), count("zaryas")) == (4, 3, alone + count("s"))
    put_words(pipeline, [NewWord("zarya", vectors(3, seed=1), "dress"), NewWord("kosha", vectors(1), "hat")])
    assert [(word.token, len(word.vectors)) for word in words_of(pipeline)] == [("zarya", 3), ("kosha", 1)]
    assert torch.equal(words_of(pipeline)[0].vectors, vectors(3, seed=1))
    put_words(pipeline, [])
    assert words_of(pipeline) == []
    assert torch.equal(encode_captions(pipeline, ["a red dress, zarya"]), before)


def test_a_word_that_begins_as_others_is_read_as_they_are():
    pipeline = load_pipeline("embedded")
    known = encode_captions(pipeline, ["a red dress, new"])
    put_words(pipeline, [NewWord("zarya", initial_vectors(pipeline, "red dress", 2), "red dress")])
    assert torch.equal(encode_captions(pipeline, ["a zarya, new"]), known)
    assert torch.equal(initial_vectors(pipeline, "red dress", 3)[2], initial_vectors(pipeline, "red", 1)[0])
    weighted = TextSettings(weighted_captions=True)
    assert not torch.equal(encode_captions(pipeline, ["a (zarya:1.5), new"], weighted), known)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a Zarya, red", True),
        ("zarya", True),
        ("紅zarya裙", True),
        ("(zarya:1.2)", True),
        ("zaryas", False),
        ("my_zarya", False),
    ],
)
def test_a_word_is_found_whole_in_any_case(text: str, found: bool):
    word = NewWord("zarya", torch.zeros(1, 4), "dress")
    assert (whole_word("zarya").search(text) is not None) == found
    assert (without_words(text, [word]) != text) == found
    assert without_words("a zarya, red", [word]) == "a dress, red"


def test_metadata_hold_the_numbers_bit_for_bit():
    word = NewWord("zarya", torch.tensor([[0.1, -3e-8], [float(2**30), 1 / 3]]), "ein Kleid, 裙")
    (again,) = words_in(as_metadata([word]), "lora: 'x'")
    assert (again.token, again.init_text) == (word.token, word.init_text)
    assert torch.equal(again.vectors, word.vectors)
    assert as_metadata([]) == {}
    assert words_in({}, "lora: 'x'") == []


@pytest.mark.parametrize(
    "told",
    [
        "no json",
        "[]",
        '{"zarya": 3}',
        '{"zarya": {"shape": [1, 2], "vectors": "AAAA", "init_text": "x"}}',
        '{"zarya": {"shape": [1, 1], "vectors": "AADAfw==", "init_text": "x"}}',
        '{"../zarya": {"shape": [1, 1], "vectors": "AAAAAA==", "init_text": "x"}}',
        '{"zarya": {"shape": [0, 1], "vectors": "", "init_text": "x"}}',
        '{"zarya": {"shape": [1, 1], "vectors": "AAAAAA==", "init_text": null}}',
        '{"zarya": {"shape": [1, 1], "vectors": "AAAAAA==", "init_text": " "}}',
        '{"zarya": {"shape": [Infinity, 2], "vectors": "AAAAAA==", "init_text": "x"}}',
        '{"a1": {"shape": [1, 1], "vectors": "AAAAAA==", "init_text": "x"}, "A1": {"shape": [1, 1], "vectors": "AAAAAA==", "init_text": "x"}}',
        "[" * 100_000,
    ],
)
def test_damaged_words_are_one_line(told: str):
    with pytest.raises(InputError, match="lora: 'x'"):
        words_in({WORDS: told}, "lora: 'x'")


def test_a_word_of_another_kind_of_base_is_refused():
    with pytest.raises(InputError, match="has vectors of 5 numbers"):
        put_words(load_pipeline("embedded"), [NewWord("zarya", torch.zeros(1, 5), "dress")])


def test_a_word_is_not_found_inside_what_another_is_spelt_as():
    pipeline = load_pipeline("embedded")
    put_words(pipeline, [NewWord("zarya", vectors(12), "dress"), NewWord("10", vectors(1), "hat")])
    assert token_counter(pipeline.tokenizer)("zarya 10") == 13
    assert spelt(pipeline.tokenizer, "a 10").count("<|") == 1


def test_words_of_several_files_stand_together_or_are_averaged():
    one, other = NewWord("zarya", torch.tensor([[1.0, 2.0]]), "dress"), NewWord("kosha", torch.tensor([[5.0, 6.0]]), "hat")
    far = NewWord("zarya", torch.tensor([[3.0, 6.0]]), "dress")
    assert [word.token for word in together([[one], [], [other, one]])] == ["zarya", "kosha"]
    with pytest.raises(ValueError, match="'zarya' with different vectors"):
        together([[one], [far]])
    assert torch.equal(mean_of([[one], [far]])[0].vectors, torch.tensor([[2.0, 4.0]]))
    with pytest.raises(ValueError, match="their words differ"):
        mean_of([[one], []])
