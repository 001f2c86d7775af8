"""Which folder `--resume` means, and what may have changed since; of folders as a run leaves them, without a training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import load_config, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.runs.beginning import begun
from fashion_ml.runs.resume import find_run_to_resume
from fashion_ml.runs.run_folder import CONFIG, NOTE, Experiment, RunFolder, write_run_folder
from fashion_ml.runtime.folder_lock import LOCK


def asked(**settings: Any) -> Experiment:
    """An experiment of 20 steps at a constant rate, or with other settings."""
    given = {"data.train_data_dir": "photos", "training.max_train_steps": 20, "output.output_name": "shirt"}
    return load_config({**given, **{name.replace("__", "."): value for name, value in settings.items()}})


def left(folder: Path, *, finished: bool, length: int = 0, **settings: Any) -> RunFolder:
    """What a run of these settings leaves in a folder; without a length as earlier versions have noted it."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder, f"id-{folder.name}", "sqlite:///runs.db", "digest", finished=finished, length=length)
    write_run_folder(run, asked(**settings))
    return run


@pytest.mark.parametrize("steps", [20, 19])
def test_a_finished_run_is_not_gone_on_with_for_as_many_steps_or_fewer(tmp_path: Path, steps: int):
    left(tmp_path / "run", finished=True)
    with pytest.raises(InputError, match=r"is finished; give more max_train_steps than 20, or leave --resume out"):
        find_run_to_resume(str(tmp_path / "run"), asked(training__max_train_steps=steps))


def test_the_lock_of_a_process_that_was_killed_behind_its_end_is_removed(tmp_path: Path):
    run = left(tmp_path / "run", finished=True)
    (run.path / LOCK).write_text("999999999", encoding="utf-8")
    with pytest.raises(InputError, match="is finished; give more"), begun(asked(), resume=str(run.path), new=False):
        pass
    assert sorted(path.name for path in run.path.iterdir()) == [CONFIG, NOTE]


def test_a_finished_run_is_lengthened_by_one_step(tmp_path: Path):
    run = left(tmp_path / "run", finished=True)
    assert find_run_to_resume(str(tmp_path / "run"), asked(training__max_train_steps=21)) == run


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_lengthening_that_was_killed_behind_its_experiment_begins_again(tmp_path: Path, schedule: str):
    """Of a run that goes on the experiment is written first, and then the note, which says finished until then."""
    run = left(tmp_path / "run", finished=True, length=20, optimizer__lr_scheduler=schedule)
    longer = asked(training__max_train_steps=30, optimizer__lr_scheduler=schedule)
    (tmp_path / "run" / CONFIG).write_text(to_yaml(longer))
    assert find_run_to_resume(str(tmp_path / "run"), longer) == run
    with pytest.raises(InputError, match=r"is finished; give more max_train_steps than 20, or leave --resume out"):
        find_run_to_resume(str(tmp_path / "run"), asked(optimizer__lr_scheduler=schedule))


def test_an_unfinished_run_goes_on_with_as_many_steps_and_not_with_fewer(tmp_path: Path):
    run = left(tmp_path / "run", finished=False)
    assert find_run_to_resume(str(tmp_path / "run"), asked()) == run
    with pytest.raises(InputError, match=r"training\.max_train_steps: 19, but the run to resume has 20; give 20 or more"):
        find_run_to_resume(str(tmp_path / "run"), asked(training__max_train_steps=19))


def test_a_setting_that_does_not_decide_what_is_learnt_may_have_changed(tmp_path: Path):
    run = left(tmp_path / "run", finished=False)
    assert find_run_to_resume(str(tmp_path / "run"), asked(training__log_every=3, evaluation__seed=5)) == run


def test_settings_that_decide_what_is_learnt_are_refused_by_their_names_all_at_once(tmp_path: Path):
    left(tmp_path / "run", finished=False)
    changed = asked(network__rank=3, optimizer__learning_rate=0.5, training__log_every=3)
    with pytest.raises(InputError) as refused:
        find_run_to_resume(str(tmp_path / "run"), changed)
    text = str(refused.value)
    assert "network.rank: 3, but the run to resume has 32; give that, or --new" in text
    assert "optimizer.learning_rate: 0.5, but the run to resume has 5e-05; give that, or --new" in text
    assert "log_every" not in text


