"""Long captions, clip skip and weights against what kohya's description says, worked out by hand on a small text encoder."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from fashion_ml.errors import InputError
from fashion_ml.models.families.family import Family
from fashion_ml.models.single_file import clip_tokenizer
from fashion_ml.models.stable_diffusion import encode_captions, load_pipeline, prompt_embeddings
from fashion_ml.models.text_encoding import (
    TextSettings,
    encode_tokens,
    token_counter,
    token_limit,
    tokenize,
    weighted_pieces,
)

CAPTIONS = {
    "none": "",
    "short": "a red dress, zarya style",
    "74": "red " * 74,
    "75": "red " * 75,
    "76": "red " * 75 + "hat",
    "two and a half chunks": "a long red dress with sleeves, " * 23,
    "more than three": "blue, " * 140,
}
LAYERS = 3
tokenizer_of = cache(clip_tokenizer)


@cache
def encoder(layers: int = LAYERS) -> Any:
    """A text encoder of random weights; one of fewer layers has the same first ones."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = CLIPTextConfig(vocab_size=49408, num_hidden_layers=LAYERS, bos_token_id=49406, eos_token_id=49407, **sizes)
    model = CLIPTextModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    inner = getattr(model, "text_model", model)
    del inner.encoder.layers[layers:]
    return model


def by_hand(kind: str, caption: str, length: int, clip_skip: int) -> torch.Tensor:
    """The tokens are cut to the length, split into 75s, each between BOS and EOS and padded; BOS of the first, the 75s, EOS of the last.

    Clip skip k takes what a text encoder without the last k - 1 layers gives.
    """
    tokenizer = tokenizer_of(kind)
    pad = {"sd1": 49407, "sd2": 0}[kind]
    ids = tokenizer(caption).input_ids[1:-1][:length]
    found = []
    for first in range(0, length, 75):
        row = [49406, *ids[first : first + 75], 49407]
        row += [pad] * (77 - len(row))
        found.append(encoder(LAYERS + 1 - clip_skip)(torch.tensor([row])).last_hidden_state[0])
    middle = [part[1:76] for part in found]
    return torch.cat([found[0][:1], *middle, found[-1][76:]])


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@pytest.mark.parametrize("length", [75, 150, 225])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_embeddings_are_those_of_kohyas_chunks(kind: str, length: int, clip_skip: int):
    settings = TextSettings(length, clip_skip)
    tokens = tokenize(tokenizer_of(kind), list(CAPTIONS.values()), settings)
    ours = encode_tokens(encoder(), tokens, clip_skip)
    assert ours.shape == (len(CAPTIONS), length + 2, 32)
    for caption, embedding in zip(CAPTIONS.values(), ours, strict=True):
        torch.testing.assert_close(embedding, by_hand(kind, caption, length, clip_skip), rtol=0, atol=1e-5)


def test_what_lies_behind_75_tokens_counts_only_where_more_are_asked_for():
    long, longer = CAPTIONS["75"], CAPTIONS["76"]
    tokenizer = tokenizer_of("sd1")
    for length, same in ((75, True), (150, False)):
        first, second = tokenize(tokenizer, [long, longer], TextSettings(length)).ids
        assert torch.equal(first, second) == same


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_75_tokens_without_clip_skip_are_the_tokenizers_own(kind: str):
    tokenizer = tokenizer_of(kind)
    own = tokenizer(
        list(CAPTIONS.values()), padding="max_length", truncation=True, max_length=77, return_tensors="pt"
    ).input_ids
    ours = tokenize(tokenizer, list(CAPTIONS.values()), TextSettings())
    assert torch.equal(ours.ids[:, 0], own)
    assert ours.weights is None


def test_an_exclamation_mark_at_the_edge_of_a_chunk_is_padding_to_sd2_as_it_is_to_kohya():
    """`!?` is two tokens of which the first is 0, the padding; as a caption's first it becomes EOS, as the 75th it leaves no EOS behind it."""
    tokens = tokenize(tokenizer_of("sd2"), ["!? " + "red " * 80, "red " * 74 + "!?"], TextSettings(150))
    assert tokens.ids[:, 0, [1, 75, 76]].tolist() == [[49407, 736, 49407], [736, 0, 0]]


def test_at_the_usual_settings_prompts_are_to_the_bit_what_diffusers_makes_of_them():
    pipeline = load_pipeline("embedded")
    prompts = ["a red dress", "a blue hat, zarya style", "a (green) [skirt]"]
    own = pipeline.encode_prompt(prompts, "cpu", 1, True)
    ours = prompt_embeddings(pipeline, prompts, [""] * 3, TextSettings(clip_skip=1))
    assert torch.equal(ours["prompt_embeds"], own[0])
    assert torch.equal(ours["negative_prompt_embeds"], own[1])
    assert torch.equal(encode_captions(pipeline, prompts), own[0])


