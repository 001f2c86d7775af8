"""StarGAN experiments as runs: encode where that is needed, train, evaluate."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import StarganExperiment, evaluated_again, flat
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import read_encoder
from fashion_ml.runs.evaluate import roll_up
from fashion_ml.runs.run_folder import (
    FACTS,
    RunFolder,
    check_output_folder,
    check_tensorboard,
    find_run_to_resume,
    long_waits,
    move_aside,
    run_folder,
    shared_folder,
    tensorboard,
    write_run_folder,
)
from fashion_ml.runs.warm_start import is_there, make_ahead
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.provenance import installed_versions

if TYPE_CHECKING:
    from fashion_ml.data.latents import LatentSet
    from fashion_ml.data.stargan_batches import GanInputs
    from fashion_ml.evaluation.stargan import GanResult
    from fashion_ml.tracking.run import TrackedRun
    from fashion_ml.training.stargan_loop import TrainedStargan


@dataclass(frozen=True)
class StarganOutcome:
    """What a StarGAN experiment left behind."""

    run_id: str
    experiment_id: str
    folder: Path
    trained: TrainedStargan
    evaluation: GanResult | None
    """None when evaluation was switched off."""

    def to_dict(self) -> dict[str, Any]:
        """The same facts as printed, for `--json`; not measured is null."""
        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "output_dir": str(self.folder),
            "networks": str(self.trained.path),
            "steps": self.trained.steps,
            "last_epoch": self.trained.epochs[-1],
            "training_seconds": self.trained.seconds,
            "parameters": self.trained.parameters,
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
        }


def run_stargan(
    config: StarganExperiment, *, resume: str = "", new: bool = False, expected_digest: str = ""
) -> StarganOutcome | None:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible.

    `resume`, `new` and `expected_digest` as for a LoRA. Under `accelerate launch` processes beside the main one train along and return None.
    """
    if not resume and (
        config.data.latents_dir == "embedded" or is_there(config.data.latents_dir)
    ):  # else it may end before it needs a store
        make_ahead(collection=False)
    from accelerate import Accelerator

    from fashion_ml.models.vae import load_vae
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import shown_uri, store_uri

    check_tensorboard(config.tracking.log_with)
    accelerator = Accelerator(kwargs_handlers=[long_waits()])
    device = accelerator.device
    if config.training.mixed_precision == "fp16" and device.type == "cpu":
        raise InputError("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16")
    earlier = find_run_to_resume(resume, config) if resume else None
    if earlier is None and accelerator.is_main_process:
        check_output_folder(config, new)
    with accelerator.main_process_first():
        latents = _latents(config, str(device))
    inputs = _inputs(config, latents, accelerator)
    if not accelerator.is_main_process:
        _train_along(config, inputs, accelerator, resume=earlier is not None)
        return None
    vae = load_vae(config.model.vae, device)
    vae_sha256 = _check_vae(config, latents, vae)
    evaluation = config.evaluation
    encoder = read_encoder(evaluation.encoder, evaluation.without) if evaluation.enabled else None
    if evaluation.enabled and not all(inputs.held):
        raise InputError(
            f"data.validation_split: {config.data.validation_split} holds out nothing to evaluate on; use 0.1, or --no-evaluate"
        )
    digest = latents.digest()
    if earlier and earlier.data_digest != digest:
        raise InputError("data.latents_dir: latents have changed since the run began; restore them, or use --new")
    if expected_digest and expected_digest != digest:
        raise InputError("data.latents_dir: the latents are not those of the run; restore them")
    aside = move_aside(config) if new else None
    if aside:
        say(f"What was in {config.output.output_dir} is now in {aside}")
    tags = {"kind": "train_stargan", "algorithm": "stargan", "base_model": config.model.vae, "data_digest": digest}
    going_on, spool = (earlier.run_id, earlier.path) if earlier else ("", None)
    with open_run(config.name, tags, experiment=config.tracking.experiment, resume=going_on, spool=spool) as run:
        folder = shared_folder(earlier.path if earlier else run_folder(config, run.run_id), accelerator)
        say(f"Run {run.run_id}, files in {folder}" + (", going on" if earlier else ""))
        note = RunFolder(folder, run.run_id, shown_uri(store_uri()), digest, finished=False)
        write_run_folder(note, config)
        if not earlier:
            run.spool_to(folder)
        versions = {f"versions.{name}": found for name, found in installed_versions().items()}
        run.log_params({**flat(config), **versions, **_latent_facts(latents, inputs)})
        run.log_file(folder / "config.yaml")
        run.log_dataset(latents.folder, digest, "training", sum(len(part) for part in inputs.training))
        run.log_source()
        run.describe(_what(config, latents, inputs))
        try:
            trained = _train(config, inputs, vae, folder, run, accelerator, resume=earlier is not None)
        finally:
            _log_training_files(run, folder, config.output.output_name)
        result = None
        if evaluation.enabled:
            try:
                result = _evaluate(config, trained.path, inputs, vae, vae_sha256, encoder, run, folder / "evaluation")
            except Exception:
                say(
                    f"The networks are trained and saved: {trained.path}. Measure them by: fashion-ml evaluate run {run.run_id}"
                )
                raise
        outcome = StarganOutcome(run.run_id, run.experiment_id, folder, trained, result)
        write_text(folder / FACTS, json.dumps(outcome.to_dict(), indent=2, allow_nan=False) + "\n")
        write_run_folder(replace(note, finished=True))
    return outcome


