"""What a LoRA file is asked for: by the references of the setting, read as the file says, and measured without the trigger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fashion_ml.config import Evaluation
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.evaluation.instruments import load_encoder
from fashion_ml.evaluation.lora_file import FilePlan, evaluate_lora, plan_file
from fashion_ml.evaluation.measure import MetricSuite, make_metric_suite
from fashion_ml.metrics.fashion_clip import FashionClip

pytestmark = pytest.mark.usefixtures("blank_figures")

QUERY = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
FEW = {"num_inference_steps": 1, "images_per_reference": 1, "resamples": 20, "rotations": 0, "resolution": 64}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven references with a trigger in their captions, and a LoRA file of clip skip 2."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "references").mkdir()
    for number, garment in enumerate(sample_garments(7, seed=4)):
        render(garment).save(folder / "references" / f"{number}.png")
        (folder / "references" / f"{number}.txt").write_text(f"{garment.caption()}, zarya style", encoding="utf-8")
    draw = torch.Generator().manual_seed(0)
    up, down = torch.randn(128, 2, generator=draw), torch.randn(2, 128, generator=draw)
    tensors = {f"{QUERY}.lora_up.weight": up, f"{QUERY}.lora_down.weight": down, f"{QUERY}.alpha": torch.tensor(2.0)}
    save_file(tensors, folder / "skip.safetensors", {"ss_clip_skip": "2"})
    save_file(tensors, folder / "plain.safetensors")
    return folder


def planned(place: Path, name: str = "plain.safetensors", **settings: Any) -> FilePlan:
    given = {**FEW, "without": "fashion_clip", "extra_metrics": [], **settings}
    where = str(place / "references")
    return plan_file(place / name, base="embedded", references=where, training=None, folder=place / "out", settings=given)


def test_a_file_is_read_as_it_was_trained_by_the_half_of_the_references_that_is_asked_for(place: Path):
    search, held = planned(place, "skip.safetensors", references_part="search"), planned(place, references_part="held")
    assert search.plan.text.clip_skip == 2 != held.plan.text.clip_skip
    names = [{item.name for item in one.plan.references} for one in (search, held)]
    assert [len(some) for some in names] == [4, 3]
    assert names[0] | names[1] == {f"{number}.png" for number in range(7)}


def test_images_are_held_against_their_prompt_without_the_trigger_and_free_ones_are_made_for_their_own_prompts(
    place: Path, tmp_path: Path
):
    """Against the encoder itself on the images that were written; and free prompts of before leave nothing behind in the folder."""
    suites = {name: tmp_path / f"{name}.yaml" for name in ("a", "b")}
    for path, prompts in zip(suites.values(), (["a red dress", "a hat"], ["a blue coat", "striped trousers"]), strict=True):
        path.write_text(json.dumps({"without_trigger": prompts}), encoding="utf-8")

    def measured(folder: str, suite: str, **more: Any) -> Any:
        given = {**FEW, "max_references": 2, "extra_metrics": ["prompts"], "encoder": "embedded", "prompts": str(suites[suite])}
        where = {"references": place / "references", "folder": tmp_path / folder}
        return evaluate_lora(place / "plain.safetensors", **where, **{**given, **more})

    first, second, fresh = measured("one", "a"), measured("one", "b"), measured("two", "b")
    encoder = load_encoder("embedded")
    captions = [caption.removesuffix(", zarya style") for caption in first.pairs.captions]
    assert all(caption.endswith(", zarya style") for caption in first.pairs.captions)
    images = [Image.open(path) for path in first.generated["LoRA"].files()]
    expected = (encoder.embed_images(images) * encoder.embed_texts(captions)).sum(1)
    assert first.table["prompt_similarity"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert (
        first.free.table["base_similarity_to_references"].tolist()
        != second.free.table["base_similarity_to_references"].tolist()
    )
    assert second.free.table.equals(fresh.free.table)


class Reads(FashionClip):
    """Makes something of every text."""

    def embed_texts(self, texts: Any) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.rand(len(texts), 2), dim=1)


def test_the_score_that_fashion_clip_loss_comes_from_is_that_of_the_setting():
    def suite(score: str) -> MetricSuite:
        encoder = Reads("e", "w", torch.nn.Linear(1, 1), None, None)
        return make_metric_suite(Evaluation(extra_metrics=(), fashion_clip_score=score), encoder, "cpu")  # type: ignore[arg-type]

    assert [suite(score).measures("fashion_attribute_similarity") for score in ("cosine", "attributes")] == [False, True]
    assert [suite(score).reader is not None for score in ("cosine", "attributes")] == [False, True]
