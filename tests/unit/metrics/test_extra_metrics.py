"""The extra metrics beside the three losses, each against another way of working it out."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from skimage.color import deltaE_ciede2000, rgb2lab

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.metrics import lpips as lpips_metric
from fashion_ml.metrics.attributes import FOLDER, AttributeReader, attribute_similarity, default_attributes, read_attributes
from fashion_ml.metrics.ciede2000 import ciede2000
from fashion_ml.metrics.color import color_correlation, color_correlation_masked
from fashion_ml.metrics.fashion_clip import embedded_source, load_fashion_clip
from fashion_ml.metrics.garment_mask import garment_mask
from fashion_ml.metrics.kid import kernel_inception_distance
from fashion_ml.metrics.nearest import nearest
from fashion_ml.models.stable_diffusion import EMBEDDED_DIR


def on_wall(colour: tuple[int, int, int], box: tuple[int, int, int, int] = (30, 20, 70, 90), gradient: int = 60) -> Image.Image:
    """A garment of one colour before a light wall that gets darker to the right; 100 x 120 pixels."""
    wall = np.broadcast_to(np.linspace(240, 240 - gradient, 100)[None, :, None], (120, 100, 3))
    picture = Image.fromarray(wall.astype(np.uint8))
    ImageDraw.Draw(picture).rectangle(box, fill=colour)
    return picture


def truth(box: tuple[int, int, int, int] = (30, 20, 70, 90)) -> np.ndarray:
    mask = np.zeros((120, 100), bool)
    mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = True
    return mask


@pytest.mark.parametrize("gradient", [0, 60, 120])
def test_the_mask_is_the_garment_before_an_even_wall_with_or_without_a_gradient(gradient: int):
    mask = garment_mask(on_wall((30, 60, 160), gradient=gradient))
    assert mask is not None
    overlap = (mask & truth()).sum() / (mask | truth()).sum()
    assert overlap > 0.97


def test_a_hole_in_the_colour_of_the_wall_belongs_to_the_garment():
    picture = on_wall((30, 60, 160), gradient=0)
    ImageDraw.Draw(picture).ellipse((45, 45, 55, 55), fill=(240, 240, 240))
    mask = garment_mask(picture)
    assert mask is not None
    assert mask[50, 50]


def test_there_is_no_mask_without_an_even_background_or_without_anything_before_it():
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    assert garment_mask(Image.fromarray(noise)) is None
    assert garment_mask(Image.new("RGB", (80, 80), "white")) is None


def test_every_garment_of_the_embedded_world_stands_out_and_large_pictures_keep_their_size():
    shares = []
    for garment in sample_garments(40, seed=8):
        mask = garment_mask(render(garment))
        shares.append(0.0 if mask is None else mask.mean())
    assert sum(0.05 < share < 0.75 for share in shares) >= 37
    large = garment_mask(on_wall((30, 60, 160)).resize((1000, 1200)))
    assert large is not None
    assert large.shape == (1200, 1000)


def test_ciede2000_is_skimages_over_the_shared_garment():
    first, second = on_wall((200, 30, 40)), on_wall((180, 60, 40), box=(40, 20, 80, 90))
    masks = truth(), truth((40, 20, 80, 90))
    expected = deltaE_ciede2000(*(rgb2lab(np.array(colour, np.uint8)[None, None]) for colour in ((200, 30, 40), (180, 60, 40))))
    assert ciede2000(first, second, *masks) == pytest.approx(expected.item(), abs=1e-6)
    assert ciede2000(first, first, masks[0], masks[0]) == 0
    assert ciede2000(first, second, truth((0, 0, 10, 10)), truth((50, 50, 60, 60))) is None


def test_a_shared_white_wall_counts_for_nothing_in_the_masked_correlation():
    red, green = on_wall((200, 30, 40), gradient=0), on_wall((30, 200, 40), gradient=0)
    assert color_correlation(red, green) > 0.7
    assert color_correlation_masked(red, green, truth(), truth()) < 0.01
    assert color_correlation_masked(red, red, truth(), truth()) == pytest.approx(1)


def test_kid_is_the_mean_over_pairs_that_share_neither_reference_nor_caption():
    """Worked out pair by pair: two images of each of four references, of which the first two have one caption."""
    draw = torch.Generator().manual_seed(0)
    made, references = (torch.nn.functional.normalize(torch.randn(count, 5, generator=draw), dim=1) for count in (8, 4))
    made_of, captions = [0, 0, 1, 1, 2, 2, 3, 3], ["a dress", "a dress", "a coat", "a shirt"]

    def mean(first: list[tuple[torch.Tensor, int]], second: list[tuple[torch.Tensor, int]], often: list[int]) -> float:
        values, weights = [], []
        for (a, of_a), (b, of_b) in itertools.product(first, second):
            if of_a != of_b and captions[of_a] != captions[of_b]:
                values.append((float(a.double() @ b.double()) + 1) ** 3)
                weights.append(often[of_a] * often[of_b])
        return float(np.average(values, weights=weights))

    x, y = list(zip(made, made_of, strict=True)), list(zip(references, range(4), strict=True))
    alike, of = torch.tensor([0, 0, 1, 2]), torch.tensor(made_of)
    drawn = [[1, 1, 1, 1], [2, 0, 1, 1]]
    found = kernel_inception_distance(made, references, of, alike, torch.tensor(drawn))
    assert found is not None
    assert found.tolist() == pytest.approx([mean(x, x, one) + mean(y, y, one) - 2 * mean(x, y, one) for one in drawn])
    once = kernel_inception_distance(made, references, of, alike)
    assert once is not None
    assert once.tolist() == found.tolist()[:1]


def test_copies_of_the_references_are_at_kid_zero_and_other_real_pictures_are_no_farther_by_design():
    """With pairs of one reference in it, copies were at less than zero: nearer to the references than real pictures can be."""
    draw = torch.Generator().manual_seed(0)
    big = torch.nn.functional.normalize(torch.randn(1600, 8, generator=draw), dim=1)
    references, others, one_each = big[:800], big[800:], torch.arange(800)
    copies = kernel_inception_distance(references.repeat_interleave(2, 0), references, one_each.repeat_interleave(2), one_each)
    real = kernel_inception_distance(others, references, one_each, one_each)
    shifted = kernel_inception_distance(torch.nn.functional.normalize(others + 1, dim=1), references, one_each, one_each)
    assert copies is not None
    assert real is not None
    assert shifted is not None
    assert abs(float(copies)) < 1e-9
    assert abs(float(real)) < 0.01
    assert float(shifted) > 0.1


def test_there_is_no_kid_without_pairs_of_different_captions():
    two = torch.eye(2)
    assert kernel_inception_distance(two, two, torch.arange(2), torch.zeros(2, dtype=torch.long)) is None
    assert (
        kernel_inception_distance(two[:1], two[:1], torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)) is None
    )


def test_the_nearest_training_image_is_found():
    training = torch.eye(3)
    values, places = nearest(torch.tensor([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]]), training)
    assert places == [2, 0]
    assert values == pytest.approx([0.8, 1.0])


def test_attribute_similarity_by_hand():
    """Kind agrees with confidences 0.9 and 0.7: 0.7 + 0.3 * 0.8 = 0.94. Colour differs, 0.5 and 1.0: 0.3 * 0.5 = 0.15. Mean 0.545."""
    value, same = attribute_similarity(
        {"kind": ("hat", 0.9), "colour": ("red", 0.5)}, {"kind": ("hat", 0.7), "colour": ("blue", 1.0)}
    )
    assert value == pytest.approx(0.545)
    assert same == {"kind": 1.0, "colour": 0.0}


def test_the_embedded_encoder_reads_kind_colour_and_pattern_of_unseen_pictures():
    encoder = load_fashion_clip("embedded", embedded_source(EMBEDDED_DIR))
    garments = sample_garments(60, seed=4711)
    reader = AttributeReader(read_attributes(default_attributes("embedded")), encoder)
    found = reader.read(encoder.embed_images([render(garment) for garment in garments]))
    for name in ("kind", "colour", "pattern"):
        right = sum(labels[name][0] == getattr(garment, name) for labels, garment in zip(found, garments, strict=True))
        assert right >= 57, name
    assert all(0 < confidence <= 1 for labels in found for _, confidence in labels.values())


def test_the_categories_for_real_encoders_are_those_of_the_contract():
    names = {category.name for category in read_attributes(FOLDER / "fashion.yaml").categories}
    assert {"garment_type", "colour", "pattern", "sleeve", "length", "neckline", "style"} <= names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "holds no categories"),
        ("kind: [a, b]", "kind: must have prompt and labels"),
        ("kind: {prompt: a photo, labels: [a, b]}", "must hold {} once"),
        ("kind: {prompt: 'a {}', labels: [a]}", "at least two"),
        ("kind: [", "cannot be read"),
    ],
)
def test_a_wrong_attribute_file_is_told_in_one_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_attributes(tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith("evaluation.attributes: ")
    assert said in problem


def test_lpips_is_that_of_its_package_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import lpips
    from torchvision.models import alexnet

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"lpips needs .*alexnet-owt-7be5be79\.pth, which is not there"):
        lpips_metric.Lpips()
    torch.manual_seed(0)
    backbone = alexnet(weights=None)
    path = lpips_metric.weights_path()
    path.parent.mkdir(parents=True)
    torch.save(backbone.state_dict(), path)
    ours = lpips_metric.Lpips()
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for part, number in (("slice1", 0), ("slice2", 3), ("slice3", 6), ("slice4", 8), ("slice5", 10)):
        getattr(reference.net, part)[-2 if part != "slice1" else 0].load_state_dict(backbone.features[number].state_dict())
    first, second = (render(garment, 96) for garment in sample_garments(2, seed=1))

    def tensor(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.no_grad():
        expected = reference(tensor(first), tensor(second)).item()
    found = ours.distances([(first, second), (first, first)])
    assert found == pytest.approx([expected, 0], abs=1e-6)
    assert not math.isclose(expected, 0, abs_tol=1e-4)
