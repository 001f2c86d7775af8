"""Whether references or image seeds are fresh: no search has chosen settings, checkpoints or strengths by them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashion_ml.config import EXPERIMENTS, LoraExperiment, flat, short_names
from fashion_ml.config.recipe import LENGTHS, recipe_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.artifacts import FACTS
from fashion_ml.evaluation.fingerprint import REFERENCE_FILES
from fashion_ml.runs.settled_precision import TRAINED_IN, precision_here
from fashion_ml.runtime.json_file import read_mapping
from fashion_ml.runtime.language import tr

_TRIALS = "tags.trial LIKE '%' and tags.`eval.run_id` LIKE '%'"
_CHOICES = "tags.kind = 'choice' and tags.eval_fingerprint LIKE '%'"
_PAGE = 1000
_SEARCHED = "searched."
_PLACES = {
    "lora": ("evaluation.references", "data.train_data_dir"),
    "stargan": ("data.latents_dir",),
}
"""Settings that say where references lie, the first that is given; of a StarGAN they are its latents."""
_HALVES = {"lora": "evaluation.references_part", "stargan": "evaluation.contents_part"}


def known_to_a_search(client: Any, facts: Mapping[str, Any], training: Any = None) -> str:
    """Why image seeds or references are not fresh: a trial of a sweep, or `evaluate choose`, was measured by them; empty where none was.

    One reference that was searched by is enough: what was chosen by half of a folder is not new to the whole of it. Searches of the other
    trainer do not count. With a `training` only searches count that have tried its recipe: what was never chosen by these references is not
    flattered by them.
    """
    known: dict[tuple[str, str], str] = {}
    for name, fingerprint, run, source in _searches(client):
        if training is not None and not _has_tried(client, run, training.data):
            continue
        key = (name, fingerprint)
        if key not in known:
            known[key] = shared(facts, _facts_of(client, source))
        if what := known[key]:
            tried = tr("has searched") if training is None else tr("has tried this recipe")
            return tr("{name} {tried} by {what}.", name=name, tried=tried, what=what)
    return ""


def searched_before(client: Any, trainer: str, experiments: Mapping[str, Any]) -> str:
    """What of a suite's recipes a search has tried by references of the same place, as a line; empty where none has.

    Before anything is trained, so by settings: a copy of the references elsewhere is found out by `register` alone.
    """
    flats = {name: _as_trained(one) for name, one in experiments.items()}
    found: dict[str, str] = {}
    for search, _, run, _ in _searches(client):
        trial = _tried_settings(client, run)
        if trial is None or trial.tags.get("kind") != f"train_{trainer}":
            continue
        for name, settings in flats.items():
            if (
                name not in found
                and _same_place(trainer, settings, trial.params)
                and _has_tried(client, run, _Settings(settings))
            ):
                found[name] = search
    if not found:
        return ""
    recipes = ", ".join(found)
    others = "evaluation.references" if trainer == "lora" else "data.latents_dir"
    return tr(
        "{names} has tried {recipes} by the references of this suite, so register --suite will make no "
        "champion of what it tried; give other ones by settings: {others}",
        names=", ".join(dict.fromkeys(found.values())),
        recipes=recipes,
        others=others,
    )


def _as_trained(experiment: Any) -> dict[str, str]:
    """An experiment's settings as a run of it here has them: the precision that auto is on this machine."""
    found = {key: str(value) for key, value in flat(experiment).items()}
    return {**found, TRAINED_IN: precision_here(TRAINED_IN, found[TRAINED_IN], type(experiment))}


@dataclass(frozen=True)
class _Settings:
    """An experiment that was not trained yet, as far as recipes are compared by it."""

    params: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)


