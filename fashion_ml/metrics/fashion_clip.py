"""FashionCLIP embeddings through open_clip, and what identifies the encoder that made them."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fashion_ml.errors import InputError
from fashion_ml.metrics.open_clip_weights import check_tokenizer, load_open_clip
from fashion_ml.metrics.transformers_clip import is_transformers_clip, load_transformers_clip
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import leave, visiting
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import is_path, not_there, read_json
from fashion_ml.runtime.weights_hash import weights_sha256

FORMS = marked(
    "use embedded, hf-hub:OWNER/NAME, local-dir:FOLDER, ARCHITECTURE@FILE, or a hub id or folder in transformers' form such as "
    "patrickjohncyh/fashion-clip"
)
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass
class FashionClip:
    """A loaded image and text encoder. `name` and `weights_sha256` travel with every number it produced."""

    name: str
    weights_sha256: str
    model: Any
    preprocess: Any
    tokenizer: Any
    gpu: str = ""
    """Where it goes for computing, such as `cuda`, until it is sent away by `leave_gpu`; empty where it stays where it is."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.gpu) if self.gpu else next(self.model.parameters()).device

    def leave_gpu(self) -> None:
        """Make room for what else needs the GPU's memory, until it computes again."""
        if self.gpu:
            leave(self.model)

    @property
    def _visual(self) -> Any:
        """All that reads pictures: open_clip's image tower, projection included."""
        return getattr(self.model, "visual", self.model)

    @property
    def precision(self) -> str:
        """What decides the last digits: float32 on the CPU, float16 autocast on a GPU."""
        return "float16 autocast" if self.device.type == "cuda" else "float32"

    @property
    def structure_sha256(self) -> str:
        """Hash of what decides embeddings beside the weights: layers, activations, heads, and what the tokenizer makes of a probe."""
        heads = [getattr(module, "num_heads", None) for module in self.model.modules()]
        tokens = self.tokenizer(["a red striped dress, size 38"]).tolist() if self.tokenizer else None
        return hashlib.sha256(_ADDRESS.sub("", f"{self.model!r} {heads} {tokens}").encode()).hexdigest()

    @property
    def transform(self) -> str:
        """How pictures are brought to the encoder's size, in words."""
        return _ADDRESS.sub("", " ".join(str(self.preprocess).split()))

    @torch.no_grad()
    @exact_float32()
    def embed_images(self, pictures: Sequence[Image.Image], batch_size: int = 64) -> torch.Tensor:
        """L2-normalised embeddings (N, D), float32, on the CPU."""
        parts = []
        for first in range(0, len(pictures), batch_size):
            batch = torch.stack([self.preprocess(p.convert("RGB")) for p in pictures[first : first + batch_size]])
            with visiting(self._visual, self.gpu), self._autocast():
                parts.append(self.model.encode_image(batch.to(self.device)).float().cpu())
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)

    @torch.no_grad()
    @exact_float32()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """L2-normalised embeddings (N, D), float32, on the CPU. What only texts need leaves the GPU behind it: pictures are many, texts few."""
        with visiting(self.model, self.gpu), self._autocast():
            try:
                found = self.model.encode_text(self.tokenizer(list(texts)).to(self.device)).float().cpu()
            finally:
                for part in self.model.children() if self.gpu else ():
                    if part is not self._visual:
                        part.to("cpu")
        return torch.nn.functional.normalize(found, dim=1)

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether the encoder does not read its end: without its last letter it is read as before."""
        whole = [re.sub(r"\W+$", "", text) for text in texts]
        if self.tokenizer is None or not any(whole):
            return [False] * len(whole)
        tokens, shorter = self.tokenizer(whole), self.tokenizer([text[:-1] for text in whole])
        return [bool(text) and torch.equal(one, other) for text, one, other in zip(whole, tokens, shorter, strict=True)]

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda")


def load_fashion_clip(name: str, source: str, device: str = "cpu") -> FashionClip:
    """Load an encoder: open_clip's `local-dir:/folder` and `hf-hub:owner/name`, `ARCHITECTURE@FILE` with weights for one of open_clip's
    architectures, or a folder or hub id in transformers' form, which is converted.

    It lies on the CPU and goes to the device when it computes. `name` is what runs are tagged with, `source` what is loaded. InputError, naming
    the encoder, when it cannot be had.
    """
    try:
        model, preprocess, tokenizer = _load(name, source)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            tr(
                "evaluation.encoder: {name!r} cannot be loaded ({first_line}); {forms}",
                name=name,
                first_line=first_line(error),
                forms=translated(FORMS),
            )
        ) from error
    model.eval().requires_grad_(False)  # autocast keeps half copies of weights that might have gradients
    return FashionClip(name, weights_sha256(model), model, preprocess, tokenizer, "" if device == "cpu" else device)


def _load(name: str, source: str) -> tuple[Any, Any, Any]:
    import open_clip

    what = f"evaluation.encoder: {name!r}"
    if source.startswith(("local-dir:", "hf-hub:")):
        folder = Path(source.removeprefix("local-dir:")).expanduser()
        if source.startswith("local-dir:"):
            if not folder.is_dir():
                raise not_there(str(folder), "evaluation.encoder")
            if not (folder / "open_clip_config.json").is_file():
                raise InputError(tr("{what} holds no open_clip_config.json; {forms}", what=what, forms=translated(FORMS)))
            read_json(folder / "open_clip_config.json", "evaluation.encoder")
            source = f"local-dir:{folder}"
        return _of_open_clip(source, None, source, what)
    architecture, at, file = source.partition("@")
    if at:
        if architecture not in open_clip.list_models():
            near = difflib.get_close_matches(architecture, open_clip.list_models(), n=1)
            hint = (
                tr("did you mean {near}?", near=near[0])
                if near
                else tr("python -c 'import open_clip; print(open_clip.list_models())' lists them")
            )
            raise InputError(
                tr(
                    "evaluation.encoder: {architecture!r} is no architecture of open_clip; {hint}",
                    architecture=architecture,
                    hint=hint,
                )
            )
        path = Path(file).expanduser()
        if not path.is_file():
            raise InputError(tr("evaluation.encoder: {file!r} is not there; give the path of a weights file", file=file))
        return _of_open_clip(architecture, path, architecture, what)
    return load_transformers_clip(_transformers_folder(name, source), what)


def _of_open_clip(source: str, file: Path | None, tokenizer_of: str, what: str) -> tuple[Any, Any, Any]:
    import open_clip

    model = load_open_clip(source, file, what)
    try:
        tokenizer = open_clip.get_tokenizer(tokenizer_of)
    except Exception as error:  # of the hub's, the tokenizers' and open_clip's kinds
        raise InputError(
            tr(
                "{what} has no tokenizer that can be read ({first_line}); give its files too",
                what=what,
                first_line=first_line(error),
            )
        ) from error
    check_tokenizer(tokenizer, model, what)
    return model, transform_of(model), tokenizer


def transform_of(model: Any) -> Any:
    """The model's own image transform, as create_model_and_transforms gives it."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)


