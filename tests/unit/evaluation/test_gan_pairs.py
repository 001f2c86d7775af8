"""A StarGAN by pair of domains: whose styles, how many, and against what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.evaluation import gan_instruments, gan_pairs
from fashion_ml.evaluation.gan_instruments import GanInstruments
from fashion_ml.evaluation.gan_pairs import ByPair, measure_by_pair, missing
from fashion_ml.evaluation.gan_styles import noise_of, references_of
from fashion_ml.metrics.fid import frechet_distance
from fashion_ml.metrics.pair_kid import pair_kid
from fashion_ml.metrics.pair_rows import PAIR_ROWS
from fashion_ml.models.stargan import NetworkSizes, make_networks
from tests.unit.data.test_stargan_batches import inputs

NETWORKS = make_networks(NetworkSizes(style_dim=4, base_dim=8, n_res_blocks=1, g_layers=1, d_layers=1, num_domains=3), seed=0)
SETTINGS = GanEvaluation(styles=4, contents_per_domain=2)


class Encoder:
    """Corners of a picture as its features, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed_images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        self.asked.append(len(pictures))
        return torch.nn.functional.normalize(corners(pictures), dim=1)

    def leave_gpu(self) -> None:
        pass

    def features(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return corners(pictures)

    def between_all(self, pictures: Sequence[Image.Image]) -> float:
        return float(len(pictures))

    def keys(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return corners(pictures)[:, None].expand(-1, 2, -1)


def corners(pictures: Sequence[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.asarray(one)[:2, :2].astype(np.float32).reshape(-1)) for one in pictures])


def decoded(vae: Any, latents: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(one[:3].permute(1, 2, 0).mul(40).add(120).clamp(0, 255).byte().numpy()) for one in latents]


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three domains of 12, 10 and 8 latents, of which 3, 2 and 2 are held out."""
    monkeypatch.setattr(gan_pairs, "decode_latents", decoded)
    return inputs((12, 10, 8), "domain", validation_split=0.25)


def rows_of(data: Any) -> list[Any]:
    contents = [(y, index) for y in range(3) for index in data.held[y][:2]]
    return [(content, y, (y, data.held[y][0])) for content in contents for y in range(3) if y != content[0]]


def test_every_content_has_its_styles_by_reference_and_by_latent_and_sets_are_held_against_training_images(data: Any):
    encoder = Encoder()
    instruments: Any = GanInstruments(encoder, lpips=encoder, inception=encoder, dino=encoder)  # type: ignore[arg-type]
    rows = rows_of(data)
    found = measure_by_pair(NETWORKS, data, data.held, rows, None, 1.0, instruments, SETTINGS)
    held = [len(one) for one in data.held]
    by_reference = [min(4, held[target]) for _, target, _ in rows]
    assert list(found.columns["reference"]["lpips_diversity"]) == by_reference  # as many references as there are
    assert list(found.columns["latent"]["lpips_diversity"]) == [4] * len(rows)
    assert set(found.sets) == {(a, b) for a in range(3) for b in range(3) if a != b}

    source, target = 0, 2
    real = decoded(None, data.scaled([(target, index) for index in data.training[target]]))
    made, of = [], []
    for number, index in enumerate(data.held[source][:2]):
        z = noise_of(number, target, SETTINGS.seed, 4, 16)
        with torch.no_grad():
            s = NETWORKS.f(z, torch.full((4,), target))
            made += decoded(None, NETWORKS.g(data.scaled([(source, index)]).expand(4, -1, -1, -1), s))
        of += [number] * 4
    values = found.sets[source, target]
    expected = pair_kid(encoder.embed_images(made), torch.tensor(of), encoder.embed_images(real))
    assert values["latent_pair_kid"] == pytest.approx(expected, abs=1e-9)
    assert values["latent_pair_fid"] == pytest.approx(frechet_distance(corners(made), corners(real)))
    assert set(values) == {"pair_kid", "latent_pair_kid", "pair_fid", "latent_pair_fid"}
    assert found.means()["latent_pair_kid"] == pytest.approx(
        sum(one["latent_pair_kid"] for one in found.sets.values()) / len(found.sets)
    )


def test_references_are_held_out_ones_of_the_target_each_once_beginning_elsewhere_for_each_content(data: Any):
    held = [[1, 4, 6], [2, 5], [0, 7]]
    assert references_of((1, 2), 0, 0, data, held, 2) == [(0, 1), (0, 4)]
    assert references_of((1, 2), 2, 0, data, held, 10) == [(0, 6), (0, 1), (0, 4)]
    assert references_of((0, 4), 0, 0, data, held, 10) == [(0, 1), (0, 6)]  # none is the content itself
    assert references_of((0, 4), 1, 1, data, [[4], [], [0]], 1) == [(1, data.training[1][1])]


def test_training_images_are_taken_evenly_where_there_are_more_than_count(data: Any, monkeypatch: pytest.MonkeyPatch):
    """Four of nine: the first, third, fifth and seventh."""
    monkeypatch.setattr(gan_pairs, "REALS", 4)
    asked: list[Any] = []
    scaled = data.scaled
    monkeypatch.setattr(data, "scaled", lambda places: asked.append(list(places)) or scaled(places))
    encoder: Any = Encoder()
    found = gan_pairs._real(data, 0, None, 1.0, GanInstruments(encoder))
    own = data.training[0]
    assert (len(own), asked) == (9, [[(0, own[place]) for place in (0, 2, 4, 6)]])
    assert found["embeddings"].shape == (4, 12)


def test_what_cannot_be_measured_is_absent_and_said_with_what_would_have_it(data: Any):
    found = measure_by_pair(NETWORKS, data, data.held, rows_of(data), None, 1.0, GanInstruments(None), SETTINGS)
    assert (found, found.means()) == (ByPair(), {})
    encoder: Any = Encoder()
    found = measure_by_pair(NETWORKS, data, data.held, rows_of(data), None, 1.0, GanInstruments(encoder), SETTINGS)
    assert (found.columns, set(found.means())) == ({"reference": {}, "latent": {}}, {"pair_kid", "latent_pair_kid"})
    said = missing(GanInstruments(None))
    assert [one.split(" (")[0] for one in said.split("; ")] == ["pair_kid", "pair_fid", "lpips_diversity", "structure_distance"]
    assert "evaluation.dino FOLDER" in said
    one: Any = Encoder()
    assert missing(GanInstruments(one, lpips=one, inception=one, dino=one)) == ""


def test_inception_and_lpips_are_read_where_they_are_given_and_pairs_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Any] = []
    monkeypatch.setattr(gan_instruments, "load_inception", lambda path, device: asked.append(path) or Encoder())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    plain = {"without": ("fashion_clip",), "inception": "~/weights.pth"}
    found = gan_instruments.read_gan_instruments(GanEvaluation(**plain))
    assert asked == [Path.home() / "weights.pth"]
    assert (found.inception is not None, found.lpips) == (True, None)
    assert {"pair_fid"} == {row.name for row in found.metrics("stargan")} & {row.name for row in PAIR_ROWS}
    without = gan_instruments.read_gan_instruments(GanEvaluation(**plain, by_pair=False))
    assert without.inception is None
    assert not {row.name for row in without.metrics("stargan", "latent")} & {row.name for row in PAIR_ROWS}
    assert len(asked) == 1


def test_the_table_has_a_row_for_each_pair_with_the_means_of_its_contents():
    rows = [((0, 1), 1, (1, 0)), ((0, 2), 1, (1, 0)), ((1, 0), 0, (0, 1))]
    tables = {"reference": pd.DataFrame({"ssim": [0.2, 0.4, 0.9]}), "latent": pd.DataFrame({"ssim": [0.1, 0.3, 0.5]})}
    found = ByPair(sets={(0, 1): {"pair_kid": 0.5}}).table(tables, rows, ["coat", "dress"])
    assert found.columns.tolist() == ["source", "target", "contents", "ssim", "latent_ssim", "pair_kid"]
    assert found.iloc[0].tolist() == ["coat", "dress", 2, pytest.approx(0.3), pytest.approx(0.2), 0.5]
    assert found.iloc[1].tolist()[:4] == ["dress", "coat", 1, pytest.approx(0.9)]
    assert np.isnan(found["pair_kid"][1])
