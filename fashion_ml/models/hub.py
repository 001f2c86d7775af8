"""What a hub id names, downloaded into the hub's cache, where it is a folder like any other; only what is used, and the network asked once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_VAE = ("config.json", "diffusion_pytorch_model.safetensors")
_VAE_FALLBACKS = ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")


def download_pipeline(hub_id: str) -> Path:
    """The folder of a pipeline in the hub's cache. OSError or ValueError, of the hub's libraries, when it cannot be had."""
    from diffusers import StableDiffusionPipeline

    # what is passed is not downloaded
    options = {"safety_checker": None, "feature_extractor": None, "use_safetensors": True}
    try:
        return Path(StableDiffusionPipeline.download(hub_id, **options))
    except (OSError, ValueError) as error:  # some repositories hold half precision only
        offline = _is_unreachable(error)
        try:
            return Path(StableDiffusionPipeline.download(hub_id, variant="fp16", local_files_only=offline, **options))
        except (OSError, ValueError):
            raise error from None


def download_vae(hub_id: str) -> Path:
    """The folder of a VAE, a pipeline's or one alone, in the hub's cache. OSError or ValueError when it cannot be had."""
    from huggingface_hub import snapshot_download

    patterns = [f"{folder}{name}" for folder in ("vae/", "") for name in _VAE]
    folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
    place = folder / "vae" if (folder / "vae").is_dir() else folder
    if not (place / _VAE[1]).is_file():
        beside = f"{place.name}/" if place != folder else ""
        for name in _VAE_FALLBACKS:
            snapshot_download(hub_id, allow_patterns=[f"{beside}{name}"])
            if (place / name).is_file():
                break
    return place


def _is_unreachable(error: BaseException) -> bool:
    """Whether the network is why: then asking it again only waits again."""
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    return bool(names & {"OfflineModeIsEnabled", "TransportError", "ConnectionError", "LocalEntryNotFoundError"})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
