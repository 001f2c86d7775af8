"""A StarGAN experiment: what its run is about, how it trains and how it is measured; `training_run` does the rest."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import StarganExperiment, evaluated_again, flat, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.evaluation.gan_instruments import read_gan_instruments
from fashion_ml.evaluation.toy import EMBEDDED, check_encoder, own_of_stargan
from fashion_ml.runs.beginning import begun
from fashion_ml.runs.data_summary import keep_facts, say_latents
from fashion_ml.runs.evaluate import evaluation_folder, roll_up
from fashion_ml.runs.evaluation_note import Ends, EvaluationNote, abandoned, key_of
from fashion_ml.runs.offline_hub import check_hub
from fashion_ml.runs.run_folder import long_waits, shared_folder
from fashion_ml.runs.run_name import evaluation_name
from fashion_ml.runs.settled_precision import with_settled_precision
from fashion_ml.runs.stargan_about import about
from fashion_ml.runs.stargan_inputs import (
    checked_vae,
    evaluation_vae,
    lower_vaes,
    read_latent_set,
    stargan_inputs,
    training_inputs,
    with_precision,
)
from fashion_ml.runs.trained_run import config_of, trained_run
from fashion_ml.runs.training_run import Outcome, check_data, in_experiment, measurements, training_run
from fashion_ml.runs.training_speed import begin_peak, log_speed
from fashion_ml.runs.warm_start import is_there, make_ahead
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.gpu_memory import fits_into_memory, free_memory
from fashion_ml.runtime.json_file import of_its_shape, parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import main_process_first

if TYPE_CHECKING:
    from fashion_ml.data.stargan_batches import GanInputs
    from fashion_ml.evaluation.stargan import GanResult
    from fashion_ml.runs.run_folder import RunFolder
    from fashion_ml.runs.trained_run import TrainedRun
    from fashion_ml.tracking.run import TrackedRun
    from fashion_ml.training.stargan_loop import TrainedStargan

StarganOutcome = Outcome["TrainedStargan", "GanResult"]
"""What a StarGAN experiment left behind."""


def run_stargan(
    config: StarganExperiment,
    *,
    resume: str = "",
    new: bool = False,
    expected_digest: str = "",
    track: bool = True,
    chosen: Collection[str] = (),
) -> StarganOutcome | None:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible.

    `resume`, `new`, `expected_digest`, `track` and `chosen` as for a LoRA. Under `accelerate launch` processes beside the main one train
    along and return None.
    """
    with begun(config, resume=resume, new=new) as earlier:
        return _run_stargan(config, earlier, new=new, expected_digest=expected_digest, track=track, chosen=chosen)


def _run_stargan(
    config: StarganExperiment,
    earlier: RunFolder | None,
    *,
    new: bool,
    expected_digest: str,
    track: bool,
    chosen: Collection[str],
) -> StarganOutcome | None:
    config = with_settled_precision(config, earlier)
    config = in_experiment(config, chosen, earlier) if track else config
    if track and earlier is None and (config.data.latents_dir == "embedded" or is_there(config.data.latents_dir)):
        make_ahead(collection=False, store=not config.tracking.offline)  # else it may end before it needs a store
    from accelerate import Accelerator

    from fashion_ml.training.first_lines import stargan_lines
    from fashion_ml.training.precision import check_precision

    accelerator, resumed = Accelerator(kwargs_handlers=[long_waits()]), earlier is not None
    check_precision(config.training.mixed_precision, accelerator.device.type, tf32=config.training.tf32)
    with main_process_first(accelerator):
        latents = read_latent_set(config, str(accelerator.device))
    inputs = training_inputs(config, latents, accelerator)
    if not accelerator.is_main_process:
        _train_along(config, inputs, accelerator, resume=resumed)
        return None
    vae, own_sha256 = checked_vae(config, latents, accelerator.device)
    shown_by, vae_sha256 = evaluation_vae(config, vae, own_sha256, accelerator.device)
    lower_vaes(config, (vae, shown_by), accelerator.device)
    encoder = check_measuring(config, inputs)
    digest = latents.digest()
    check_data(earlier, digest, expected_digest, "data.latents_dir", "latents")

    def train(run: TrackedRun | None, folder: Path) -> TrainedStargan:
        keep_facts(found, folder, run)
        return _train(config, inputs, vae, folder, run, accelerator, resume=resumed)

    def evaluate(run: TrackedRun | None, folder: Path, trained: TrainedStargan) -> GanResult:
        return _evaluate(config, trained.path, inputs, shown_by, vae_sha256, encoder, run, folder / "evaluation", only=True)

    for line in stargan_lines(config, inputs, accelerator.num_processes):
        say(line)
    found = say_latents(latents, inputs.held)
    return training_run(
        config,
        about(config, latents, inputs, digest),
        earlier,
        accelerator,
        new=new,
        track=track,
        chosen=chosen,
        train=train,
        evaluate=evaluate if config.evaluation.enabled else None,
    )


