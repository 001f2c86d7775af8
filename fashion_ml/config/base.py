"""What both trainers' experiments share: the base model, the evaluation, tracking, and the types of settings."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fashion_ml.runtime.language import marked, tr
from fashion_ml.runtime.printable import storable

_BILLION = 10**9


def _not_huge(value: int) -> int:
    if value > _BILLION:
        raise ValueError(tr("{value:.3g} is more than a billion; give less", value=value))
    return value


def _seed(value: int) -> int:
    if value >= 2**63:
        raise ValueError(tr("is no seed; give a whole number below 2^63"))
    return value


Positive = Annotated[int, Field(ge=1), AfterValidator(_not_huge)]
Seed = Annotated[int, Field(ge=0), AfterValidator(_seed)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _without_nul(value: str) -> str:
    """ValueError for a text that no file can be called by."""
    if "\0" in value:
        raise ValueError(tr("a NUL character is in it; leave it out"))
    return value


Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_without_nul)]


def _steps_or_share(value: object) -> object:
    """A whole number of steps, or a share of all of them; text is read as what it looks like."""
    try:
        found = float(str(value))
    except ValueError:
        found = -1.0
    if isinstance(value, bool) or not (0 <= found < 1 or (found.is_integer() and found > 0)):
        raise ValueError(
            tr("{value!r} is not accepted; give a whole number of steps, or a share of all steps below 1", value=value)
        )
    return int(found) if found.is_integer() else found


WarmUp = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)],
    BeforeValidator(_steps_or_share),
]
Betas = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


ByComma = BeforeValidator(_split)
"""A list that may be given as text, `a,b`, as the command line does."""
OrOne = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
"""A list of texts that may hold commas: a text alone is the only one."""
ExtraMetric = Literal["attributes", "masked_color", "ciede2000", "kid", "memorisation", "prompts", "diversity", "lpips"]


def _stays_below(name: str) -> str:
    if name.startswith(".") or any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in name):
        raise ValueError(
            tr(
                "{name!r} is no name of a file here; begin it with something else than a dot, and leave out control characters",
                name=name,
            )
        )
    return name


FileName = Annotated[str, Field(pattern=r"^[^/\\]+$", max_length=50), AfterValidator(_stays_below)]
"""A name that becomes one of a file or folder: `..` would be the folder above."""


def _given_back(name: str) -> str:
    if storable(name) != name:
        raise ValueError(
            tr("{name!r} is a name that MLflow's stores do not give back; leave out %, #, ? and a space in front", name=name)
        )
    return name


ArtifactName = Annotated[FileName, AfterValidator(_given_back)]
"""The name of a file that is fetched from a run."""


def _side(value: object) -> object:
    """`512,512` and [512, 512] are 512."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, list | tuple) and len(parts) == 2:
        first, second = (str(part).strip() for part in parts)
        if first != second:
            raise ValueError(
                tr(
                    "{first} x {second} is no square; give one side, and enable_bucket for images of other shapes",
                    first=first,
                    second=second,
                )
            )
        return first
    return value


SquareSide = BeforeValidator(_side)
"""One side, which may be given twice, as kohya's `512,512`."""
AnyCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
"""Choices that may be spelt in any case, as kohya's `AdamW8bit`."""
Sampler = Literal[
    "ddim", "euler", "euler_a", "heun", "dpm++_2m", "dpm++_2m_karras", "dpm++_2m_sde", "dpm++_2m_sde_karras", "unipc"
]
"""How images are sampled, as WebUIs call it; models/samplers.py has what each is."""
AsWebUIsSay = BeforeValidator(lambda value: "_".join(value.lower().split()) if isinstance(value, str) else value)
"""`Euler a` and `DPM++ 2M Karras` are euler_a and dpm++_2m_karras."""
Schedule = BeforeValidator(lambda value: value.lower().replace("_with_warmup", "") if isinstance(value, str) else value)


class Names:
    """Stands in a field's annotation: what the setting is called beside its own name, on the command line and in overrides.

    With `own=False` its own name alone does not mean it (another section has that name, or it would be read as another setting's); the
    path, such as `evaluation.seed`, always does.
    """

    def __init__(self, *others: str, own: bool = True):
        self.others = others
        self.own = own


class MayChange:
    """Stands in the annotation of a field, or of a section for all of it: a run may be resumed with another value.

    It decides nothing that is learnt, or it is the length, which may grow.
    """


