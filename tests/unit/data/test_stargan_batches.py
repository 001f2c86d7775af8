"""What StarGAN steps see: whose contents, which targets, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from fashion_ml.data.content_order import ContentOrder
from fashion_ml.data.latent_domains import Domain, LatentSet
from fashion_ml.data.stargan_batches import GanInputs


def a_set(*sizes: int) -> LatentSet:
    """Domains of so many latents, each full of its domain's number."""
    domains = [
        Domain(f"d{y}", tuple(f"{y}-{i}" for i in range(n)), torch.full((n, 4, 4, 4), float(y))) for y, n in enumerate(sizes)
    ]
    return LatentSet(Path(), tuple(domains), (4, 4, 4), {})


def inputs(sizes: tuple[int, ...], by: Literal["domain", "size"], **given: Any) -> GanInputs:
    settings = {"validation_split": 0.0, "batch_size": 6, "epoch_size": None, "latent_dim": 2, "scale": 1.0, "seed": 1}
    return GanInputs(a_set(*sizes), contents_by=by, device=torch.device("cpu"), **{**settings, **given})


@pytest.mark.parametrize("by", ["domain", "size"])
@pytest.mark.parametrize("sizes", [(4, 9), (3, 5, 40, 2)])
def test_a_target_is_never_the_contents_own_domain_and_any_other_as_often(
    by: Literal["domain", "size"], sizes: tuple[int, ...]
):
    made, pairs = inputs(sizes, by), Counter[tuple[int, int]]()
    for step in range(1, 501):
        b = made.batch(step)
        pairs.update(zip(b.y_src.tolist(), b.y_trg.tolist(), strict=True))
        assert torch.equal(b.x_src[:, 0, 0, 0].long(), b.y_src)
        assert torch.equal(b.x_ref[:, 0, 0, 0].long(), b.y_trg)
    assert all(source != target for source, target in pairs)
    for source in range(len(sizes)):
        seen = [pairs[source, target] for target in range(len(sizes)) if target != source]
        assert min(seen) > 0.6 * max(seen)


def test_by_domain_every_round_holds_each_domain_once_and_each_latent_of_a_domain_comes_in_turn():
    made = inputs((4, 9, 2), "domain")
    rounds = [made.batch(step).y_src.tolist() for step in range(1, 61)]
    assert all(sorted(one[:3]) == sorted(one[3:]) == [0, 1, 2] for one in rounds)
    assert len({tuple(one[:3]) for one in rounds}) == 6  # the order within a round is drawn
    names = [name for step in range(1, 19) for name in made.names(step)]  # 36 rounds: 9, 4 and 18 times all of a domain
    assert set(Counter(name for name in names if name.startswith("d0")).values()) == {9}
    assert set(Counter(name for name in names if name.startswith("d1")).values()) == {4}
    assert set(Counter(name for name in names if name.startswith("d2")).values()) == {18}


def test_by_size_every_latent_comes_as_often():
    made = inputs((4, 9, 2), "size")
    names = [name for step in range(1, 6) for name in made.names(step)]  # 30 contents of 15
    assert set(Counter(names).values()) == {2}
    assert sorted(names[:15]) == sorted(names[15:])
    assert names[:15] != names[15:]


def test_an_epoch_is_all_latents_by_size_and_as_many_of_each_domain_as_the_largest_has_by_domain():
    assert (inputs((4, 9, 2), "size").epoch_size, inputs((4, 9, 2), "domain").epoch_size) == (15, 27)
    assert (inputs((5, 5), "size").epoch_size, inputs((5, 5), "domain").epoch_size) == (10, 10)
    assert inputs((4, 9), "domain", epoch_size=7).epoch_size == 7


@pytest.mark.parametrize("by", ["domain", "size"])
def test_the_order_is_a_function_of_seed_and_position(by: Literal["domain", "size"]):
    """Whatever was asked for before, also beyond what is drawn at once."""
    training = [[0, 2, 3], [1, 4]]
    order = ContentOrder(training, by, 5)
    forward = [order.at(position) for position in range(1200)]
    assert [ContentOrder(training, by, 5).at(position) for position in (1199, 3, 640)] == [
        forward[1199],
        forward[3],
        forward[640],
    ]
    assert [ContentOrder(training, by, 6).at(position) for position in range(1200)] != forward
    assert {(y, index) for y, index in forward} == {(0, 0), (0, 2), (0, 3), (1, 1), (1, 4)}
