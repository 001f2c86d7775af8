"""A damaged or hostile model is one line where serve starts, before memory is taken or a request can fail on it."""

from __future__ import annotations

import base64
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from fashion_ml.deploy import asked, stargan_model
from fashion_ml.deploy.asked import Asked, answering
from fashion_ml.deploy.lora_model import LoraModel
from fashion_ml.deploy.serve import Served, application
from fashion_ml.errors import InputError
from fashion_ml.models import stargan_format
from fashion_ml.models.ema import Averaged
from fashion_ml.models.stargan import NetworkSizes, make_networks, weight_counts
from fashion_ml.models.stargan_format import load_averages, metadata_of, save_networks
from tests.unit.deploy.small_model import SAMPLER, small_model

SIZES = NetworkSizes(base_dim=8, n_res_blocks=1, style_dim=4, latent_dim=4, mapping_hidden_dim=8, num_domains=2)
WEIGHTS = "data/weights/stargan.safetensors"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, networks = tmp_path_factory.mktemp("gan"), make_networks(SIZES, 0)
    averages = {name: Averaged(networks.named()[name], 0.9) for name in ("generator", "style_encoder", "mapping")}
    save_networks(place / "x.safetensors", networks, averages, metadata_of(SIZES, ["a", "b"], (4, 16, 16), 0.5, 1))
    stargan_model.save_model(
        str(place / "model"),
        Model(),
        networks=place / "x.safetensors",
        vae="embedded",
        size=64,
        example={"image": b"x", "domain": "a"},
    )
    return place / "model"


def changed(model: Path, place: Path, change: Change) -> Path:
    """A copy of a model with another MLmodel."""
    shutil.copytree(model, place)
    tree = yaml.safe_load((place / "MLmodel").read_text(encoding="utf-8"))
    change(tree)
    (place / "MLmodel").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return place


def line_of(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        application(str(folder), Served(30))
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def of_text(**facts: Any) -> Change:
    return lambda tree: tree["metadata"]["text"].update(facts)


def with_base(tree: dict[str, Any]) -> None:
    tree["metadata"]["base"] = tree["flavors"]["diffusers"]["base_model"] = "/no/base"


def of_signature(key: str, **facts: Any) -> Change:
    """Another first entry."""

    def change(tree: dict[str, Any]) -> None:
        first, *rest = json.loads(tree["signature"][key])
        tree["signature"][key] = json.dumps([{**first, **facts}, *rest])

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_text(max_token_length=10**9), "metadata.text.max_token_length: 1000000000 is not accepted"),
        (of_text(clip_skip=10**9), "metadata.text.clip_skip: 1000000000 is not accepted"),
        (of_text(clip_skip=40), "'clip_skip': 40,"),
        (of_text(nope=1), "metadata.text.nope: 1 is not accepted (it is not known)"),
        (
            lambda tree: tree["metadata"]["schedule"].update(prediction_type="x"),
            "metadata.schedule.prediction_type: 'x' is not",
        ),
        (lambda tree: tree["metadata"].update(width=-8), "metadata.width: -8 is not accepted"),
        (lambda tree: tree["metadata"].update(guidance_scale=float("nan")), "metadata.guidance_scale: nan is not accepted"),
        (lambda tree: tree.pop("metadata"), "metadata.base: it is not there"),
        (lambda tree: tree["flavors"]["diffusers"].update(base_model=3), "flavors.diffusers.base_model: 3 is not accepted"),
        (
            lambda tree: tree["flavors"]["diffusers"].update(adapter_weights="/elsewhere"),
            "adapter_weights: '/elsewhere' is not accepted (it is not in its folder)",
        ),
        (
            lambda tree: tree["flavors"]["diffusers"].update(adapter_weights="../../x"),
            "adapter_weights: '../../x' is not accepted (it is not in its folder)",
        ),
        (lambda tree: tree.pop("signature"), "it does not say what may be asked of it"),
        (lambda tree: tree["flavors"].pop("diffusers"), "MLmodel' is damaged: flavors.diffusers: it is not there"),
        (
            with_base,
            "MLmodel': model.base: '/no/base' is not there",
        ),
        (lambda tree: tree.update(metadata=[1]), "metadata: [1] is not accepted (it is no mapping)"),
        (lambda tree: tree["metadata"].update(guidance_scale="7"), "metadata.guidance_scale: '7' is not accepted"),
        (lambda tree: tree["signature"].update(inputs="[[["), "signature: {'inputs': '[[[',"),
        (lambda tree: tree["signature"].update(params="[3]"), "MLmodel' is damaged: signature: {"),
        (of_signature("inputs", name="x"), "signature.inputs.x: it is not known"),
        (
            of_signature("inputs", type="binary"),
            "signature.inputs.prompt.type: 'binary' is not accepted (this model has 'string')",
        ),
        (of_signature("params", name="x"), "signature.params.x: it is not known"),
        (of_signature("params", default=-1), "signature.params.seed.default: -1 is not accepted (this model has 0)"),
        (of_signature("params", type="double"), "signature.params.seed.type: 'double' is not accepted (this model has 'long')"),
    ],
)
def test_a_damaged_lora_is_one_line_where_serve_starts(lora: Path, tmp_path: Path, change: Change, says: str):
    assert says in line_of(changed(lora, tmp_path / "model", change))


