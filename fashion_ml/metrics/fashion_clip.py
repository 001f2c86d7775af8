"""FashionCLIP embeddings through open_clip, and what identifies the encoder that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fashion_ml.errors import InputError


@dataclass
class FashionClip:
    """A loaded image and text encoder. `name` and `weights_sha256` travel with every number it produced."""

    name: str
    weights_sha256: str
    model: Any
    preprocess: Any
    tokenizer: Any

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Image.Image], batch_size: int = 64) -> torch.Tensor:
        """L2-normalised embeddings (N, D), float32, on the CPU."""
        device = next(self.model.parameters()).device
        parts = []
        for first in range(0, len(pictures), batch_size):
            batch = torch.stack([self.preprocess(p.convert("RGB")) for p in pictures[first : first + batch_size]])
            parts.append(self.model.encode_image(batch.to(device), normalize=True).float().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """L2-normalised embeddings (N, D), float32, on the CPU."""
        device = next(self.model.parameters()).device
        return self.model.encode_text(self.tokenizer(list(texts)).to(device), normalize=True).float().cpu()


def load_fashion_clip(name: str, source: str, device: str = "cpu") -> FashionClip:
    """Load an encoder that open_clip knows: `local-dir:/folder`, `hf-hub:owner/name`.

    `name` is what runs are tagged with, `source` what is loaded. InputError, naming the encoder, when it cannot be had.
    """
    import open_clip

    forms = "use embedded, local-dir:FOLDER or hf-hub:OWNER/NAME"
    if not source.startswith(("local-dir:", "hf-hub:")):
        raise InputError(f"evaluation.encoder: {name!r} is not known; {forms}")
    if source.startswith("local-dir:") and not Path(source.removeprefix("local-dir:"), "open_clip_config.json").is_file():
        raise InputError(f"evaluation.encoder: {name!r} holds no open_clip_config.json; {forms}")
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(source, device=device)
        tokenizer = open_clip.get_tokenizer(source)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"evaluation.encoder: {name!r} cannot be loaded ({reason}); {forms}") from error
    return FashionClip(name, _weights_digest(model), model.eval(), preprocess, tokenizer)


def _weights_digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def embedded_source(models_dir: Path) -> str:
    """The open_clip source string of the small encoder inside the package."""
    return f"local-dir:{models_dir / 'fashion_clip'}"


def cosine(first: torch.Tensor, second: torch.Tensor) -> list[float]:
    """Row by row cosine of two stacks of L2-normalised embeddings (N, D), in [-1, 1]."""
    return (first * second).sum(1).clamp(-1, 1).tolist()