def _same_place(trainer: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether references lie in one place and are not its two halves."""
    places = [
        next((text for key in _PLACES[trainer] if (text := each.get(key, "None")) != "None"), "") for each in (one, other)
    ]
    halves = {each.get(_HALVES[trainer], "None") for each in (one, other)}
    return places[0] == places[1] and halves != {"search", "held"}


def _tried_settings(client: Any, run: Any) -> Any:
    """Params and tags of the training that a search has tried; None where it is gone."""
    if run.data.tags.get("kind") != "choice":
        return run.data
    training = run.data.tags.get("best_measured_run", "")
    try:
        return client.get_run(training).data if training else None
    except Exception:  # deleted for good
        return None


def _has_tried(client: Any, run: Any, training: Any) -> bool:
    """Whether a search has tried a training's recipe: a trial is equal in all that its sweep searched; `evaluate choose` was of the same
    recipe, however long trained, for the length is what it chooses. True where that cannot be known."""
    tried = _tried_settings(client, run)
    if tried is None:
        return True
    kind = LoraExperiment if tried.tags.get("kind") == "train_lora" else EXPERIMENTS["stargan"]
    if run.data.tags.get("kind") == "choice":
        sides = [recipe_of(kind, one.params, "same data") for one in (tried, training)]
        return all(sides[0].get(key) == sides[1].get(key) for key in {*sides[0], *sides[1]} - set(LENGTHS))
    names = short_names(kind)
    searched = [key.removeprefix(_SEARCHED) for key in tried.tags if key.startswith(_SEARCHED)]
    paths = [names.get(name, name) for name in searched]
    return all(tried.params.get(path) == training.params.get(path) for path in paths)


def shared(facts: Mapping[str, Any], searched: Mapping[str, Any]) -> str:
    """What an evaluation has in common with what a search was measured by, and what to give instead; empty where nothing is."""
    gan = "latents_sha256" in facts
    if gan != ("latents_sha256" in searched):
        return ""
    own, theirs = _pictures(facts), _pictures(searched)
    what = "contents" if gan else "references"
    instead = "" if gan else tr(": give others (--references)")
    same = "references_sha256" in facts and facts["references_sha256"] == searched.get("references_sha256")
    if same or (own and own <= theirs):
        return tr("these {what}, so of recipes nothing is said{instead}", what=what, instead=instead)
    if both := own & theirs:
        return tr(
            "{count} of these {count_2} {what}, so of recipes nothing is said{instead}",
            count=len(both),
            count_2=len(own),
            what=what,
            instead=instead,
        )
    if own and theirs and not gan:
        return ""  # other references, so other prompts and other noise: each draws its own by the seed and its name
    if facts.get("seed") == searched.get("seed"):
        return tr("these image seeds, so of recipes nothing is said: give another (--seed)")
    return ""


def _pictures(facts: Mapping[str, Any]) -> set[str]:
    """What identifies each reference, of a StarGAN each held-out latent; empty for an evaluation that noted no single ones."""
    if "latents_sha256" in facts:
        return {f"{facts['latents_sha256']} {name}" for name in facts.get("held_out", ())}
    return set(facts.get(REFERENCE_FILES, ()))


def _searches(client: Any) -> Iterator[tuple[str, str, Any, str]]:
    """What to call each search, the fingerprint that it was measured by, its run (a trial's training, or the choice), and the run that has
    the facts."""
    for run in _found(client, _TRIALS):
        tags = run.data.tags
        yield (
            tr("The sweep {name}", name=tags.get("sweep", "")),
            tags.get("eval.fingerprint", tags["eval.run_id"]),
            run,
            tags["eval.run_id"],
        )
    for run in _found(client, _CHOICES):
        yield f"evaluate choose (run {run.info.run_id[:8]})", run.data.tags["eval_fingerprint"], run, run.info.run_id


def _found(client: Any, query: str) -> Iterator[Any]:
    experiments, token = [one.experiment_id for one in client.search_experiments()], None
    while experiments:
        page = client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _facts_of(client: Any, run_id: str) -> Mapping[str, Any]:
    """What a run was measured by; empty where its files are lost."""
    from fashion_ml.tracking.queries import download

    with tempfile.TemporaryDirectory() as temporary:
        try:
            return read_mapping(download(client, run_id, FACTS, Path(temporary)), "run_id", tr("it counts as lost"))
        except InputError:
            return {}
