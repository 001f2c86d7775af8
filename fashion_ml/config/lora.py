"""Every setting of a LoRA experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fashion_ml.config.base import (
    ArtifactName,
    AsMode,
    Evaluation,
    MayChange,
    Model,
    Names,
    OrOne,
    Positive,
    Precision,
    Rate,
    Section,
    Seed,
    Share,
    SquareSide,
    Text,
    Tracking,
)
from fashion_ml.config.lora_embedding import Embedding
from fashion_ml.config.lora_loss import Loss
from fashion_ml.config.lora_network import Network
from fashion_ml.config.lora_optimizer import Optimizer
from fashion_ml.config.settings import short_names
from fashion_ml.config.subsets import Subset
from fashion_ml.runtime.language import tr

Side = Annotated[int, Field(ge=1, le=8192)]


class Data(Section):
    """What is learnt from."""

    train_data_dir: Text | None
    """A folder of kohya-style folders `N_class`, or `embedded` for the collection inside the package; may be left out beside subsets."""
    subsets: tuple[Subset, ...] = ()
    """Folders with settings of their own, beside train_data_dir or instead of it; kohya's `[[datasets.subsets]]`."""
    reg_data_dir: Text | None = None
    """Images of the class in general, for prior preservation; a folder of the same form."""
    resolution: Annotated[Side, SquareSide] = 512
    """Side of the square images, pixels (`512,512` is 512), or of the square whose area buckets keep to; a multiple of 8 x the VAE's."""
    enable_bucket: bool = False
    """Train each image in the bucket of the nearest aspect ratio instead of cropping it to a square."""
    bucket_no_upscale: bool = False
    """Images smaller than their bucket keep their own size, cropped to the step."""
    bucket_reso_steps: Side | None = None
    """Sides of buckets are multiples of this, pixels; 8 x the VAE's factor when not given (64 for SD)."""
    min_bucket_reso: Side | None = None
    """Shortest side of a bucket, pixels; half the resolution when not given."""
    max_bucket_reso: Side | None = None
    """Longest side of a bucket, pixels; twice the resolution when not given."""
    caption_extension: Annotated[str, Field(pattern=r"^\.[^/\\]+$")] = ".txt"
    """Ending of the caption file beside each image; without one the class in the folder's name is the caption."""
    caption_lines: Literal["first", "all"] = "first"
    """What of a caption file of several lines is the caption; with enable_wildcard one of them is drawn each time instead."""
    caption_prefix: Text | None = None
    """Words before every caption, in training, validation and evaluation, a space between."""
    caption_suffix: Text | None = None
    """Words behind every caption, likewise."""
    caption_separator: Text = ","
    """What parts a caption into its parts."""
    shuffle_caption: bool = False
    """Mix the comma-separated parts of a caption anew each time it is seen."""
    keep_tokens: Annotated[int, Field(ge=0)] = 0
    """So many parts at the front stay where they are, and are never dropped."""
    keep_tokens_separator: Text | None = None
    """Parts before this mark, such as `|||`, and behind a second one stay in place and are never dropped; keep_tokens does not count then."""
    secondary_separator: Text | None = None
    """Between parts that are mixed and dropped as one, such as `;;;`; becomes caption_separator in the end."""
    enable_wildcard: bool = False
    """Draw one of `{a|b}` each time, and one line of a caption of several; `{{` and `}}` are braces. Evaluation takes the first."""
    caption_dropout_rate: Share = 0.0
    """Share of images that are seen with an empty caption."""
    max_token_length: Annotated[int, Field(ge=75, le=225, multiple_of=75)] = 75
    """Tokens of captions and prompts that count; what is longer is cut. 150 and 225 go through the text encoder in chunks of 75, as in
    kohya's trainer."""
    weighted_captions: bool = False
    """Read `(red:1.2)`, `(red)` and `[red]` in captions and prompts as weights, as the WebUIs do; brackets are text otherwise."""
    masks: Literal["alpha", "folder", "garment"] | None = None
    """What of the images counts: what their alpha channel shows, the white of a mask of the same name in `masks_dir`, or the garment where the
    backdrop is even. An image without a mask counts whole; what lies outside counts `loss.unmasked_weight`."""
    masks_dir: Text | None = None
    """Folder of masks for `masks: folder`: `10_dress/a.*`, `a.*`, or with the whole name `a.png.*` for `10_dress/a.png`, white what counts. One
    that may be of two different images is an error."""
    caption_dropout_every_n_epochs: Annotated[int, Field(ge=0)] = 0
    """In every nth epoch all captions are empty; 0 is never."""
    caption_tag_dropout_rate: Share = 0.0
    """Share of a caption's parts that are left out each time, beside those that are kept in place."""
    flip_aug: bool = False
    """Mirror half of the images."""
    cache_latents: Annotated[bool, MayChange()] = True
    """Encode every image once before training, not at every step."""
    cache_dir: Annotated[Text | None, MayChange()] = None
    """Keep encoded images and captions here for later trainings and parallel trials; in memory when not given."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What to do with files that cannot be read: stop and name all of them, or leave them out and list them."""
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the images held out for val_loss; near-duplicates stay on one side."""
    validation_seed: Seed = 0
    """Decides which images are held out, and their fixed noise."""

    @model_validator(mode="after")
    def _masks_have_their_folder(self) -> Data:
        if self.masks == "folder" and self.masks_dir is None:
            raise ValueError(tr("masks: folder needs data.masks_dir; give the folder that holds the masks"))
        if self.masks_dir is not None and self.masks != "folder":
            raise ValueError(tr("masks_dir is given, but masks is not folder; add data.masks folder, or leave it out"))
        return self

    @model_validator(mode="before")
    @classmethod
    def _subsets_may_stand_alone(cls, given: Any) -> Any:
        alone = isinstance(given, Mapping) and given.get("subsets") and "train_data_dir" not in given
        return {**given, "train_data_dir": None} if alone else given

    @model_validator(mode="after")
    def _some_images(self) -> Data:
        if self.train_data_dir is None and all(subset.is_reg for subset in self.subsets):
            raise ValueError(tr("train_data_dir is null and there are no subsets to train on; give one of them"))
        return self

    def bucketing(self, factor: int) -> dict[str, Any]:
        """The arguments of `image_sizes` for a VAE of that factor."""
        return {
            "resolution": self.resolution,
            "step": self.bucket_reso_steps or factor * 8,
            "enabled": self.enable_bucket,
            "no_upscale": self.bucket_no_upscale,
            "shortest": self.min_bucket_reso,
            "longest": self.max_bucket_reso,
        }


class Training(Section):
    """The loop."""

    max_train_steps: Annotated[Positive, Names("steps"), MayChange()] = 200
    """Optimiser steps."""
    max_train_epochs: Annotated[Positive | None, MayChange()] = None
    """Passes over all images with their repeats; decides the optimiser steps instead of max_train_steps when given."""
    train_batch_size: Annotated[int, Field(ge=1, le=4096)] = 1
    """Images in one forward pass of one process."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Forward passes in one optimiser step."""
    mixed_precision: Precision = "no"
    """Precision of the frozen base and the forward pass; LoRA weights stay float32. `auto` is bf16 on a GPU that has it in hardware, fp16 on
    other GPUs, and no on CPUs; the run keeps what it was."""
    tf32: bool = False
    """On a GPU round the factors of float32 products and convolutions to TF32's 10 bits: faster, in far less memory, and other numbers. Images
    are made and measured without it all the same."""
    gradient_checkpointing: bool = False
    """Trade time for memory in the backward pass."""
    compile: Annotated[Literal["no", "default", "max-autotune", "cudagraphs"], AsMode, MayChange()] = "no"
    """`cudagraphs` records a step on a GPU, once for each bucket, and replays it: many times as fast at small batches, where the host is
    what takes the time; with adamw, in bf16 or float32. `default` and `max-autotune` are torch.compile's of the UNet, which take minutes for
    each bucket, before the training's clock starts; true is default."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Keep moving averages of the LoRA's weights, 0.99 to 0.9999, in `<output_name>-ema.safetensors` beside the last file; `evaluate run
    --checkpoints NAME-ema` and `evaluate choose` measure it. 0 keeps none."""
    channels_last: bool = False
    """Memory format of the UNet; helps the convolutions of some GPUs, and of UNets of few channels on CPUs."""
    seed: Seed = 0
    """All randomness of training is a function of (seed, purpose, step)."""
    save_every_n_epochs: Annotated[Positive | None, MayChange()] = 50
    """A LoRA file is kept every so many epochs."""
    save_every_n_steps: Annotated[Positive | None, MayChange()] = None
    """A LoRA file is kept every so many optimiser steps."""
    save_last_n: Annotated[Positive | None, MayChange()] = None
    """Of these files only so many of the latest stay; all when not given."""
    save_state: Annotated[bool, MayChange()] = True
    """Write what --resume needs: with each of these files, every save_state_minutes, and on Ctrl-C or SIGTERM."""
    save_state_minutes: Annotated[Rate, MayChange()] = 5.0
    """Minutes between states."""
    log_every: Annotated[Positive, MayChange()] = 10
    """Optimiser steps between rows of the loss log."""
    validate_every_n_steps: Positive | None = None
    """Optimiser steps between measurements of val_loss; every epoch when not given."""
    sample_every: Annotated[Positive | None, MayChange()] = None
    """Optimiser steps between sample images, the first before training; none when not given."""
    sample_prompts: Annotated[tuple[Text, ...], OrOne, MayChange()] = ()
    """Prompts of the sample images, one, or `["a red dress, new", "a hat"]`; the first four captions of the references when not given."""
    performance_check_interval: Annotated[Positive | None, MayChange()] = None
    """Every so many optimiser steps the evaluation images are really generated and measured; off when not given."""