def test_the_negative_prompt_is_as_long_as_the_prompt():
    pipeline = load_pipeline("embedded")
    found = prompt_embeddings(pipeline, ["a red dress"], [""], TextSettings(225, 2))
    assert [part.shape[1] for part in found.values()] == [92, 92]  # the embedded text encoder reads 30 tokens at once
    assert token_limit(pipeline.tokenizer, 225) == 90


def test_tokens_are_counted_without_begin_and_end():
    count = token_counter(tokenizer_of("sd1"))
    assert [count(CAPTIONS[name]) for name in ("none", "74", "76")] == [0, 74, 76]
    assert count("a (red:1.2) dress") == 3 + len(["(", ":", "1", ".", "2", ")"])
    assert token_counter(tokenizer_of("sd1"), weighted_captions=True)("a (red:1.2) dress") == 3


@pytest.mark.parametrize("clip_skip", [4, 13])
def test_more_clip_skip_than_layers_is_refused(clip_skip: int):
    family, pipeline = Family(), SimpleNamespace(text_encoder=encoder())
    family.check_clip_skip(LAYERS, pipeline)
    with pytest.raises(InputError, match=rf"model\.clip_skip: {clip_skip} is no layer that captions of .* use 1 to 3"):
        family.check_clip_skip(clip_skip, pipeline)


@pytest.mark.parametrize(
    ("caption", "pieces"),
    [
        ("plain text", [("plain text", 1)]),
        ("a (red:1.2) dress", [("a ", 1), ("red", 1.2), (" dress", 1)]),
        ("(red) [blue]", [("red", 1.1), (" ", 1), ("blue", 1 / 1.1)]),
        ("((red))", [("red", 1.1 * 1.1)]),
        ("(a (red:1.3) hat:2)", [("a ", 2), ("red", 2.6), (" hat", 2)]),
        (r"zarya \(artist\) \[x\] \\", [("zarya (artist) [x] \\", 1)]),
        (r"(a \(b\):0.5)", [("a (b)", 0.5)]),
        ("(open to the end", [("open to the end", 1.1)]),
        ("[open (twice", [("open ", 1 / 1.1), ("twice", 1.1 / 1.1)]),
        ("never opened) ]", [("never opened) ]", 1)]),
        ("size:38, ratio 1:2)", [("size:38, ratio 1:2)", 1)]),
        ("(a)(b)", [("ab", 1.1)]),
        ("()", []),
        ("(x:.5) (y:1.)", [("x", 0.5), (" y", 1)]),
        ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
        ("", []),
    ],
)
def test_brackets_are_read_as_the_webuis_read_them(caption: str, pieces: list[tuple[str, float]]):
    found = weighted_pieces(caption)
    assert [text for text, _ in found] == [text for text, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


def test_weights_multiply_the_embeddings_of_their_tokens_and_keep_the_mean():
    """a, red, dress are tokens 1, 2, 3: the embedding of token 2 is multiplied, then all by mean before / mean after."""
    tokenizer = tokenizer_of("sd1")
    plain = encode_tokens(encoder(), tokenize(tokenizer, ["a red dress"], TextSettings()), None)[0]
    settings = TextSettings(weighted_captions=True)
    tokens = tokenize(tokenizer, ["a (red:1.5) dress", "a blue dress"], settings)
    assert tokens.weights is not None
    assert tokens.weights[0, 0, :4].tolist() == [1, 1, 1.5, 1]
    ours = encode_tokens(encoder(), tokens, None)
    expected = plain.clone()
    expected[2] *= 1.5
    expected *= plain.mean() / expected.mean()
    torch.testing.assert_close(ours[0], expected, rtol=1e-5, atol=1e-6)
    alone = encode_tokens(encoder(), tokenize(tokenizer, ["a blue dress"], TextSettings()), None)[0]
    torch.testing.assert_close(ours[1], alone, rtol=1e-6, atol=1e-6)


def test_a_weight_in_the_second_chunk_is_of_its_own_tokens():
    caption = "red " * 80 + "(hat:2)"
    tokens = tokenize(tokenizer_of("sd1"), [caption], TextSettings(150, weighted_captions=True))
    assert tokens.weights is not None
    assert tokens.weights[0].nonzero().shape[0] == 2 * 77  # none is 0
    assert (tokens.weights[0] == 2).nonzero().tolist() == [[1, 6]]


def test_brackets_are_text_unless_weights_are_asked_for():
    tokenizer = tokenizer_of("sd1")
    assert tokenize(tokenizer, ["a (red:1.2) dress"], TextSettings()).weights is None
    assert len(tokenizer("a (red:1.2) dress").input_ids) - 2 == 9


def test_gradients_reach_the_layers_that_clip_skip_leaves():
    """Three chunks; of three layers the last has no part in what comes out."""
    model = CLIPTextModel(encoder().config)
    tokens = tokenize(tokenizer_of("sd1"), [CAPTIONS["more than three"]], TextSettings(225))
    encode_tokens(model, tokens, 2).square().sum().backward()
    layers = getattr(model, "text_model", model).encoder.layers
    reached = [layer.mlp.fc1.weight.grad is not None and bool(layer.mlp.fc1.weight.grad.any()) for layer in layers]
    assert reached == [True, True, False]