def test_a_lora_of_another_note_in_its_folder_lies_in_that_ones(lora: Path, tmp_path: Path):
    folder = changed(lora, tmp_path / "model", lambda tree: tree["flavors"]["python_function"].update(data="sub"))
    changed(
        lora, folder / "sub", lambda tree: tree["flavors"]["diffusers"].update(adapter_weights=str(lora / "adapter_weights"))
    )
    assert "sub/MLmodel' is damaged: flavors.diffusers.adapter_weights: '/" in line_of(folder)


def test_a_model_that_was_registered_before_there_was_a_parameter_is_served(lora: Path, tmp_path: Path):
    def without(tree: dict[str, Any]) -> None:
        params = json.loads(tree["signature"]["params"])
        tree["signature"]["params"] = json.dumps([one for one in params if one["name"] != "negative_prompt"])

    assert application(str(changed(lora, tmp_path / "model", without)), Served(30)) is not None


def test_a_link_out_of_a_models_folder_is_not_followed(lora: Path, tmp_path: Path):
    folder = changed(lora, tmp_path / "model", lambda tree: None)
    adapter = folder / yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["diffusers"]["adapter_weights"]
    adapter.rename(tmp_path / "elsewhere")
    adapter.symlink_to(tmp_path / "elsewhere")
    assert "is a link out of its folder" in line_of(folder)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"sizes": {"base_dim": 8000}}, "is (8, 4, 3, 3), not (8000, 4, 3, 3)"),
        ({"sizes": {"d_layers": 60}}, "does not hold these networks ("),
        ({"sizes": {"n_res_blocks": 2}}, "does not hold these networks (generator."),
        ({"sizes": {"n_res_blocks": 0}}, "stargan.sizes.n_res_blocks: 0 is not accepted"),
        ({"sizes": {"d_layers": 10**9}}, "stargan.sizes.d_layers: 1000000000 is not accepted"),
        ({"sizes": {"mapping_hidden_dim": -1}}, "stargan.sizes.mapping_hidden_dim: -1 is not accepted"),
        ({"sizes": {"nope": 1}}, "stargan.sizes.nope: 1 is not accepted (it is not known)"),
        ({"domains": [1, 2]}, "stargan.domains.0: 1 is not accepted"),
        ({"domains": ["a", "b", "c"]}, "stargan.domains: ('a', 'b', 'c') is not accepted (the networks have 2)"),
        ({"latent_scale": "x"}, "stargan.latent_scale: 'x' is not accepted"),
        ({"latent_scale": 0}, "stargan.latent_scale: 0 is not accepted"),
    ],
)
def test_a_damaged_stargan_is_one_line_where_serve_starts(
    gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], says: str
):
    folder = changed(gan, tmp_path / "model", lambda tree: None)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        own = json.loads(file.metadata()["stargan"])
    own |= {**facts, **({"sizes": {**own["sizes"], **facts["sizes"]}} if "sizes" in facts else {})}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"stargan": json.dumps(own)})
    if "sizes" in facts:
        monkeypatch.setattr(stargan_format, "make_networks", lambda *_: pytest.fail("they were made"))
    assert says in line_of(folder)


