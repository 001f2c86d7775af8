"""Trained networks in MLflow's model registry: a version, its metrics, and the alias `champion` where it has earned it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config import KINDS
from fashion_ml.errors import InputError
from fashion_ml.runtime.json_file import of_its_shape, parsed_mapping
from fashion_ml.runtime.language import tr

CHAMPION = "champion"
CLAIM = "claim"
"""Tag of a version that became champion: what it was shown to be better as, `this LoRA`, `this file` or `this recipe`."""


@dataclass(frozen=True)
class Registered:
    """A new version."""

    name: str
    version: str
    uri: str
    champion: bool
    """Whether the alias is on it now."""
    why: str
    """Why it is, or is not."""
    claim: str
    """What it was shown to be better as: `this LoRA` than its base, `this file` or `this recipe` than the champion; empty where it was not."""


def register(run_id: str, name: str, suite: str = "") -> Registered:
    """Log the networks of a finished training as a model of its run and register them as a version of `name`.

    The evaluation's means of the training's last step are attached. The alias `champion` goes to a LoRA whose weighted_total_loss is
    better than its base's, and from the second champion on better than the champion's too: as a recipe where both have 3 training
    seeds, measured by image seeds and references of which no search knows, else as a file, which the version's tag and text then say.
    With the run of a `suite` that trained it only a recipe that wins there is champion: better than the baseline, and than the champion's
    recipe where that is in the suite too. InputError when the run has nothing to register, or is none of the suite's.
    """
    from fashion_ml.deploy.champion import judge_champion
    from fashion_ml.deploy.suite_champion import suite_entry
    from fashion_ml.tracking.model_registry import log_model
    from fashion_ml.tracking.run import note_of
    from fashion_ml.tracking.run_ids import find_meant
    from fashion_ml.tracking.store import open_tracking

    if not name.strip() or set(name) & {"/", ":"}:
        raise InputError(tr("--name: {name!r} is no name of a model; use one without / and :", name=name))
    client = open_tracking(make=False)
    run = find_meant(client, run_id)
    run_id = run.info.run_id
    kind = run.data.tags.get("kind", "")
    if kind not in KINDS or run.info.status != "FINISHED":
        raise InputError(
            tr(
                "run_id: run {run_id} is no finished training ({value}, {status}); give another",
                run_id=run_id,
                value=kind or tr("unknown"),
                status=run.info.status,
            )
        )
    entry = suite_entry(client, run, suite) if suite else None
    with tempfile.TemporaryDirectory() as temporary:
        from fashion_ml.deploy import lora_model as lora
        from fashion_ml.deploy import stargan_model as stargan

        saver = lora if kind == "train_lora" else stargan
        options, step = (_lora if kind == "train_lora" else _stargan)(client, run_id, Path(temporary))
        version, uri = log_model(run_id, name, saver, options, step)
    found = judge_champion(client, name, CHAMPION, run_id, step, entry)
    if entry is not None:
        client.set_model_version_tag(name, version, "suite", entry.suite)
    if found.champion:
        client.set_model_version_tag(name, version, CLAIM, found.claim)
        client.set_registered_model_alias(name, CHAMPION, version)
    client.update_model_version(name, version, description=f"Run {run_id}. {note_of(run)} {found.why}")
    return Registered(name, version, uri, found.champion, found.why, found.claim)


def _lora(client: Any, run_id: str, place: Path) -> tuple[dict[str, Any], int]:
    from fashion_ml.config import LoraExperiment

    config = _config(client, run_id, LoraExperiment, place)
    from fashion_ml.tracking.queries import download

    adapter = download(client, run_id, f"lora/{config.output.output_name}.safetensors", place)
    side = config.data.resolution
    defaults = {
        "num_inference_steps": config.evaluation.num_inference_steps,
        "guidance_scale": config.evaluation.guidance_scale,
        "width": side,
        "height": side,
    }
    options = {
        "adapter_path": adapter,
        "base": config.model.base,
        "text": config.text_encoding(),
        "schedule": config.model.schedule(),
        "defaults": defaults,
        "example": {"prompt": "a red dress"},
    }
    return options, config.training.max_train_steps


def _stargan(client: Any, run_id: str, place: Path) -> tuple[dict[str, Any], int]:

    from PIL import Image

    from fashion_ml.config import StarganExperiment
    from fashion_ml.deploy.lora_model import as_png
    from fashion_ml.models.vae import load_vae, vae_factor_of
    from fashion_ml.runtime.weight_files import read_header
    from fashion_ml.tracking.queries import download

    config = _config(client, run_id, StarganExperiment, place)
    networks = download(client, run_id, f"stargan/{config.output.output_name}.safetensors", place)
    with of_its_shape("stargan", networks, tr("bring back a whole copy of the file")):
        facts = parsed_mapping(read_header(networks, "stargan").metadata["stargan"])
        size = facts["latent_shape"][1] * vae_factor_of(load_vae(config.model.vae))
        example = {"image": as_png(Image.new("RGB", (size, size), "white")), "domain": facts["domains"][0]}
    return {"networks": networks, "vae": config.model.vae, "size": size, "example": example}, config.training.epochs


def _config(client: Any, run_id: str, kind: Any, place: Path) -> Any:
    from fashion_ml.config import checked
    from fashion_ml.runtime.yaml_file import read_mapping
    from fashion_ml.tracking.queries import download

    return checked(
        read_mapping(download(client, run_id, "config.yaml", place), "run_id", tr("a run whose config.yaml is whole")), kind
    )