def _check_held_out(config: StarganExperiment, inputs: GanInputs) -> None:
    if not all(inputs.held):
        raise InputError(
            tr(
                "data.validation_split: {validation_split} holds out nothing to evaluate on; use 0.1, or --no-evaluate",
                validation_split=config.data.validation_split,
            )
        )


def evaluate_stargan_again(
    run_id: str, overrides: Mapping[str, Any], folder: Path | None, checkpoints: str = "last", name: str = ""
) -> list[GanResult]:
    """Evaluate networks of a finished StarGAN training again, as new children of it; `overrides` change its evaluation settings.

    `checkpoints` is `last`, the name of a kept file, or `all`, which are measured in the order of their epochs.
    """
    from accelerate import Accelerator

    accelerator = Accelerator()
    with ExitStack() as held, tempfile.TemporaryDirectory() as temporary, trained_run(run_id) as training:
        place, root = Path(temporary), evaluation_folder(training.run, folder)
        held.enter_context(folder_lock(root, "--output-dir"))
        remove_leftovers(root)
        config: StarganExperiment = evaluated_again(config_of(training, place), overrides, StarganExperiment)
        check_hub(config)
        kept = _kept_files(training, config, checkpoints, place)
        latents = read_latent_set(config, str(accelerator.device))
        inputs = stargan_inputs(config, latents, accelerator)
        vae, vae_sha256 = evaluation_vae(config, *checked_vae(config, latents, accelerator.device), accelerator.device)
        lower_vaes(config, (vae,), accelerator.device)
        encoder = checked_encoder(config)
        results, ends = [], Ends()
        for number, (step, path) in enumerate(kept, 1):
            epoch = config.training.epochs if step is None else step // inputs.steps_per_epoch
            if len(kept) > 1:
                say(
                    tr(
                        "Checkpoint {number} of {count}: {name}, epoch {epoch}",
                        number=number,
                        count=len(kept),
                        name=path.name,
                        epoch=epoch,
                    )
                )
            target = root if path.stem == config.output.output_name else root / path.stem
            shown, adopt = (vae, vae_sha256, encoder), len(kept) == 1
            called = f"{name}, epoch {epoch}" if name and len(kept) > 1 else name
            made = _evaluate(
                config, path, inputs, *shown, training.run, target, epoch=epoch, adopt=adopt, name=called, ends=ends
            )
            results.append(made)
        for end in ends:
            end()
        return results


def _kept_files(training: TrainedRun, config: StarganExperiment, wanted: str, place: Path) -> list[tuple[int | None, Path]]:
    """The files of networks to evaluate and the steps that they say they are of, in the order of these; None for the last one."""
    from fashion_ml.runtime.weight_files import read_header

    last = config.output.output_name
    if wanted != "all":
        name = last if wanted in ("", "last") else wanted.removesuffix(".safetensors")
        found = [training.bring(f"stargan/{name}.safetensors", place)]
    else:
        found = sorted(training.bring("stargan", place).glob("*.safetensors"))
    steps = []
    for path in found:
        with of_its_shape("stargan", path, tr("bring back a whole copy of the file")):
            steps.append(parsed_mapping(read_header(path, "stargan").metadata["stargan"])["step"])
    kept = [(None if path.stem == last else int(step), path) for step, path in zip(steps, found, strict=True)]
    return sorted(kept, key=lambda one: (one[0] is None, one[0] or 0))


