"""What a training would keep and measure, in words and counts, from its settings alone."""

from __future__ import annotations

from typing import Any

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.evaluation.free_prompts import SEEDS
from fashion_ml.evaluation.prompts import read_prompts
from fashion_ml.evaluation.toy import EMBEDDED
from fashion_ml.metrics.registry import asked_for
from fashion_ml.runtime.language import tr


def kept_files(config: LoraExperiment | StarganExperiment, steps: int, per_epoch: int, held_out: int = 0) -> dict[str, Any]:
    """The files of weights that stay, as the checkpoint manager counts them, and when a state is written."""
    training = config.training
    by_step, by_epoch = getattr(training, "save_every_n_steps", None), training.save_every_n_epochs
    checks = getattr(training, "performance_check_interval", None)
    found = {step for step in range(1, steps) if (by_step and step % by_step == 0) or (checks and step % checks == 0)}
    epochs = [step for step in range(1, steps) if by_epoch and step % per_epoch == 0 and (step // per_epoch) % by_epoch == 0]
    between = len(found) + len(epochs)
    return {
        "final": f"{config.output.output_name}.safetensors",
        "best": "best.safetensors" if held_out and isinstance(config, LoraExperiment) else None,
        **_beside(config),
        "between": between,
        "stay": between if training.save_last_n is None else min(between, training.save_last_n),
        "state_minutes": training.save_state_minutes if training.save_state else None,
    }


def _beside(config: LoraExperiment | StarganExperiment) -> dict[str, str]:
    """The files beside the last one: averages and the new word, where there are some."""
    if not isinstance(config, LoraExperiment):
        return {}
    from fashion_ml.models.ema import EMA

    averages = {"averages": f"{config.output.output_name}{EMA}.safetensors"} if config.training.ema_decay else {}
    return {**averages, **({"word": f"{config.embedding.token}.safetensors"} if config.embedding.token else {})}


def kept_line(kept: dict[str, Any]) -> str:
    """The same as a line."""
    said = [kept["final"], *(kept[name] for name in ("averages", "word") if name in kept)]
    if kept["best"]:
        said.append(tr("{best} (lowest val_loss)", best=kept["best"]))
    if kept["between"]:
        some = (
            ""
            if kept["stay"] == kept["between"]
            else tr(", of which the latest {stay} stay (training.save_last_n)", stay=kept["stay"])
        )
        said.append(tr("{between} files in between{some}", between=kept["between"], some=some))
    state = kept["state_minutes"]
    said.append(
        tr("a state every {state:g} min for --resume", state=state)
        if state
        else tr("no state, so no --resume (training.save_state)")
    )
    return tr("Kept: {names}", names=", ".join(said))


def measured_lora(config: LoraExperiment, references: int, held_out: int, per_epoch: int) -> dict[str, Any]:
    """Evaluation, checks, samples and validation: how often and how many images."""
    training, evaluation, steps = config.training, config.evaluation, config.training.max_train_steps
    encoder = "fashion_clip" not in evaluation.without
    images = references * evaluation.images_per_reference
    every, checks = training.validate_every_n_steps or per_epoch, training.performance_check_interval
    times = len([step for step in range(1, steps + 1) if step % every == 0 or step == steps]) if held_out else 0
    suite = read_prompts(evaluation.prompts, embedded=config.model.base == EMBEDDED) if encoder else None
    free = SEEDS * (len(suite.without_trigger) + len(suite.with_trigger)) if suite else 0
    given = ["prompts"] if suite else []
    metrics = [metric.title for metric in asked_for(["lora"], evaluation.extra_metrics, encoder=encoder, given=given)]
    final = evaluation.enabled and bool(checks) and steps % (checks or 1) == 0
    return {
        "evaluation": {
            "references": references,
            "images": images * (1 + len(set(evaluation.strengths) - {0.0, 1.0})) + free,
            "images_of_the_base": images + free,
            "sampler_steps": evaluation.num_inference_steps,
            "encoder": evaluation.encoder if encoder else None,
            "metrics": metrics,
        }
        if evaluation.enabled
        else None,
        "performance_checks": steps // checks - final if checks else 0,
        "samples": steps // training.sample_every + 1 if training.sample_every else 0,
        "validation": {"images": held_out, "times": times},
    }


def measured_lora_lines(measured: dict[str, Any]) -> list[str]:
    """The same, a line each."""
    lines = []
    found = measured["evaluation"]
    if found:
        lines.append(
            tr(
                "Evaluation: {references} references, {images} images with the LoRA and {images_of_the_base} "
                "without, {sampler_steps} sampler steps each; encoder {value}; {names}",
                references=found["references"],
                images=found["images"],
                images_of_the_base=found["images_of_the_base"],
                sampler_steps=found["sampler_steps"],
                value=found["encoder"] or tr("none"),
                names=", ".join(found["metrics"]),
            )
        )
    else:
        lines.append(tr("Evaluation: none (evaluation.enabled)"))
    times, images = measured["validation"]["times"], measured["validation"]["images"]
    lines.append(
        tr(
            "On the way: val_loss {part}, performance checks {value}, samples {value_2}",
            part=tr("{times} times on {images} images held out", times=times, images=images)
            if images
            else tr("not (data.validation_split)"),
            value=measured["performance_checks"] or tr("none (training.performance_check_interval)"),
            value_2=measured["samples"] or tr("none (training.sample_every)"),
        )
    )
    return lines


def measured_stargan(config: StarganExperiment, held_out: dict[str, int]) -> dict[str, Any]:
    """Evaluation and grids."""
    evaluation, every = config.evaluation, config.training.grid_every_n_epochs
    encoder = "fashion_clip" not in evaluation.without
    return {
        "evaluation": {
            "contents": sum(min(count, evaluation.contents_per_domain) for count in held_out.values()),
            "domains": len(held_out),
            "styles": evaluation.styles,
            "encoder": evaluation.encoder if encoder else None,
        }
        if evaluation.enabled
        else None,
        "grids": 1 + -(-config.training.epochs // every),
    }


def measured_stargan_line(measured: dict[str, Any]) -> str:
    """The same as a line."""
    found = measured["evaluation"]
    said = (
        tr(
            "{contents} held-out contents to the other of {domains} domains, by reference and {styles} latent "
            "styles; encoder {value}",
            contents=found["contents"],
            domains=found["domains"],
            styles=found["styles"],
            value=found["encoder"] or tr("none"),
        )
        if found
        else tr("none (evaluation.enabled)")
    )
    return tr("Evaluation: {said}. Grids: {grids}", said=said, grids=measured["grids"])