def evaluate_stargan_again(run_id: str, overrides: Mapping[str, Any], folder: Path | None) -> GanResult:
    """Evaluate the networks of a finished StarGAN training again, as a new child of it; `overrides` change its evaluation settings."""
    import yaml
    from accelerate import Accelerator

    from fashion_ml.models.vae import load_vae
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run import attach
    from fashion_ml.tracking.store import find_run, open_tracking

    client, accelerator = open_tracking(), Accelerator()
    training = find_run(client, run_id)
    with tempfile.TemporaryDirectory() as temporary:
        tree = yaml.safe_load(download(client, run_id, "config.yaml", Path(temporary)).read_text(encoding="utf-8"))
        config: StarganExperiment = evaluated_again(tree, overrides, StarganExperiment)
        path = download(client, run_id, f"stargan/{config.output.output_name}.safetensors", Path(temporary))
        latents = _latents(config, str(accelerator.device))
        inputs = _inputs(config, latents, accelerator)
        vae = load_vae(config.model.vae, accelerator.device)
        vae_sha256 = _check_vae(config, latents, vae)
        encoder = read_encoder(config.evaluation.encoder, config.evaluation.without)
        target = folder or (Path("outputs") / "evaluations" / run_id).absolute()
        run = attach(client, training)
        return _evaluate(config, path, inputs, vae, vae_sha256, encoder, run, target, adopt=True)


def _latents(config: StarganExperiment, device: str) -> LatentSet:
    from fashion_ml.data.latents import read_latents

    given = config.data.latents_dir
    folder = _embedded_latents(device) if given == "embedded" else Path(given).expanduser()
    latents = read_latents(folder)
    if latents.shape[0] != config.network.latent_channels:
        raise InputError(
            f"network.latent_channels: {config.network.latent_channels}, but the latents have {latents.shape[0]}; set it to that"
        )
    sides = latents.shape[1:]
    fits = {
        "g_layers": lambda n: all(side % 2**n == 0 and side >= 2 ** (n + 1) for side in sides),
        "d_layers": lambda n: min(sides) >= 2**n,
    }
    for name, fit in fits.items():
        halvings = getattr(config.network, name)
        if not fit(halvings):
            most = max(n for n in range(halvings) if fit(n))
            what = f"{halvings} halvings do not fit latents of {sides[0]} x {sides[1]}"
            raise InputError(f"network.{name}: {what}; use at most {most}")
    return latents


