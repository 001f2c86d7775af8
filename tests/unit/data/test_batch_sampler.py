from __future__ import annotations

import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fashion_ml.data.batch_sampler import StepPlan

REPEATS = st.lists(st.integers(1, 5), min_size=1, max_size=12).map(tuple)


def test_counts_of_a_small_example():
    """3 images x 10 repeats = 30 a pass; 4 a step: 7 full steps and one of 2, so 8 steps an epoch."""
    plan = StepPlan(repeats=(10, 10, 10), batch_size=4, accumulation=1, seed=0)
    assert (plan.images_per_epoch, plan.batches_per_epoch, plan.steps_per_epoch) == (30, 8, 8)
    assert [plan.epoch(step) for step in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]
    assert [len(plan.images(step)) for step in range(1, 10)] == [4, 4, 4, 4, 4, 4, 4, 2, 4]


def test_counts_with_accumulation_and_buckets():
    """Buckets of 10 and 20 images at batch 4: 3 + 5 = 8 batches an epoch; 3 batches a step: 3 steps of 3, 3 and 2 batches."""
    plan = StepPlan((10, 10, 10), batch_size=4, accumulation=3, seed=0, bucket_of=(0, 1, 1))
    assert (plan.batches_per_epoch, plan.steps_per_epoch) == (8, 3)
    assert [len(plan.batches(step)) for step in range(1, 5)] == [3, 3, 2, 3]


@given(REPEATS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_every_epoch_shows_every_image_exactly_its_repeats(
    repeats: tuple[int, ...], size: int, accumulation: int, seed: int, epoch: int, bucketed: bool
):
    buckets = tuple(index % 3 for index in range(len(repeats))) if bucketed else ()
    plan = StepPlan(repeats, size, accumulation, seed, buckets)
    first = (epoch - 1) * plan.steps_per_epoch + 1
    batches = [batch for step in range(first, first + plan.steps_per_epoch) for batch in plan.batches(step)]
    assert Counter(index for batch in batches for index in batch) == Counter(dict(enumerate(repeats)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == plan.batches_per_epoch
    if bucketed:
        assert all(len({buckets[index] for index in batch}) == 1 for batch in batches)


@given(REPEATS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 8))
def test_the_images_of_a_step_do_not_depend_on_how_the_batch_is_split(
    repeats: tuple[int, ...], size: int, count: int, step: int
):
    """One forward pass of size * count images, or count passes of size: the same images in the same order."""
    assert StepPlan(repeats, size * count, 1, 0).images(step) == StepPlan(repeats, size, count, 0).images(step)


def test_the_order_depends_on_seed_purpose_and_epoch_and_on_nothing_before():
    plan = StepPlan((1,) * 20, 20, 1, seed=1)
    assert plan.images(3) == StepPlan((1,) * 20, 20, 1, seed=1).images(3)
    assert plan.images(3) != plan.images(2)
    assert plan.images(3) != StepPlan((1,) * 20, 20, 1, seed=2).images(3)
    assert plan.images(3) != StepPlan((1,) * 20, 20, 1, seed=1, purpose="prior").images(3)


def test_a_step_of_a_large_data_set_costs_what_one_of_a_small_one_does():
    """Drawing an epoch looks at every image; a step inside it must not: 100,000 images, 1,000 steps, far below a pass over the images each."""
    plan = StepPlan((1,) * 100_000, 4, 1, seed=0, bucket_of=(0, 1) * 50_000)
    plan.batches(1)
    start = time.perf_counter()
    for step in range(2, 1002):
        plan.batches(step)
        plan.epoch(step)
    assert time.perf_counter() - start < 0.2
