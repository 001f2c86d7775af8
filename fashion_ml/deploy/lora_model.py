"""A LoRA as an MLflow model: prompt to PNG, with a seed.

`mlflow.diffusers.load_model` reads it too; its own pyfunc has no seed, so this module is the loader.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.deploy.asked import Asked, LoadedOnce, answering, check_rows, sampler_of, seed_of, text_of, work_of
from fashion_ml.deploy.model_facts import LoraFacts, checked, wrong
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.links import leads_out
from fashion_ml.runtime.redact import first_line

MODEL_FILE = "MLmodel"


def save_model(
    path: str,
    mlflow_model: Any,
    *,
    adapter_path: Path,
    base: str,
    text: Mapping[str, Any],
    schedule: Mapping[str, Any],
    defaults: Mapping[str, Any],
    example: Mapping[str, Any],
) -> None:
    """Write the model: the LoRA file, the base by reference, signature and example.

    `text` are the arguments of `TextSettings`, `schedule` those of `load_pipeline` beside the base, `defaults` the sampler's settings.
    """
    import mlflow.diffusers

    from fashion_ml.embedded import EMBEDDED_DIR

    where = str(EMBEDDED_DIR / "stable_diffusion") if base == "embedded" else base
    mlflow.diffusers.save_model(
        adapter_path=str(adapter_path),
        base_model=where,
        path=path,
        mlflow_model=mlflow_model,
        signature=_signature(defaults),
        input_example=dict(example),
        pip_requirements=requirements(),
        metadata={"base": base, "text": dict(text), "schedule": dict(schedule), **defaults},
    )
    use_loader(mlflow_model, path, __name__)


def use_loader(mlflow_model: Any, path: str, module: str) -> None:
    """Let `python_function` load with a module of this package."""
    mlflow_model.flavors["python_function"]["loader_module"] = module
    mlflow_model.save(str(Path(path) / MODEL_FILE))


def requirements() -> list[str]:
    """What a serving environment needs, in the versions of this one."""
    from importlib.metadata import version

    names = ("mlflow", "torch", "diffusers", "transformers", "peft", "safetensors", "pillow")
    return ["fashion-ml", *(f"{name}=={version(name)}" for name in names)]


def _signature(defaults: Mapping[str, Any]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    kinds = {int: DataType.long, float: DataType.double, str: DataType.string}
    params = {"seed": 0, **defaults, "negative_prompt": ""}
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.binary, "image")]),
        params=ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in params.items()]),
    )


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> LoraModel:
    """MLflow's entry; `model_config` may name another `base`."""
    from mlflow.models import Model

    model, file = Model.load(path), Path(path) / MODEL_FILE
    flavor = model.flavors.get("diffusers")
    if not isinstance(flavor, Mapping):
        raise wrong(file, "flavors.diffusers", "", tr("it is not there"))
    for key in ("base_model", "adapter_weights"):
        if not isinstance(flavor.get(key), str):
            raise wrong(file, f"flavors.diffusers.{key}", repr(flavor.get(key))[:80], tr("it is no text"))
    facts = checked(LoraFacts, model.metadata, file, "metadata")
    base = (model_config or {}).get("base") or (flavor["base_model"] if facts.base != "embedded" else "embedded")
    adapter = Path(path) / flavor["adapter_weights"]
    if leads_out(adapter, Path(path)):
        raise wrong(
            file, "flavors.diffusers.adapter_weights", repr(flavor["adapter_weights"])[:80], tr("it is not in its folder")
        )
    return LoraModel(base, adapter, facts.model_dump())


