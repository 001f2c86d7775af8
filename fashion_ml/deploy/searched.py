"""Whether references or image seeds are fresh: no search has chosen settings, checkpoints or strengths by them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.evaluation.artifacts import FACTS
from fashion_ml.evaluation.fingerprint import REFERENCE_FILES

_TRIALS = "tags.trial LIKE '%' and tags.`eval.run_id` LIKE '%'"
_CHOICES = "tags.kind = 'choice' and tags.eval_fingerprint LIKE '%'"
_PAGE = 1000


def known_to_a_search(client: Any, facts: Mapping[str, Any]) -> str:
    """Why image seeds or references are not fresh: a trial of a sweep, or `evaluate choose`, was measured by them; empty where none was.

    One reference that was searched by is enough: what was chosen by half of a folder is not new to the whole of it. Searches of the other
    trainer do not count.
    """
    for name, searched in _searches(client):
        if what := shared(facts, searched):
            return f"{name} has searched by {what}."
    return ""


def shared(facts: Mapping[str, Any], searched: Mapping[str, Any]) -> str:
    """What an evaluation has in common with what a search was measured by, and what to give instead; empty where nothing is."""
    gan = "latents_sha256" in facts
    if gan != ("latents_sha256" in searched):
        return ""
    own, theirs = _pictures(facts), _pictures(searched)
    what = "contents" if gan else "references"
    instead = "" if gan else ": give others (--references)"
    same = "references_sha256" in facts and facts["references_sha256"] == searched.get("references_sha256")
    if same or (own and own <= theirs):
        return f"these {what}, so of recipes nothing is said{instead}"
    if both := own & theirs:
        return f"{len(both)} of these {len(own)} {what}, so of recipes nothing is said{instead}"
    if facts.get("seed") == searched.get("seed"):
        return "these image seeds, so of recipes nothing is said: give another (--seed)"
    return ""


def _pictures(facts: Mapping[str, Any]) -> set[str]:
    """What identifies each reference, of a StarGAN each held-out latent; empty for an evaluation that noted no single ones."""
    if "latents_sha256" in facts:
        return {f"{facts['latents_sha256']} {name}" for name in facts.get("held_out", ())}
    return set(facts.get(REFERENCE_FILES, ()))


def _searches(client: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What each search was measured by, once for each fingerprint, and what to call it."""
    seen = set[tuple[str, str]]()
    for run in _found(client, _TRIALS):
        tags = run.data.tags
        name, fingerprint = f"The sweep {tags.get('sweep', '')}", tags.get("eval.fingerprint", tags["eval.run_id"])
        if (name, fingerprint) not in seen and (facts := _facts_of(client, tags["eval.run_id"])):
            seen.add((name, fingerprint))
            yield name, facts
    for run in _found(client, _CHOICES):
        name, fingerprint = "evaluate choose", run.data.tags["eval_fingerprint"]
        if (name, fingerprint) not in seen and (facts := _facts_of(client, run.info.run_id)):
            seen.add((name, fingerprint))
            yield f"{name} (run {run.info.run_id[:8]})", facts


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
            return dict(json.loads(download(client, run_id, FACTS, Path(temporary)).read_text(encoding="utf-8")))
        except InputError:
            return {}
