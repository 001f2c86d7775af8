"""Sample images of a LoRA while it trains: the same prompts and seeds from the base, at step 0, to the last step."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from fashion_ml.config import LoraExperiment
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.runs.inputs import Sources
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.gpu_memory import fits_into_memory
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.training.subset_images import as_prompts

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

FOLDER, PROMPTS = "samples", "prompts.json"
_MOST = 4
"""Captions that are drawn where no prompts are given."""
_COLUMNS = 6
_NAME = re.compile(r"step_(\d+)_prompt(\d+)|sample_(\d+)_(\d+)")
"""Of a sample's file; the second form is an older one."""


def sample_file(folder: Path, step: int, prompt: int) -> Path:
    """Where the sample of a step and of a prompt, counted from 0, is in a run's folder."""
    return folder / FOLDER / f"step_{step:06d}_prompt{prompt}.png"


def sample_prompts(config: LoraExperiment, inputs: Sources) -> tuple[str, ...]:
    """What is drawn: training.sample_prompts, else the first captions of the references, else those of the training images."""
    shown = inputs.references[:_MOST] or as_prompts(inputs.items[:_MOST], config.data)
    return config.training.sample_prompts or tuple(item.caption for item in shown)


def sample_sheet(folder: Path) -> Image.Image | None:
    """The samples in a run's folder: a row for each prompt, a column for each of at most six steps from first to last; None without any."""
    found: dict[int, dict[int, Path]] = {}
    for path in sorted((folder / FOLDER).glob("*.png")):
        told = _NAME.fullmatch(path.stem)
        if told:
            step, prompt = (int(told[1]), int(told[2])) if told[1] else (int(told[4]), int(told[3]))
            found.setdefault(step, {})[prompt] = path
    if not found:
        return None
    steps = sorted(found)
    shown = sorted({steps[round(place * (len(steps) - 1) / (_COLUMNS - 1))] for place in range(_COLUMNS)})
    first = load_picture(next(iter(found[shown[-1]].values())))
    blank = Image.new("RGB", first.size, "white")
    prompts = _prompts(folder)
    rows = []
    for prompt in sorted({one for step in shown for one in found[step]}):
        pictures = [load_picture(found[step][prompt]) if prompt in found[step] else blank for step in shown]
        rows.append((prompts[prompt] if prompt < len(prompts) else tr("prompt {prompt}", prompt=prompt), pictures))
    heads = [tr("step {step}", step=step) if step else tr("untrained") for step in shown]
    from fashion_ml.evaluation.figures import comparison_grid

    return comparison_grid(
        rows,
        heads,
        columns=1,
        title=tr("The same prompts and seeds from step {shown} to {shown_2}", shown=shown[0], shown_2=shown[-1]),
    )


def _prompts(folder: Path) -> list[str]:
    """What was drawn; empty where older samples do not say it."""
    try:
        return [str(one) for one in parsed(read_whole(folder / FOLDER / PROMPTS))]
    except (OSError, ValueError, TypeError):
        return []


def sampler(
    config: LoraExperiment, pipeline: Any, inputs: Sources, run: TrackedRun | None, folder: Path, accelerator: Any
) -> Callable[[int], None] | None:
    """Makes a few images with the weights as they are, always from the same prompts and seeds; None without sample_every.

    They are files in `samples/`, and with a run its images too, with a step slider. Those that a resumed run has already stay.
    """
    if not config.training.sample_every:
        return None
    from fashion_ml.evaluation.figures import save_picture
    from fashion_ml.evaluation.generate import generate, jobs_of
    from fashion_ml.models.families.known import family_of
    from fashion_ml.models.finite import NotFiniteError
    from fashion_ml.models.half_precision import as_evaluated
    from fashion_ml.training.lora_models import autocast_of
    from fashion_ml.training.precision import DTYPES, settled

    precision = DTYPES[settled(config.evaluation.precision, accelerator.device)]

    prompts, family = sample_prompts(config, inputs), family_of(pipeline)
    wanted = [CaptionedImage(Path(f"sample_{index}"), prompt, f"sample_{index}") for index, prompt in enumerate(prompts)]
    settings = config.evaluation.model_copy(update={"images_per_reference": 1})
    jobs = jobs_of(wanted, settings, [(config.data.resolution, config.data.resolution)] * len(wanted))

    def is_there(step: int, index: int) -> bool:
        """Of a step behind the last state, which comes again; files had another name once."""
        names = sample_file(folder, step, index), folder / FOLDER / f"sample_{index}_{step:08d}.png"
        return run.has_image(f"sample_{index}", step) if run else any(name.is_file() for name in names)

    def sample(step: int) -> None:
        missing = [index for index in range(len(jobs)) if not is_there(step, index)]
        if not missing:
            return
        write_text(folder / FOLDER / PROMPTS, json.dumps(prompts, ensure_ascii=False, indent=1) + "\n")
        places = [(one, one.device) for one in (pipeline.vae, *family.encoders(pipeline))]
        made: dict[int, Image.Image] = {}
        try:
            with (
                fits_into_memory(
                    tr("drawing sample images"), "training.sample_every", config.training.sample_every, tr("leave it out")
                ),
                as_evaluated(pipeline.to(accelerator.device), autocast_of(config, pipeline.unet, accelerator), precision),
            ):
                for batch in generate(pipeline, jobs, settings, text=family.reading(config.text_encoding())):
                    made |= dict(zip(*batch, strict=True))
        except NotFiniteError as error:
            warn(tr("Sample images of step {step} are left out: {error}", step=step, error=error))
            return
        finally:
            for one, place in places:
                one.to(place)
        for index in missing:
            save_picture(sample_file(folder, step, index), made[index])
            if run:
                run.log_image(made[index], f"sample_{index}", step)

    return sample