class Section(BaseModel):
    """Unknown keys are errors, nothing changes after loading, and each attribute's docstring is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class Model(Section):
    """The base model."""

    base: Annotated[Text, Names("pretrained_model_name_or_path")] = "embedded"
    """`embedded`, a diffusers folder, a `.safetensors` checkpoint, or a hub id (`owner/name`, the only one that uses the network)."""
    prediction_type: Annotated[Literal["epsilon", "v_prediction"] | None, Names(own=False)] = None
    """What the UNet predicts; what the base says when not given (a single file of SD 2.x that says nothing: v_prediction)."""
    zero_terminal_snr: bool | None = None
    """The base's noise schedule ends in pure noise (arXiv:2305.08891), in training and in images; what the base says when not given. For bases
    that predict v."""
    clip_skip: Positive | None = None
    """Captions and prompts are the hidden states of the text encoder's layer that is so many from the end, under its final norm, as in
    kohya's trainer and the WebUIs (2 for NovelAI's line); 1, and not given, is the last. Of Stable Diffusion XL, without a norm,
    2, and not given, is the second to last; 1 is never read there."""

    def schedule(self) -> dict[str, Any]:
        """The arguments of `load_pipeline` beside the base: what its UNet predicts, and at which noise."""
        return {"prediction_type": self.prediction_type, "zero_terminal_snr": self.zero_terminal_snr}


AsMode = BeforeValidator(lambda value: {"true": "default", "false": "no"}.get(str(value).lower(), value))
"""true is default, false is no."""
Precision = Literal["auto", "no", "fp16", "bf16"]
Score = Annotated[Literal["cosine", "attributes"], AnyCase]


class Weights(Section):
    """Shares of the three image losses in weighted_total_loss."""

    visual_loss: NotNegative = 0.2
    """Share of 1 - ssim."""
    fashion_clip_loss: NotNegative = 0.6
    """Share of 1 - fashion_similarity."""
    color_loss: NotNegative = 0.2
    """Share of 1 - color_correlation."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Weights:
        total = self.visual_loss + self.fashion_clip_loss + self.color_loss
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(tr("the three weights sum to {total:g}; make them sum to 1", total=total))
        return self


OLD_PATHS = {"evaluation.signs": "evaluation.extra_metrics"}
"""Paths of 0.1 that are still read, and what they are called today."""


