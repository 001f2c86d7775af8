"""`fashion-ml train lora`, `train stargan` and `demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fashion_ml.cli.evaluate import report_evaluation
from fashion_ml.cli.options import (
    ANY_SETTING,
    KEYS,
    Json,
    New,
    NoEvaluate,
    Resume,
    Set,
    assignments,
    check_json,
    option,
    say,
    settings_given,
    table,
    write_json,
)

if TYPE_CHECKING:
    from fashion_ml.evaluation.stargan import GanResult
    from fashion_ml.runs.lora import LoraOutcome

train_app = typer.Typer(help="Train a model; evaluation follows.", **KEYS)


@train_app.command("lora", context_settings=ANY_SETTING)
def train_lora(
    context: typer.Context,
    config: Annotated[str, option("--config", help="Experiment YAML; experiments/lora/embedded.yaml when not given.")] = "",
    base: Annotated[
        str, option("--base", "--pretrained-model-name-or-path", help="embedded, folder, .safetensors file, hub id.")
    ] = "",
    train_data_dir: Annotated[str, option("--train-data-dir", help="Folder of kohya-style N_class folders.")] = "",
    references: Annotated[str, option("--references", help="Folder of reference images with captions.")] = "",
    resolution: Annotated[str, option("--resolution", help="Side of the training images, pixels.")] = "",
    rank: Annotated[str, option("--rank", "--network-dim", help="LoRA rank.")] = "",
    alpha: Annotated[str, option("--alpha", "--network-alpha", help="LoRA alpha; the rank when not given.")] = "",
    lr: Annotated[str, option("--lr", "--learning-rate", help="Learning rate.")] = "",
    lr_scheduler: Annotated[str, option("--lr-scheduler", help="constant, cosine, linear or polynomial.")] = "",
    lr_warmup_steps: Annotated[str, option("--lr-warmup-steps", help="Steps of linear warm-up.")] = "",
    steps: Annotated[str, option("--steps", "--max-train-steps", help="Optimiser steps.")] = "",
    train_batch_size: Annotated[str, option("--train-batch-size", help="Images in one forward pass.")] = "",
    gradient_accumulation_steps: Annotated[
        str, option("--gradient-accumulation-steps", help="Forward passes in one optimiser step.")
    ] = "",
    gradient_checkpointing: Annotated[str, option("--gradient-checkpointing", help="true or false.")] = "",
    mixed_precision: Annotated[str, option("--mixed-precision", help="no, fp16 or bf16.")] = "",
    max_grad_norm: Annotated[str, option("--max-grad-norm", help="Gradient norm limit; 0 for none.")] = "",
    min_snr_gamma: Annotated[str, option("--min-snr-gamma", help="Min-SNR weighting, 5 is usual.")] = "",
    caption_extension: Annotated[str, option("--caption-extension", help="Ending of caption files.")] = "",
    save_every_n_epochs: Annotated[str, option("--save-every-n-epochs", help="Keep a LoRA file so often.")] = "",
    seed: Annotated[str, option("--seed", help="Seed of the training.")] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder of this run's files.")] = "",
    output_name: Annotated[str, option("--output-name", help="The LoRA is <output name>.safetensors.")] = "",
    evaluate: Annotated[str, option("--evaluate", help="true or false: evaluate after training.")] = "",
    no_evaluate: NoEvaluate = False,
    resume: Resume = "",
    new: New = False,
    set_: Set = None,
    json: Json = "",
) -> None:
    """Train a LoRA, generate with it and without it, measure both; everything in one MLflow run.

    Settings have options of their names, here or not, in either spelling: --flip_aug, --noise-offset 0.05, --save_last_n 3. --set reaches
    all of them: --set evaluation.seed=1.
    """
    arguments = dict(locals())
    from fashion_ml.config import SHORT_NAMES

    _train_lora(config, settings_given(arguments, context.args, set_, SHORT_NAMES), json, resume, new)


def demo(
    seed: Annotated[str, option("--seed", help="Seed of the training.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """See the whole thing work: train a LoRA on the embedded default, measure it, show the run tree."""
    _train_lora("", {"seed": seed, **assignments(set_)}, json)


def _train_lora(config: str, overrides: dict[str, str], json: str, resume: str = "", new: bool = False) -> None:
    from fashion_ml.config import load_config
    from fashion_ml.config.shipped_files import default_experiment, given_or_shipped
    from fashion_ml.runtime.console import say as tell

    check_json(json)
    path = given_or_shipped(config) if config else default_experiment("experiments/lora/embedded.yaml")
    experiment = load_config(path, overrides)
    tell(f"Loading {experiment.model.base} …")
    from fashion_ml.runs.lora import run_lora

    outcome = run_lora(experiment, resume=resume, new=new)
    if outcome is None:  # a process beside the main one, under accelerate launch
        return
    write_json(json, outcome.to_dict())
    _report_lora(outcome)


def _report_lora(outcome: LoraOutcome) -> None:
    series, trained = outcome.trained.total_loss, outcome.trained
    say(f"Trained {series.steps[-1]} steps in {trained.seconds:.0f} s: total_loss {series.values[-1]:.4f} at the last step")
    say(f"LoRA      {trained.path}")
    say(f"Run       {outcome.run_id}")
    say("See it    fashion-ml ui        (or: mlflow ui), then open the experiment's runs")
    if outcome.evaluation is None:
        say(f"Not evaluated, so there are no image metrics. Next: fashion-ml evaluate run {outcome.run_id}")
        return
    say(f"Grid      {outcome.folder / 'evaluation' / 'grid.png'}")
    report_evaluation(outcome.evaluation)


@train_app.command("stargan", context_settings=ANY_SETTING)
def train_stargan(
    context: typer.Context,
    config: Annotated[str, option("--config", help="Experiment YAML; experiments/stargan/embedded.yaml when not given.")] = "",
    latents_dir: Annotated[str, option("--latents-dir", help="Folder of domains made by fashion-ml encode, or embedded.")] = "",
    vae: Annotated[str, option("--vae", help="The VAE of the latents: embedded, hub id, folder, single file.")] = "",
    w_ds: Annotated[str, option("--w-ds", help="Weight of the diversity term in the first epoch.")] = "",
    lr: Annotated[str, option("--lr", "--learning-rate", help="Learning rate of G, E and D.")] = "",
    epochs: Annotated[str, option("--epochs", help="Passes over the latents.")] = "",
    batch_size: Annotated[str, option("--batch-size", help="Contents in one step.")] = "",
    mixed_precision: Annotated[str, option("--mixed-precision", help="no, fp16 or bf16.")] = "",
    seed: Annotated[str, option("--seed", help="Seed of the training.")] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder of this run's files.")] = "",
    output_name: Annotated[str, option("--output-name", help="The networks are <output name>.safetensors.")] = "",
    evaluate: Annotated[str, option("--evaluate", help="true or false: evaluate after training.")] = "",
    no_evaluate: NoEvaluate = False,
    resume: Resume = "",
    new: New = False,
    set_: Set = None,
    json: Json = "",
) -> None:
    """Train a StarGAN v2 on VAE latents of several domains and measure it; everything in one MLflow run.

    Settings have options of their names, here or not, in either spelling: --w_r1 0.5, --base-dim 64, --ds_decay_epochs 30. --set reaches
    all of them: --set evaluation.seed=1.
    """
    arguments = dict(locals())
    check_json(json)
    from fashion_ml.config import STARGAN_SHORT_NAMES, StarganExperiment, load_experiment
    from fashion_ml.config.shipped_files import default_experiment, given_or_shipped

    given = settings_given(arguments, context.args, set_, STARGAN_SHORT_NAMES)
    path = given_or_shipped(config) if config else default_experiment("experiments/stargan/embedded.yaml")
    experiment = load_experiment(path, given, StarganExperiment)
    from fashion_ml.runs.stargan import run_stargan

    outcome = run_stargan(experiment, resume=resume, new=new)
    if outcome is None:  # a process beside the main one, under accelerate launch
        return
    write_json(json, outcome.to_dict())
    trained, last = outcome.trained, outcome.trained.epochs[-1]
    say(f"Trained {trained.steps} steps in {trained.seconds:.0f} s: d_loss {last['d_loss']:.3f}, g_loss {last['g_loss']:.3f}")
    say(f"Networks  {trained.path}")
    say(f"Run       {outcome.run_id}")
    say("See it    fashion-ml ui        (or: mlflow ui), then open the experiment's runs")
    if outcome.evaluation is None:
        say(f"Not evaluated. Next: fashion-ml evaluate run {outcome.run_id}")
        return
    say(f"Grids     {outcome.folder / 'evaluation' / 'grid_reference.png'}, grid_latent.png")
    report_stargan(outcome.evaluation)


def report_stargan(result: GanResult) -> None:
    """The sentence, then a table as the last lines."""
    from fashion_ml.evaluation.lora import shown

    say("")
    say(result.sentence)
    names = dict.fromkeys(name.removeprefix("latent_") for name in result.scores)
    rows = [
        [name, *(shown(vars(result.scores[key])) if key in result.scores else "" for key in (name, f"latent_{name}"))]
        for name in names
    ]
    table([f"{result.contents} contents", "by reference", "by latent"], rows)
