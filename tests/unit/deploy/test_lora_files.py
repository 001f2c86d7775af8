"""LoRA files made of others do on a base what they are said to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.deploy.export import export_lora, say_readers
from fashion_ml.deploy.export_file import convert_lora
from fashion_ml.deploy.inspect_file import inspect_lora
from fashion_ml.deploy.lora_files import average_of, extract_lora, merge_loras, resize_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import check_lora, lora_tensors, read_metadata, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.lora_forms import recognise
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
    assert made.of_all == pytest.approx(1, abs=1e-4)
    metadata = read_metadata(tmp_path / "found.safetensors")
    assert [metadata[key] for key in ("ss_network_dim", "ss_network_alpha", "ss_base_model_version")] == ["4", "4.0", "sd_v1"]
    assert close(weights(tmp_path / "found.safetensors"), weights(base=str(tmp_path / "tuned")))
    assert set(load_file(tmp_path / "found.safetensors")) == set(given)  # what did not change is not in it
    assert "other weights" not in caplog.text
    pipeline.unet.conv_in.weight.data += 1
    pipeline.unet.conv_in.bias.data += 1
    pipeline.save_pretrained(tmp_path / "more")
    with caplog.at_level("INFO", "fashion_ml"):
        part = extract_lora("embedded", str(tmp_path / "more"), tmp_path / "part.safetensors", 4)
    assert (
        "2 other weights differ too (convolutions, norms, biases, …) and are not in the file; --conv-rank takes" in caplog.text
    )
    before = load_pipeline("embedded")
    parts = {
        name: (pipeline.unet.state_dict()[name] - one).square().sum() for name, one in before.unet.state_dict().items()
    } | {
        f"text.{name}": (pipeline.text_encoder.state_dict()[name] - one).square().sum()
        for name, one in before.text_encoder.state_dict().items()
    }
    lost = parts["conv_in.weight"] + parts["conv_in.bias"]
    assert part.of_all == pytest.approx(float((1 - lost / sum(parts.values())).sqrt()), abs=1e-3)


def test_convolutions_are_extracted_too_at_a_rank_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    pipeline, draw = load_pipeline("embedded"), torch.Generator().manual_seed(0)
    changed = {"conv1": 2, "time_emb_proj": 3, "conv_shortcut": 3, "attn1.to_q": 3}
    before, after = {}, {}
    for name, module in pipeline.unet.named_modules():
        rank = next((rank for ending, rank in changed.items() if name.endswith(ending)), None)
        if rank is not None:
            up, down = (
                torch.randn(len(module.weight), rank, generator=draw),
                torch.randn(rank, module.weight[0].numel(), generator=draw),
            )
            before[name] = module.weight.detach().clone()
            module.weight.data += (up @ down).view_as(module.weight) * 0.01
            after[name] = module.weight.detach().clone()
    pipeline.vae.decoder.conv_in.weight.data += 1
    pipeline.save_pretrained(tmp_path / "tuned")
    plain = extract_lora("embedded", str(tmp_path / "tuned"), tmp_path / "plain.safetensors", 3)
    assert plain.of_all is not None
    assert plain.of_all < 0.9
    made = extract_lora("embedded", str(tmp_path / "tuned"), tmp_path / "locon.safetensors", 3, 2)
    assert (made.modules, made.ranks, made.of_all) == (len(before), (2, 3), pytest.approx(1, abs=1e-4))
    assert caplog.text.count("The VAEs differ too, which no LoRA holds") == 2
    found = load_pipeline("embedded")
    apply_lora(found, tmp_path / "locon.safetensors").merge()
    for name, weight in after.items():
        torch.testing.assert_close(found.unet.get_submodule(name).weight.detach(), weight, atol=1e-5, rtol=0)
    metadata = read_metadata(tmp_path / "locon.safetensors")
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "3.0")
    assert json.loads(metadata["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "2.0"}


@pytest.mark.parametrize(
    ("width", "prediction", "version", "architecture"),
    [
        (768, "epsilon", "sd_v1", "stable-diffusion-v1/lora"),
        (1024, "epsilon", "sd_v2", "stable-diffusion-v2-512/lora"),
        (1024, "v_prediction", "sd_v2_v", "stable-diffusion-v2-768-v/lora"),
    ],
)
def test_an_extracted_file_says_which_family_its_bases_are_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int, prediction: str, version: str, architecture: str
):
    """As kohya's trainer names them; the width of the text tells them apart."""

    def loaded(name: str) -> Any:
        pipeline = load_pipeline("embedded")
        pipeline.unet.register_to_config(cross_attention_dim=width)
        pipeline.scheduler.register_to_config(prediction_type=prediction)
        pipeline.unet.mid_block.attentions[0].proj_in.weight.data *= 2 if name == "tuned" else 1
        return pipeline

    monkeypatch.setattr("fashion_ml.models.stable_diffusion.load_pipeline", loaded)
    extract_lora("base", "tuned", tmp_path / "x.safetensors", 2)
    metadata = read_metadata(tmp_path / "x.safetensors")
    assert (metadata["ss_base_model_version"], metadata["modelspec.architecture"]) == (version, architecture)
    assert (metadata["ss_v2"], metadata["modelspec.prediction_type"]) == (
        str(width == 1024),
        "v" if prediction == "v_prediction" else "epsilon",
    )
    form = recognise({name: tuple(one.shape) for name, one in load_file(tmp_path / "x.safetensors").items()}, metadata)
    assert form is not None
    assert form.base == ("SD 2.x" if width == 1024 else "SD 1.x")


