"""What of a LoRA experiment shows in a whole run only: evaluation, tracking, base model, precision, samples.

Two runs with every such setting at a value of its own, which what each left is held against: one that is mixed up, or not used, does not fit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

from fashion_ml.config import flat, validate
from fashion_ml.data.pictures import fit, load_picture
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.evaluation.generate import image_seed
from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.metrics.color import color_correlation
from fashion_ml.runs.lora import LoraOutcome, run_lora
from fashion_ml.runtime.weights_hash import weights_sha256
from tests.unit.config.decoders import decoder_of, hash_of
from tests.unit.config.leaves import nested
from tests.unit.metrics.small_dino import small_dino

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Call:
    """One call of the pipeline."""

    prompts: list[str]
    seeds: list[int]
    steps: int
    guidance: float
    negative: set[str]
    scheduler: str
    vae: str
    """The hash of what decodes."""


@dataclass
class Whole:
    """A finished run and what it left."""

    outcome: LoraOutcome
    calls: list[Call]

    @property
    def folder(self) -> Path:
        return self.outcome.folder

    @cached_property
    def run(self) -> Any:
        return MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(self.outcome.run_id)

    @cached_property
    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "evaluation" / "per_image.csv")

    @cached_property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "evaluation" / "fingerprint.json").read_text(encoding="utf-8")))

    @cached_property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "evaluation" / "evaluation_report.json").read_text(encoding="utf-8")))

    @property
    def measuring(self) -> list[Call]:
        """Calls for the evaluation, not for samples."""
        return [call for call in self.calls if not set(call.prompts) & {*PROMPTS, *FREE}]

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.outcome.trained.path)


class Runs:
    """Runs by their settings, each made once, in a folder with a store of its own."""

    def __init__(self, place: Path):
        self.place, self._made = place, dict[str, Whole]()
        pictures(place / "train" / "1_x", 2, seed=1)
        pictures(place / "references", 7, seed=2)
        shutil.copytree(EMBEDDED_DIR / "fashion_clip", place / "encoder")
        (place / "ours.yaml").write_text("ours: {prompt: 'a {} thing', labels: [red, blue]}\n", encoding="utf-8")
        (place / "free.yaml").write_text(json.dumps({"without_trigger": FREE}), encoding="utf-8")
        small_dino(place / "dino")
        another_base(place / "base")
        shutil.copytree(EMBEDDED_DIR / "stable_diffusion" / "vae", place / "vae")
        (path,) = (place / "vae").glob("*.safetensors")
        save_file({name: tensor * 1.05 for name, tensor in load_file(path).items()}, path, {"format": "pt"})

    def __call__(self, **changes: Any) -> Whole:
        tree = {
            "data.train_data_dir": str(self.place / "train"),
            "data.resolution": 32,
            "network.rank": 2,
            "optimizer.learning_rate": 1e-2,
            "training.max_train_steps": 2,
            "evaluation.enabled": False,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        config = validate(nested(tree))
        key = str(flat(config))
        if key not in self._made:
            calls: list[Call] = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("diffusers.StableDiffusionPipeline.__call__", recorded(calls))
                outcome = run_lora(config)
            assert outcome is not None
            self._made[key] = Whole(outcome, calls)
        return self._made[key]

    @property
    def full(self) -> Whole:
        """Everything at the values of the table, but for what would switch the rest off."""
        apart = ("model.", "evaluation.without", "training.mixed_precision", "evaluation.enabled", "tracking.offline")
        apart += ("evaluation.references_part", "evaluation.precision")
        given = {leaf.replace(".", "__"): value for leaf, (value, _) in WHOLE.items() if not leaf.startswith(apart)}
        return self(evaluation__enabled=True, training__sample_every=1, **given)

    @property
    def without(self) -> Whole:
        """An evaluation without an encoder, with one extra metric that needs none."""
        return self(
            evaluation__enabled=True,
            evaluation__without="fashion_clip",
            evaluation__extra_metrics=["masked_color"],
            evaluation__num_inference_steps=1,
        )


def recorded(calls: list[Call]) -> Callable[..., Any]:
    """diffusers' call, noted."""
    from diffusers import StableDiffusionPipeline

    real = StableDiffusionPipeline.__call__

    def call(self: Any, prompts: list[str], **options: Any) -> Any:
        seeds = [draw.initial_seed() for draw in options["generator"]]
        negative = set(options.get("negative_prompt", ()))
        told = negative, type(self.scheduler).__name__, weights_sha256(self.vae)
        calls.append(Call(prompts, seeds, options["num_inference_steps"], options["guidance_scale"], *told))
        return real(self, prompts, **options)

    return call


