from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fashion_ml.data.order import StepPlan

REPEATS = st.lists(st.integers(1, 5), min_size=1, max_size=12).map(tuple)


def test_counts_of_a_small_example():
    """3 images x 10 repeats = 30 a pass; 4 a step: 7 full steps and one of 2, so 8 steps an epoch."""
    plan = StepPlan(repeats=(10, 10, 10), images_per_step=4, seed=0)
    assert (plan.images_per_epoch, plan.steps_per_epoch) == (30, 8)
    assert [plan.epoch(step) for step in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]
    assert [len(plan.images(step)) for step in range(1, 10)] == [4, 4, 4, 4, 4, 4, 4, 2, 4]


@given(REPEATS, st.integers(1, 9), st.integers(0, 3), st.integers(1, 3))
def test_every_epoch_shows_every_image_exactly_its_repeats(repeats: tuple[int, ...], size: int, seed: int, epoch: int):
    plan = StepPlan(repeats, size, seed)
    first = (epoch - 1) * plan.steps_per_epoch + 1
    seen = Counter(index for step in range(first, first + plan.steps_per_epoch) for index in plan.images(step))
    assert seen == Counter(dict(enumerate(repeats)))


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_before():
    plan = StepPlan((1,) * 20, 20, seed=1)
    assert plan.images(3) == StepPlan((1,) * 20, 20, seed=1).images(3)
    assert plan.images(3) != plan.images(2)
    assert plan.images(3) != StepPlan((1,) * 20, 20, seed=2).images(3)