def test_sizes_in_the_metadata_are_those_of_the_tensors_whatever_the_file_said_before(tmp_path: Path):
    lora = write_lora(tmp_path / "a.safetensors", 1, 4, 2.0)
    tensors = {name: one * 0 if name.endswith(".alpha") else one for name, one in load_file(lora).items()}
    wrong = {"ss_network_dim": "64", "ss_network_alpha": "0.0", "ss_network_args": '{"conv_dim": 8, "dropout": 0.1}'}
    save_lora(tmp_path / "b.safetensors", tensors, {"ss_base_model_version": "sd_v1", **wrong})
    convert_lora(tmp_path / "b.safetensors", "kohya", tmp_path / "c.safetensors", "embedded")
    tensors = load_file(lora)
    next(one for name, one in tensors.items() if name.endswith("lora_up.weight"))[:, 1:] = 0  # one module of rank 1
    save_lora(lora, tensors, {})
    merge_loras([lora, lora], [1.0, 1.0], tmp_path / "d.safetensors")
    resize_lora(tmp_path / "d.safetensors", tmp_path / "e.safetensors", None, 0.7)
    said = {}
    for name in "cde":
        metadata = read_metadata(tmp_path / f"{name}.safetensors")
        said[name] = (metadata["ss_network_dim"], metadata["ss_network_alpha"], metadata.get("ss_network_args"))
    ranks = {len(one) for name, one in load_file(tmp_path / "e.safetensors").items() if name.endswith("lora_down.weight")}
    assert len(ranks) > 1
    assert said == {
        "c": ("4", "4.0", '{"dropout": 0.1}'),
        "d": ("8", "8.0", None),
        "e": ("Dynamic", "Dynamic", None),
    }


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


def refuse(*_: object, **__: object) -> None:
    raise InputError("run_id: there is none")


@pytest.mark.parametrize(
    ("average", "checkpoint", "told"),
    [
        (("last",), "last", "--average: last is no average; give two kept files or more, each once"),
        (("a", "last", "a"), "last", "--average: a,last,a is no average"),
        (("a", "other"), "last", "--average: run 12 kept no 'other'; give a, best, look"),
        ((), "other", "--checkpoint: run 12 kept no 'other'; give a, best, look"),
    ],
)
def test_files_that_a_run_did_not_keep_are_named_with_those_that_it_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, average: tuple[str, ...], checkpoint: str, told: str
):
    kept = [SimpleNamespace(path=f"lora/{name}.safetensors") for name in ("look", "a", "best")]
    client = SimpleNamespace(list_artifacts=lambda run, folder: kept if (run, folder) == ("12", "lora") else [])
    (tmp_path / "config.yaml").write_text("data: {train_data_dir: embedded}\noutput: {output_name: look}\n", encoding="utf-8")
    monkeypatch.setattr("fashion_ml.tracking.store.open_tracking", lambda **_: client)
    monkeypatch.setattr(
        "fashion_ml.tracking.run_ids.find_meant", lambda *_, **__: SimpleNamespace(info=SimpleNamespace(run_id="12"))
    )
    monkeypatch.setattr("fashion_ml.tracking.queries.download", lambda *_: tmp_path / "config.yaml")
    with pytest.raises(InputError, match=f"^{re.escape(told)}"):
        export_lora("12", "kohya", checkpoint, tmp_path / "out.safetensors", average)


