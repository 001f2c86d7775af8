"""Every setting of a StarGAN v2 experiment in latent space."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fashion_ml.config.base import (
    ArtifactName,
    AsMode,
    ByComma,
    MayChange,
    Names,
    NotNegative,
    Positive,
    Precision,
    Rate,
    Score,
    Section,
    Seed,
    Share,
    Text,
    Tracking,
    Weights,
)
from fashion_ml.config.settings import short_names
from fashion_ml.runtime.language import marked, tr

NotNegativeInt = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1, le=8192)]
Layers = Annotated[int, Field(ge=1, le=64)]


class Vae(Section):
    """The autoencoder whose latents are trained on."""

    vae: Text = "embedded"
    """`embedded`, a hub id, a diffusers folder (of a pipeline or of the VAE alone), or a `.safetensors` file; decodes grids and evaluations."""


class Latents(Section):
    """What is learnt from."""

    latents_dir: Text = "embedded"
    """A folder per domain of unscaled latents, made by `fashion-ml encode` or by others; `embedded` makes a small set."""
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each domain's latents held out for grids and evaluation."""
    contents_by: Literal["domain", "size"] = "domain"
    """How contents are drawn: `domain` draws each domain equally often, so that small ones come again sooner; `size` goes through all latents,
    so that large domains come more often. Targets are never a content's own domain."""


class GanNetwork(Section):
    """Sizes of generator, style encoder, mapping network and discriminator."""

    latent_channels: Annotated[int, Field(ge=1, le=256)] = 4
    """Channels of the latents."""
    style_dim: Width = 64
    """Numbers in a style code."""
    base_dim: Width = 256
    """Width of the convolutions."""
    n_res_blocks: Layers = 6
    """Residual blocks of the generator at its lowest size."""
    g_layers: Layers = 2
    """Halvings of the generator before its residual blocks; fewer keep more of the content's shape, and cost more."""
    d_layers: Layers = 3
    """Halvings in discriminator and style encoder; of a patch discriminator its convolutions of 3 x 3, of which the second and third halve."""
    discriminator: Literal["stargan", "patch"] = "stargan"
    """`stargan` is one logit for a latent, `patch` one for each patch of it, of 9 x 9 with 3 d_layers."""
    spectral_norm: bool = False
    """Divide each weight of the discriminator by its largest singular value."""
    latent_dim: Width = 16
    """Numbers in the noise that the mapping network turns into a style."""
    mapping_hidden_dim: Width = 512
    """Width of the mapping network."""
    mapping_shared_layers: Layers = 3
    """Layers of the mapping network before its domains part."""


class GanOptimizer(Section):
    """AdamW with betas (0, 0.99)."""

    learning_rate: Annotated[Rate, Names("lr")] = 1e-4
    """Learning rate of G, E and D where lr_g or lr_d is not given."""
    lr_g: Rate | None = None
    """Learning rate of generator and style encoder."""
    lr_d: Rate | None = None
    """Learning rate of the discriminator."""
    lr_mapping: Rate = 1e-6
    """Learning rate of the mapping network."""
    weight_decay: NotNegative = 1e-4
    """Decoupled weight decay."""
    lr_scheduler: Literal["constant", "cosine", "linear"] = "constant"
    """Shape after the warm-up."""
    min_lr_ratio: Share = 0.1
    """cosine and linear end at this share of the peak."""
    lr_warmup_steps: NotNegativeInt = 0
    """Steps of linear warm-up."""


