"""Folders as people have them: every weight of the base comes from a file of it, or one line says what is wrong before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.models.stable_diffusion import find_base, load_pipeline
from fashion_ml.models.vae import load_vae

EMBEDDED = EMBEDDED_DIR / "stable_diffusion"
PARTS = ("unet", "vae", "text_encoder")
FILES = dict.fromkeys(("unet", "vae"), "diffusion_pytorch_model.safetensors") | {"text_encoder": "model.safetensors"}
Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(EMBEDDED, tmp_path / "base")


def weights(part: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def apply(folder: Path) -> None:
        path = folder / part / FILES[part]
        save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)

    return apply


def renamed(part: str, rename: Callable[[str], str]) -> Change:
    return weights(part, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})


def settings(part: str, **values: Any) -> Change:
    def apply(folder: Path) -> None:
        path = next((folder / part).glob("*config.json")) if part else folder / "model_index.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")

    return apply


def sharded(folder: Path) -> list[Path]:
    """The UNet in three shards with their index, as `save_pretrained` writes it."""
    path = folder / "unet" / FILES["unet"]
    tensors, index = load_file(path), {}
    shards = [path.with_name(f"diffusion_pytorch_model-{number:05d}-of-00003.safetensors") for number in (1, 2, 3)]
    for number, shard in enumerate(shards):
        part = dict(list(tensors.items())[number::3])
        save_file(part, shard)
        index |= dict.fromkeys(part, shard.name)
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}), "utf-8")
    path.unlink()
    return shards


def as_variant(part: str) -> Change:
    return lambda folder: (folder / part / FILES[part]).rename(
        folder / part / FILES[part].replace(".safetensors", ".fp16.safetensors")
    )


def pickled(folder: Path) -> None:
    for part, name in (
        *((part, "diffusion_pytorch_model.bin") for part in ("unet", "vae")),
        ("text_encoder", "pytorch_model.bin"),
    ):
        torch.save(load_file(folder / part / FILES[part]), folder / part / name)
        (folder / part / FILES[part]).unlink()


GOOD: dict[str, Change] = {
    "whole": lambda folder: None,
    "SD 1.5's older text encoder": renamed("text_encoder", lambda name: f"text_model.{name}"),
    "torch.compile": renamed("unet", lambda name: f"_orig_mod.{name}"),
    "DistributedDataParallel": renamed("vae", lambda name: f"module.{name}"),
    "transformer.": renamed("text_encoder", lambda name: f"transformer.text_model.{name}"),
    "text_encoder.": renamed("text_encoder", lambda name: f"text_encoder.module.{name}"),
    "older attention": renamed(
        "vae", lambda name: name.replace(".to_q.", ".query.").replace(".to_k.", ".key.").replace(".to_out.0.", ".proj_attn.")
    ),
    "a whole CLIP": weights("text_encoder", lambda t: {**t, "logit_scale": torch.ones(()), "vision_model.x": torch.ones(1)}),
    "position ids": weights("text_encoder", lambda t: {**t, "text_model.embeddings.position_ids": torch.arange(32)[None]}),
    "listed, not there": settings(
        "", feature_extractor=["transformers", "CLIPImageProcessor"], safety_checker=["stable_diffusion", "X"]
    ),
    "other classes listed": settings("", _class_name=["pipeline", "Mine"], image_encoder=["somewhere", "Else"]),
    "sharded": sharded,
    "half variants of some parts": as_variant("vae"),
    "pickled": pickled,
    "another case": lambda folder: (folder / "vae" / FILES["vae"]).rename(
        folder / "vae" / "diffusion_pytorch_model.SAFETENSORS"
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_folder_is_read_with_every_weight_as_diffusers_reads_the_whole_one(kind: str, folder: Path):
    reference = StableDiffusionPipeline.from_pretrained(EMBEDDED, local_files_only=True, safety_checker=None)
    GOOD[kind](folder)
    loaded = load_pipeline(str(folder))
    for part in PARTS:
        before, after = getattr(reference, part).float().state_dict(), getattr(loaded, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_what_is_loaded_from_a_variant_and_what_is_left_out_are_said(folder: Path, caplog: pytest.LogCaptureFixture):
    as_variant("vae")(folder)
    GOOD["a whole CLIP"](folder)
    with caplog.at_level("INFO", "fashion_ml"):
        load_pipeline(str(folder))
    assert "base: loaded from the variant that is there (vae fp16)" in caplog.text
    assert "2 tensors of the rest of a CLIP are not read (first" in caplog.text


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
BAD: dict[str, tuple[Change, str]] = {
    "an unknown wrapper": (
        renamed("text_encoder", lambda name: f"wrapped.{name}"),
        r"text_encoder' lacks 36 of its 36 weights \(first .*\(first wrapped\..*a wrapper put 'wrapped\.' before the names",
    ),
    "one weight lost": (
        weights("text_encoder", lambda t: {n: x for n, x in t.items() if n != "final_layer_norm.weight"}),
        r"text_encoder' lacks 1 of its 36 weights \(final_layer_norm\.weight\): half a download",
    ),
    "tokens added": (
        weights("text_encoder", lambda t: {n: x[:100] if "token_embedding" in n else x for n, x in t.items()}),
        r"another shape, embeddings\.token_embedding\.weight: \[100, 128\], and by its configuration \[658, 128\]",
    ),
    "another model's weights": (
        weights("vae", lambda t: {"a.b": torch.ones(1)}),
        r"vae' lacks .* these are another model's weights",
    ),
    "NaN in the VAE": (
        weights("vae", lambda t: {n: x * float("nan") if n == "decoder.conv_out.bias" else x for n, x in t.items()}),
        r"vae' holds NaN or Inf in decoder\.conv_out\.bias \(3 numbers\)",
    ),
    "another configuration": (
        settings("unet", block_out_channels=[32, 64], layers_per_block=1),
        "unet'.* (another shape|lacks)",
    ),
    "a configuration of nothing": (
        settings("unet", block_out_channels=[32]),
        r"unet' has a config\.json that describes no model",
    ),
    "a lost shard": (lambda folder: sharded(folder)[1].unlink(), "lacks 1 of its 3 shards, first .*-00002-of-00003"),
    "shards without index": (
        lambda folder: [*sharded(folder), (folder / "unet" / f"{FILES['unet']}.index.json").unlink()],
        "holds shards .* without the index that names them",
    ),
    "a pointer": (
        lambda folder: (folder / "unet" / FILES["unet"]).write_text(LFS),
        r"unet.*\.safetensors' is a git-lfs pointer",
    ),
    "a pointer for a pickle": (
        lambda folder: [pickled(folder), (folder / "vae" / "diffusion_pytorch_model.bin").write_text(LFS)],
        r"diffusion_pytorch_model\.bin' is a git-lfs pointer",
    ),
    "no weights": (lambda folder: (folder / "vae" / FILES["vae"]).unlink(), r"vae' holds no weights \(diffusion_pytorch_model"),
    "weights under another name": (
        lambda folder: (folder / "vae" / FILES["vae"]).rename(folder / "vae" / "kl-f8.safetensors"),
        r"vae' holds no diffusion_pytorch_model\.safetensors, but kl-f8\.safetensors",
    ),
    "no configuration": (lambda folder: (folder / "vae" / "config.json").unlink(), r"vae' holds no config\.json"),
    "a pointer for a configuration": (
        lambda folder: (folder / "vae" / "config.json").write_text(LFS),
        r"vae/config\.json' is a git-lfs pointer",
    ),
    "a T5": (settings("text_encoder", model_type="t5"), "text_encoder' is a t5, not a CLIP text encoder"),
    "another autoencoder": (settings("vae", _class_name="AutoencoderTiny"), "vae' is a AutoencoderTiny, not AutoencoderKL"),
    "no noise schedule": (
        lambda folder: (folder / "scheduler" / "scheduler_config.json").rename(folder / "scheduler" / "config.json"),
        r"scheduler' holds no scheduler_config\.json",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_with_a_folder_is_one_line(kind: str, folder: Path):
    change, says = BAD[kind]
    change(folder)
    with pytest.raises(InputError, match=rf"^model\.base: .*{says}") as caught:
        load_pipeline(str(folder))
    assert "\n" not in str(caught.value)


def cut_vocabulary(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    words = json.loads((folder / "tokenizer" / "vocab.json").read_text("utf-8"))
    pairs = (folder / "tokenizer" / "merges.txt").read_text("utf-8").splitlines()
    kept = {word: index for word, index in words.items() if index < 512}
    kept |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(kept), "utf-8")
    (folder / "tokenizer" / "merges.txt").write_text(pairs[0] + "\n", "utf-8")


TOKENIZERS: dict[str, tuple[Change, str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder / "tokenizer"), "lacks tokenizer .not there, or empty."),
    "an empty folder": (lambda folder: [path.unlink() for path in (folder / "tokenizer").iterdir()], "lacks tokenizer"),
    "no merges": (
        lambda folder: [(folder / "tokenizer" / name).unlink() for name in ("merges.txt", "tokenizer.json")],
        r"tokenizer' lacks merges\.txt \(or tokenizer\.json\)",
    ),
    "an empty vocabulary": (
        lambda folder: [(folder / "tokenizer" / name).write_text("") for name in ("vocab.json", "tokenizer.json")],
        r"tokenizer' lacks vocab\.json",
    ),
    "a pointer": (lambda folder: (folder / "tokenizer" / "vocab.json").write_text(LFS), r"vocab\.json' is a git-lfs pointer"),
    "another vocabulary": (cut_vocabulary, "tokenizer' knows 514 tokens, and the text encoder 658: it is another model's"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_that_is_not_the_text_encoders_is_an_error(kind: str, folder: Path):
    change, says = TOKENIZERS[kind]
    change(folder)
    with pytest.raises(InputError, match=rf"^model\.base: .*{says}"):
        load_pipeline(str(folder))


def test_a_tokenizer_without_a_length_takes_that_of_the_text_encoder(folder: Path, caplog: pytest.LogCaptureFixture):
    path = folder / "tokenizer" / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    del values["model_max_length"]
    path.write_text(json.dumps(values), "utf-8")
    with caplog.at_level("INFO", "fashion_ml"):
        assert load_pipeline(str(folder)).tokenizer.model_max_length == 32
    assert "captions end at its 32 tokens" in caplog.text


PLACES: dict[str, tuple[Change, str, str]] = {
    "too deep": (lambda folder: None, "base/unet", "is a part of the pipeline '.*base', give that"),
    "too high": (lambda folder: None, "", "the pipeline is '.*base', give that"),
    "a hub cache": (
        lambda folder: shutil.move(folder, folder.parent / "cache" / "models--a--b" / "snapshots" / "0123"),
        "cache/models--a--b",
        "the pipeline is '.*snapshots/0123', give that",
    ),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "base", "half a download: get that file too"),
    "of single files": (
        lambda folder: [shutil.rmtree(folder), folder.mkdir(), (folder / "v1-5.safetensors").touch()],
        "base",
        r"give the file itself, such as '.*base/v1-5\.safetensors'",
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_the_right_folder_is_named_where_it_is_near(kind: str, folder: Path):
    change, given, says = PLACES[kind]
    change(folder)
    with pytest.raises(InputError, match=rf"^model\.base: .* holds no model_index\.json; .*{says}"):
        find_base(str(folder.parent / given))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("StableDiffusion3Pipeline", "is a Stable Diffusion 3 pipeline"),
        ("FluxPipeline", "is a Flux pipeline"),
    ],
)
def test_a_pipeline_of_another_family_is_named(name: str, says: str, folder: Path):
    settings("", _class_name=name)(folder)
    with pytest.raises(InputError, match=rf"^model\.base: .* {says} \({name}\)"):
        find_base(str(folder))


def test_an_index_without_a_unet_is_another_kind_of_pipeline(folder: Path):
    shutil.rmtree(folder / "unet")
    path = folder / "model_index.json"
    listed = json.loads(path.read_text("utf-8"))
    del listed["unet"]
    path.write_text(json.dumps(listed | {"_class_name": "PixArtAlphaPipeline"}), "utf-8")
    with pytest.raises(InputError, match="is a PixArtAlphaPipeline without unet"):
        find_base(str(folder))


def test_a_vae_in_a_folder_is_checked_like_a_base(folder: Path):
    for given in (folder, folder / "vae"):
        reference = AutoencoderKL.from_pretrained(EMBEDDED / "vae", local_files_only=True).float().state_dict()
        assert all(torch.equal(reference[name], tensor) for name, tensor in load_vae(str(given)).state_dict().items())
    renamed("vae", lambda name: f"wrapped.{name}")(folder)
    with pytest.raises(InputError, match=r"^model\.vae: '.*vae' lacks .* a wrapper put 'wrapped\.' before the names"):
        load_vae(str(folder))
    (folder / "vae" / FILES["vae"]).write_text(LFS)
    with pytest.raises(InputError, match=r"^model\.vae: '.*' is a git-lfs pointer"):
        load_vae(str(folder / "vae"))


def test_a_hub_id_in_the_cache_is_loaded_without_the_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--nobody--base"
    shutil.copytree(folder, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    reference = load_pipeline("embedded").vae.state_dict()
    assert all(torch.equal(reference[name], tensor) for name, tensor in load_vae("nobody/base").state_dict().items())