def pictures(folder: Path, count: int, seed: int) -> None:
    """Garments with captions."""
    folder.mkdir(parents=True)
    for number, garment in enumerate(sample_garments(count, seed=seed)):
        render(garment).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(garment.caption(), encoding="utf-8")


def another_base(folder: Path) -> None:
    """The embedded base with a UNet of other weights."""
    shutil.copytree(EMBEDDED_DIR / "stable_diffusion", folder)
    (path,) = (folder / "unet").glob("*.safetensors")
    save_file({name: tensor * 1.05 for name, tensor in load_file(path).items()}, path, {"format": "pt"})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, blank_figures: None) -> Iterator[Runs]:
    place = tmp_path_factory.mktemp("whole")
    shutil.copy(empty_store, place / "mlflow.db")
    torch.set_num_threads(1)
    AcceleratorState._reset_state(True)  # other tests' is for CPUs alone
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        yield Runs(place)
    AcceleratorState._reset_state(True)


def others(runs: Runs, **changes: Any) -> bool:
    """Whether a training with these settings ends with other weights than one without."""
    plain, changed = runs().weights(), runs(**changes).weights()
    return any(not torch.equal(plain[name], changed[name]) for name in plain)


def has_columns(runs: Runs) -> bool:
    """Of the extra metrics those that were asked for, in two evaluations, and no others."""
    of = {
        "ciede2000": "ciede2000",
        "masked_color": "color_correlation_masked",
        "attributes": "fashion_attribute_similarity",
        "memorisation": "nearest_training_similarity",
    }
    full, bare = ({name for name, column in of.items() if column in one.table} for one in (runs.full, runs.without))
    kids = runs.full.report["kid"] is not None, runs.without.report["kid"] is not None
    return (full, bare, kids) == ({*EXTRA} - {"kid"}, {"masked_color"}, (True, False))


def base_goes_without(runs: Runs) -> bool:
    """Of the garments' captions each was asked for as it is and, by the base, without its trigger."""
    prompts = {prompt for call in runs.full.measuring for prompt in call.prompts}
    captions = set(runs.full.table["caption"])
    return prompts == captions | {caption.removeprefix("a ") for caption in captions} and len(prompts) > len(captions)


def free_prompts_are_drawn(runs: Runs) -> bool:
    """Each twice by the LoRA and twice by the base."""
    made = [prompt for call in runs.full.calls for prompt in call.prompts]
    return [made.count(prompt) for prompt in FREE] == [4, 4] and runs.full.facts["free_prompts"]["prompts"] == FREE


def is_weighted(runs: Runs) -> bool:
    """weighted_total_loss is made of the three losses with the three weights of the table."""
    table = runs.full.table
    total = sum(
        WHOLE[f"evaluation.weights.{name}"][0] * table[name] for name in ("visual_loss", "fashion_clip_loss", "color_loss")
    )
    return bool((total - table["weighted_total_loss"]).abs().max() < 1e-6)


def is_rotated(runs: Runs) -> bool:
    """The colours of the first image are held against those of three of the other five references."""
    from fashion_ml.evaluation.controls import others_of

    made = load_picture(runs.full.folder / "evaluation" / "images" / "lora" / "0_0.png")
    targets = [fit(load_picture(runs.place / "references" / f"{number}.png"), made.size) for number in range(6)]
    losses = [1 - max(color_correlation(made, targets[other]), 0) for other in others_of(6, 3)[0]]
    table = runs.full.table
    specific = table["others_color_loss"] - table["color_loss"]
    return (
        abs(sum(losses) / 3 - table["others_color_loss"][0]) < 1e-9
        and bool((specific - table["specific_color_loss"]).abs().max() < 1e-9)
        and runs.full.facts["rotations"] == 3
    )


def refuses_what_was_trained_on(runs: Runs) -> bool:
    """Without references of their own the training images are taken, which is refused before anything is trained."""
    with pytest.raises(InputError, match=r"evaluation\.strict: the references are the training images"):
        runs(evaluation__enabled=True, evaluation__strict=True)
    return True


