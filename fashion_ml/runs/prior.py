"""Images of the class in general, drawn from the base itself: what prior preservation needs where nobody has such photos.

Ruiz et al. 2022, arXiv:2208.12242, section 3.2: the base's own pictures of the class keep it what it was while the look is learnt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config import Evaluation, validate
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.links import refuse_links_out

_FACTS = "prior.json"
_WORD = re.compile(r"[^\w]+")


@dataclass(frozen=True)
class Prior:
    """A folder for `data.reg_data_dir`."""

    folder: Path
    """Holds `1_<class>/00000.png` with `00000.txt`, and `prior.json`."""
    count: int
    """Images that were asked for, all of which are there."""
    made: int
    """Of them drawn by this call."""


def make_prior(
    prompt: str, count: int, *, base: str = "embedded", output: Path | None = None, resolution: int = 0, **settings: Any
) -> Prior:
    """Draw `count` images of `prompt` from a base into `output` (`prior_<prompt>` by default), in kohya's layout.

    `resolution` is the base's own when 0; `settings` are those of an evaluation that decide pictures: seed, num_inference_steps, sampler,
    guidance_scale, negative_prompt, batch_size, precision. Image k has a seed of its own, by seed and k: what was cut off goes on with those
    that are missing, and a larger count adds to a smaller one. InputError when something is not accepted, or the folder holds images of
    another prompt, base or setting.
    """
    problems = []
    if not prompt.strip() or "\n" in prompt:
        problems.append(tr("--prompt: {prompt!r} is not accepted; give the class in a line, such as 'a dress'", prompt=prompt))
    if not 1 <= count <= 100_000:
        problems.append(tr("--count: {count} is not accepted; give 1 to 100000", count=count))
    if problems:
        raise InputError(problems)
    tree = {"model": {"base": base}, "data": {"train_data_dir": "embedded"}, "evaluation": settings}
    evaluation, prompt = validate(tree).evaluation, prompt.strip()
    name = _WORD.sub("_", prompt).strip("_")[:60] or "class"
    return _draw(prompt, count, base, output or Path(f"prior_{name}"), f"1_{name}", resolution, evaluation)


def _draw(prompt: str, count: int, base: str, folder: Path, inner: str, resolution: int, settings: Evaluation) -> Prior:
    from fashion_ml.evaluation.generate import Job, generate, image_seed
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.evaluation.lora_pipeline import base_identity
    from fashion_ml.models.half_precision import decode_one_by_one, lower_pipeline
    from fashion_ml.models.stable_diffusion import check_resolution, load_pipeline, vae_factor
    from fashion_ml.runtime.gpu_memory import fits_into_memory
    from fashion_ml.training.precision import DTYPES, settled

    device = device_of_evaluation()
    settings = settings.model_copy(update={"precision": settled(settings.precision, device)})
    pipeline = load_pipeline(base)
    side = resolution or int(pipeline.unet.config.sample_size) * vae_factor(pipeline)
    check_resolution(side, pipeline)
    jobs = [
        Job(index, f"{index:05d}", prompt, image_seed(settings.seed, "prior", index), (side, side)) for index in range(count)
    ]
    kept = _Kept(folder, inner, _facts(prompt, base, base_identity(base), side, settings))
    missing = sum(kept.load(job) is None for job in jobs)
    if missing:
        with fits_into_memory(
            tr("loading the base for images"), "evaluation.precision", settings.precision, tr("use bf16, or a free GPU")
        ):
            lower_pipeline(pipeline, device, DTYPES[settings.precision])
        decode_one_by_one(pipeline.vae)
        with bar(tr("draw prior images"), count) as progress:
            for _ in generate(pipeline, jobs, settings, kept, progress):
                pass
    return Prior(folder, count, missing)


def _facts(prompt: str, base: str, identity: str, side: int, settings: Evaluation) -> dict[str, Any]:
    """What decides the images, and nothing else."""
    import torch

    names = ("seed", "num_inference_steps", "sampler", "guidance_scale", "negative_prompt", "batch_size", "precision")
    own = {name: getattr(settings, name) for name in names}
    return {"prompt": prompt, "base": base, "base_identity": identity, "resolution": side, **own, "torch": torch.__version__}


class _Kept:
    """The images as `generate` keeps them: a PNG and its caption each, both whole or not there."""

    def __init__(self, folder: Path, inner: str, facts: Mapping[str, Any]):
        self._folder, self._prompt, note = folder / inner, facts["prompt"], folder / _FACTS
        refuse_links_out(folder, "--output")
        before = _read(note)
        if before is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(tr("--output: {folder!r} holds something else; give a new folder", folder=str(folder)))
        if before is not None and before != facts:
            other = next(key for key in facts if before.get(key) != facts[key])
            raise InputError(
                tr(
                    "--output: {folder!r} holds images of another {other} ({get!r}, not {facts!r}); give a new folder",
                    folder=str(folder),
                    other=other,
                    get=before.get(other),
                    facts=facts[other],
                )
            )
        if before is None:
            write_text(note, json.dumps(dict(facts), indent=2, ensure_ascii=False) + "\n")

    def load(self, job: Any) -> Any:
        """The image of a job, or None when it was not made yet, or its caption was not."""
        from fashion_ml.data.pictures import PictureError, load_picture

        path = self._folder / f"{job.name}.png"
        if not path.with_suffix(".txt").is_file():
            return None
        try:
            return load_picture(path)
        except (OSError, PictureError):
            return None

    def save(self, job: Any, picture: Any) -> None:
        """Keep an image, then its caption."""
        from fashion_ml.runtime.atomic_files import atomic_path

        path = self._folder / f"{job.name}.png"
        with atomic_path(path, field="--output") as temporary:
            picture.save(temporary, format="png")
        write_text(path.with_suffix(".txt"), f"{self._prompt}\n")


def _read(note: Path) -> dict[str, Any] | None:
    """The facts of a folder; None where it has none that can be read."""
    try:
        found = parsed(read_whole(note))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
