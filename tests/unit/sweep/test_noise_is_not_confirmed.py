"""A search over settings that change nothing finds a best one; the confirmation calls it what it is: not shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashion_ml.evaluation.compare import Difference, Evaluated
from fashion_ml.evaluation.recipes import crossed_gain
from fashion_ml.evaluation.verdicts import verdict_of
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.power import sees_of_recipes
from fashion_ml.sweep.confirm_power import confirm_power, matrices
from fashion_ml.sweep.confirmed import Confirmed, difference_of, factors
from tests.unit.sweep.test_confirm_best import SimpleNamespace
from tests.unit.sweep.test_study import a_study

TOTAL = "weighted_total_loss"
SEED_SD, REFERENCE_SD, IMAGE_SD = 0.01, 0.05, 0.01
"""Between training seeds, between references (which all trainings share), and between images."""


def training(name: str, seed: int, draw: np.random.Generator, hard: np.ndarray, better_by: float = 0.0) -> Evaluated:
    """One training of a recipe whose mean loss is 0.5, measured on references of which some are harder."""
    losses = 0.5 - better_by + draw.normal(0, SEED_SD) + hard + draw.normal(0, IMAGE_SD, len(hard))
    table = pd.DataFrame({"reference": [f"r{i:02d}" for i in range(len(hard))], "seed": "1", TOTAL: losses})
    return Evaluated(f"{name}-{seed}-{draw.integers(1 << 40)}", name, {"fingerprint": "f"}, table, {"x": name}, str(seed))


def search(number: int, better_by: float = 0.0) -> tuple[list[Evaluated], np.random.Generator]:
    """Twelve trials, the first of them better by so much, measured on one half of the references."""
    draw = np.random.default_rng([7, number])
    hard = draw.normal(0, REFERENCE_SD, 12)
    return [training(f"trial {slot}", 0, draw, hard, better_by * (slot == 0)) for slot in range(12)], draw


def ranked(number: int) -> list[list[Evaluated]]:
    """The trials of a search, best first, each with its one evaluation."""
    return [[one] for one in sorted(search(number)[0], key=lambda one: float(one.table[TOTAL].mean()))]


def swept(number: int, better_by: float = 0.0) -> tuple[float, Difference]:
    """The value of the search's best, and that one beside the default, both trained with three fresh seeds, on the other half."""
    trials, draw = search(number, better_by)
    means = [float(one.table[TOTAL].mean()) for one in trials]
    best = int(np.argmin(means))
    hard, gains = draw.normal(0, REFERENCE_SD, 12), {"default": 0.0, "best": better_by * (best == 0)}
    sides = [[training(name, seed, draw, hard, gain) for seed in (101, 102, 103)] for name, gain in gains.items()]
    return means[best], difference_of(sides[0], sides[1], TOTAL)


def drawn(number: int) -> tuple[float, list[np.ndarray]]:
    """The same of settings that do not differ, as numbers alone: the value of the search's best, and the losses of default and best anew."""
    draw = np.random.default_rng([8, number])

    def losses(hard: np.ndarray, trainings: int) -> np.ndarray:
        return 0.5 + draw.normal(0, SEED_SD, (trainings, 1)) + hard + draw.normal(0, IMAGE_SD, (trainings, len(hard)))

    best = float(losses(draw.normal(0, REFERENCE_SD, 12), 12).mean(axis=1).min())
    hard = draw.normal(0, REFERENCE_SD, 12)
    return best, [losses(hard, 3) for _ in range(2)]


def test_the_best_of_many_trials_that_do_not_differ_is_not_shown_in_19_of_20_sweeps():
    """Of 1,000 sweeps; its value in the search is below what it has with fresh seeds in nearly all: that is the flattery."""
    wrong, flattered, gains = 0, 0, []
    for number in range(1000):
        value, sides = drawn(number)
        found = crossed_gain(TOTAL, *sides)
        assert found is not None
        wrong += verdict_of(Interval(found.mean, found.low, found.high), found.p) != "not shown"
        flattered += value < 0.5 - 0.005
        gains.append(found.mean)
    assert wrong <= 50 + 7  # 5 %, and one standard error
    assert flattered >= 700
    assert abs(np.mean(gains)) < 0.001


def test_the_verdict_on_tables_is_that_of_their_numbers():
    for number in range(5):
        draw = np.random.default_rng([9, number])
        hard = draw.normal(0, REFERENCE_SD, 12)
        first, second = ([training(name, seed, draw, hard) for seed in (1, 2, 3)] for name in ("default", "best"))
        numbers = crossed_gain(TOTAL, *(np.array([one.table[TOTAL] for one in side]) for side in (first, second)))
        entry = difference_of(first, second, TOTAL)
        assert numbers is not None
        assert (entry.gain.mean, entry.p, *(entry.gain.ends or ())) == pytest.approx(
            (numbers.mean, numbers.p, numbers.low, numbers.high)
        )