def check_measuring(config: StarganExperiment, inputs: GanInputs) -> Any:
    """The encoder of the evaluation, None without one. InputError when it cannot be had or nothing is held out to evaluate on."""
    if not config.evaluation.enabled:
        return None
    encoder = checked_encoder(config)
    _check_held_out(config, inputs)
    return encoder


def checked_encoder(config: StarganExperiment) -> Any:
    """The encoder, None without one. InputError when it cannot be had, or is a toy that nobody asked for."""
    check_encoder(config.evaluation, own_of_stargan(config), refuse=config.model.vae != EMBEDDED)
    return read_gan_instruments(config.evaluation)


def _train(
    config: StarganExperiment,
    inputs: GanInputs,
    vae: Any,
    folder: Path,
    run: TrackedRun | None,
    accelerator: Any,
    *,
    resume: bool,
) -> TrainedStargan:
    from fashion_ml.training.resume_point import STATE, state_step
    from fashion_ml.training.stargan_loop import GanHooks, train_stargan

    after = state_step(folder / STATE) // inputs.steps_per_epoch if resume else 0
    with measurements(run, config, folder, after=after, too_large=_out_of_memory(config)) as write:

        def on_epoch(row: dict[str, float]) -> None:
            write([(int(row["epoch"]), None, {key: value for key, value in row.items() if key != "epoch"})])

        hooks = GanHooks(epoch=on_epoch, grid=_grids(config, inputs, vae, run, folder))
        begin_peak(accelerator.device)
        trained = train_stargan(config, inputs, folder, hooks, accelerator, resume=resume)
    images, epochs = config.training.batch_size * accelerator.num_processes, config.training.epochs
    log_speed(run, accelerator.device, steps=trained.steps, seconds=trained.seconds, images=images, at=epochs)
    free_memory()
    help_ = _write_reports(config, trained, folder / "training_logs")
    if run:
        run.set_tags({"training_seconds": f"{trained.seconds:.1f}", "reading_help": " ".join(help_)[:4000]})
        run.log_params({f"parameters.{name}": count for name, count in trained.parameters.items()})
    for line in help_[:-1]:
        say(line)
    return trained