class GanLoss(Section):
    """Weights of the terms of d_loss and g_loss."""

    w_adv: NotNegative = 1.0
    """Weight of g_adv."""
    w_sty: NotNegative = 1.0
    """Weight of sty."""
    w_cyc: NotNegative = 1.0
    """Weight of cyc."""
    w_id: NotNegative = 1.0
    """Weight of id; 0 does not compute it."""
    w_ds: NotNegative = 1.0
    """Weight of ds in the first epoch; it fades to 0. From there on ds is still measured, without gradients, on one step in eight."""
    ds_decay_epochs: Positive = 20
    """Epochs over which the weight of ds fades: lambda_ds is 0 from epoch ds_decay_epochs + 1."""
    ds_margin: Rate | None = 1.5
    """ds counts no more than this."""
    w_r1: NotNegative = 2.0
    """Weight of the gradient penalty."""
    r1_interval: Positive = 16
    """Steps between gradient penalties, which then count r1_interval times."""
    r1_counted_by: Literal["run", "epoch"] = "run"
    """Whether these steps are counted through the run, or anew in each epoch."""
    detach_style_target: bool = False
    """Do not train E through the target of sty."""


class GanTraining(Section):
    """The loop."""

    epochs: Annotated[Positive, MayChange()] = 100
    """Passes over the data set."""
    batch_size: Annotated[int, Field(ge=1, le=16_384)] = 64
    """Contents in one step of one process."""
    epoch_size: Positive | None = None
    """Contents in one epoch; when not given all latents with `data.contents_by: size`, and as many as the largest domain has, times domains,
    with `domain`."""
    latent_scale: Rate = 0.18215
    """Latents are multiplied by this; 0.18215 for Stable Diffusion 1.x and 2.x."""
    ema_decay: Share = 0.999
    """Averaging of G, E and F, which grids and evaluation use."""
    mixed_precision: Precision = "no"
    """Precision of the networks; the gradient penalty and the losses stay float32. `auto` is bf16 on a GPU that has it in hardware, fp16 on
    other GPUs, and no on CPUs; the run keeps what it was."""
    tf32: bool = False
    """On a GPU round the factors of float32 products and convolutions to TF32's 10 bits: faster, in far less memory, and other numbers. Images
    are made and measured without it all the same."""
    compile: Annotated[Literal["no", "default", "max-autotune"], AsMode, MayChange()] = "no"
    """torch.compile of G, E and F, a graph for each size of their batches: slower to start, faster steps. D stays as it is: its penalty needs a
    second derivative. true is default."""
    seed: Seed = 0
    """All randomness of training is a function of (seed, purpose, step)."""
    save_every_n_epochs: Annotated[Positive | None, MayChange()] = None
    """Networks are kept every so many epochs."""
    save_last_n: Annotated[Positive | None, MayChange()] = None
    """Of these files only so many of the latest stay; all when not given."""
    save_state: Annotated[bool, MayChange()] = True
    """Write what --resume needs: with each of these files, every save_state_minutes, at the end, and on Ctrl-C or SIGTERM."""
    save_state_minutes: Annotated[Rate, MayChange()] = 5.0
    """Minutes between states."""
    grid_every_n_epochs: Annotated[Positive, MayChange()] = 10
    """Epochs between grids, the first before training and one after the last epoch."""

    @field_validator("compile", mode="before")
    @classmethod
    def _not_recorded(cls, value: object) -> object:
        if value == "cudagraphs":
            raise ValueError(tr("cudagraphs records a LoRA's steps alone; for a StarGAN use default, max-autotune or no"))
        return value