def test_not_shown_is_said_plainly_beside_both_numbers():
    value, entry = next(one for one in map(swept, range(20)) if one[1].verdict == "not shown")
    text = Confirmed(3, {"x": 1}, value, entry.first, entry.other, entry).sentence(TOTAL)
    assert text.startswith(
        f"trial 3: {TOTAL} {value:.4f} in the search, {entry.other:.4f} with fresh seeds; the default has {entry.first:.4f};"
    )
    assert text.endswith(": not shown: by what the search has not seen, the default may be as good")


def test_the_power_that_is_said_from_the_search_alone_is_that_of_the_confirmation(tmp_path: Path):
    """A sweep has one seed a trial: the spread of its better half, as that of half a normal distribution, stands for the seeds'. In the median
    over sweeps that is the truth, and four of five confirmations see a gain of that size."""
    spec, _ = a_study(tmp_path, trials=3, confirm={"best": 1})
    found = []
    for number in range(40):
        trials = ranked(number)
        complete = [SimpleNamespace(values=[float(one[0].table[TOTAL].mean())]) for one in trials]
        power = confirm_power(spec, complete, trials[:6], 12)  # type: ignore[arg-type]
        assert power.sees is not None
        assert not power.own_seeds
        found.append(power)
    assert len(matrices(ranked(0), TOTAL)) == 12
    assert np.median([one.seed_sd for one in found]) == pytest.approx(SEED_SD, rel=0.25)
    assert np.median([one.reference_sd for one in found]) == pytest.approx(2**0.5 * IMAGE_SD, rel=0.1)
    sees = float(np.median([one.sees for one in found if one.sees]))
    chosen = [entry for _, entry in (swept(number, better_by=sees) for number in range(60)) if entry.gain.mean > sees / 3]
    assert len(chosen) >= 36
    assert sum(entry.verdict == "better" for entry in chosen) / len(chosen) == pytest.approx(0.8, abs=0.15)


def test_several_seeds_a_trial_say_themselves_how_much_they_spread(tmp_path: Path):
    spec, _ = a_study(tmp_path, trials=3, seeds=[0, 1], confirm={"best": 1})
    draw = np.random.default_rng(3)
    hard = draw.normal(0, REFERENCE_SD, 12)
    trials = [[training(f"t{slot}", seed, draw, hard) for seed in range(40)] for slot in range(3)]
    complete = [SimpleNamespace(values=[0.5]) for _ in trials]
    power = confirm_power(spec, complete, trials, 12)  # type: ignore[arg-type]
    assert power.own_seeds
    assert power.seed_sd == pytest.approx(SEED_SD, rel=0.2)
    assert "between seeds of one trial" in power.sentence()


def test_several_trials_are_confirmed_at_the_level_that_holm_asks_for(tmp_path: Path):
    """Twice as many that are confirmed, half the p that each has to have."""
    trials = ranked(0)
    complete = [SimpleNamespace(values=[float(one[0].table[TOTAL].mean())]) for one in trials]
    found = {}
    for best in (1, 3):
        (tmp_path / str(best)).mkdir()
        spec, _ = a_study(tmp_path / str(best), trials=3, confirm={"best": best})
        found[best] = confirm_power(spec, complete, trials[:6], 12)  # type: ignore[arg-type]
    one, three = found[1], found[3]
    assert one.sees == pytest.approx(sees_of_recipes(one.seed_sd, one.reference_sd, one.seeds, 12))
    assert three.sees == pytest.approx(sees_of_recipes(one.seed_sd, one.reference_sd, one.seeds, 12, level=0.05 / 3))


@pytest.mark.parametrize(
    ("references", "trials", "why"), [(5, 3, "5 references are fewer than 6"), (12, 1, "no two trials whose")]
)
def test_where_the_power_is_not_known_before_it_is_said_why(tmp_path: Path, references: int, trials: int, why: str):
    spec, _ = a_study(tmp_path, trials=3, confirm={"best": 1})
    measured = ranked(0)[:trials]
    power = confirm_power(spec, [SimpleNamespace(values=[0.5])] * trials, measured, references)  # type: ignore[list-item]
    assert power.sees is None
    assert power.sentence().startswith(
        f"How small a difference the confirmation with 3 seeds x {references} references finds is not known before: "
    )
    assert why in power.sentence()


def test_of_several_best_trials_each_verdict_is_one_of_so_many():
    _, entry = swept(0, better_by=0.1)
    assert entry.p is not None
    assert factors(dict.fromkeys(range(3), entry.p), 1.0) == pytest.approx(dict.fromkeys(range(3), 3.0))
    assert factors({0: entry.p}, 1.0) == {0: 1.0}
    assert factors({0: entry.p}, 6.0) == {0: 6.0}
