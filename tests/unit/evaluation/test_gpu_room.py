"""Who is in a GPU's memory while an evaluation reads prompts, generates, decodes and measures; the moves are noted and not made."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fashion_ml.config import Evaluation
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.evaluation import read_prompts
from fashion_ml.evaluation.generate import Job, generate
from fashion_ml.evaluation.measure import make_metric_suite, measure_arm
from fashion_ml.metrics.fashion_clip import FashionClip, embedded_source, load_fashion_clip
from fashion_ml.models.half_precision import lower_pipeline
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import TextSettings
from fashion_ml.models.vae import keep_decoder

JOBS = [Job(number, f"j{number}", f"a red dress {number}", 100 + number, (64, 64)) for number in range(5)]
SETTINGS = Evaluation(num_inference_steps=1, batch_size=2, negative_prompt="blurred")
CPU = torch.device("cpu")


class Gpu:
    """A GPU's memory: which models were sent there, and who was there when one of them computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.there, self.seen, self._names = set[str](), dict[str, set[frozenset[str]]](), dict[int, str]()
        plain = torch.nn.Module.to

        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            places = [one for one in (*args, *kwargs.values()) if isinstance(one, (str, torch.device))]
            names = {self._names[id(part)] for part in module.modules() if id(part) in self._names}
            for place in places:
                # where the UNet says that it is, on the CPU, stands for the GPU
                leaves = place == "cpu" and isinstance(place, str)
                self.there = self.there - names if leaves else self.there | names
            others = [one for one in args if isinstance(one, torch.dtype)]
            return plain(module, *others) if others else module

        monkeypatch.setattr(torch.nn.Module, "to", to)
        monkeypatch.setattr(read_prompts, "is_on_gpu", lambda model: self._names.get(id(model)) in self.there)
        monkeypatch.setattr(FashionClip, "device", CPU)

    def watch(self, name: str, model: Any, call: str) -> None:
        """Note who is there whenever `call` of a model is called."""
        self._names[id(model)], plain = name, getattr(model, call)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.seen.setdefault(name, set()).add(frozenset(self.there))
            return plain(*args, **kwargs)

        setattr(model, call, noted)


def bytes_of(pictures: Any) -> dict[int, bytes]:
    return {index: one.tobytes() for batch, part in pictures for index, one in zip(batch, part, strict=True)}


@pytest.mark.parametrize(("dtype", "beside_decoding"), [(torch.float16, set()), (torch.bfloat16, {"encoder"})])
def test_the_text_encoder_is_there_to_read_and_the_encoder_is_not_while_a_float32_vae_decodes(
    dtype: torch.dtype, beside_decoding: set[str], monkeypatch: pytest.MonkeyPatch
):
    """Five images in three batches: prompts of two batches are read at once, and the images are those of a pipeline that reads for itself."""
    monkeypatch.setattr(read_prompts, "AHEAD", 2)
    plain = load_pipeline("embedded")
    lower_pipeline(plain, CPU, dtype)
    expected = bytes_of(generate(plain, JOBS, SETTINGS))

    pipeline = load_pipeline("embedded")
    keep_decoder(pipeline.vae)
    encoder = load_fashion_clip("embedded", embedded_source(EMBEDDED_DIR), "cuda")
    gpu = Gpu(monkeypatch)
    for name, model, call in (
        ("text", pipeline.text_encoder, "forward"),
        ("unet", pipeline.unet, "forward"),
        ("vae", pipeline.vae, "decode"),
        ("encoder", encoder.model.visual, "forward"),
        ("reader", encoder.model.transformer, "forward"),
    ):
        gpu.watch(name, model, call)
    lower_pipeline(pipeline, "cuda", dtype)
    suite = make_metric_suite(Evaluation(), encoder, "cpu")
    references = suite.look_at([next(iter(part)) for _, part in generate(plain, JOBS[:1], SETTINGS)])
    made: list[Any] = []

    def batches() -> Any:
        for batch in generate(pipeline, JOBS, SETTINGS):
            made.append(batch)
            yield batch

    measure_arm(batches(), references, [0] * len(JOBS), suite)
    assert bytes_of(made) == expected
    assert {frozenset(one - {"encoder"}) for one in gpu.seen["text"]} == {frozenset({"text", "unet", "vae"})}
    assert {frozenset(one - {"encoder"}) for one in gpu.seen["unet"]} == {frozenset({"unet", "vae"})}
    assert {frozenset(one - beside_decoding) for one in gpu.seen["vae"]} == {frozenset({"unet", "vae"})}
    assert all("encoder" in one and "reader" not in one for one in gpu.seen["encoder"])
    encoder.embed_texts(["a red dress"])
    assert all("reader" in one for one in gpu.seen["reader"])
    assert "reader" not in gpu.there
    suite.leave_gpu()
    assert "encoder" not in gpu.there


def test_a_text_encoder_that_trains_stays_where_it_is(monkeypatch: pytest.MonkeyPatch):
    """A recorded step knows its weights by their addresses."""
    pipeline = load_pipeline("embedded")
    gpu = Gpu(monkeypatch)
    for name in ("text_encoder", "unet"):
        gpu.watch(name, getattr(pipeline, name), "forward")
    lower_pipeline(pipeline, "cuda", torch.float32)
    next(pipeline.text_encoder.parameters()).requires_grad_(True)
    before = bytes_of(generate(pipeline, JOBS[:2], SETTINGS, text=TextSettings()))
    assert gpu.seen["unet"] == {frozenset({"text_encoder", "unet"})}
    pipeline.text_encoder.requires_grad_(False)
    gpu.seen.clear()
    assert bytes_of(generate(pipeline, JOBS[:2], SETTINGS, text=TextSettings())) == before
    assert gpu.seen["unet"] == {frozenset({"unet"})}
