"""What a StarGAN training's run is about: its name, its description, what is noted of its latents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fashion_ml.config import StarganExperiment
from fashion_ml.runs.run_name import stargan_name
from fashion_ml.runs.training_run import About
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.data.latent_domains import LatentSet
    from fashion_ml.data.stargan_batches import GanInputs


def about(config: StarganExperiment, latents: LatentSet, inputs: GanInputs, digest: str) -> About:
    """What its run says of itself; `digest` is that of the latents."""
    name = stargan_name(config, [domain.name for domain in latents.domains], latents.folder)
    what, count = _what(config, latents, inputs), sum(len(part) for part in inputs.training)
    return About(config.model.vae, what, latents.folder, digest, count, name, _latent_facts(latents, inputs))


def _what(config: StarganExperiment, latents: LatentSet, inputs: GanInputs) -> str:
    training, names = config.training, [domain.name for domain in latents.domains]
    return tr(
        "StarGAN v2 between {names} and {names_2}: {epochs} epochs of {steps_per_epoch} steps, batch "
        "{batch_size}, learning rate {learning_rate:g}, w_ds {w_ds:g}, on {count} latents of {name}.",
        names=", ".join(names[:-1]),
        names_2=names[-1],
        epochs=training.epochs,
        steps_per_epoch=inputs.steps_per_epoch,
        batch_size=training.batch_size,
        learning_rate=config.optimizer.learning_rate,
        w_ds=config.loss.w_ds,
        count=sum(len(part) for part in inputs.training),
        name=latents.folder.name,
    )


def _latent_facts(latents: LatentSet, inputs: GanInputs) -> dict[str, Any]:
    return {
        "latents.shape": "x".join(str(side) for side in latents.shape),
        "latents.domains": json.dumps([domain.name for domain in latents.domains]),
        "latents.training": sum(len(part) for part in inputs.training),
        "latents.held_out": sum(len(part) for part in inputs.held),
        "latents.steps_per_epoch": inputs.steps_per_epoch,
    }