def in_halves(runs: Runs) -> bool:
    """Of seven references four are searched by and the other three held."""
    few = {"without": "fashion_clip", "extra_metrics": ["masked_color"], "num_inference_steps": 1, "images_per_reference": 1}
    few |= {"enabled": True, "references": "references"}

    def of(part: str) -> set[str]:
        given = {f"evaluation__{name}": value for name, value in {**few, "references_part": part}.items()}
        return set(runs(**given).table["reference"])

    search, held = of("search"), of("held")
    return (len(search), len(held), len(search | held)) == (4, 3, 7)


def has_seeds(runs: Runs) -> bool:
    """The table's seeds, and the generators', are those of the setting and the reference's name."""
    expected = [image_seed(303, name, 0) for name in runs.full.table["reference"]]
    made = sorted({seed for call in runs.full.measuring for seed in call.seeds})
    return runs.full.table["seed"].tolist() == expected and made == sorted(expected)


def is_sampled(runs: Runs) -> bool:
    """Every image, samples too, by the scheduler of that name, and the fingerprint says its settings."""
    facts = runs.full.facts
    made = {call.scheduler for call in runs.full.calls} == {"DPMSolverMultistepScheduler"}
    noted = facts["sampler"] == "DPMSolverMultistepScheduler" and facts["scheduler"]["use_karras_sigmas"] is True
    return made and noted and {call.scheduler for call in runs.without.calls} == {"DDIMScheduler"}


def is_decoded(runs: Runs) -> bool:
    """What is measured is decoded by that VAE, whose hash the fingerprint holds; what training reads is the base's own."""
    hashes = {call.vae for call in runs.full.measuring}, {call.vae for call in runs.without.calls}
    return hashes == ({decoder_of("vae")}, {decoder_of("embedded")}) and runs.full.facts["vae_sha256"] == hash_of("vae")


def in_half_precision(runs: Runs) -> bool:
    """Fingerprint and images are of that precision; without it they are of float32."""
    few = {"without": "fashion_clip", "extra_metrics": ["masked_color"], "num_inference_steps": 1, "enabled": True}
    lowered = runs(evaluation__precision="bf16", **{f"evaluation__{name}": value for name, value in few.items()})
    images = [(one.folder / "evaluation/images/lora/1_x/0_0.png").read_bytes() for one in (lowered, runs.without)]
    return [one.facts["precision"] for one in (lowered, runs.without)] == ["bf16", "no"] and images[0] != images[1]


def is_resampled(runs: Runs) -> bool:
    """The interval of the report is that of so many resamples."""
    interval = bootstrap_mean(runs.full.table["ssim"].tolist(), resamples=77)
    found = runs.full.report["metrics"]["ssim"]["lora"]
    assert interval.ends is not None
    return (found["low"], found["high"]) == pytest.approx(interval.ends, abs=1e-9)


def samples(runs: Runs) -> list[list[str]]:
    calls = [call.prompts for call in runs.full.calls if call.prompts[0] in PROMPTS]
    return calls[:1]


