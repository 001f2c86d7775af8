"""What each method adds to a weight, in numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

from fashion_ml.models.lora_delta import delta, method_of, rank_of


def t(*rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_loha_is_the_product_of_two_low_ranks_number_by_number():
    parts = {"hada_w1_a": t([1], [2]), "hada_w1_b": t([3, 4]), "hada_w2_a": t([5], [6]), "hada_w2_b": t([7, 8])}
    # w1 = [[3, 4], [6, 8]], w2 = [[35, 40], [42, 48]]
    assert torch.equal(delta(parts, (2, 2)), t([105, 160], [252, 384]))
    assert (method_of(parts), rank_of(parts)) == ("LoHa", 1)


def test_loha_with_cores_contracts_the_first_index_with_a_and_the_second_with_b():
    core = torch.zeros(2, 2, 1, 1)
    core[0, 1] = 2.0  # only a's row 0 with b's row 1
    a, b = t([1, 2], [10, 20]), t([3, 4], [30, 40])
    ones = {"hada_w2_a": t([1, 1], [0, 0]), "hada_w2_b": t([1, 1], [0, 0]), "hada_t2": torch.ones(2, 2, 1, 1)}
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_t1": core, **ones}
    # 2 * a[0] (x) b[1] = [[60, 80], [120, 160]]; the second factor is all ones
    assert torch.equal(delta(parts, (2, 2, 1, 1)).flatten(1), t([60, 80], [120, 160]))


@pytest.mark.parametrize(
    "second", [{"lokr_w2": t([1, 2], [3, 4])}, {"lokr_w2_a": t([1, 0], [0, 1]), "lokr_w2_b": t([1, 2], [3, 4])}]
)
def test_lokr_is_a_kronecker_product(second: dict[str, torch.Tensor]):
    parts = {"lokr_w1": t([1, 10]), **second}
    assert torch.equal(delta(parts, (2, 4)), t([1, 2, 10, 20], [3, 4, 30, 40]))
    assert method_of(parts) == "LoKr"


def test_two_whole_factors_of_lokr_have_no_rank_and_a_factored_one_has_its_own():
    assert rank_of({"lokr_w1": t([1]), "lokr_w2": t([1])}) is None
    assert rank_of({"lokr_w1": t([1]), "lokr_w2_a": torch.ones(4, 3), "lokr_w2_b": torch.ones(3, 4)}) == 3


def test_lokr_of_a_convolution_is_the_same_whether_its_second_factor_is_flat_or_not():
    w1, flat = torch.randn(2, 3), torch.randn(4, 5 * 9)
    parts = {"lokr_w1": w1, "lokr_w2_a": torch.eye(4), "lokr_w2_b": flat}
    whole = {"lokr_w1": w1, "lokr_w2": flat.reshape(4, 5, 3, 3)}
    torch.testing.assert_close(delta(parts, (8, 15, 3, 3)), delta(whole, (8, 15, 3, 3)))
    by_hand = w1[1, 2] * flat.reshape(4, 5, 3, 3)[3, 4]
    torch.testing.assert_close(delta(whole, (8, 15, 3, 3))[4 + 3, 2 * 5 + 4], by_hand)


def test_parts_that_do_not_make_the_weights_shape_are_refused():
    with pytest.raises(ValueError, match=r"makes \[2, 2\], and the base's weight is \[3, 3\]"):
        delta({"up": torch.ones(2, 1), "down": torch.ones(1, 2)}, (3, 3))


@pytest.mark.parametrize("names", [("up",), ("up", "down", "lokr_w1"), ("hada_w1_a", "hada_w1_b"), ("lokr_w1",), ("alpha",)])
def test_half_a_module_is_of_no_method(names: tuple[str, ...]):
    assert method_of(dict.fromkeys(names, torch.ones(1))) is None
