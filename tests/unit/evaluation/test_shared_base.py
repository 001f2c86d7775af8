"""A performance check by the base that trains: the images of a loaded base, no second one in memory, and a training that notices nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.evaluation.generate import generate
from fashion_ml.evaluation.lora import measure_lora
from fashion_ml.evaluation.lora_plan import Plan, _may_share, plan_evaluation
from fashion_ml.runs.inputs import read_sources
from tests.unit.training import setup
from tests.unit.training.setup import experiment, train, write_images

FEW: dict[str, Any] = {
    "max_references": 2,
    "images_per_reference": 1,
    "num_inference_steps": 2,
    "resamples": 10,
    "prompts": "none",
}


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pipelines that trainings load, in their order."""
    loaded, plain = list[Any](), setup.load_pipeline

    def load(*args: Any, **kwargs: Any) -> Any:
        loaded.append(plain(*args, **kwargs))
        return loaded[-1]

    monkeypatch.setattr(setup, "load_pipeline", load)
    return loaded


def storages(pipeline: Any) -> dict[int, int]:
    """Bytes of each piece of memory that a pipeline's weights lie in."""
    weights = [one for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for one in part.parameters()]
    return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in weights}


def images(plan: Plan) -> list[bytes]:
    return [one.tobytes() for _, part in generate(plan.pipeline, plan.jobs, plan.config.evaluation) for one in part]


@pytest.mark.parametrize(
    "sections",
    [
        {"network": {"convolutions": True, "rank_dropout": 0.1}, "training": {"gradient_checkpointing": True}},
        {"network": {"use_dora": True, "train_text_encoder": True}, "evaluation": {"precision": "bf16"}},
    ],
)
def test_a_check_by_the_base_that_trains_is_that_of_a_loaded_one_and_the_training_goes_on_as_without(
    sections: dict[str, dict[str, Any]], tmp_path: Path, pipelines: list[Any]
):
    """With what a training changes in its modules: LoRA layers, fused ones, convolutions as products, hooks."""
    write_images(tmp_path / "images")
    given = {**sections, "training": {"performance_check_interval": 2, "log_every": 1, **sections.get("training", {})}}
    config = experiment(tmp_path / "images", **{**given, "evaluation": {**FEW, **sections.get("evaluation", {})}})
    sources, checked = read_sources(config), list[int]()
    assert sources.suite is not None

    def check(step: int, path: Path) -> dict[str, float]:
        training = pipelines[-1]
        before = {name: one.clone() for name, one in training.unet.state_dict().items()}
        shared, loaded = (
            plan_evaluation(config, path, sources.references, sources.items, sources.suite, "cpu", trained)
            for trained in (training, None)
        )
        own, new = storages(training), storages(shared.pipeline)
        if config.evaluation.precision == "auto":  # nothing but the LoRA is new
            assert sum(size for place, size in new.items() if place not in own) < sum(new.values()) / 10
        assert not set(storages(loaded.pipeline)) & set(own)
        assert images(shared) == images(loaded)
        shared.applied.set_strength(0)
        loaded.applied.set_strength(0)
        assert images(shared) == images(loaded)
        shared.applied.set_strength(1.0)
        folder = tmp_path / str(step)
        measured = measure_lora(shared, folder, folder / "base")
        assert measured.fingerprint == shared.fingerprint == loaded.fingerprint
        assert all(torch.equal(one, before[name]) for name, one in training.unet.state_dict().items())
        assert storages(training) == own
        checked.append(step)
        return {}

    with_checks = train(config, tmp_path / "with", check=check)
    without = train(config, tmp_path / "without", check=None)
    assert checked == [2]
    assert with_checks.rows == without.rows
    assert with_checks.result.path.read_bytes()[-1000:] == without.result.path.read_bytes()[-1000:]


@pytest.mark.parametrize(
    ("sections", "trained_in", "expected"),
    [
        ({}, torch.float32, True),
        ({"evaluation": {"precision": "bf16"}}, torch.float32, True),
        ({"evaluation": {"precision": "bf16"}}, torch.bfloat16, True),
        ({"evaluation": {"precision": "no"}}, torch.bfloat16, False),
        ({"evaluation": {"precision": "bf16"}}, torch.float16, False),
        ({"network": {"algo": "oft"}}, torch.float32, False),
        ({"training": {"channels_last": True}}, torch.float32, False),
        ({"embedding": {"token": "zarya", "init_text": "dress"}}, torch.float32, False),
    ],
)
def test_a_base_is_shared_only_where_its_images_are_those_of_a_loaded_one(
    sections: dict[str, Any], trained_in: torch.dtype, expected: bool
):
    config: LoraExperiment = experiment(Path("x"), **{"evaluation": {"precision": "no"}, **sections})
    assert _may_share(config, trained_in) == expected