def _embedded_latents(device: str) -> Path:
    """The embedded domains, drawn and encoded below `outputs/` where they are not there yet."""
    from filelock import FileLock

    from fashion_ml.data.encode_latents import encode_folder
    from fashion_ml.embedded import EMBEDDED_DIR
    from fashion_ml.embedded.domains import VERSION, write_domains

    place = (Path("outputs") / f"embedded_domains_v{VERSION}").absolute()
    weights = EMBEDDED_DIR / "stable_diffusion" / "vae" / "diffusion_pytorch_model.safetensors"
    latents = place / f"latents_{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"  # another VAE makes others
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):  # trials of a sweep begin together
        if not (latents / "packed.json").is_file():
            images = write_domains(place / "images")
            encode_folder(images, latents, "embedded", size=64, flips=False, packed=True, device=device)
    return latents


def _inputs(config: StarganExperiment, latents: LatentSet, accelerator: Any) -> GanInputs:
    from fashion_ml.data.stargan_batches import GanInputs

    training = config.training
    return GanInputs(
        latents,
        validation_split=config.data.validation_split,
        batch_size=training.batch_size,
        epoch_size=training.epoch_size,
        latent_dim=config.network.latent_dim,
        scale=training.latent_scale,
        seed=training.seed,
        device=accelerator.device,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )


def _check_vae(config: StarganExperiment, latents: LatentSet, vae: Any) -> str:
    """The hash of the VAE. InputError when the latents' manifest names another one, or another scale."""
    from fashion_ml.data.tensor_cache import weights_sha256

    sha256, manifest = weights_sha256(vae), latents.manifest
    if manifest and manifest["vae_sha256"] != sha256:
        raise InputError(
            f"model.vae: {config.model.vae!r} is not the VAE that made these latents ({manifest['vae']!r}); give that one, or encode again"
        )
    if manifest and abs(manifest["latent_scale"] - config.training.latent_scale) > 1e-6:
        scale = manifest["latent_scale"]
        raise InputError(
            f"training.latent_scale: {config.training.latent_scale}, but these latents' VAE has {scale}; set it to {scale}"
        )
    if vae.config.latent_channels != latents.shape[0]:
        raise InputError(
            f"model.vae: {config.model.vae!r} has {vae.config.latent_channels} channels, the latents have {latents.shape[0]}"
        )
    return sha256


def _train(
    config: StarganExperiment, inputs: GanInputs, vae: Any, folder: Path, run: TrackedRun, accelerator: Any, *, resume: bool
) -> TrainedStargan:
    import torch

    from fashion_ml.reports.stargan_log import reading_help, write_curves, write_report
    from fashion_ml.training.stargan_loop import GanHooks, train_stargan
    from fashion_ml.training.train_state import STATE, state_step

    loss = config.loss
    weights = {"adv": loss.w_adv, "sty": loss.w_sty, "cyc": loss.w_cyc, "id": loss.w_id}
    after = state_step(folder / STATE) // inputs.steps_per_epoch if resume else 0
    board = tensorboard(config.tracking.log_with, folder, after)

    def on_epoch(row: dict[str, float]) -> None:
        values = {key: value for key, value in row.items() if key != "epoch"}
        run.log_metrics(values, step=int(row["epoch"]))
        run.flush()
        for key, value in values.items() if board else ():
            board.add_scalar(key, value, int(row["epoch"]))
        if board:
            board.flush()

    hooks = GanHooks(epoch=on_epoch, grid=_grids(config, inputs, vae, run, folder))
    try:
        trained = train_stargan(config, inputs, folder, hooks, accelerator, resume=resume)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"training.batch_size: {config.training.batch_size} does not fit into the GPU's memory; use "
            f"{max(config.training.batch_size // 2, 1)}, mixed_precision bf16, or a smaller network.base_dim"
        ) from error
    finally:
        if board:
            board.close()
    logs = folder / "training_logs"
    named = {"g_adv": weights["adv"], **{name: weights[name] for name in ("sty", "cyc", "id")}}
    write_curves(logs / "loss_curves.png", trained.epochs, named, loss.w_r1 * loss.r1_interval)
    help_ = reading_help(trained.epochs, loss.w_r1, loss.r1_interval)
    facts = {"epochs": len(trained.epochs), "steps": trained.steps, "parameters": trained.parameters}
    write_report(logs / "stargan_report.json", trained.epochs, facts, help_)
    run.set_tags({"training_seconds": f"{trained.seconds:.1f}", "reading_help": " ".join(help_)[:4000]})
    run.log_params({f"parameters.{name}": count for name, count in trained.parameters.items()})
    for line in help_[:-1]:
        say(line)
    return trained


