"""What a StarGAN is measured by for each pair of domains: against other implementations, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn.functional import avg_pool2d, max_pool2d, normalize
from transformers import AutoImageProcessor, AutoModel

from fashion_ml.errors import InputError
from fashion_ml.metrics import lpips as lpips_metric
from fashion_ml.metrics import pair_kid as pair_kid_metric
from fashion_ml.metrics.dino import load_dino
from fashion_ml.metrics.fid import Inception, frechet_distance, load_inception
from fashion_ml.metrics.pair_kid import pair_kid
from fashion_ml.metrics.structure import self_similarity, structure_distance
from tests.unit.metrics.small_dino import small_dino


def pictures(count: int, side: int = 48) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def units(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + shift, dim=1)


@pytest.mark.parametrize("rows", [1024, 2], ids=["at once", "in parts"])
def test_pair_kid_pair_by_pair(monkeypatch: pytest.MonkeyPatch, rows: int):
    """Five images of contents 0, 0, 1, 1, 2: of their 20 ordered pairs the four within a content are left out."""
    monkeypatch.setattr(pair_kid_metric, "_ROWS", rows)
    made, of, real = units(5, 1), [0, 0, 1, 1, 2], units(4, 2)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) + 1) ** 3

    own = [kernel(made[i], made[j]) for i in range(5) for j in range(5) if of[i] != of[j]]
    others = [kernel(real[i], real[j]) for i in range(4) for j in range(4) if i != j]
    across = [kernel(one, other) for one in made for other in real]
    assert (len(own), len(others), len(across)) == (16, 12, 20)
    expected = np.mean(own) + np.mean(others) - 2 * np.mean(across)
    assert pair_kid(made, torch.tensor(of), real) == pytest.approx(expected, abs=1e-6)


def test_pair_kid_is_near_zero_for_one_distribution_large_for_two_and_absent_for_one_content():
    of = torch.arange(400)
    same, other = pair_kid(units(400, 3), of, units(400, 4)), pair_kid(units(400, 3, 1.0), of, units(400, 4))
    assert same is not None
    assert other is not None
    assert abs(same) < 0.02 < 0.3 < other
    assert pair_kid(units(3, 1), torch.zeros(3), units(4, 2)) is None
    assert pair_kid(units(3, 1), torch.arange(3), units(1, 2)) is None


def test_frechet_distance_is_that_of_scipys_matrix_root():
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=(30, 5)) @ draw.normal(size=(5, 5)), draw.normal(size=(20, 5)) + 0.7
    difference = first.mean(0) - second.mean(0)
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = difference @ difference + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(torch.from_numpy(first), torch.from_numpy(second)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_by_hand_and_with_fewer_pictures_than_features():
    """Equal sets are at 0; moved by (3, 4) at 25; one number, of variances 1 and 4 and means 0 and 1: 1 + 1 + 4 - 2 * 2 = 2."""
    points = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-3)
    assert frechet_distance(points[:, :2], points[:, :2] + torch.tensor([3.0, 4.0])) == pytest.approx(25, rel=1e-5)
    root = 0.5**0.5
    assert frechet_distance(torch.tensor([[-root], [root]]), torch.tensor([[1 - 2 * root], [1 + 2 * root]])) == pytest.approx(2)


def test_inceptions_features_are_those_of_torchvisions_own_forward_with_fids_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Random weights; averages that are told to leave the padding out, and the last one, of 2048 channels, to be a maximum."""
    import torchvision.models.inception as theirs

    torch.manual_seed(0)
    model = theirs.inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False).eval()
    for one in model.modules():
        if isinstance(one, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(one.weight)  # else next to nothing arrives at the end
    torch.save(model.state_dict(), tmp_path / "inception.pth")
    ours = load_inception(tmp_path / "inception.pth")
    assert isinstance(ours, Inception)

    class Pools:
        def __getattr__(self, name: str) -> object:
            return getattr(torch.nn.functional, name)

        def avg_pool2d(self, x: torch.Tensor, **given: int) -> torch.Tensor:
            return max_pool2d(x, **given) if x.shape[1] == 2048 else avg_pool2d(x, **given, count_include_pad=False)

    monkeypatch.setattr(theirs, "F", Pools())
    model.fc = torch.nn.Identity()
    made = pictures(2)
    x = torch.stack([torch.from_numpy(np.asarray(one).copy()).permute(2, 0, 1) / 255 for one in made])
    with torch.no_grad():
        expected = model(torch.nn.functional.interpolate(x, (299, 299), mode="bilinear") * 2 - 1)
    found = ours.features(made)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_what_is_no_inception_is_said_in_a_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"^evaluation\.inception: '.*none\.pth' does not exist; give"):
        load_inception(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"^evaluation\.inception: '.*' does not hold FID's Inception v3 \(.*\); give"
    ) as caught:
        load_inception(tmp_path / "other.pth")
    assert len(caught.value.problems) == 1
    with pytest.raises(
        InputError, match=r"^evaluation\.inception: '.*text\.pth' is a text that begins 'hello', not the weights"
    ):
        load_inception(tmp_path / "text.pth")


def test_lpips_between_all_is_the_mean_of_its_distances_pair_by_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.models import alexnet

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not lpips_metric.is_there()
    path = lpips_metric.weights_path()
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), path)
    assert lpips_metric.is_there()
    model, some = lpips_metric.Lpips(), pictures(4)
    pairs = [(some[i], some[j]) for i in range(4) for j in range(i)]
    assert model.between_all(some) == pytest.approx(np.mean(model.distances(pairs)), rel=1e-5)
    assert model.between_all([some[0], some[0]]) == pytest.approx(0, abs=1e-7)


def test_the_keys_are_what_the_last_layers_attention_makes_of_its_normed_input(tmp_path: Path):
    place = small_dino(tmp_path / "dino")
    model, processor = AutoModel.from_pretrained(place).eval(), AutoImageProcessor.from_pretrained(place)
    last = model.encoder.layer[-1] if hasattr(model.encoder, "layer") else model.encoder.layers[-1]
    weights = {name.split(".")[-2:][0]: one for name, one in last.attention.named_parameters() if name.endswith("weight")}
    biases = {name.split(".")[-2:][0]: one for name, one in last.attention.named_parameters() if name.endswith("bias")}
    key = "k_proj" if "k_proj" in weights else "key"
    expected = []
    with torch.no_grad():
        for one in pictures(3):
            before = model(**processor(one, return_tensors="pt"), output_hidden_states=True).hidden_states[-2]
            expected.append(last.norm1(before) @ weights[key].T + biases[key])
    dino = load_dino(place)
    torch.testing.assert_close(dino.keys(pictures(3), batch_size=2), torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert dino.embed(pictures(1)).shape == (1, 16)  # and nothing is left hooked


def test_structure_distance_by_hand():
    """Keys at right angles against equal ones: of four cosines two are 0 instead of 1, so 2 / 4; lengths do not matter."""
    right, equal = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]]), torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])
    assert structure_distance(self_similarity(right), self_similarity(equal)).tolist() == pytest.approx([0.5])
    both = torch.cat([right, equal])
    assert structure_distance(self_similarity(both), self_similarity(right)).tolist() == pytest.approx([0, 0.5])