PROMPTS = ["a prompt of ours", "and a second one"]
FREE = ["one that is free", "another that is free"]
EXTRA = ["attributes", "ciede2000", "kid", "memorisation"]
SCORED = ["fashion_clip_loss", "fashion_attribute_similarity"]
WHOLE: Mapping[str, tuple[Any, Callable[[Runs], Any]]] = {
    "name": ("a named run", lambda runs: runs.full.run.info.run_name == "a named run"),
    "model.base": ("base", lambda runs: others(runs, model__base="base")),
    "model.prediction_type": ("v_prediction", lambda runs: others(runs, model__prediction_type="v_prediction")),
    "training.mixed_precision": ("bf16", lambda runs: others(runs, training__mixed_precision="bf16")),
    "training.sample_prompts": (PROMPTS, lambda runs: samples(runs) == [PROMPTS]),
    "evaluation.enabled": (
        True,
        lambda runs: (runs.full.folder / "evaluation").is_dir() and not (runs().folder / "evaluation").exists(),
    ),
    "evaluation.references": ("references", lambda runs: runs.full.table["reference"].tolist()[0] == "0.png"),
    "evaluation.max_references": (6, lambda runs: runs.full.table["reference"].nunique() == 6),
    "evaluation.references_part": ("search", in_halves),
    "evaluation.images_per_reference": (1, lambda runs: len(runs.full.table) == 6),
    "evaluation.seed": (303, has_seeds),
    "evaluation.num_inference_steps": (14, lambda runs: {call.steps for call in runs.full.calls} == {14}),
    "evaluation.sampler": ("DPM++ 2M Karras", is_sampled),
    "evaluation.negative_prompt": (
        "blurry",
        lambda runs: {word for call in runs.full.calls for word in call.negative} == {"blurry"},
    ),
    "evaluation.vae": ("vae", is_decoded),
    "evaluation.precision": ("no", in_half_precision),
    "evaluation.guidance_scale": (3.25, lambda runs: {call.guidance for call in runs.full.calls} == {3.25}),
    "evaluation.batch_size": (5, lambda runs: {len(call.prompts) for call in runs.full.measuring} == {5, 1}),
    "evaluation.encoder": ("local-dir:encoder", lambda runs: runs.full.facts["encoder"] == "local-dir:encoder"),
    "evaluation.without": (
        "fashion_clip",
        lambda runs: "fashion_similarity" in runs.full.table and "fashion_similarity" not in runs.without.table,
    ),
    "evaluation.extra_metrics": (EXTRA, has_columns),
    "evaluation.attributes": ("ours.yaml", lambda runs: "attribute_ours" in runs.full.table),
    "evaluation.fashion_clip_score": ("attributes", lambda runs: (runs.full.table[SCORED].sum(axis=1) - 1).abs().max() < 1e-6),
    "evaluation.dino": (
        "dino",
        lambda runs: "dino_similarity" in runs.full.table and "dino_similarity" not in runs.without.table,
    ),
    "evaluation.trigger": ("a", lambda runs: runs.full.facts["trigger"] == "a"),
    "evaluation.token_free_base": (True, base_goes_without),
    "evaluation.rotations": (3, is_rotated),
    "evaluation.strict": (True, refuses_what_was_trained_on),
    "evaluation.prompts": (
        "free.yaml",
        free_prompts_are_drawn,
    ),
    "evaluation.strengths": ([0.45], lambda runs: (runs.full.folder / "evaluation" / "images" / "strength_0.45").is_dir()),
    "evaluation.weights.visual_loss": (0.31, is_weighted),
    "evaluation.weights.fashion_clip_loss": (0.17, is_weighted),
    "evaluation.weights.color_loss": (0.52, is_weighted),
    "evaluation.resamples": (77, is_resampled),
    "evaluation.cache_dir": ("cache", lambda runs: len(list(Path("cache").glob("base_*/*.png"))) == 6),
    "output.output_dir": ("elsewhere", lambda runs: runs.full.folder == Path("elsewhere").absolute()),
    "tracking.experiment": (
        "an experiment",
        lambda runs: MlflowClient().get_experiment(runs.full.run.info.experiment_id).name == "an experiment",
    ),
    "tracking.log_with": (
        "tensorboard",
        lambda runs: (runs.full.folder / "tensorboard").is_dir() and not (runs().folder / "tensorboard").exists(),
    ),
    "tracking.offline": (True, lambda runs: runs(tracking__offline=True).outcome.run_id.startswith("pending-")),
}


@pytest.mark.parametrize("leaf", WHOLE)
def test_a_whole_run_does_what_each_of_its_settings_says(leaf: str, runs: Runs):
    _, holds = WHOLE[leaf]
    assert holds(runs)


def test_two_runs_without_a_difference_give_the_same_weights(runs: Runs):
    """Else base, prediction type and precision would seem to count when they do not."""
    assert not others(runs, tracking__experiment="again")


def test_the_images_of_the_base_those_of_the_lora_and_those_of_a_strength_are_three(runs: Runs):
    images = runs.full.folder / "evaluation" / "images"
    (base,) = (runs.place / "cache").glob("base_*/0_0.png")
    found = {path.read_bytes() for path in (images / "lora" / "0_0.png", base, images / "strength_0.45" / "0_0.png")}
    assert len(found) == 3


def test_the_images_of_the_base_are_not_those_of_the_lora_of_the_same_prompts(runs: Runs):
    folder = runs.without.folder
    base, lora = (folder / place / "1_x" / "0_0.png" for place in ("evaluation_base", "evaluation/images/lora"))
    assert base.read_bytes() != lora.read_bytes()
