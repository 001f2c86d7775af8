"""Recipes are compared over training seeds and references, from three trainings each on, and never less."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated, compare
from fashion_ml.evaluation.recipes import compare_recipes

RANK_4, RANK_8 = {"network.rank": "4", "data_digest": "d"}, {"network.rank": "8", "data_digest": "d"}


def training(
    run_id: str, seed: int, mean: float, recipe: dict[str, str] | None, *, own: float = 0.0, count: int = 12
) -> Evaluated:
    """An evaluation of `count` references x 2 images; `own` is what the training seed adds to every one."""
    hard = np.random.default_rng(0).normal(0, 0.05, count)
    draw = np.random.default_rng(1000 + seed + int(1e4 * mean)).normal(0, 0.01, (count, 2))
    rows = [
        {
            "reference": f"r{i:02d}",
            "seed": str(k),
            "weighted_total_loss": mean + own + hard[i] + draw[i, k],
            "color_loss": 0.5 + draw[i, k],
        }
        for i in range(count)
        for k in range(2)
    ]
    return Evaluated(run_id, run_id, {"fingerprint": "f"}, pd.DataFrame(rows), recipe, str(seed))


def side(
    mean: float, recipe: dict[str, str] | None, seeds: tuple[int, ...] = (1, 2, 3), *, spread: float = 0.0
) -> list[Evaluated]:
    return [training(f"{mean}-{seed}", seed, mean, recipe, own=spread * (seed - 2)) for seed in seeds]


def test_a_recipe_that_is_better_over_its_seeds_is_called_so():
    found = compare_recipes(side(0.5, RANK_4), side(0.4, RANK_8))
    assert found.claim == "this recipe"
    first, last = found.sentence.split("\n")
    assert first.startswith("This recipe has weighted_total_loss 0.")
    assert first.endswith(": better.")
    assert "With 3 and 3 training seeds x 12 references a difference in weighted_total_loss below 0." in last
    assert found.settings == {"network.rank": ("4", "8")}
    row = found.table.set_index("metric").loc["weighted_total_loss"]
    assert (row["verdict"], row["n"]) == ("better", 12)
    assert row["low"] > 0
    assert row["sees"] > 0
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["claim"] == "this recipe"
    assert tree["compared"]["weighted_total_loss"]["crossed"]["freedom"] > 0
    assert list(tree["first"].values()) == ["1", "2", "3"]


def test_what_the_training_seed_alone_could_do_is_no_difference_of_recipes_though_it_is_one_of_files():
    one, other = side(0.5, RANK_4, spread=0.05), side(0.47, RANK_8, (4, 5, 6), spread=0.0)
    other = [
        training(e.run_id, int(e.training_seed or 0), 0.47, RANK_8, own=0.05 * (int(e.training_seed or 0) - 5)) for e in other
    ]
    found = {entry.metric: entry for entry in compare_recipes(one, other).differences}
    assert found["weighted_total_loss"].verdict == "not shown"
    files = compare(one[1], other[1])
    assert {entry.metric: entry.verdict for entry in files.differences}["weighted_total_loss"] == "better"
    assert files.claim == "this file"


def test_fewer_than_three_trainings_say_nothing_of_a_recipe():
    with pytest.raises(InputError, match="the second side has 2 trainings, and of a recipe something can be said from 3"):
        compare_recipes(side(0.5, RANK_4), side(0.4, RANK_8, (1, 2)))


def test_a_side_of_two_recipes_or_of_one_seed_twice_is_refused_and_what_differs_is_named():
    mixed = [*side(0.5, RANK_4, (1, 2)), *side(0.4, RANK_8, (3,))]
    with pytest.raises(InputError, match=r"of the first side are not one recipe; network\.rank: 4, 8"):
        compare_recipes(mixed, side(0.4, RANK_8))
    with pytest.raises(InputError, match="of the second side both trained with seed 1"):
        compare_recipes(side(0.5, RANK_4), [*side(0.4, RANK_8, (1, 2)), training("again", 1, 0.41, RANK_8)])
    one = side(0.4, None, (1, 2))
    twice = Evaluated("copy", "copy", one[0].facts, one[0].table, None, None)
    with pytest.raises(InputError, match="have the same numbers: one training twice"):
        compare_recipes(side(0.5, None), [*one, twice])


def test_below_six_references_recipes_have_no_verdict_either():
    few = [[training(f"{mean}{seed}", seed, mean, None, count=5) for seed in (1, 2, 3)] for mean in (0.5, 0.4)]
    found = compare_recipes(*few)
    assert "no verdict: 5 references are fewer than 6" in found.sentence
    assert found.differences[0].gain.ends is None


def test_one_recipe_on_both_sides_is_said_to_be_chance_and_unknown_settings_are_said():
    found = compare_recipes(side(0.5, RANK_4), side(0.3, RANK_4, (4, 5, 6)))
    assert "Both sides are one recipe: what differs is chance" in found.noted
    assert {entry.verdict for entry in found.differences} == {""}
    assert found.sentence.split("\n")[0].endswith(": no verdict: both sides are one recipe.")
    assert any("taken as given" in line for line in compare_recipes(side(0.5, None), side(0.4, None)).noted)


def test_lists_of_folders_are_recipes_without_mlflow_and_one_beside_a_list_is_refused(tmp_path: Path):
    folders: list[list[str | Path]] = []
    for name, evaluations in (("a", side(0.5, None)), ("b", side(0.4, None, (4, 5, 6)))):
        folders.append([])
        for one in evaluations:
            folder = tmp_path / name / one.run_id
            folder.mkdir(parents=True)
            one.table.to_csv(folder / "per_image.csv", index=False)
            (folder / "fingerprint.json").write_text(json.dumps(one.facts))
            folders[-1].append(folder)
    assert compare(folders[0], folders[1]).sentence.split("\n")[0].endswith(": better.")
    with pytest.raises(InputError, match="give two lists, or two evaluations"):
        compare(folders[0], folders[1][0])  # type: ignore[call-overload]


def test_an_encoder_that_cannot_read_the_pictures_of_one_training_gives_recipes_no_verdict():
    one, other = side(0.5, RANK_4), side(0.4, RANK_8)
    other[2] = replace(other[2], unread="the encoder cannot read these pictures: noise is nearer")
    found = {entry.metric: entry for entry in compare_recipes(one, other).differences}
    assert found["weighted_total_loss"].why.startswith("the encoder cannot read these pictures")
    assert found["color_loss"].verdict == "not shown"


def test_a_run_on_both_sides_and_resamples_are_refused():
    one, other = side(0.5, RANK_4), side(0.4, RANK_8)
    with pytest.raises(InputError, match=r"compare: 0\.5-1 is on both sides; give different runs"):
        compare_recipes(one, one)
    with pytest.raises(InputError, match="resamples: decides nothing where recipes are compared"):
        compare(one, other, resamples=100)


def test_seeds_that_learn_nothing_are_compared_and_taken_for_no_copies_of_one_another():
    """A rate of almost 0: the images of all seeds are equal."""
    still = [training(f"s{seed}", 1, 0.5, RANK_4) for seed in (1, 2, 3)]
    still = [Evaluated(one.run_id, one.run_id, one.facts, one.table, RANK_4, str(n)) for n, one in enumerate(still)]
    moved = [Evaluated(one.run_id + "b", "", one.facts, one.table, RANK_8, one.training_seed) for one in still]
    found = compare_recipes(still, moved)
    total = {entry.metric: entry for entry in found.differences}["weighted_total_loss"]
    assert (total.gain.mean, total.verdict, total.why) == (0, "", "nothing varies")
    assert ": ." not in found.sentence