def test_networks_are_not_made_for_shapes_that_a_files_head_makes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wide = NetworkSizes(base_dim=8192)
    told = {
        f"{name}.x": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4]} for name, count in weight_counts(wide).items()
    }
    head = json.dumps({"__metadata__": metadata_of(wide, ["a", "b"], (4, 16, 16), 0.5, 1), **told}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    monkeypatch.setattr(stargan_format, "make_networks", lambda *_: pytest.fail("they were made"))
    with pytest.raises(InputError, match="numbers in 4 bytes"):
        load_averages(tmp_path / "x.safetensors", wide)


def test_networks_with_a_spectral_norm_are_read_and_held_against_their_shapes(tmp_path: Path):
    sizes = replace(SIZES, spectral_norm=True, discriminator="patch")
    networks = make_networks(sizes, 0)
    averages = {name: Averaged(networks.named()[name], 0.9) for name in ("generator", "style_encoder", "mapping")}
    save_networks(tmp_path / "x.safetensors", networks, averages, {})
    loaded = load_averages(tmp_path / "x.safetensors", sizes)
    assert all(torch.equal(one, other) for one, other in zip(loaded.d.parameters(), networks.d.parameters(), strict=True))
    for other, says in (
        ({"spectral_norm": False}, "weight is not there"),
        ({"discriminator": "stargan"}, "discriminator."),
        ({"d_layers": 2}, "style_encoder."),
    ):
        with pytest.raises(InputError, match="does not hold these networks") as caught:
            load_averages(tmp_path / "x.safetensors", replace(sizes, **other))
        assert says in caught.value.problems[0]


def without_data(tree: dict[str, Any]) -> None:
    tree["flavors"]["python_function"].pop("data")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_data, "model/stargan.safetensors' "),
        (lambda tree: tree["metadata"].update(vae="/no/vae"), "MLmodel': metadata.vae: '/no/vae' is not there"),
        (
            of_signature("inputs", type="string"),
            "signature.inputs.image.type: 'string' is not accepted (this model has 'binary')",
        ),
        (
            lambda tree: tree["signature"].update(inputs=json.dumps(json.loads(tree["signature"]["inputs"])[:1])),
            "signature.inputs.domain: it is not there",
        ),
    ],
)
def test_a_damaged_note_of_a_stargan_is_one_line_where_serve_starts(gan: Path, tmp_path: Path, change: Change, says: str):
    assert says in line_of(changed(gan, tmp_path / "model", change))


@pytest.mark.parametrize("size", [1, -5, 68, "x"])
def test_a_size_that_the_networks_do_not_make_is_refused(gan: Path, tmp_path: Path, size: Any):
    folder = changed(gan, tmp_path / "model", lambda tree: tree["metadata"].update(size=size))
    assert f"metadata.size: {size!r} is not accepted" in line_of(folder)


def test_a_good_model_is_served_and_one_whose_image_is_more_than_is_served_is_not(gan: Path, lora: Path):
    for model in (gan, lora):
        assert application(str(model), Served(30)) is not None
    with pytest.raises(
        InputError, match=r"^--most-images: 0\.0001 is not accepted, for one image .* is the work of 0\.000313;"
    ):
        application(str(gan), Served(30, 0.0001))
    assert application(str(gan), Served(30, 0.000313)) is not None


def test_networks_of_other_sizes_are_not_made_for_a_file(gan: Path, monkeypatch: pytest.MonkeyPatch):
    assert load_averages(gan / WEIGHTS, SIZES).g is not None
    monkeypatch.setattr(stargan_format, "make_networks", lambda *_: pytest.fail("they were made"))
    with pytest.raises(InputError, match="does not hold these networks"):
        load_averages(gan / WEIGHTS, NetworkSizes(base_dim=4096))