def test_a_folder_that_is_no_run_is_called_one_with_the_file_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("fashion_ml.tracking.store.open_tracking", lambda **_: None)
    monkeypatch.setattr("fashion_ml.tracking.run_ids.find_meant", refuse)
    write_lora(tmp_path / "mine.safetensors", 1, 2, 2.0)
    with pytest.raises(InputError, match=r"is a folder; give a file, such as 'mine.safetensors' inside"):
        export_lora(str(tmp_path), "kohya", "last", tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="there is none"):
        export_lora("other", "kohya", "last", tmp_path / "out.safetensors")


def test_files_of_one_name_in_two_folders_are_both_told_of(tmp_path: Path):
    (tmp_path / "b").mkdir()
    files = [write_lora(folder / "x.safetensors", seed, 2, 2.0) for seed, folder in enumerate((tmp_path, tmp_path / "b"))]
    merge_loras(files, [0.5, 2.0], tmp_path / "sum.safetensors")
    told = json.loads(read_metadata(tmp_path / "sum.safetensors")["fashion_ml_merged_from"])
    assert told == [["x.safetensors", 0.5], ["x.safetensors", 2.0]]


@pytest.mark.parametrize(
    ("part", "made", "told"),
    [
        ("alpha", torch.ones(2), "has {name} of shape [2], which no LoRA has: it is damaged"),
        ("lora_down.weight", torch.ones(0, 64), "has {name} of shape [0, 64], which no LoRA has: it is damaged"),
        (
            "lora_up.weight",
            torch.ones(64, 3),
            "has up of shape [64, 3] and down of [2, 64] in {module}, which are of different ranks",
        ),
        (
            "lora_down.weight",
            torch.ones(2, 64, dtype=torch.int8),
            "has {name} in int8, quantised; give a file in fp16 or float32",
        ),
    ],
)
def test_a_file_whose_tensors_cannot_be_is_refused_by_all(tmp_path: Path, part: str, made: torch.Tensor, told: str):
    tensors = load_file(write_lora(tmp_path / "a.safetensors", 1, 2, 2.0))
    name = next(one for one in tensors if one.endswith(f"attn1_to_k.{part}"))
    tensors[name] = made
    save_file(tensors, tmp_path / "b.safetensors")
    path, told = tmp_path / "b.safetensors", re.escape(told.format(name=name, module=name.partition(".")[0]))
    pipeline, spec = load_pipeline("embedded"), LoraSpec(2, 2.0, feed_forward=True)
    readers: tuple[Callable[[], object], ...] = (
        lambda: inspect_lora(path),
        lambda: apply_lora(pipeline, path),
        lambda: check_lora(path, pipeline.unet, pipeline.text_encoder, spec),
        lambda: merge_loras([path], [1.0], tmp_path / "c.safetensors"),
        lambda: resize_lora(path, tmp_path / "c.safetensors", 1, None),
        lambda: convert_lora(path, "kohya", tmp_path / "c.safetensors"),
    )
    for read in readers:
        with pytest.raises(InputError, match=told):
            read()


def test_a_file_whose_modules_lack_a_factor_is_said_to_be_damaged(tmp_path: Path):
    tensors = load_file(write_lora(tmp_path / "a.safetensors", 1, 2, 2.0))
    names = [one for one in tensors if one.endswith("lora_up.weight")]
    for name in names[:3]:
        del tensors[name]
    save_file(tensors, tmp_path / "b.safetensors")
    (note,) = inspect_lora(tmp_path / "b.safetensors")["notes"]
    assert note.startswith("3 modules are not whole (first lora_unet_")
    assert inspect_lora(tmp_path / "a.safetensors")["notes"] == []
