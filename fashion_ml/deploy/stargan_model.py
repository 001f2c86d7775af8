"""A StarGAN as an MLflow model: a picture and a domain to the picture in that domain, with a seed for the style."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.deploy.asked import LoadedOnce, answering, check_rows, refuse, seed_of, text_of
from fashion_ml.deploy.lora_model import MODEL_FILE, as_png, requirements, use_loader
from fashion_ml.runtime.language import tr

_WEIGHTS = "stargan.safetensors"


def save_model(path: str, mlflow_model: Any, *, networks: Path, vae: str, size: int, example: Mapping[str, Any]) -> None:
    """Write the model: the networks as .safetensors, the VAE by reference, signature and example; `size` is the side of the pictures."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    mlflow_model.metadata = {"vae": vae, "size": size}
    mlflow_model.signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "domain")]),
        outputs=Schema([ColSpec(DataType.binary, "image")]),
        params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
    )
    data = Path(path).parent / "weights"
    data.mkdir()
    shutil.copy2(networks, data / _WEIGHTS)
    mlflow.pyfunc.save_model(
        path=path,
        mlflow_model=mlflow_model,
        loader_module=__name__,
        data_path=str(data),
        pip_requirements=requirements(),
        input_example=dict(example),
        signature=mlflow_model.signature,
        metadata=mlflow_model.metadata,
    )
    use_loader(mlflow_model, path, __name__)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> StarganModel:
    """MLflow's entry: `path` is the data folder; `model_config` may name another `vae`."""
    from mlflow.models import Model

    top = next(folder for folder in Path(path).parents if (folder / MODEL_FILE).is_file())
    facts = Model.load(top).metadata or {}
    return StarganModel(Path(path) / _WEIGHTS, (model_config or {}).get("vae") or facts["vae"], int(facts["size"]))


class StarganModel:
    """The averaged networks and the VAE, loaded when they are first asked."""

    def __init__(self, weights: Path, vae: str, size: int):
        self._weights, self._vae_name, self._size = weights, vae, size
        self._parts = LoadedOnce(self._load)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> list[bytes]:
        """A PNG for each row: its `image` (the bytes of any picture file) in the style of `domain` that `seed` draws.

        MLflow's error of a bad parameter, which names it, for what is no picture or out of bounds; of a deadline where it takes too long.
        """
        with answering() as asked:
            check_rows(len(data))
            seed = seed_of((params or {}).get("seed", 0))
            rows = [(_picture_of(image), domain) for image, domain in zip(data["image"], data["domain"], strict=True)]
            networks, vae, facts = self._parts.get()
            for _, domain in rows:
                if text_of("domain", domain, most=200) not in facts["domains"]:
                    refuse("domain", repr(domain), tr("there are {names}", names=", ".join(facts["domains"])))
            asked.weigh(len(rows), self._size**2)
            images = []
            for picture, domain in rows:
                with asked.turn():
                    images.append(self._translated(networks, vae, facts, picture, domain, seed))
            return images

    def _translated(self, networks: Any, vae: Any, facts: Mapping[str, Any], picture: Any, domain: str, seed: int) -> bytes:
        from types import SimpleNamespace

        import torch

        from fashion_ml.data.pictures import fit_square
        from fashion_ml.models.stable_diffusion import encode_latents
        from fashion_ml.models.vae import decode_latents

        mean, _ = encode_latents(SimpleNamespace(vae=vae), [[fit_square(picture, self._size)]])
        y = torch.tensor([facts["domains"].index(domain)])
        z = torch.randn(1, facts["sizes"]["latent_dim"], generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            made = networks.g(mean * facts["latent_scale"], networks.f(z, y))
        return as_png(decode_latents(vae, made / facts["latent_scale"])[0])

    def _load(self) -> Any:
        from fashion_ml.models.stargan import NetworkSizes, make_networks
        from fashion_ml.models.stargan_format import load_averages
        from fashion_ml.models.vae import load_vae
        from fashion_ml.runtime.json_file import parsed_mapping
        from fashion_ml.runtime.weight_files import read_header

        facts = parsed_mapping(read_header(self._weights, "stargan").metadata["stargan"])
        networks = load_averages(self._weights, make_networks(NetworkSizes(**facts["sizes"]), 0))
        return networks, load_vae(self._vae_name), facts


def _picture_of(content: Any) -> Any:
    from fashion_ml.data.pictures import PictureError, load_picture

    if not isinstance(content, bytes):
        refuse("image", type(content).__name__, "give the bytes of a picture file, in base64 where they go through JSON")
    try:
        return load_picture(io.BytesIO(content))
    except PictureError as error:
        refuse("image", f"{len(content):,} bytes ({error})", "give the bytes of a PNG, JPEG or other picture file")
