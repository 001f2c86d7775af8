"""Sums, averages, smaller ranks and differences, each against the large matrices that they stand for."""

from __future__ import annotations

import math

import pytest
import torch

from fashion_ml.models.lora_arithmetic import average, difference, effective_rank, resize, updates_of, weighted_sum


def lora(seed: int, rank: int, alpha: float | None, *, modules: tuple[str, ...] = ("a", "c")) -> dict[str, torch.Tensor]:
    """Of a linear layer `a` [7, 9] and a convolution `c` [6, 5, 3, 3]."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": ((rank, 9), (7, rank)), "c": ((rank, 5, 3, 3), (6, rank, 1, 1))}
    found = {}
    for module in modules:
        down, up = (torch.randn(shape, generator=draw) for shape in shapes[module])
        found |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
        if alpha is not None:
            found[f"{module}.alpha"] = torch.tensor(alpha)
    return found


def update(tensors: dict[str, torch.Tensor], module: str) -> torch.Tensor:
    """alpha / r * up @ down, written out."""
    down, up = tensors[f"{module}.lora_down.weight"], tensors[f"{module}.lora_up.weight"]
    rank = down.shape[0]
    return float(tensors.get(f"{module}.alpha", torch.tensor(float(rank)))) / rank * (up.flatten(1) @ down.flatten(1))


def test_a_sum_does_exactly_what_several_do_together_each_at_its_weight():
    """Ranks 2, 3 and 4 with scales 2, 1 and 1/4; the last has the convolution alone."""
    files = [lora(1, 2, 4.0), lora(2, 3, None), lora(3, 4, 1.0, modules=("c",))]
    summed = weighted_sum(files, (0.5, -1.0, 2.0))
    torch.testing.assert_close(update(summed, "a"), 0.5 * update(files[0], "a") - update(files[1], "a"))
    expected = 0.5 * update(files[0], "c") - update(files[1], "c") + 2 * update(files[2], "c")
    torch.testing.assert_close(update(summed, "c"), expected)
    assert summed["c.lora_down.weight"].shape == (9, 5, 3, 3)
    assert summed["c.alpha"] == 9


def test_loras_of_other_bases_are_refused():
    other = {"a.lora_down.weight": torch.zeros(2, 8), "a.lora_up.weight": torch.zeros(7, 2)}
    with pytest.raises(ValueError, match="for different bases: a has other shapes"):
        weighted_sum([lora(1, 2, 2.0), other], (1, 1))


def test_an_average_is_that_of_each_tensor_and_wants_one_training():
    """of 1 and 3: 2; the update is that of the mean factors, not the mean of the updates"""
    first, second = (
        {"a.lora_up.weight": torch.full((2, 1), v), "a.lora_down.weight": torch.full((1, 2), v)} for v in (1.0, 3.0)
    )
    assert average([first, second])["a.lora_up.weight"].tolist() == [[2.0], [2.0]]
    with pytest.raises(ValueError, match="not of one training"):
        average([lora(1, 2, 2.0), lora(1, 3, 2.0)])


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 9])
def test_a_smaller_rank_is_the_best_there_is(rank: int):
    """The singular values of the large matrix that are left out are what is missing, by Eckart & Young; the share is that of the norms."""
    file = lora(5, 4, 2.0)
    small = resize(file, rank)
    for module in ("a", "c"):
        whole = update(file, module).double()
        values = torch.linalg.svdvals(whole)
        assert small.ranks[module] == min(rank, 4)
        missing = (whole - update(small.tensors, module).double()).norm()
        assert missing.item() == pytest.approx(values[rank:].norm().item(), abs=1e-5)
        assert small.kept[module] == pytest.approx((values[:rank].norm() / values.norm()).item(), abs=1e-6)
        assert small.tensors[f"{module}.lora_down.weight"].shape[1:] == file[f"{module}.lora_down.weight"].shape[1:]
        assert small.tensors[f"{module}.lora_up.weight"].shape[2:] == file[f"{module}.lora_up.weight"].shape[2:]


def test_ranks_that_keep_a_share_are_the_smallest_that_do():
    file = lora(6, 4, 4.0)
    for share in (0.5, 0.9, 0.99, 1.0):
        small = resize(file, keep=share)
        for module in ("a", "c"):
            values = torch.linalg.svdvals(update(file, module).double())
            enough = [n for n in range(1, 5) if values[:n].norm() / values.norm() >= share - 1e-7]
            assert small.ranks[module] == enough[0]
            assert small.kept[module] >= share - 1e-7


def test_an_update_of_zero_stays_zero():
    file = lora(1, 3, 3.0)
    file["a.lora_up.weight"] = torch.zeros(7, 3)
    small = resize(file, keep=0.9)
    assert (small.kept["a"], small.ranks["a"]) == (1.0, 1)
    assert not update(small.tensors, "a").any()


@pytest.mark.parametrize("shape", [(7, 9), (6, 5, 3, 3), (4, 8, 1, 1)])
def test_a_difference_of_low_rank_is_found_again(shape: tuple[int, ...]):
    draw = torch.Generator().manual_seed(0)
    base, numbers = torch.randn(shape, generator=draw), math.prod(shape[1:])
    delta = torch.randn(shape[0], 2, generator=draw) @ torch.randn(2, numbers, generator=draw)
    down, up, kept = difference(base, base + delta.view(shape), 3)
    torch.testing.assert_close(up.flatten(1) @ down.flatten(1), delta, atol=1e-4, rtol=1e-4)
    assert kept == pytest.approx(1)
    assert difference(base, base + delta.view(shape), 1)[2] < 0.999
    assert difference(base, base, 3)[2] == 1.0


def test_the_effective_rank_of_equal_and_of_one_singular_value():
    """three equal ones: exp(log 3) = 3; values 3 and 1: shares 3/4 and 1/4, exp(0.5623) = 1.7548"""
    eye = torch.eye(3)
    assert effective_rank(eye, eye) == pytest.approx(3)
    assert effective_rank(torch.eye(2), torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(1.7547654)
    assert effective_rank(eye, eye * 0) == 0


def test_what_is_no_plain_lora_is_named():
    with pytest.raises(ValueError, match=r"holds a\.hada_w1_a, which is no plain LoRA"):
        updates_of({"a.hada_w1_a": torch.zeros(1)})
    with pytest.raises(ValueError, match="module a lacks lora_down or lora_up"):
        updates_of({"a.lora_up.weight": torch.zeros(1, 1)})
    with pytest.raises(ValueError, match="holds no LoRA"):
        updates_of({})
