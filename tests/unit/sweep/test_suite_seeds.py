"""Which seeds a suite that was begun goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_ml.config import load_suite
from fashion_ml.errors import InputError
from fashion_ml.sweep.study import queue
from fashion_ml.sweep.suite_study import open_suite, refuse_other_seeds, slots_of, slots_there, trainings_of
from tests.unit.sweep.test_suite import a_study, worked, written


def test_a_suite_is_opened_for_workers_and_reports_too_with_the_seeds_alone_that_it_was_begun_with(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_suite(*load_suite(written(tmp_path, max_seeds=4), {}), url, create=True)
    open_suite(*load_suite(written(tmp_path, max_seeds=4), {}), url, create=False)
    with pytest.raises(InputError, match=r"seeds: the suite 'test' was begun with \[0, 1, 2, 3\]"):
        open_suite(*load_suite(written(tmp_path, seeds=[0, 1, 3], max_seeds=4), {}), url, create=False)


def test_seeds_that_no_training_has_begun_with_may_yet_be_others(tmp_path: Path):
    spec, study = a_study(tmp_path, seeds=[0, 1, 2, 3, 4])
    refuse_other_seeds(study, spec, anew=True)
    study.optimize(lambda trial: 0.5, n_trials=10)  # seed 3 of one recipe is the last
    other, _ = load_suite(written(tmp_path, seeds=[0, 1, 2, 3, 9]), {})
    with pytest.raises(InputError, match=r"was begun with \[0, 1, 2, 3, 4\]"):
        refuse_other_seeds(study, other, anew=False)  # a worker's file
    refuse_other_seeds(study, other, anew=True)
    queue(study, {**slots_of(other, other.seeds), **slots_there(study, other)})
    assert [seed for _, seed in worked(study)] == [3, 3, 9, 9, 9]
    assert {one.seed for one in trainings_of(study)} == {0, 1, 2, 3, 9}
    third, _ = load_suite(written(tmp_path, seeds=[0, 1, 2, 7]), {})
    with pytest.raises(InputError, match=r"was begun with \[0, 1, 2, 3, 9\]"):
        refuse_other_seeds(study, third, anew=True)
