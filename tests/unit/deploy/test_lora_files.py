"""LoRA files made of others do on a base what they are said to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.deploy.export import say_readers
from fashion_ml.deploy.export_file import convert_lora
from fashion_ml.deploy.lora_files import average_of, extract_lora, merge_loras, resize_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import lora_tensors, read_metadata, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline


def write_lora(path: Path, seed: int, rank: int, alpha: float, *, text: bool = False) -> Path:
    """A LoRA of the embedded base with random numbers in both factors."""
    pipeline, spec = load_pipeline("embedded"), LoraSpec(rank, alpha, feed_forward=True, train_text_encoder=text)
    add_lora(pipeline.unet, pipeline.text_encoder, spec, seed)
    tensors, draw = lora_tensors(pipeline.unet, pipeline.text_encoder, spec), torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name.endswith("lora_up.weight"):
            tensor.normal_(0, 0.05, generator=draw)
    save_lora(path, tensors, {"ss_base_model_version": "sd_v1", "ss_num_train_images": "7"})
    return path


def weights(*files: Path, base: str = "embedded") -> dict[str, torch.Tensor]:
    """What each module of the UNet computes on the identity, with all of these files on the base."""
    pipeline, found = load_pipeline(base), {}
    layers = {name: one for name, one in pipeline.unet.named_modules() if name.endswith(("attn1.to_q", "ff.net.2"))}
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    total = {name: weight.clone() for name, weight in before.items()}
    for path in files:
        applied = apply_lora(pipeline, path)
        for name, weight in before.items():
            layer = pipeline.unet.get_submodule(name)
            eye = torch.eye(weight.shape[1])
            with torch.no_grad():
                total[name] += (layer(eye) - layer(eye * 0)).T - weight
        applied.remove()
    found |= total
    return found


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 1e-5) -> bool:
    return all(torch.allclose(one[name], other[name], atol=atol) for name in one)


def test_a_merged_file_does_what_both_do_and_a_smaller_one_says_what_is_lost(tmp_path: Path):
    first, second = (
        write_lora(tmp_path / "a.safetensors", 1, 2, 4.0),
        write_lora(tmp_path / "b.safetensors", 2, 3, 3.0, text=True),
    )
    made = merge_loras([first, second], [1.0, 1.0], tmp_path / "both.safetensors")
    assert (made.ranks, made.kept) == ((3, 5), None)  # the text encoder is of the second alone
    assert close(weights(tmp_path / "both.safetensors"), weights(first, second))
    metadata = read_metadata(tmp_path / "both.safetensors")
    assert metadata["ss_base_model_version"] == "sd_v1"
    assert "ss_num_train_images" not in metadata  # which neither is any more
    whole = resize_lora(tmp_path / "both.safetensors", tmp_path / "whole.safetensors", 5, None)
    assert whole.kept == pytest.approx((1.0, 1.0))
    assert close(weights(tmp_path / "whole.safetensors"), weights(first, second), atol=1e-4)
    small = resize_lora(tmp_path / "both.safetensors", tmp_path / "small.safetensors", 2, None)
    assert small.ranks == (2, 2)
    assert small.kept is not None
    assert 0.3 < small.kept[0] <= small.kept[1] < 0.999
    assert not close(weights(tmp_path / "small.safetensors"), weights(first, second))


def test_what_a_base_was_given_is_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A rank 3 update of the attention, written into the weights of the embedded base: extracted at rank 4 it is the same model."""
    lora = write_lora(tmp_path / "a.safetensors", 3, 3, 3.0, text=True)
    pipeline = load_pipeline("embedded")
    given = load_file(lora)
    for name, module in [*pipeline.unet.named_modules(), *pipeline.text_encoder.named_modules()]:
        for prefix in ("lora_unet_", "lora_te_text_model_"):
            key = prefix + name.removeprefix("text_model.").replace(".", "_")
            if f"{key}.lora_down.weight" in given and hasattr(module, "weight"):
                change = given[f"{key}.lora_up.weight"].flatten(1) @ given[f"{key}.lora_down.weight"].flatten(1)
                module.weight.data += change.view_as(module.weight)
    pipeline.save_pretrained(tmp_path / "tuned")
    made = extract_lora("embedded", str(tmp_path / "tuned"), tmp_path / "found.safetensors", 4)
    assert made.kept is not None
    assert made.kept[0] > 0.999
    assert close(weights(tmp_path / "found.safetensors"), weights(base=str(tmp_path / "tuned")))
    assert set(load_file(tmp_path / "found.safetensors")) == set(given)  # what did not change is not in it
    assert "other weights" not in caplog.text
    pipeline.unet.conv_in.weight.data += 1
    pipeline.unet.conv_in.bias.data += 1
    pipeline.save_pretrained(tmp_path / "more")
    with caplog.at_level("INFO", "fashion_ml"):
        extract_lora("embedded", str(tmp_path / "more"), tmp_path / "part.safetensors", 4)
    assert "2 other weights differ too (convolutions, norms, biases, …) and are not in the file" in caplog.text


def test_an_average_keeps_the_last_ones_metadata_and_wants_one_training(tmp_path: Path):
    files = [write_lora(tmp_path / f"{seed}.safetensors", seed, 2, 2.0) for seed in (1, 2)]
    average_of(files, tmp_path / "mean.safetensors")
    first, second, mean = (load_file(path) for path in (*files, tmp_path / "mean.safetensors"))
    assert all(torch.allclose(mean[name], (first[name] + second[name]) / 2) for name in mean)
    assert read_metadata(tmp_path / "mean.safetensors")["fashion_ml_average_of"] == "1, 2"
    other = write_lora(tmp_path / "c.safetensors", 3, 4, 2.0)
    with pytest.raises(InputError, match="--average: 1, c: they are not of one training"):
        average_of([files[0], other], tmp_path / "no.safetensors")


def test_nothing_is_written_over(tmp_path: Path):
    lora = write_lora(tmp_path / "a.safetensors", 1, 2, 4.0)
    before = lora.read_bytes()
    with pytest.raises(InputError, match="exists already; give a new name"):
        merge_loras([lora], [1.0], lora)
    assert lora.read_bytes() == before


def test_who_reads_a_file_is_said_when_it_is_handed_on_and_when_it_is_converted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pipeline, spec = load_pipeline("embedded"), LoraSpec(2, 2.0, algo="loha")
    add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0)
    save_lora(tmp_path / "x.safetensors", lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})
    with caplog.at_level("INFO", "fashion_ml"):
        say_readers(tmp_path / "x.safetensors")
        convert_lora(tmp_path / "x.safetensors", "kohya", tmp_path / "y.safetensors", "embedded")
        say_readers(write_lora(tmp_path / "plain.safetensors", 0, 2, 2.0))
    assert [record.message.startswith("LoHa is read as it was trained by LyCORIS, A1111") for record in caplog.records] == [
        True,
        True,
    ]