class Output(Section):
    """Where files go; all of them are logged to MLflow too."""

    output_dir: Text | None = None
    """Folder of this run's files; `outputs/<output_name>/<run id>` when not given."""
    output_name: ArtifactName = "lora"
    """The LoRA is written to `<output_name>.safetensors`."""
    save_precision: Literal["float", "fp16", "bf16"] = "float"
    """Precision of the LoRA's numbers in the file."""
    training_comment: Annotated[str, Field(max_length=10_000)] = ""
    """Free text for the file's metadata."""


class LoraExperiment(Section):
    """One LoRA training and its evaluation."""

    length_field: ClassVar[str] = "training.max_train_steps"
    """The setting that may grow when a run is resumed."""
    of_images: ClassVar[tuple[str, ...]] = (
        "model.base",
        "model.prediction_type",
        "model.zero_terminal_snr",
        "model.clip_skip",
        "data.resolution",
        "data.enable_bucket",
        "data.bucket_no_upscale",
        "data.bucket_reso_steps",
        "data.min_bucket_reso",
        "data.max_bucket_reso",
        "data.caption_extension",
        "data.caption_prefix",
        "data.caption_suffix",
        "data.max_token_length",
        "data.weighted_captions",
    )
    """Settings of a training that decide something of an evaluation's images too, beside those of the section `evaluation`."""

    name: Annotated[Text | None, MayChange(), Names("run_name")] = None
    """Name of the run; by what it is when not given, such as `dress r8 lr5e-4 800st`. On the command line it comes before what
    `mlflow run --run-name` says, in the file after that."""
    model: Model = Model()
    data: Data
    network: Network = Field(default=Network(), validate_default=True)  # for its alpha
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    loss: Loss = Loss()
    embedding: Embedding = Embedding()
    evaluation: Annotated[Evaluation, MayChange()] = Evaluation()
    output: Annotated[Output, MayChange()] = Output()
    tracking: Annotated[Tracking, MayChange()] = Tracking()

    def text_encoding(self) -> dict[str, Any]:
        """The arguments of `TextSettings`: how captions and prompts become embeddings."""
        return {
            "max_token_length": self.data.max_token_length,
            "clip_skip": self.model.clip_skip,
            "weighted_captions": self.data.weighted_captions,
        }

    @property
    def text_trains(self) -> bool:
        """Whether captions mean something else after each step: the text encoder has a LoRA, or a word of its own."""
        return self.network.train_text_encoder or self.embedding.token is not None

    @model_validator(mode="after")
    def _a_word_that_begins(self) -> LoraExperiment:
        word, name = self.embedding, self.output.output_name
        if word.token is None:
            return self
        if word.init_text is None and self.network.network_weights is None:
            raise ValueError(
                tr(
                    "embedding.init_text: missing, what {token!r} begins as; give what the images show in the base's own "
                    "words, such as dress",
                    token=word.token,
                )
            )
        if self.loss.output_preservation_prompt is not None and word.is_in(self.loss.output_preservation_prompt):
            raise ValueError(
                tr(
                    "loss.output_preservation_prompt: holds the new word {token!r}, of which the base has nothing to "
                    "hold on to; leave it out",
                    token=word.token,
                )
            )
        if word.token.casefold() in (name.casefold(), "best", "best_measured") or word.token.casefold().startswith(
            f"{name.casefold()}-"
        ):
            raise ValueError(
                tr(
                    "embedding.token: {token!r} would be written over the LoRA {name!r}, whose file has that name; "
                    "choose another of the two",
                    token=word.token,
                    name=name,
                )
            )
        return self

    @model_validator(mode="after")
    def _masks_that_count(self) -> LoraExperiment:
        if self.loss.unmasked_weight != 0 and self.data.masks is None:
            raise ValueError(
                tr("loss.unmasked_weight is given, but there are no masks; add data.masks alpha, folder or garment")
            )
        return self

    @model_validator(mode="after")
    def _rates_that_count(self) -> LoraExperiment:
        rates = self.optimizer
        if self.training.ema_decay and "schedulefree" in rates.optimizer_type.lower():
            raise ValueError(
                tr(
                    "training.ema_decay: {optimizer_type} keeps an average of its own, which its file is; leave ema_decay out",
                    optimizer_type=rates.optimizer_type,
                )
            )
        one_rate = rates.optimizer_type.rpartition(".")[2].lower() == "prodigy"
        of_texts = {"text_encoder_lr": rates.text_encoder_lr, "text_encoder_2_lr": rates.text_encoder_2_lr}
        for name, rate in of_texts.items():
            if rate is not None and not self.network.train_text_encoder:
                raise ValueError(
                    tr(
                        "optimizer.{name} is given, but the text encoder does not train; add network.train_text_encoder true",
                        name=name,
                    )
                )
            if one_rate and rate not in (None, rates.learning_rate):
                raise ValueError(
                    tr("optimizer.{name}: prodigy takes one learning rate for all; leave it out, or use adamw", name=name)
                )
        if rates.embedding_lr is not None and self.embedding.token is None:
            raise ValueError(
                tr("optimizer.embedding_lr is given, but there is no new word; add embedding.token, such as zarya")
            )
        if one_rate and rates.embedding_lr not in (None, rates.learning_rate):
            raise ValueError(tr("optimizer.embedding_lr: prodigy takes one learning rate for all; leave it out, or use adamw"))
        if one_rate and rates.loraplus_lr_ratio not in (None, 1):
            raise ValueError(
                tr("optimizer.loraplus_lr_ratio: prodigy takes one learning rate for all; leave it out, or use adamw")
            )
        if one_rate and set(rates.block_lr or ()) - {0, 1}:
            raise ValueError(
                tr("optimizer.block_lr: prodigy takes one learning rate for all; give factors of 0 and 1, or use adamw")
            )
        return self

    @field_validator("network")
    @classmethod
    def _alpha_defaults_to_rank(cls, network: Network) -> Network:
        if network.alpha is not None:
            return network
        settled = network.model_copy(update={"alpha": float(network.rank)})
        settled.model_fields_set.discard("alpha")  # it goes on following the rank when settings are laid over this config
        return settled


SHORT_NAMES = short_names(LoraExperiment)
"""kohya's and the short spellings, accepted wherever an override is given."""
