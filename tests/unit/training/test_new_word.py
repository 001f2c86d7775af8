"""A new word that trains along: what it begins as, what moves, what is refused, and that it is served as diffusers reads both files."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fashion_ml.config import validate
from fashion_ml.data.images import CaptionedImage
from fashion_ml.deploy.lora_files import average_of, merge_loras, resize_lora
from fashion_ml.deploy.lora_model import LoraModel
from fashion_ml.errors import InputError
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.new_words import NewWord, initial_vectors, words_in, words_of
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.new_word import begun_word, check_captions
from tests.unit.training.setup import Trained, experiment, train, write_images

PROMPT = "a red zarya"
SAMPLER = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}


def own(images: Path, *, data: dict[str, Any] | None = None, **sections: Any) -> Any:
    embedding = {"token": "zarya", "init_text": "dress", "vectors": 2, **sections.pop("embedding", {})}
    return experiment(
        images,
        embedding=embedding,
        data={"caption_prefix": "zarya", **(data or {})},
        optimizer={"learning_rate": 1e-2, "embedding_lr": 5e-2, **sections.pop("optimizer", {})},
        training={"save_every_n_steps": 2, **sections.pop("training", {})},
        **sections,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(own(images, data={"validation_split": 0.4}), tmp_path_factory.mktemp("out"))


def in_file(path: Path) -> NewWord:
    (word,) = words_in(read_metadata(path), "file")
    return word


def test_the_word_moves_and_its_base_is_what_it_began_as(trained: Trained, images: Path):
    """val_loss_base is that of the base given the words that it begins as, which is measured before the first step."""
    word = in_file(trained.result.path)
    began = initial_vectors(load_pipeline("embedded"), "dress", 2)
    assert (word.token, word.init_text, word.vectors.shape) == ("zarya", "dress", began.shape)
    assert (word.vectors - began).abs().mean() > 1e-2
    assert torch.equal(word.vectors, words_of(trained.pipeline)[0].vectors)
    table = trained.pipeline.text_encoder.get_input_embeddings().table.weight
    assert torch.equal(table, load_pipeline("embedded").text_encoder.get_input_embeddings().weight)
    assert trained.result.parameters == sum(
        one.numel()
        for part in ("unet", "text_encoder")
        for one in getattr(trained.pipeline, part).parameters()
        if one.requires_grad
    )
    spelt_out = train(
        experiment(images, data={"caption_prefix": "dress dress", "validation_split": 0.4}),
        trained.result.path.parent / "plain",
    )
    assert trained.rows[-1]["val_loss_base"] == pytest.approx(spelt_out.rows[-1]["val_loss_base"], abs=1e-6)


def test_without_weight_decay_and_without_its_caption_it_stays(images: Path, tmp_path: Path):
    """No caption has it, so its gradient is 0 and AdamW alone would move it, by its decay."""
    for path in images.glob("*/*.txt"):
        assert "zarya" not in path.read_text(encoding="utf-8")
    stays = own(images, data={"caption_prefix": None}, optimizer={"weight_decay": 0.5})
    word = in_file(train(stays, tmp_path).result.path)
    assert torch.equal(word.vectors, initial_vectors(load_pipeline("embedded"), "dress", 2))


def test_both_files_are_read_by_diffusers_as_they_are_served(trained: Trained):
    path = trained.result.path
    (made,) = LoraModel("embedded", path, {"base": "embedded", **SAMPLER}).predict(pd.DataFrame({"prompt": [PROMPT]}))
    pipeline = load_pipeline("embedded")
    pipeline.load_lora_weights(str(path))

    def picture() -> Any:
        return np.asarray(pipeline(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **SAMPLER).images[0], dtype=int)

    without = picture()
    pipeline.load_textual_inversion(str(path.parent / "zarya.safetensors"), token="zarya")
    served = np.asarray(Image.open(io.BytesIO(made)), dtype=int)
    assert abs(served - picture()).max() <= 1
    assert abs(served - without).max() > 1


def test_a_training_goes_on_from_the_words_file(trained: Trained, images: Path, tmp_path: Path):
    weights = {"network_weights": str(trained.result.path)}
    still = own(
        images, network=weights, embedding={"init_text": None}, optimizer={"learning_rate": 1e-12, "embedding_lr": 1e-12}
    )
    on = in_file(train(still, tmp_path / "on").result.path)
    torch.testing.assert_close(on.vectors, in_file(trained.result.path).vectors, atol=1e-6, rtol=0)
    assert on.init_text == "dress"
    held = own(
        images, network=weights, data={"validation_split": 0.4}, optimizer={"learning_rate": 1e-12, "embedding_lr": 1e-12}
    )
    base = trained.rows[-1]["val_loss_base"]  # the base is given what the word began as, here too
    assert train(held, tmp_path / "held").rows[-1]["val_loss_base"] == pytest.approx(base, abs=1e-6)
    for changes, said in (
        ({"token": "kosha"}, "embedding.token: 'kosha' is not the word that .* was trained with; use zarya"),
        ({"vectors": 3}, "embedding.vectors: 3, but 'zarya' has 2 in .*; use 2"),
        (
            {"token": None, "init_text": None, "vectors": 1},
            "network.network_weights: .* was trained with the word 'zarya'; give embedding.token zarya",
        ),
    ):
        rates = {"embedding_lr": None} if changes.get("token", "") is None else {}
        with pytest.raises(InputError, match=said):
            train(own(images, network=weights, embedding=changes, optimizer=rates), tmp_path / "no")


def test_both_files_are_rounded_alike(images: Path, tmp_path: Path):
    path = train(own(images, output={"save_precision": "fp16"}), tmp_path).result.path
    beside = load_file(path.with_name("zarya.safetensors"))["emb_params"]
    assert beside.dtype == torch.float16
    assert torch.equal(beside.float(), in_file(path).vectors)


def test_files_made_of_its_files_keep_the_word(trained: Trained, tmp_path: Path):
    path = trained.result.path
    early = path.with_name("lora-step00000002.safetensors")
    resize_lora(path, tmp_path / "small.safetensors", 1, None)
    assert torch.equal(in_file(tmp_path / "small.safetensors").vectors, in_file(path).vectors)
    average_of([early, path], tmp_path / "mean.safetensors")
    mean = (in_file(early).vectors + in_file(path).vectors) / 2
    torch.testing.assert_close(in_file(tmp_path / "mean.safetensors").vectors, mean)
    merge_loras([path, path], [0.5, 0.5], tmp_path / "both.safetensors")
    assert torch.equal(in_file(tmp_path / "both.safetensors").vectors, in_file(path).vectors)
    with pytest.raises(InputError, match="the word 'zarya' with different vectors"):
        merge_loras([early, path], [0.5, 0.5], tmp_path / "no.safetensors")


def test_captions_without_the_word_are_an_error_and_some_without_are_said(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def item(caption: str) -> CaptionedImage:
        return CaptionedImage(tmp_path / "a.png", caption, "a.png")

    config = own(images, data={"caption_prefix": None})
    with pytest.raises(InputError, match=re.escape("embedding.token: 'zarya' is in no caption")):
        check_captions(config, [item("a zaryas dress"), item("")])
    caplog.set_level("INFO", "fashion_ml")
    check_captions(config, [item("a Zarya dress"), item("a dress")])
    assert "is in 1 of 2 captions" in caplog.text
    check_captions(own(images), [item("a dress")])  # by data.caption_prefix
    check_captions(own(images, data={"caption_prefix": None, "enable_wildcard": True}), [item("a hat\na {plain|zarya} dress")])


def test_words_that_it_has_no_room_for_are_said(images: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    begun_word(own(images, embedding={"vectors": 1, "init_text": "red dress"}), load_pipeline("embedded"))
    assert "embedding.vectors: 1, so 'zarya' begins as the first of the 2 tokens of 'red dress'" in caplog.text


def test_a_word_of_the_base_is_refused(images: Path, tmp_path: Path):
    with pytest.raises(InputError, match=re.escape("embedding.token: 'dress' is a word of this base already")):
        train(own(images, embedding={"token": "dress", "init_text": "hat"}), tmp_path)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"embedding": {"vectors": 2}}, "vectors is given, but there is no new word"),
        ({"embedding": {"init_text": "dress"}}, "init_text is given, but there is no new word"),
        ({"embedding": {"token": "zarya"}}, "embedding.init_text: missing"),
        ({"embedding": {"token": "my zarya", "init_text": "dress"}}, "embedding.token"),
        ({"embedding": {"token": "lora", "init_text": "dress"}}, "would be written over the LoRA 'lora'"),
        (
            {"embedding": {"token": "Zarya", "init_text": "dress"}},
            "embedding.token: 'Zarya' is no word of 2 to 64 letters a to z",
        ),
        ({"embedding": {"token": "10", "init_text": "dress"}}, "embedding.token: '10' is no word"),
        ({"embedding": {"token": "best_measured", "init_text": "dress"}}, "would be written over"),
        ({"embedding": {"token": "lora-step1", "init_text": "dress"}}, "would be written over"),
        ({"embedding": {"token": "zarya", "init_text": "a Zarya dress"}}, "holds the new word itself"),
        ({"embedding": {"token": "zarya", "init_text": " "}}, "embedding.init_text"),
        (
            {"embedding": {"token": "zarya", "init_text": "dress"}, "loss": {"output_preservation_prompt": "a zarya"}},
            "loss.output_preservation_prompt: holds the new word 'zarya'",
        ),
        ({"optimizer": {"embedding_lr": 0.1}}, "optimizer.embedding_lr is given, but there is no new word"),
        (
            {
                "embedding": {"token": "zarya", "init_text": "dress"},
                "optimizer": {"optimizer_type": "prodigy", "learning_rate": 1.0, "embedding_lr": 0.1},
            },
            "optimizer.embedding_lr: prodigy takes one learning rate",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(sections: dict[str, Any], said: str):
    with pytest.raises(InputError, match=re.escape(said)):
        validate({"data": {"train_data_dir": "x"}, **sections})


def test_resolved_settings_are_read_again(images: Path):
    for config in (own(images), experiment(images)):
        assert validate(config.model_dump(mode="json")) == config
