"""Every setting of a StarGAN experiment changes what it is for: networks bit for bit, files, grids, or what the evaluation says.

As for a LoRA: trainings that differ in one setting, and for what shows in a whole run only, runs whose results are held against the values."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from fashion_ml.config import StarganExperiment, checked, flat
from fashion_ml.data.latents import read_latents
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.metrics.bootstrap import bootstrap_mean
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.runs.stargan import StarganOutcome, run_stargan
from fashion_ml.training.stargan_loop import GanHooks, train_stargan
from tests.unit.config.latent_sets import APART, digest, in_halves, latents, other_diversity, other_pictures, tables_by_pair
from tests.unit.config.leaves import Setting, leaves, nested, repeated
from tests.unit.metrics.small_dino import small_dino

pytestmark = pytest.mark.slow

CHANGES_NOTHING: dict[str, str] = {}
"""Settings of a StarGAN experiment that change nothing that could be looked at, each with its "because …"; none does."""
OTHERS = "others_color_loss"
SMALL: dict[str, Any] = {
    "network.base_dim": 8,
    "network.n_res_blocks": 1,
    "network.d_layers": 1,
    "network.style_dim": 4,
    "network.mapping_hidden_dim": 8,
    "optimizer.learning_rate": 1e-3,
    "optimizer.lr_mapping": 1e-4,
    "training.epochs": 3,
    "training.batch_size": 4,
}


@dataclass
class Gan:
    """What a training did and left."""

    folder: Path
    refused: bool = False
    grids: list[int] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)

    @cached_property
    def networks(self) -> str:
        return digest(self.folder / "stargan.safetensors")

    @property
    def shapes(self) -> list[Any]:
        tensors = load_file(self.folder / "stargan.safetensors") if not self.refused else {}
        return sorted((name, tuple(tensor.shape)) for name, tensor in tensors.items())

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


class Trainings:
    """Trainings by their settings, each made once."""

    def __init__(self, folder: Path):
        self.folder, self._made = folder, dict[str, Gan]()
        for name, channels in (("FOUR", 4), ("MANY", 21)):
            latents(folder / name, 0, channels)

    def __call__(self, changes: Mapping[str, Any]) -> Gan:
        tree = {**SMALL, "data.latents_dir": "FOUR", **changes}
        tree["data.latents_dir"] = str(self.folder / tree["data.latents_dir"])
        config = checked(nested(tree), StarganExperiment)
        key = str(flat(config))
        if key not in self._made:
            self._made[key] = self.train(config, self.folder / f"run{len(self._made)}")
        return self._made[key]

    def train(self, config: StarganExperiment, folder: Path, on_epoch: Callable[[dict[str, float]], None] | None = None) -> Gan:
        made, training = Gan(folder), config.training

        def remember(model: Any, *_: Any, **__: Any) -> Any:
            made.compiled.append(type(model).__name__)
            return model

        inputs = GanInputs(
            read_latents(Path(config.data.latents_dir)),
            validation_split=config.data.validation_split,
            contents_by=config.data.contents_by,
            batch_size=training.batch_size,
            epoch_size=training.epoch_size,
            latent_dim=config.network.latent_dim,
            scale=training.latent_scale,
            seed=training.seed,
            device=torch.device("cpu"),
        )
        hooks = GanHooks(epoch=on_epoch or (lambda row: None), grid=lambda epoch, _: made.grids.append(epoch))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "compile", remember)  # the compiler itself takes a minute
            try:
                train_stargan(config, inputs, folder, hooks, Accelerator(cpu=True))
            except RuntimeError:
                made.refused = True
        return made


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    torch.set_num_threads(1)
    AcceleratorState._reset_state(True)
    yield Trainings(tmp_path_factory.mktemp("gans"))
    AcceleratorState._reset_state(True)


def networks(gan: Gan) -> Any:
    return gan.networks


def shapes(gan: Gan) -> Any:
    return gan.shapes


def files(gan: Gan) -> Any:
    return gan.files


R1 = {"loss.r1_interval": 2}
STARGAN: dict[str, Setting] = {
    "network.latent_channels": Setting(21, shapes, {"data.latents_dir": "MANY"}),
    "network.style_dim": Setting(5, shapes),
    "network.base_dim": Setting(16, shapes),
    "network.n_res_blocks": Setting(4, shapes),
    "network.g_layers": Setting(1, shapes),
    "network.d_layers": Setting(2, shapes),
    "network.discriminator": Setting("patch", shapes),
    "network.spectral_norm": Setting(True, shapes),
    "network.latent_dim": Setting(7, shapes),
    "network.mapping_hidden_dim": Setting(12, shapes),
    "network.mapping_shared_layers": Setting(6, shapes),
    "optimizer.learning_rate": Setting(0.002, networks),
    "optimizer.lr_g": Setting(0.003, networks),
    "optimizer.lr_d": Setting(0.004, networks),
    "optimizer.lr_mapping": Setting(0.005, networks),
    "optimizer.weight_decay": Setting(0.4, networks),
    "optimizer.lr_scheduler": Setting("cosine", networks),
    "optimizer.min_lr_ratio": Setting(0.565, networks, {"optimizer.lr_scheduler": "linear"}),
    "optimizer.lr_warmup_steps": Setting(9, networks),
    "loss.w_adv": Setting(0.6, networks),
    "loss.w_sty": Setting(0.7, networks),
    "loss.w_cyc": Setting(0.8, networks),
    "loss.w_id": Setting(0.9, networks),
    "loss.w_ds": Setting(1.1, networks),
    "loss.ds_decay_epochs": Setting(17, networks),
    "loss.ds_margin": Setting(0.001, networks),
    "loss.w_r1": Setting(1.7, networks, R1),
    "loss.r1_interval": Setting(8, networks, R1),
    "loss.r1_counted_by": Setting("epoch", networks, {"loss.r1_interval": 3, "training.epoch_size": 16}),
    "loss.detach_style_target": Setting(True, networks),
    "training.ema_decay": Setting(0.55, networks),
    "training.mixed_precision": Setting("bf16", networks),
    "training.compile": Setting("max-autotune", lambda gan: gan.compiled),
    "training.save_every_n_epochs": Setting(10, files, {"training.epochs": 11}),
    "training.save_last_n": Setting(13, files, {"training.epochs": 15, "training.save_every_n_epochs": 1}),
    "training.save_state": Setting(False, files),
    "training.grid_every_n_epochs": Setting(11, lambda gan: gan.grids, {"training.epochs": 12}),
}
SEPARATE = {"training.save_state_minutes", "training.tf32", "evaluation.inception"}
"""Have tests of their own, below, of the loop and of pairs of domains."""


@dataclass
class Whole:
    """A finished run and what it left."""

    outcome: StarganOutcome
    texts: list[list[str]]

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

    @property
    def networks(self) -> str:
        return digest(self.outcome.trained.path)

    @property
    def scores(self) -> dict[str, Any]:
        return dict(self.outcome.evaluation.scores) if self.outcome.evaluation else {}


class Runs:
    """Runs by their settings, each made once, in a folder with a store of its own."""

    def __init__(self, place: Path):
        self.place, self._made = place, dict[str, Whole]()
        latents(place / "latents", 0)
        latents(place / "others", 1)
        shutil.copytree(EMBEDDED_DIR / "fashion_clip", place / "encoder")
        shutil.copytree(EMBEDDED_DIR / "stable_diffusion" / "vae", place / "vae")
        (path,) = (place / "vae").glob("*.safetensors")
        save_file({name: tensor * 1.05 for name, tensor in load_file(path).items()}, path, {"format": "pt"})
        shutil.copytree(place / "vae", place / "decoder")
        small_dino(place / "dino")
        (place / "ours.yaml").write_text("ours: {prompt: 'a {} thing', labels: [red, blue]}\n", encoding="utf-8")

    def __call__(self, **changes: Any) -> Whole:
        tree = {**SMALL, "data.latents_dir": "latents", "evaluation.enabled": False, "data.validation_split": 0.8}
        tree |= {key.replace("__", "."): value for key, value in changes.items()}
        config = checked(nested(tree), StarganExperiment)
        key = str(flat(config))
        if key not in self._made:
            texts: list[list[str]] = []
            real = FashionClip.embed_texts

            def embed_texts(self: FashionClip, given: list[str]) -> Any:
                texts.append(list(given))
                return real(self, given)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(FashionClip, "embed_texts", embed_texts)
                outcome = run_stargan(config)
            assert outcome is not None
            self._made[key] = Whole(outcome, texts)
        return self._made[key]

    @property
    def full(self) -> Whole:
        """Everything that does not change the training at the values of the table."""
        given = {leaf.replace(".", "__"): value for leaf, (value, _) in WHOLE.items() if not leaf.startswith(APART)}
        return self(evaluation__enabled=True, **given)

    @property
    def without(self) -> Whole:
        """An evaluation without an encoder and with the defaults."""
        return self(evaluation__enabled=True, evaluation__without="fashion_clip")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, blank_figures: None) -> Iterator[Runs]:
    place = tmp_path_factory.mktemp("whole")
    shutil.copy(empty_store, place / "mlflow.db")
    torch.set_num_threads(1)
    AcceleratorState._reset_state(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        yield Runs(place)
    AcceleratorState._reset_state(True)


def others(runs: Runs, **changes: Any) -> bool:
    """Whether a training with this ends with other networks than one without."""
    return runs().networks != runs(**changes).networks


def is_weighted(runs: Runs) -> bool:
    """weighted_total_loss is made of the three losses with the three weights of the table."""
    table, names = runs.full.table, ("visual_loss", "fashion_clip_loss", "color_loss")
    total = sum(WHOLE[f"evaluation.weights.{name}"][0] * table[name] for name in names)
    return bool((total - table["weighted_total_loss"]).abs().max() < 1e-6)


def is_resampled(runs: Runs) -> bool:
    """The interval is that of so many resamples over the contents."""
    means = runs.full.table.groupby("reference", sort=False)["ssim"].mean().tolist()
    return runs.full.scores["ssim"].ends == pytest.approx(bootstrap_mean(means, resamples=77).ends, abs=1e-9)


SCORED = ["fashion_clip_loss", "fashion_attribute_similarity"]
WHOLE: Mapping[str, tuple[Any, Callable[[Runs], Any]]] = {
    "name": ("a named run", lambda runs: runs.full.run.info.run_name == "a named run"),
    "model.vae": ("vae", lambda runs: runs.full.facts["vae_sha256"] != runs.without.facts["vae_sha256"]),
    "data.latents_dir": ("others", lambda runs: others(runs, data__latents_dir="others")),
    "data.contents_by": ("size", lambda runs: others(runs, data__contents_by="size")),
    "data.validation_split": (0.22, lambda runs: others(runs, data__validation_split=0.22)),
    "training.epochs": (18, lambda runs: len(runs(training__epochs=18).outcome.trained.epochs) == 18),
    "training.batch_size": (19, lambda runs: others(runs, training__batch_size=19)),
    "training.epoch_size": (20, lambda runs: runs(training__epoch_size=20).outcome.trained.steps == 3 * 20 / 4),
    "training.latent_scale": (0.45, lambda runs: others(runs, training__latent_scale=0.45)),
    "training.seed": (101, lambda runs: others(runs, training__seed=101)),
    "evaluation.enabled": (True, lambda runs: bool(runs.full.scores) and not runs().scores),
    "evaluation.contents_per_domain": (
        3,
        lambda runs: (runs.full.table["reference"].nunique(), runs.without.table["reference"].nunique()) == (6, 8),
    ),
    "evaluation.contents_part": ("search", in_halves),
    "evaluation.vae": (
        "decoder",
        lambda runs: other_pictures(runs, "vae_sha256", evaluation__vae="decoder"),
    ),
    "evaluation.precision": ("no", lambda runs: other_pictures(runs, "precision", evaluation__precision="bf16")),
    "evaluation.seed": (303, lambda runs: other_diversity(runs, evaluation__seed=303)),
    "evaluation.styles": (14, lambda runs: other_diversity(runs, evaluation__styles=14)),
    "evaluation.encoder": ("local-dir:encoder", lambda runs: runs.full.facts["encoder"] == "local-dir:encoder"),
    "evaluation.without": (
        "fashion_clip",
        lambda runs: "fashion_similarity" in runs.full.table and "fashion_similarity" not in runs.without.table,
    ),
    "evaluation.fashion_clip_score": ("attributes", lambda runs: (runs.full.table[SCORED].sum(axis=1) - 1).abs().max() < 1e-6),
    "evaluation.attributes": ("ours.yaml", lambda runs: runs.full.facts["attribute_categories"] == ["ours"]),
    "evaluation.dino": ("dino", lambda runs: "dino_similarity" in runs.full.table),
    "evaluation.by_pair": (False, lambda runs: tables_by_pair(runs.full, runs.without) == [False, True]),
    "evaluation.rotations": (0, lambda runs: [OTHERS in one.table for one in (runs.without, runs.full)] == [True, False]),
    "evaluation.domain_prompt": (
        "this is {}",
        lambda runs: ("this is blue", "this is red") in {tuple(sorted(given)) for given in runs.full.texts},
    ),
    "evaluation.weights.visual_loss": (0.31, is_weighted),
    "evaluation.weights.fashion_clip_loss": (0.17, is_weighted),
    "evaluation.weights.color_loss": (0.52, is_weighted),
    "evaluation.resamples": (77, is_resampled),
    "output.output_dir": ("elsewhere", lambda runs: runs.full.folder == Path("elsewhere").absolute()),
    "output.output_name": ("other", lambda runs: (runs.full.folder / "other.safetensors").is_file()),
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


@pytest.mark.parametrize("leaf", leaves(StarganExperiment))
def test_every_setting_changes_what_is_trained_or_the_files_or_says_why_not(leaf: str, trainings: Trainings):
    places = [leaf in table for table in (STARGAN, WHOLE, CHANGES_NOTHING, SEPARATE)]
    assert sum(places) == 1, f"{leaf}: say in one of the tables where it shows, or in CHANGES_NOTHING why it does not"
    if leaf not in STARGAN:
        return
    setting = STARGAN[leaf]
    assert setting.value != flat(StarganExperiment()).get(leaf)
    without, with_it = trainings(setting.needs), trainings({**setting.needs, leaf: setting.value})
    assert setting.seen(without) != setting.seen(with_it)


@pytest.mark.parametrize("leaf", WHOLE)
def test_a_whole_run_does_what_each_of_its_settings_says(leaf: str, runs: Runs):
    _, holds = WHOLE[leaf]
    assert holds(runs)


def test_the_tables_name_no_setting_that_is_gone_and_no_two_have_one_value():
    assert {*STARGAN, *WHOLE, *CHANGES_NOTHING, *SEPARATE} <= set(leaves(StarganExperiment))
    values = {leaf: setting.value for leaf, setting in STARGAN.items()} | {leaf: value for leaf, (value, _) in WHOLE.items()}
    assert repeated(values) == []


def test_what_was_not_changed_gives_the_same_bits(trainings: Trainings, runs: Runs, tmp_path: Path):
    """Else the other tests of this file would find a difference in anything."""
    config = checked(nested({**SMALL, "data.latents_dir": str(trainings.folder / "FOUR")}), StarganExperiment)
    assert trainings.train(config, tmp_path).networks == trainings({}).networks
    assert not others(runs, tracking__experiment="again")


@pytest.mark.parametrize(("minutes", "written"), [(1e-9, True), (5.0, False)])
def test_a_state_is_written_every_so_many_minutes(minutes: float, written: bool, trainings: Trainings, tmp_path: Path):
    """A training that breaks off at the end of its first epoch has left one from before, or none."""

    def broken(row: dict[str, float]) -> None:
        raise ValueError("power cut")

    tree = {**SMALL, "data.latents_dir": str(trainings.folder / "FOUR"), "training.save_state_minutes": minutes}
    config = checked(nested(tree), StarganExperiment)
    with pytest.raises(ValueError, match="power cut"):
        trainings.train(config, tmp_path, broken)
    assert (tmp_path / "state" / "training_state.safetensors").is_file() == written
