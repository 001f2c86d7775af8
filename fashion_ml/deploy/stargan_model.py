"""A StarGAN as an MLflow model: a picture and a domain to the picture in that domain, with a seed for the style."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fashion_ml.deploy.asked import LoadedOnce, answering, check_rows, refuse, seed_of, text_of, work_of
from fashion_ml.deploy.lora_model import MODEL_FILE, as_png, requirements, use_loader
from fashion_ml.deploy.model_facts import NetworkFacts, StarganFacts, checked, wrong
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line

_WEIGHTS = "stargan.safetensors"
MOST_OF_ONE, MOST_OF_ALL = 50_000_000, 200_000_000
"""Pixels of one picture, and of all that a request gives: sixteen of a phone's 12 million. A file tells them in its head, and what they take
once they are decoded has nothing to do with its size."""


def save_model(path: str, mlflow_model: Any, *, networks: Path, vae: str, size: int, example: Mapping[str, Any]) -> None:
    """Write the model: the networks as .safetensors, the VAE by reference, signature and example; `size` is the side of the pictures."""
    import mlflow.pyfunc

    mlflow_model.metadata = {"vae": vae, "size": size}
    mlflow_model.signature = _signature()
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


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image"), ColSpec(DataType.string, "domain")]),
        outputs=Schema([ColSpec(DataType.binary, "image")]),
        params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
    )


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> StarganModel:
    """MLflow's entry: `path` is the data folder; `model_config` may name another `vae`."""
    from mlflow.models import Model

    data = Path(path)  # the model's own folder where it names none
    top = next(folder for folder in (data, *data.parents) if (folder / MODEL_FILE).is_file())
    facts = checked(StarganFacts, Model.load(top).metadata, top / MODEL_FILE, "metadata")
    return StarganModel(data / _WEIGHTS, (model_config or {}).get("vae") or facts.vae, facts.size, top / MODEL_FILE)


class StarganModel:
    """The averaged networks and the VAE, loaded when they are first asked."""

    def __init__(self, weights: Path, vae: str, size: int, file: Path = Path(MODEL_FILE)):
        """`file` is what says so, for errors."""
        self._weights, self._vae_name, self._size, self._file = weights, vae, size, file
        self._parts = LoadedOnce(self._load)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> list[bytes]:
        """A PNG for each row: its `image` (the bytes of any picture file) in the style of `domain` that `seed` draws.

        MLflow's error of a bad parameter, which names it, for what is no picture or out of bounds; of a deadline where it takes too long.
        """
        with answering() as asked:
            check_rows(len(data))
            seed = seed_of((params or {}).get("seed", 0))
            rows = list(zip(data["image"], data["domain"], strict=True))
            decoded = _pixels_of(image for image, _ in rows)
            networks, vae, facts = self._parts.get()
            for _, domain in rows:
                if text_of("domain", domain, most=200) not in facts["domains"]:
                    refuse("domain", repr(domain), tr("there are {names}", names=", ".join(facts["domains"])))
            asked.weigh(len(rows), self._size**2, decoded=decoded)
            images = []
            for image, domain in rows:
                with asked.turn():  # decoded here as well, for there is room for a few large pictures and not for everyone's
                    images.append(self._translated(networks, vae, facts, _square_of(image, self._size), domain, seed))
            return images

    def _translated(self, networks: Any, vae: Any, facts: Mapping[str, Any], picture: Any, domain: str, seed: int) -> bytes:
        from types import SimpleNamespace

        import torch

        from fashion_ml.models.stable_diffusion import encode_latents
        from fashion_ml.models.vae import decode_latents

        mean, _ = encode_latents(SimpleNamespace(vae=vae), [[picture]])
        y = torch.tensor([facts["domains"].index(domain)])
        z = torch.randn(1, facts["sizes"]["latent_dim"], generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            made = networks.g(mean * facts["latent_scale"], networks.f(z, y))
        return as_png(decode_latents(vae, made / facts["latent_scale"])[0])

    def prepare(self) -> int:
        """Load everything. InputError where its files do not fit together; returns the work of one picture (`asked.work_of`)."""
        self._parts.get()
        return work_of(1, self._size**2, None)

    def signature(self) -> Any:
        """What may be asked of it."""
        return _signature()

    def get_raw_model(self) -> StarganModel:
        """Itself, for MLflow."""
        return self

    def _load(self) -> Any:
        from fashion_ml.models.stargan import NetworkSizes
        from fashion_ml.models.stargan_format import load_averages
        from fashion_ml.models.vae import load_vae, vae_factor_of
        from fashion_ml.runtime.json_file import parsed_mapping
        from fashion_ml.runtime.weight_files import read_header

        try:
            said = parsed_mapping(read_header(self._weights, "stargan").metadata["stargan"])
        except (KeyError, TypeError, ValueError) as error:
            raise wrong(self._weights, "stargan", "", first_line(error)) from None
        facts = checked(NetworkFacts, said, self._weights, "stargan").model_dump()
        sizes = NetworkSizes(**facts["sizes"])
        if len(set(facts["domains"])) != sizes.num_domains:
            named = tr("the networks have {count}", count=sizes.num_domains)
            raise wrong(self._weights, "stargan.domains", repr(facts["domains"])[:80], named)
        networks, vae = load_averages(self._weights, sizes), load_vae(self._vae_name, field="metadata.vae")
        if vae.config.latent_channels != sizes.latent_channels:
            named = tr("the networks take latents of {count} channels", count=sizes.latent_channels)
            raise wrong(self._file, "metadata.vae", repr(self._vae_name)[:80], named)
        step = vae_factor_of(vae) * 2 ** max(sizes.g_layers, 2)
        if self._size % step:
            named = tr("these networks and this VAE take multiples of {step}", step=step)
            raise wrong(self._file, "metadata.size", str(self._size), named)
        return networks, vae, facts


def _pixels_of(contents: Iterable[Any]) -> int:
    """Pixels of all pictures of a request, by the heads of their files. InputError for what is no picture, or too large."""
    from fashion_ml.data.pictures import opened

    count = total = 0
    for content in contents:
        if not isinstance(content, bytes):
            refuse("image", type(content).__name__, "give the bytes of a picture file, in base64 where they go through JSON")
        with _told(content), opened(io.BytesIO(content)) as file:
            width, height = file.size
        if width * height > MOST_OF_ONE:
            refuse("image", f"{width} x {height} pixels", f"give at most {MOST_OF_ONE:,} in one picture")
        count, total = count + 1, total + width * height
    if total > MOST_OF_ALL:
        refuse("image", f"{total:,} pixels of {count} pictures", f"give at most {MOST_OF_ALL:,} in a request")
    return total


def _square_of(content: bytes, size: int) -> Any:
    """The picture of a file as a square of `size`; InputError for one that is damaged."""
    from fashion_ml.data.pictures import fit_square, load_picture

    with _told(content):
        return fit_square(load_picture(io.BytesIO(content)), size)


@contextmanager
def _told(content: bytes) -> Iterator[None]:
    """Around reading the bytes of a picture file: InputError for what they are not."""
    from fashion_ml.data.pictures import PictureError

    try:
        yield
    except PictureError as error:
        refuse("image", f"{len(content):,} bytes ({error})", "give the bytes of a PNG, JPEG or other picture file")