class GanEvaluation(Section):
    """Translating held-out contents to every domain and measuring what is kept and what is taken."""

    whose: ClassVar[str] = marked("a StarGAN's evaluation")

    enabled: Annotated[bool, Names("evaluate", own=False)] = True
    """Evaluate after training."""
    contents_per_domain: Positive = 8
    """At most so many held-out contents of each domain."""
    contents_part: Literal["all", "search", "held"] = "all"
    """All latents that are held out, or one of two halves of each domain's, drawn by a fixed seed: a sweep that confirms searches by one and
    confirms by the other. Views of one garment (by name) are on one side."""
    vae: Annotated[Text | None, Names(own=False)] = None
    """VAE that decodes what is measured instead of `model.vae`, which grids during training keep; of the same channels and factor."""
    precision: Annotated[Literal["auto", "no", "bf16"], Names(own=False)] = "auto"
    """What VAEs decode pictures in, those of grids too: `auto` is bf16 on a GPU that has it, and float32 elsewhere; `no` is float32."""
    seed: Annotated[Seed, Names(own=False)] = 0
    """Seed of the latent styles."""
    styles: Annotated[int, Field(ge=2, le=1000)] = 10
    """Styles of each content for diversity, and for what is measured by pair of domains."""
    encoder: Text = "embedded"
    """FashionCLIP, as for LoRA evaluations."""
    without: Annotated[tuple[Literal["fashion_clip"], ...], ByComma] = ()
    """`[fashion_clip]` measures without an encoder: no fashion_clip_loss, weighted_total_loss and domain_accuracy."""
    fashion_clip_score: Score = "cosine"
    """What enters fashion_clip_loss, as for LoRA evaluations: `cosine` or `attributes`."""
    attributes: Text = "default"
    """YAML of attribute categories for `fashion_clip_score: attributes`; `default` is the one that comes with the package."""
    dino: Text | None = None
    """Folder of a DINOv2 in transformers' form, for dino_similarity and structure_distance; not measured when not given."""
    inception: Text | None = None
    """FID's weights of Inception v3 (`pt_inception-2015-12-05-6726825d.pth`), for pair_fid; not measured when not given."""
    by_pair: Annotated[bool, Names(own=False)] = True
    """Measure each pair of domains as the paper of StarGAN v2 does: `styles` images of each content by reference and as many by latent, against
    training images of the domain (pair_kid, pair_fid), each other (lpips_diversity) and the content (structure_distance)."""
    rotations: Annotated[int, Field(ge=0, le=1000)] = 4
    """Other references of its domain that each reference-guided image is measured against too, which tells the domain's look from the
    reference's own; 0 measures none."""
    domain_prompt: Annotated[str, Field(pattern=r"\{\}")] = "a photo of a {}"
    """Text that tells a domain for domain_accuracy; {} is the domain's name."""
    weights: Weights = Weights()
    resamples: Annotated[int, Field(ge=1, le=100_000), Names(own=False)] = 2000
    """Bootstrap resamples over contents."""


class GanOutput(Section):
    """Where files go; all of them are logged to MLflow too."""

    output_dir: Text | None = None
    """Folder of this run's files; `outputs/<output_name>/<run id>` when not given."""
    output_name: ArtifactName = "stargan"
    """Networks are written to `<output_name>.safetensors`."""


class StarganExperiment(Section):
    """One StarGAN training and its evaluation."""

    length_field: ClassVar[str] = "training.epochs"
    """The setting that may grow when a run is resumed."""

    name: Annotated[Text | None, MayChange(), Names("run_name")] = None
    """Name of the run; by what it is when not given, such as `coat+dress w_ds1 lr1e-4 40ep`. On the command line it comes before what
    `mlflow run --run-name` says, in the file after that."""
    model: Vae = Vae()
    data: Latents = Latents()
    network: GanNetwork = GanNetwork()
    optimizer: GanOptimizer = GanOptimizer()
    loss: GanLoss = GanLoss()
    training: GanTraining = GanTraining()
    evaluation: Annotated[GanEvaluation, MayChange()] = GanEvaluation()
    output: Annotated[GanOutput, MayChange()] = GanOutput()
    tracking: Annotated[Tracking, MayChange()] = Tracking()

    @model_validator(mode="after")
    def _something_to_learn(self) -> StarganExperiment:
        if self.loss.w_adv == self.loss.w_sty == self.loss.w_cyc == self.loss.w_id == 0:
            raise ValueError(tr("loss: every weight is 0; give at least one of w_adv, w_sty, w_cyc, w_id"))
        return self


STARGAN_SHORT_NAMES = short_names(StarganExperiment)
"""Short spellings, accepted wherever an override is given."""