def _transformers_folder(name: str, source: str) -> Path:
    folder = Path(source).expanduser()
    if is_transformers_clip(folder):
        return folder
    if not folder.exists() and is_path(source):
        raise not_there(source, "evaluation.encoder")
    if folder.exists() or not _HUB_ID.fullmatch(source):
        raise InputError(tr("evaluation.encoder: {name!r} is not known; {forms}", name=name, forms=translated(FORMS)))
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "model.safetensors"]
    found = Path(snapshot_download(source, allow_patterns=patterns))
    if not (found / "model.safetensors").is_file():
        found = Path(snapshot_download(source, allow_patterns=[*patterns, "pytorch_model.bin"]))
    if not is_transformers_clip(found):
        raise InputError(
            tr("evaluation.encoder: {name!r} is no CLIP in transformers' form; {forms}", name=name, forms=translated(FORMS))
        )
    return found


def embedded_source(models_dir: Path) -> str:
    """The open_clip source string of the small encoder inside the package."""
    return f"local-dir:{models_dir / 'fashion_clip'}"


def cosine(first: torch.Tensor, second: torch.Tensor) -> list[float]:
    """Row by row cosine of two stacks of embeddings (N, D), in [-1, 1]; exactly 1 for equal rows."""
    a, b = first.double(), second.double()
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).clamp(-1, 1).tolist()