@pytest.mark.parametrize("finished", [False, True])
def test_a_rate_that_follows_the_length_is_lengthened_after_its_end_only(tmp_path: Path, finished: bool):
    run = left(tmp_path / "run", finished=finished, optimizer__lr_scheduler="cosine")
    longer = asked(training__max_train_steps=30, optimizer__lr_scheduler="cosine")
    if finished:
        assert find_run_to_resume(str(tmp_path / "run"), longer) == run
        return
    with pytest.raises(
        InputError, match=r"training\.max_train_steps: 30, but .* has 20 and its learning rate follows a cosine"
    ):
        find_run_to_resume(str(tmp_path / "run"), longer)


def test_latest_is_the_newest_unfinished_run_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    runs = {
        name: left(outputs / folder / name, finished=finished)
        for name, folder, finished in (
            ("old", "shirt", False),
            ("a_newer", "shirt", False),
            ("done", "shirt", True),
            ("other", "coat", False),
        )
    }
    for age, run in enumerate(reversed(runs.values())):  # the later in the list the newer
        os.utime(run.path / NOTE, (1e9 - age, 1e9 - age))
    assert find_run_to_resume("latest", asked()) == runs["a_newer"]
    assert find_run_to_resume("latest", asked(output__output_dir=str(outputs / "shirt" / "old"))) == runs["old"]
    with pytest.raises(InputError, match=r"there is no unfinished run below 'outputs/sock'"):
        find_run_to_resume("latest", asked(output__output_name="sock"))


def test_the_path_of_a_state_means_its_run(tmp_path: Path):
    run = left(tmp_path / "run", finished=False)
    (run.path / "state").mkdir()
    (run.path / "state" / "training_state.safetensors").touch()
    assert find_run_to_resume(str(run.path / "state" / "training_state.safetensors"), asked()) == run
    with pytest.raises(InputError, match="no run has begun in"):
        find_run_to_resume(str(tmp_path), asked())


def test_epochs_mean_the_steps_that_they_meant_and_may_grow(tmp_path: Path):
    """The run of 2 epochs had 20 steps, so 3 epochs are 30."""
    run = left(tmp_path / "run", finished=False, training__max_train_epochs=2)
    assert find_run_to_resume(str(run.path), asked(training__max_train_epochs=2)) == run
    assert find_run_to_resume(str(run.path), asked(training__max_train_epochs=3)) == run
    with pytest.raises(InputError, match=r"training\.max_train_steps: 10, but the run to resume has 20"):
        find_run_to_resume(str(run.path), asked(training__max_train_epochs=1))
    counted = left(tmp_path / "counted", finished=False)
    with pytest.raises(InputError, match=r"training\.max_train_epochs: given, but the run to resume counts steps"):
        find_run_to_resume(str(counted.path), asked(training__max_train_epochs=3))


def test_the_first_digits_of_a_runs_id_mean_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, run_id in (("one", "a" * 32), ("two", "abcd" + "0" * 28)):
        folder = tmp_path / "outputs" / "shirt" / name
        folder.mkdir(parents=True)
        write_run_folder(RunFolder(folder, run_id, "sqlite:///runs.db", "digest", finished=False), asked())
    for given in ("abcd", "abcd" + "0" * 28):
        assert find_run_to_resume(given, asked()).run_id == "abcd" + "0" * 28
    with pytest.raises(InputError, match=r"no run has begun in 'beef'"):
        find_run_to_resume("beef", asked())
    other = tmp_path / "outputs" / "shirt" / "three"
    other.mkdir()
    write_run_folder(RunFolder(other, "abcd" + "1" * 28, "sqlite:///runs.db", "digest", finished=False), asked())
    with pytest.raises(InputError, match=r"resume: 'abcd' may be 2 runs below 'outputs': abcd.*; abcd.*; give more of the id"):
        find_run_to_resume("abcd", asked())
