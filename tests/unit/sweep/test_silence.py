"""Trials of dead workers are found, and those of living ones left alone, also where the clock on the wall is set meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest

from fashion_ml.sweep import silence
from fashion_ml.sweep.silence import Silence

NOON = datetime(2026, 1, 1, 12)
GRACE = 60


class World:
    """One running trial, whose worker beats every 15 seconds while it lives, two clocks, and who looks."""

    def __init__(self) -> None:
        self.study = optuna.create_study()
        self.trial = self.study.ask()
        self.counted, self.set_by, self.lives, self.beat = 0.0, timedelta(), True, NOON
        self.silence = Silence(GRACE, lambda: self.counted)

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.counted) + self.set_by

    def found(self) -> bool:
        return bool(self.silence.of(self.study))

    def pass_by(self, seconds: int) -> list[float]:
        """Time goes by; when the trial was found silent, in seconds from the beginning."""
        when = []
        for _ in range(0, seconds, 5):
            self.counted += 5
            if self.lives and self.counted % 15 == 0:
                self.beat = self.now()
            when += [self.counted] if self.found() else []
        return when


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    clock = type("Clock", (datetime,), {"now": classmethod(lambda cls: made.now())})
    monkeypatch.setattr(silence, "datetime", clock)
    monkeypatch.setattr(silence, "heartbeats", lambda study: (made.now(), {made.trial.number: made.beat}))
    return made


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_takes_no_trial_from_a_worker_that_lives(world: World, hours: int):
    assert world.pass_by(100) == []
    world.set_by = timedelta(hours=hours)
    assert world.pass_by(300) == []


@pytest.mark.parametrize("hours", [0, 1, -1])
def test_a_dead_worker_is_found_within_its_time_whatever_the_clock_does(world: World, hours: int):
    assert world.pass_by(100) == []
    world.lives, world.set_by = False, timedelta(hours=hours)
    found = world.pass_by(300)
    assert 150 < found[0] <= 170


def test_a_worker_that_died_long_ago_is_found_at_the_first_look(world: World):
    world.beat = NOON - timedelta(minutes=5)
    assert world.found()


def test_a_heartbeat_ahead_of_the_clock_is_silent_once_it_has_stayed_the_same(world: World):
    world.lives, world.beat = False, NOON + timedelta(hours=1)
    assert world.pass_by(200)[0] == 70


def test_a_trial_of_a_study_is_failed_and_queued_again(tmp_path: Path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db", heartbeat_interval=60)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    assert Silence(GRACE).of(study) == []
    storage.record_heartbeat(trial._trial_id)
    assert Silence(GRACE).of(study) == []
    assert [one.number for one in Silence(-1).of(study)] == [0]