class Evaluation(Section):
    """Generating with the LoRA and without it, and measuring both against references."""

    whose: ClassVar[str] = marked("a LoRA's evaluation")
    of_images: ClassVar[tuple[str, ...]] = (
        "encoder",
        "without",
        "extra_metrics",
        "attributes",
        "fashion_clip_score",
        "dino",
        "trigger",
        "rotations",
        "strict",
        "weights",
        "resamples",
    )
    """What decides something where the images are made already."""
    of_comparison: ClassVar[tuple[str, ...]] = ("resamples",)
    """What decides something where the images are measured already."""

    enabled: Annotated[bool, Names("evaluate", own=False)] = True
    """Evaluate after training."""
    references: Text | None = None
    """Folder of reference images with captions; the training images when not given (said in the report)."""
    max_references: Positive = 32
    """At most so many reference images; of more as many are drawn, spread over the folder, by a fixed seed, so always the same."""
    references_part: Literal["all", "search", "held"] = "all"
    """All references, or one of two halves of them, drawn by a fixed seed: a sweep that confirms searches by one and confirms by the other.
    Near-duplicates, and several views of one garment (by name or caption), are on one side."""
    images_per_reference: Annotated[int, Field(ge=1, le=1000)] = 2
    """Seeds for every reference image; their scores are averaged before intervals are made."""
    seed: Annotated[Seed, Names(own=False)] = 0
    """First seed of the generated images, the same for base and LoRA."""
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """Sampler steps."""
    sampler: Annotated[Sampler, AsWebUIsSay] = "ddim"
    """How images are sampled, by the WebUIs' names, such as `Euler a` or `DPM++ 2M Karras`."""
    negative_prompt: Annotated[str, Field(max_length=10_000)] = ""
    """What the images should not show, for all prompts; read as prompts are."""
    vae: Annotated[Text | None, Names(own=False)] = None
    """VAE that decodes the images instead of the base's own: `embedded`, a folder, a `.safetensors` file, or a hub id."""
    guidance_scale: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 7.5
    """Classifier-free guidance."""
    batch_size: Annotated[int, Field(ge=1, le=1024), Names(own=False)] = 4
    """Images generated at once; changes speed and memory. Where they do not fit into the GPU's memory, half as many."""
    precision: Annotated[Precision, Names(own=False)] = "auto"
    """What the UNet and the VAE compute images in; samplers and text encoder stay float32. `auto`: on a GPU bf16, or fp16 where it has no bf16;
    float32 on a CPU. `no` is float32, without TF32; with fp16 the VAE stays float32, in which it does not overflow."""
    encoder: Text = "embedded"
    """FashionCLIP: `embedded`; open_clip's `hf-hub:OWNER/NAME` (uses the network), `local-dir:FOLDER` or `ARCHITECTURE@FILE`; or a folder or
    hub id in transformers' form, such as `patrickjohncyh/fashion-clip`."""
    without: Annotated[tuple[Literal["fashion_clip"], ...], ByComma] = ()
    """`[fashion_clip]` measures without an encoder: then there is no fashion_clip_loss and no weighted_total_loss."""
    extra_metrics: Annotated[tuple[ExtraMetric, ...], ByComma, Names("signs")] = (
        "attributes",
        "masked_color",
        "ciede2000",
        "kid",
        "memorisation",
        "prompts",
        "diversity",
    )
    """What is measured beside the three losses: zero-shot attributes, colours of the garments alone (histograms and CIEDE2000), KID,
    nearness to training images, whether images show their prompts, how much seeds differ, and `lpips` where its weights are."""
    fashion_clip_score: Score = "cosine"
    """What enters fashion_clip_loss: the cosine of FashionCLIP's embeddings, or `attributes`: fashion_attribute_similarity, 0.7 for the same
    top label and 0.3 for equal confidence, over the categories of `attributes`."""
    dino: Text | None = None
    """Folder of a DINOv2 in transformers' form, for dino_similarity; not measured when not given."""
    trigger: Text = "auto"
    """The words that call the learnt look, `zarya style`; prompts are compared with images without them. `auto` takes the parts that all
    captions have between commas (it says which), `none` is for captions without one."""
    token_free_base: bool = False
    """The base is given its prompts without the trigger, a word that it never saw."""
    prompts: Text = "none"
    """Prompts that no reference is for, two more images each of LoRA and base: `default` is the suite that comes with the package, or a YAML
    file of your own. Without the trigger: does the look leak? With it and something new: is that still drawn? Performance checks make none."""
    attributes: Text = "default"
    """YAML of attribute categories; `default` is the one that comes with the package."""
    rotations: Annotated[int, Field(ge=0, le=1000)] = 4
    """Other references that each image is measured against too, which tells the look that all share from what is specific to one; 0 measures
    none."""
    strict: bool = False
    """Refuse references that were trained on, near-duplicates of training images among them; else they are named."""
    strengths: Annotated[tuple[Annotated[float, Field(ge=0, le=4)], ...], Field(max_length=100), ByComma] = ()
    """LoRA strengths to measure as well, such as [0, 0.25, 0.5, 0.75, 1, 1.25]; each generates all images again."""
    weights: Weights = Weights()
    resamples: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Bootstrap resamples over reference images."""
    cache_dir: Annotated[Text | None, Names(own=False)] = None
    """Folder for the base's images, shared by runs and processes; every training run's own when not given."""

    @model_validator(mode="before")
    @classmethod
    def _read_the_old_key(cls, given: Any) -> Any:
        """Experiments of 0.1 say `signs`."""
        if isinstance(given, Mapping) and "signs" in given:
            if "extra_metrics" in given:
                raise ValueError(tr("signs is the old name of extra_metrics, which is given too; leave signs out"))
            return {"extra_metrics": given["signs"]} | {key: value for key, value in given.items() if key != "signs"}
        return given


_LOGGERS = BeforeValidator(
    lambda value: {"wandb": "mlflow", "all": "tensorboard"}.get(value, value) if isinstance(value, str) else value
)


class Tracking(Section):
    """MLflow."""

    experiment: Annotated[Text, Names(own=False)] = "fashion_ml"
    """Experiment that a new run goes to. On the command line it comes before MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID, in the file after
    them; `mlflow run` brings its own."""
    log_with: Annotated[Literal["mlflow", "tensorboard"], _LOGGERS] = "mlflow"
    """`tensorboard` also writes TensorBoard files, into `tensorboard/` of the output folder, beside MLflow, which kohya's `wandb` means."""
    offline: bool = False
    """Train and evaluate without any server, on a node without a network, say: everything is kept in the run's folder until `fashion-ml sync`
    sends it."""