def _train_along(config: StarganExperiment, inputs: GanInputs, accelerator: Any, *, resume: bool) -> None:
    from fashion_ml.training.stargan_loop import GanHooks, train_stargan

    train_stargan(
        config, inputs, shared_folder(None, accelerator), GanHooks(epoch=lambda row: None), accelerator, resume=resume
    )


def _grids(config: StarganExperiment, inputs: GanInputs, vae: Any, run: TrackedRun, folder: Path) -> Any:
    """Draws the fixed contents in every domain, by reference and by latent, as pictures with a step slider; None without held-out ones."""
    from fashion_ml.evaluation.training_grid import draw_grids

    if not all(inputs.held):
        return None

    def grid(epoch: int, networks: Any) -> None:
        for who, picture in draw_grids(networks, inputs, vae, config.training.latent_scale, config.training.seed).items():
            run.log_image(picture, f"grid_{who}", epoch)
            path = folder / "grids" / f"{who}_{epoch:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)

    return grid


def _evaluate(
    config: StarganExperiment,
    path: Path,
    inputs: GanInputs,
    vae: Any,
    vae_sha256: str,
    encoder: Any,
    training: TrackedRun,
    folder: Path,
    *,
    adopt: bool = False,
) -> GanResult:
    """The evaluation run below a training run; only once it has succeeded do its means appear on the training run as `eval/…`."""
    from fashion_ml.evaluation.log_evaluation import log_evaluation, log_facts
    from fashion_ml.evaluation.stargan import measure_stargan
    from fashion_ml.models.stargan import make_networks
    from fashion_ml.models.stargan_format import load_averages
    from fashion_ml.tracking.run import open_run
    from fashion_ml.training.stargan_loop import network_sizes

    sizes = network_sizes(config, len(inputs.latents.domains))
    networks = load_averages(path, make_networks(sizes, config.training.seed))
    device = inputs.scaled([(0, 0)]).device
    for network in networks.named().values():
        network.to(device)
    tags = {
        "kind": "evaluation",
        "algorithm": "stargan",
        "base_model": config.model.vae,
        "data_digest": inputs.latents.digest(),
    }
    with open_run("evaluation", tags, parent=training, adopt=adopt) as run:
        run.log_params(flat(config))
        result = measure_stargan(
            networks, inputs, vae, encoder, config.evaluation, config.training.latent_scale, vae_sha256=vae_sha256
        )
        log_facts(run, result.facts)
        result = log_evaluation(run, result, folder)
    roll_up(training, run.run_id, result.fingerprint, result.headline(), config.training.epochs, result.sentence)
    return result


def _what(config: StarganExperiment, latents: LatentSet, inputs: GanInputs) -> str:
    training, names = config.training, [domain.name for domain in latents.domains]
    return (
        f"StarGAN v2 between {', '.join(names[:-1])} and {names[-1]}: {training.epochs} epochs of {inputs.steps_per_epoch} steps, batch "
        f"{training.batch_size}, learning rate {config.optimizer.learning_rate:g}, w_ds {config.loss.w_ds:g}, on "
        f"{sum(len(part) for part in inputs.training)} latents of {latents.folder.name}."
    )


def _latent_facts(latents: LatentSet, inputs: GanInputs) -> dict[str, Any]:
    return {
        "latents.shape": "x".join(str(side) for side in latents.shape),
        "latents.domains": json.dumps([domain.name for domain in latents.domains]),
        "latents.training": sum(len(part) for part in inputs.training),
        "latents.held_out": sum(len(part) for part in inputs.held),
        "latents.steps_per_epoch": inputs.steps_per_epoch,
    }


def _log_training_files(run: TrackedRun, folder: Path, name: str) -> None:
    """Log and networks of this training as they are, also when it was interrupted."""
    for path in sorted((folder / "training_logs").glob("*")):
        run.log_file(path, "training_logs")
    for path in sorted(folder.glob("*.safetensors")):
        if path.stem == name or path.stem.startswith(f"{name}-"):
            run.log_file(path, "stargan")