def test_what_goes_wrong_inside_is_no_fault_of_the_client_and_tells_no_paths(caplog: pytest.LogCaptureFixture):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught, answering():
        raise KeyError("/secret/path")
    assert caught.value.get_http_status_code() == 500
    assert "secret" not in caught.value.message
    assert "/secret/path" in caplog.text


@pytest.mark.parametrize(
    ("rows", "pixels", "steps", "says"),
    [
        (16, 64 * 64, None, "dataframe_records: 16 rows of 4,096 pixels, the work of 0.00500 images"),
        (16, 512 * 512, 20, "dataframe_records: 16 rows of 262,144 pixels at 20 steps, the work of 6.40 images"),
        (1, 2048 * 2048, 20, "width: 4,194,304 pixels for 1 images at 20 steps, the work of 6.40 images"),
        (2, 1024 * 1024, 60, "width: 1,048,576 pixels for 2 images at 60 steps, the work of 9.60 images"),
        (1, 512 * 512, 200, "num_inference_steps: 200 for 1 images of 262,144 pixels, the work of 4.00 images"),
    ],
)
def test_too_much_work_names_the_field_that_makes_it(rows: int, pixels: int, steps: int | None, says: str):
    with pytest.raises(InputError) as caught:
        Asked(10, 0.001).weigh(rows, pixels, steps)
    assert caught.value.problems[0].startswith(says)
    assert ("steps" in caught.value.problems[0].rpartition(";")[2]) == (steps is not None)
    assert asked.work_of(2, 10, None) == 20


def test_work_is_shown_as_more_than_what_it_is_more_than():
    assert [
        asked.shown_work(cost)
        for cost in (64 * 64, 512 * 512 * 15, 520 * 512 * 16 * 50, 512 * 512 * 167, 16 * 2048 * 2048 * 200)
    ] == [
        "0.000313",
        "0.300",
        "16.3",
        "3.34",
        "1024",
    ]
    with pytest.raises(InputError, match=r"the work of 3\.34 images .*; ask for the work of 3\.3 at most"):
        Asked(10, 3.3).weigh(1, 512 * 512, 167)
    for cost in range(1, 5_000_000, 12_345):
        assert not asked.is_more(cost, float(asked.shown_work(cost)))


def test_an_error_of_mlflows_own_code_around_a_model_is_no_fault_of_the_client_and_tells_no_paths(
    gan: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: Any, **__: Any) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr(PyFuncModel, "predict", fails)
    content = base64.b64encode(b"x").decode()
    client = TestClient(application(str(gan), Served(30)), base_url="http://localhost")
    answer = client.post("/invocations", json={"dataframe_records": [{"image": content, "domain": "a"}]})
    assert answer.status_code == 500
    assert answer.json()["error_code"] == "INTERNAL_ERROR"
    assert not any(word in answer.text for word in ("secret", "stack_trace", "Verify", ".py"))
    assert "/secret/path" in caplog.text


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"height": 1024, "width": 128}, "height: 131,072 pixels for 1 images at 2 steps"),
        ({"height": 64, "width": 2048}, "width: 131,072 pixels for 1 images at 2 steps"),
        ({"num_inference_steps": 150}, "num_inference_steps: 150 for 1 images of 4,096 pixels"),
    ],
)
def test_too_much_work_names_what_is_most_above_the_models_own(params: dict[str, Any], says: str):
    from mlflow.exceptions import MlflowException

    model = LoraModel("embedded", Path("none"), {"base": "embedded", **SAMPLER})
    token = asked.current.set(Asked(10, 0.0001))
    try:
        with pytest.raises(MlflowException) as caught:
            model.predict(pd.DataFrame({"prompt": ["a"]}), params)
    finally:
        asked.current.reset(token)
    assert caught.value.message.startswith(says)
