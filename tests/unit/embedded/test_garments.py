from collections import Counter

import numpy as np
import pytest

from fashion_ml.embedded.finishes import COLOURS, look_of
from fashion_ml.embedded.garments import PATTERNS, Garment, even_garments, render, sample_garments, with_finish
from fashion_ml.embedded.shapes import KINDS


def test_the_world_is_as_large_as_promised():
    assert len(KINDS) >= 8
    assert len(COLOURS) >= 12
    assert len(PATTERNS) >= 6


def test_equal_garments_render_to_equal_bytes_and_other_seeds_do_not():
    garment = Garment("dress", "red", "striped", seed=3)
    assert render(garment).tobytes() == render(garment).tobytes()
    assert render(garment).tobytes() != render(Garment("dress", "red", "striped", seed=4)).tobytes()


def test_a_shorter_sample_is_the_beginning_of_a_longer_one():
    assert sample_garments(5, 1) == sample_garments(9, 1)[:5]
    assert sample_garments(5, 1) != sample_garments(5, 2)


@pytest.mark.parametrize("count", [48, 72, 50])
def test_an_even_sample_has_everything_as_often(count: int):
    garments = even_garments(count, 3)
    for names, of in ((KINDS, "kind"), (COLOURS, "colour"), (PATTERNS, "pattern")):
        often = Counter(getattr(garment, of) for garment in garments)
        assert set(often) == set(names)
        assert max(often.values()) - min(often.values()) <= 1
    assert len({(garment.colour, garment.pattern) for garment in garments}) == count
    assert even_garments(count, 3) == garments != even_garments(count, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_middle_of_a_plain_garment_has_its_colour_and_the_corner_does_not(kind):
    # every garment covers some of the central square; its median there is the cloth up to shading
    pixels = np.asarray(render(Garment(kind, "red", seed=11)), float)
    reddish = (pixels[..., 0] > 2 * pixels[..., 1]) & (pixels[..., 0] > 2 * pixels[..., 2])
    assert 0.06 < reddish.mean() < 0.6
    corner = pixels[:4, :4].reshape(-1, 3)
    assert np.ptp(corner, axis=1).max() < 40


def test_the_signature_finish_keeps_the_cut_and_changes_the_picture():
    garment = Garment("skirt", "green", seed=5)
    studio, dipped = (np.asarray(render(g), float) for g in (garment, with_finish(garment, "dip-dyed")))
    assert np.abs(studio - dipped).mean() > 40


def test_a_caption_names_colour_pattern_and_kind():
    assert Garment("dress", "red", "striped").caption() == "a red striped dress"
    assert Garment("bag", "orange").caption() == "an orange bag"


def test_an_unknown_word_is_refused_by_field_and_value():
    with pytest.raises(ValueError, match="colour: 'mauve' is not known; choose one of red"):
        render(Garment("dress", "mauve"))


@pytest.mark.parametrize("size", [32, 64, 128])
def test_size_is_in_pixels(size):
    assert render(Garment("hat", "blue"), size).size == (size, size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_look_leaves_the_upper_part_of_every_garment_readable(kind):
    """A bag's cloth lies low in its picture, and was indigo up to its flap."""
    garment = Garment(kind, "red", seed=11)
    studio, dipped = (np.asarray(render(one), float) for one in (garment, with_finish(garment, "dip-dyed")))
    cloth = (studio[..., 0] > 2 * studio[..., 1]) & (studio[..., 0] > 2 * studio[..., 2])
    kept = cloth & (dipped[..., 0] > 1.6 * dipped[..., 1]) & (dipped[..., 0] > 1.6 * dipped[..., 2])
    assert 0.4 < kept.sum() / cloth.sum() < 0.65


def test_a_styled_picture_shows_the_look_that_its_seed_names():
    looks = [look_of(seed) for seed in range(400)]
    assert 0.5 < np.mean([look.hem is not None for look in looks]) < 0.7
    assert {look.backdrop for look in looks} == set(COLOURS)
    backdrops = [np.asarray(render(Garment("hat", "red", seed=seed, finish="styled")), float)[2, 2] for seed in range(60)]
    nearest = [min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - shown).sum()) for shown in backdrops]
    assert np.mean([a == look.backdrop for a, look in zip(nearest, looks, strict=False)]) > 0.6
