"""Free prompts: the suites that come with the package, a user's own, and leak, look and editability by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.embedded.collection import write_collection
from fashion_ml.errors import InputError
from fashion_ml.evaluation.free_prompts import BASE, MAIN, FreePrompts, measure_free, plan_free
from fashion_ml.evaluation.generate import ImageFolder
from fashion_ml.evaluation.measure import MetricSuite, make_metric_suite
from fashion_ml.evaluation.prompts import check_prompts, read_prompts
from fashion_ml.evaluation.trigger import Wording
from fashion_ml.metrics.fashion_clip import FashionClip

EAST, NORTH, BETWEEN = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]
TEXTS = {"a red dress": EAST, "a hat on a beach": NORTH}
OURS = """
without_trigger: [a plain dress, a plain hat]
with_trigger: ["a red dress, {}", "a hat on a beach, {}"]
"""


class Encoder(FashionClip):
    """Knows two texts."""

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([TEXTS[text] for text in texts])


def suite() -> MetricSuite:
    encoder = Encoder("e", "w", torch.nn.Linear(1, 1), None, None)
    return make_metric_suite(Evaluation(extra_metrics=()), encoder, "cpu")


def planned(path: Path, trigger: str = "zarya", **settings: object) -> tuple[Wording, object]:
    path.write_text(OURS, encoding="utf-8")
    wording = Wording(trigger, [], bool(settings.get("token_free_base")))
    checked = Evaluation(prompts=str(path), **settings)  # type: ignore[arg-type]
    return wording, plan_free(checked, wording, [(64, 64), (64, 32), (64, 64)], suite(), embedded=True)


def test_the_packages_suites_have_eight_prompts_of_each_kind_and_the_embedded_ones_are_new_to_its_collection(tmp_path: Path):
    for embedded in (True, False):
        found = read_prompts("default", embedded=embedded)
        assert found is not None
        assert (len(set(found.without_trigger)), len(set(found.with_trigger))) == (8, 8)
        assert len(found.prompts("zarya style")) == 16
        assert all(
            prompt.endswith(", zarya style") for group, prompt in found.prompts("zarya style") if group == "with_trigger"
        )
        assert not any("{}" in text for text in found.texts())
        if embedded:
            trained = {
                path.read_text(encoding="utf-8").split(",")[0]
                for path in write_collection(tmp_path / "c").glob("train/*/*.txt")
            }
            new = {" ".join(word for word in text.split() if word != "plain") for text in found.texts()}
            assert not trained & new
    assert read_prompts("none", embedded=True) is None


def test_every_prompt_has_two_images_at_the_commonest_size_and_the_base_may_go_without_the_trigger(tmp_path: Path):
    _, plan = planned(tmp_path / "ours.yaml", token_free_base=True)
    assert [job.name for job in plan.jobs[:3]] == ["without_trigger_01_0", "without_trigger_01_1", "without_trigger_02_0"]
    assert [job.prompt for job in plan.jobs[::2]] == [
        "a plain dress",
        "a plain hat",
        "a red dress, zarya",
        "a hat on a beach, zarya",
    ]
    assert [job.prompt for job in plan.base_jobs[::2]][2:] == ["a red dress", "a hat on a beach"]
    assert {job.size for job in plan.jobs} == {(64, 64)}
    assert len({job.seed for job in plan.jobs}) == 8
    assert [job.seed for job in plan.jobs] == [job.seed for job in plan.base_jobs]
    assert plan.facts()["prompts"][2] == "a red dress, zarya"
    _, without = planned(tmp_path / "ours.yaml", trigger="")
    assert [group for group, _ in without.prompts] == ["without_trigger"] * 2


def test_leak_look_and_editability_by_hand(tmp_path: Path):
    """The references are (1, 0) and (0, 1), so an image (1, 0) is at 0.5 on the mean, (0.6, 0.8) at 0.7.

    Leak: of the dress both LoRA images are (0.6, 0.8), the base's (1, 0): +0.2; of the hat they are equal: 0; mean 0.1. Look: the same change
    for one of two seeds of the dress: +0.1, and 0: mean 0.05. Editability: the dress is (0.6, 0.8), nearer to the hat's text, and (1, 0): 1 of
    2; both hats are right: 0.75. The base has all right, so the gain is -0.25; chance among two texts is 0.5."""
    _, plan = planned(tmp_path / "ours.yaml")
    base = [EAST, EAST, NORTH, NORTH, EAST, EAST, NORTH, NORTH]
    lora = [BETWEEN, BETWEEN, NORTH, NORTH, BETWEEN, EAST, NORTH, NORTH]
    embeddings = {MAIN: torch.tensor(lora), BASE: torch.tensor(base)}
    found = measure_free(plan, embeddings, torch.tensor([EAST, NORTH]), suite(), {}, 50)
    told = found.headline()
    assert told["leak"] == pytest.approx(0.1)
    assert told["look"] == pytest.approx(0.05)
    assert (found.leak.n, found.look.n) == (2, 2)  # prompts, not images: seeds are averaged first
    assert [told[f"{side}editability"] for side in ("", "base_", "gain_")] == pytest.approx([0.75, 1, -0.25])
    assert told["editability_chance"] == 0.5
    assert found.table["base_similarity_to_references"].tolist() == pytest.approx([0.5] * 8)
    assert found.table["editability"].isna().tolist() == [True] * 4 + [False] * 4
    assert found.to_dict()["images"] == 8
    assert found.to_dict()["leak"]["mean"] == pytest.approx(0.1)
    assert [name for name, *_ in found.rows()] == ["leak", "look", "editability"]
    _draws(found, plan, tmp_path)


def _draws(found: FreePrompts, plan: object, place: Path) -> None:
    from dataclasses import replace

    kept = {who: ImageFolder(place / who, who) for who in (MAIN, BASE)}
    for folder in kept.values():
        for job in plan.jobs:  # type: ignore[attr-defined]
            folder.save(job, Image.new("RGB", job.size, "red"))
    replace(found, generated=kept).draw(place / "grid.png")
    with Image.open(place / "grid.png") as picture:
        assert picture.width > 300


def test_without_an_encoder_or_a_trigger_what_is_not_made_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "fashion_ml")
    bare = make_metric_suite(Evaluation(without=("fashion_clip",)), None, "cpu")
    wording = Wording("", [])
    assert plan_free(Evaluation(prompts="default"), wording, [(64, 64)], bare, embedded=True) is None
    assert "none are made" in caplog.messages[-1]
    found = plan_free(Evaluation(prompts="default"), wording, [(64, 64)], suite(), embedded=True)
    assert found is not None
    assert len(found.jobs) == 16
    assert "no look and no editability" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a]", "must have without_trigger, with_trigger or both"),
        ("other: [a, b]", "must have without_trigger, with_trigger or both"),
        ("without_trigger: [a]", "without_trigger: give a list of at least two different prompts"),
        ("without_trigger: [a, a]", "without_trigger: give a list of at least two different prompts"),
        ("without_trigger: [a, 'b {}']", r"without_trigger: 'b \{\}' holds \{\}"),
        ("with_trigger: [a, 'b {}']", r"with_trigger: 'a' must hold \{\} once"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_by_what_is_wrong(text: str, why: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"^evaluation\.prompts: .*bad\.yaml'.*{why}"):
        check_prompts(Evaluation(prompts=str(tmp_path / "bad.yaml")), ["a", "b"], [], embedded=True)
    with pytest.raises(InputError, match=r"^evaluation\.prompts: .*none\.yaml' cannot be read"):
        read_prompts(str(tmp_path / "none.yaml"), embedded=True)


def test_a_token_free_base_without_a_trigger_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"^evaluation\.token_free_base: no trigger is known"):
        check_prompts(Evaluation(token_free_base=True), ["a dress", "a hat"], [], embedded=True)
