from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import LoraExperiment, StarganExperiment, evaluated_again, load_config, validate_evaluation
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.errors import InputError
from fashion_ml.evaluation.fingerprint import difference, fingerprint
from fashion_ml.evaluation.toy import (
    check_base,
    check_encoder,
    own_of_lora,
    own_of_stargan,
    own_references,
    toy_facts,
)
from fashion_ml.runs.inputs import read_sources
from tests.unit.training.setup import write_images

REFUSED = (
    r"evaluation\.encoder: embedded is a toy that knows drawings of 64 pixels, and model\.base is 'mine'; "
    r"give --encoder patrickjohncyh/fashion-clip \(fetched once\) or the folder of one, or --without fashion_clip; with --encoder embedded"
)


def lora(**settings: Any) -> LoraExperiment:
    return load_config({"train_data_dir": "embedded", **settings})


def test_the_embedded_world_and_its_written_collection_are_no_ones_own(collection: Path):
    written = {"train_data_dir": str(collection / "train"), "references": str(collection / "references")}
    assert own_of_lora(load_config(default_experiment("experiments/lora/embedded.yaml"))) == {}
    assert own_of_lora(load_config(written)) == {}
    assert own_of_lora(lora(base="mine", references="looks")) == {"model.base": "mine", "evaluation.references": "looks"}
    assert own_references(str(collection / "references")) == {}
    assert own_references("looks") == {"the references": "looks"}
    assert own_of_stargan(load_config({}, kind="stargan")) == {}
    assert own_of_stargan(load_config({"vae": "v", "latents_dir": "l"}, kind="stargan")) == {
        "model.vae": "v",
        "data.latents_dir": "l",
    }


@pytest.mark.parametrize("name", ["experiments/lora/embedded.yaml", "experiments/stargan/embedded.yaml"])
def test_the_shipped_embedded_experiments_name_no_encoder_so_that_an_own_base_is_refused_with_them_too(name: str):
    gan = "stargan" in name
    given = {"vae" if gan else "base": "mine"}
    config: Any = (
        load_config(default_experiment(name), given, kind="stargan") if gan else load_config(default_experiment(name), given)
    )
    own = own_of_stargan(config) if gan else own_of_lora(config)
    with pytest.raises(InputError, match=r"evaluation\.encoder: embedded is a toy .*; give --encoder patrick"):
        check_encoder(config.evaluation, own, refuse=True)


def test_an_own_base_needs_an_encoder_of_its_own_unless_the_toy_is_named(caplog: pytest.LogCaptureFixture):
    config = lora(base="mine")
    with pytest.raises(InputError, match=REFUSED):
        check_encoder(config.evaluation, own_of_lora(config), refuse=True)
    assert caplog.messages == []
    for settings in ({"encoder": "other"}, {"without": "fashion_clip"}):
        check_encoder(lora(base="mine", **settings).evaluation, own_of_lora(config), refuse=True)
    assert caplog.messages == []
    named = lora(base="mine", encoder="embedded")
    check_encoder(named.evaluation, own_of_lora(named), refuse=True)
    (said,) = caplog.records
    assert (said.levelname, "say nothing of photos" in said.getMessage()) == ("WARNING", True)


def test_own_images_on_the_embedded_base_are_warned_of_and_not_refused(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    write_images(tmp_path / "photos")
    config = load_config({"train_data_dir": str(tmp_path / "photos"), "resolution": 64})
    assert len(read_sources(config).items) == 3
    (said,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert said.getMessage().startswith(
        "evaluation.encoder: embedded is a toy that knows drawings of 64 pixels, and data.train_data_dir is "
    )
    caplog.clear()
    check_base(config)
    assert "model.base: embedded is a toy that draws garments of 64 pixels" in caplog.messages[0]
    caplog.clear()
    check_base(lora())
    check_base(load_config({"train_data_dir": "photos", "base": "mine"}))
    assert caplog.messages == []


def test_a_training_reads_nothing_of_the_encoder_where_nothing_is_measured(tmp_path: Path):
    write_images(tmp_path / "photos")
    given = {"train_data_dir": str(tmp_path / "photos"), "base": str(tmp_path), "references": "embedded"}
    with pytest.raises(InputError) as caught:
        read_sources(load_config({**given, "evaluation.enabled": False}))
    assert not [problem for problem in caught.value.problems if "encoder" in problem]
    with pytest.raises(InputError, match=r"evaluation\.encoder: embedded is a toy"):  # a performance check measures
        read_sources(load_config({**given, "evaluation.enabled": False, "performance_check_interval": 2}))


@pytest.mark.parametrize("kind", [LoraExperiment, StarganExperiment])
def test_a_run_that_measured_nothing_has_named_no_encoder_for_its_evaluation(kind: type[LoraExperiment | StarganExperiment]):
    data = {"data": {"train_data_dir": "x"}} if kind is LoraExperiment else {}
    trained = {**data, "evaluation": {"enabled": False, "encoder": "embedded"}}
    assert "encoder" not in evaluated_again(trained, {}, kind).evaluation.model_fields_set
    assert "encoder" in evaluated_again(trained, {"encoder": "embedded"}, kind).evaluation.model_fields_set
    measured = {**data, "evaluation": {"enabled": True, "encoder": "embedded"}}
    assert "encoder" in evaluated_again(measured, {}, kind).evaluation.model_fields_set


def test_what_a_toy_measured_says_so_and_can_still_be_compared():
    settings = validate_evaluation({})
    facts = toy_facts(settings, {"model.base": "mine"})
    assert facts["toy_encoder"].startswith("the embedded encoder is a toy that knows drawings of 64 pixels")
    assert toy_facts(settings, {}) == {} == toy_facts(validate_evaluation({"encoder": "x"}), {"model.base": "mine"})
    assert fingerprint({"seed": 0, **facts}) == fingerprint({"seed": 0})
    assert difference({"seed": 0, **facts}, {"seed": 0}) == []