class LoraModel:
    """Base and LoRA, loaded when they are first asked."""

    def __init__(self, base: str, adapter: Path, facts: Mapping[str, Any]):
        self._base, self._adapter, self._facts = base, adapter, facts
        self._pipeline = LoadedOnce(self._load)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> list[bytes]:
        """A PNG for each row's `prompt`, each from the noise of `seed`: the same whatever else is asked in the same call, or at the same time.

        MLflow's error of a bad parameter, which names it, for what is out of bounds; of a deadline where it takes too long.
        """
        import torch

        from fashion_ml.runtime.float32 import exact_float32

        given, images = {"seed": 0, **(params or {})}, []
        with answering() as asked:
            check_rows(len(data))
            settings, seed = sampler_of({**self._facts, **given}), seed_of(given["seed"])
            prompts = [text_of("prompt", prompt) for prompt in data["prompt"]]
            negative = text_of("negative_prompt", given.get("negative_prompt") or "")
            self._weigh(asked, len(prompts), settings)
            for prompt in prompts:
                with asked.turn(), exact_float32():
                    pipeline = copy.copy(self._pipeline.get())
                    pipeline.scheduler = copy.deepcopy(pipeline.scheduler)  # it counts steps; the weights are everyone's
                    read, noise = self._read(pipeline, prompt, negative), torch.Generator().manual_seed(seed)
                    made = pipeline(**read, generator=noise, **settings, callback_on_step_end=asked.on_step)
                images.append(as_png(made.images[0]))
        return images

    def _weigh(self, asked: Asked, rows: int, settings: Mapping[str, Any]) -> None:
        """`Asked.weigh`, held against the model's own settings; the side that is most above its own is named."""
        facts = self._facts
        side = max(("width", "height"), key=lambda name: settings[name] / facts[name])
        usual = facts["width"] * facts["height"], facts["num_inference_steps"]
        asked.weigh(rows, settings["width"] * settings["height"], settings["num_inference_steps"], usual=usual, side=side)

    def prepare(self) -> int:
        """Load everything, and read an empty prompt. InputError where its files do not fit together; returns the work of one image as the
        model has it (`asked.work_of`)."""
        facts, pipeline = self._facts, self._pipeline.get()
        try:
            self._read(pipeline, "", "")
        except (LookupError, ValueError, TypeError, RuntimeError) as error:
            told = tr("this base cannot read prompts so: {first_line}", first_line=first_line(error)[:160])
            raise wrong(self._adapter.parent / MODEL_FILE, "metadata.text", str(facts["text"]), told) from None
        return work_of(1, facts["width"] * facts["height"], facts["num_inference_steps"])

    def signature(self) -> Any:
        """What may be asked of it."""
        return _signature({name: self._facts[name] for name in ("num_inference_steps", "guidance_scale", "width", "height")})

    def get_raw_model(self) -> LoraModel:
        """Itself, for MLflow."""
        return self

    def _read(self, pipeline: Any, prompt: str, negative: str) -> dict[str, Any]:
        """Prompts as the LoRA's training read its captions; a model that was saved before there was a choice says nothing of it."""
        from fashion_ml.models.stable_diffusion import prompt_embeddings
        from fashion_ml.models.text_encoding import TextSettings

        return prompt_embeddings(pipeline, [prompt], [negative], TextSettings(**self._facts.get("text", {})))

    def _load(self) -> Any:
        from fashion_ml.evaluation.instruments import device_of_evaluation
        from fashion_ml.models.applied_lora import apply_lora
        from fashion_ml.models.half_precision import decode_one_by_one
        from fashion_ml.models.kohya_format import read_metadata
        from fashion_ml.models.new_words import put_words, words_in
        from fashion_ml.models.stable_diffusion import load_pipeline

        pipeline = load_pipeline(self._base, device_of_evaluation(), **self._facts.get("schedule", {}))
        decode_one_by_one(pipeline.vae)
        # as evaluations do: diffusers drops a DoRA's magnitudes and does not read LyCORIS' forms
        lora = next(iter(sorted(self._adapter.glob("*.safetensors"))), self._adapter)
        put_words(pipeline, words_in(read_metadata(lora), f"lora: {str(lora)!r}"))
        apply_lora(pipeline, lora)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def as_png(picture: Any) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