def _out_of_memory(config: StarganExperiment) -> str:
    size = config.training.batch_size
    return tr(
        "training.batch_size: {size} does not fit into the GPU's memory; use {size_2}, mixed_precision bf16, "
        "or a smaller network.base_dim",
        size=size,
        size_2=max(size // 2, 1),
    )


def _write_reports(config: StarganExperiment, trained: TrainedStargan, logs: Path) -> list[str]:
    """Curves and report; returns what they say in words."""
    from fashion_ml.reports.stargan_log import reading_help, write_curves, write_report

    loss = config.loss
    weights = {"g_adv": loss.w_adv, "sty": loss.w_sty, "cyc": loss.w_cyc, "id": loss.w_id}
    write_curves(logs / "loss_curves.png", trained.epochs, weights, loss.w_r1 * loss.r1_interval)
    help_ = reading_help(trained.epochs, loss.w_r1, loss.r1_interval)
    facts = {"epochs": len(trained.epochs), "steps": trained.steps, "parameters": trained.parameters}
    write_report(logs / "stargan_report.json", trained.epochs, facts, help_)
    return help_


def _train_along(config: StarganExperiment, inputs: GanInputs, accelerator: Any, *, resume: bool) -> None:
    from fashion_ml.training.stargan_loop import GanHooks, train_stargan

    train_stargan(
        config, inputs, shared_folder(None, accelerator), GanHooks(epoch=lambda row: None), accelerator, resume=resume
    )


def _grids(config: StarganExperiment, inputs: GanInputs, vae: Any, run: TrackedRun | None, folder: Path) -> Any:
    """Draws the fixed contents in every domain, by reference and by latent, as pictures with a step slider; None without held-out ones."""
    from fashion_ml.evaluation.figures import save_picture
    from fashion_ml.evaluation.training_grid import draw_grids
    from fashion_ml.models.finite import NotFiniteError

    if not all(inputs.held):
        return None

    def grid(epoch: int, networks: Any) -> None:
        free_memory()
        side = f"{inputs.latents.shape[1]} x {inputs.latents.shape[2]}"
        with fits_into_memory(
            tr("drawing grids"), "data.latents_dir", tr("latents of {side}", side=side), tr("use evaluation.precision bf16")
        ):
            try:
                grids = draw_grids(networks, inputs, vae, config.training.latent_scale, config.training.seed)
            except NotFiniteError as error:
                warn(tr("The grids of epoch {epoch} are left out: {error}", epoch=epoch, error=error))
                return
        for who, picture in grids.items():
            save_picture(folder / "grids" / f"{who}_{epoch:06d}.png", picture)
            if run and not run.has_image(f"grid_{who}", epoch):  # epochs behind the last state come again
                run.log_image(picture, f"grid_{who}", epoch)

    return grid


def _evaluate(
    config: StarganExperiment,
    path: Path,
    inputs: GanInputs,
    vae: Any,
    vae_sha256: str,
    encoder: Any,
    training: TrackedRun | None,
    folder: Path,
    *,
    epoch: int | None = None,
    adopt: bool = False,
    name: str = "",
    only: bool = False,
    ends: Ends | None = None,
) -> GanResult:
    """The evaluation run below a training run; only once it has succeeded do its means appear on the training run as `eval/…`.

    `epoch` is that of the networks, the last one when not given. Without a training run there is none for the evaluation either: its files are
    in `folder`. One of the same networks and settings that was killed goes on; with `only` also one that has ended. `ends`: `evaluate_trained`.
    """

    def measure() -> GanResult:
        return _measure(config, path, inputs, vae, vae_sha256, encoder)

    if training is None:
        from fashion_ml.evaluation.artifacts import write_evaluation

        result = measure()
        write_evaluation(result, folder)
        return replace(result, folder=folder)
    from fashion_ml.evaluation.log_evaluation import log_evaluation, log_facts, title_of
    from fashion_ml.tracking.queries import delete_children
    from fashion_ml.tracking.run import open_run

    epoch = config.training.epochs if epoch is None else epoch
    tags = {
        "kind": "evaluation",
        "algorithm": "stargan",
        "base_model": config.model.vae,
        "data_digest": inputs.latents.digest(),
        "step": str(epoch),
        "checkpoint": path.name,
    }
    called, chosen = name or evaluation_name(training.name, f"epoch {epoch}"), {"name"} if name else ()
    note = EvaluationNote(folder, "", key_of(path, inputs.latents.digest(), vae_sha256, to_yaml(config)))
    earlier = note.to_go_on_with(training.client if training.offline else None, ended=only) or abandoned(training, tags)
    with open_run(called, tags, parent=training, adopt=adopt, resume=earlier, chosen=chosen) as run:
        if earlier:
            say(tr("Going on with evaluation {earlier}", earlier=earlier))
            delete_children(run)
        note.write(run.run_id, finished=False)
        run.log_params(flat(config))
        result = measure()
        log_facts(run, result.facts)
        result = log_evaluation(run, replace(result, title=title_of(run.name)), folder)
    numbers = {**result.headline(), **result.ends()}
    roll_up(training, run.run_id, result.fingerprint, numbers, epoch, result.sentence)
    note.finish(run.run_id, ends)
    return result


def _measure(config: StarganExperiment, path: Path, inputs: GanInputs, vae: Any, vae_sha256: str, encoder: Any) -> GanResult:
    """What the averaged networks of a file make of the held-out contents."""
    from fashion_ml.evaluation.stargan import measure_stargan
    from fashion_ml.models.stargan_format import load_averages
    from fashion_ml.training.stargan_loop import network_sizes

    networks = load_averages(path, network_sizes(config, len(inputs.latents.domains)))
    device = inputs.scaled([(0, 0)]).device
    for network in networks.named().values():
        network.to(device)
    settings, scale = with_precision(config.evaluation, device), config.training.latent_scale
    own = own_of_stargan(config)
    try:
        with fits_into_memory(
            "measuring", "evaluation.encoder", settings.encoder, tr("use a smaller one, or a GPU that is free")
        ):
            return measure_stargan(networks, inputs, vae, encoder, settings, scale, vae_sha256=vae_sha256, own=own)
    finally:
        encoder.leave_gpu()
        free_memory()
