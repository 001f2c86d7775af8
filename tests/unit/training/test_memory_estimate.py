"""Counted by hand for a small network, and against what torch measured on a GPU for the structure of Stable Diffusion 1.5."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from fashion_ml.config import Optimizer, load_config
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.lora import LoraParameters
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.models.text_encoding import Tokens
from fashion_ml.training.lora_memory import lora_memory
from fashion_ml.training.memory_estimate import GIB, AsOnCuda, MemoryEstimate, checkpointed, peak_of_steps
from fashion_ml.training.optimizers import make_optimizer, state_bytes
from fashion_ml.training.torch_private import LiveBytes

LIBRARIES = 40 << 20


def test_a_storage_counts_once_while_anything_of_it_lives():
    with LiveBytes() as memory:
        first = torch.zeros(100)  # 400 bytes take a block of 512
        assert memory.live == 512
        view = first.view(10, 10)[3]
        assert memory.live == 512
        second = torch.zeros(1000)  # 4000 bytes: 8 blocks
        assert memory.live == 512 + 4096
        del first
        assert memory.live == 512 + 4096
        del view, second
    assert (memory.live, memory.peak) == (0, 4608)


def test_the_peak_of_a_linear_layer_is_what_one_counts_by_hand():
    """Bytes: W 256 x 256 x 4, as much again for its gradient and each of AdamW's two averages; x and y 128 x 256 x 4; a block of 512 for the
    step's number, the loss and the loss's gradient."""
    layer = torch.nn.Linear(256, 256, bias=False)
    w, x = 256 * 256 * 4, 128 * 256 * 4

    def make(new: dict[int, Any]) -> Callable[[], None]:
        (weight,) = new.values()
        optimizer, given = torch.optim.AdamW([weight], fused=True), torch.empty(128, 256)

        def step() -> None:
            y = functional.linear(given, weight)
            loss = y.sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    found = peak_of_steps([layer], make, autocast=False, beside=1000)
    assert found.weights == w + 1000
    assert found.states == 2 * w + 512
    assert found.peak == w + 2 * w + 512 + x + x + 512 + w + 512 + 1000 + LIBRARIES


def test_attention_never_holds_the_matrix_of_all_pairs_as_on_a_gpu():
    query = torch.randn(1, 2, 1024, 8, requires_grad=True)
    with LiveBytes() as memory, AsOnCuda(False):
        functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert memory.peak < 1024 * 1024 * 4


def test_under_autocast_norms_are_in_float32_as_cuda_has_them():
    x, weight = torch.randn(2, 8, dtype=torch.bfloat16), torch.ones(8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), AsOnCuda(True):
        assert functional.layer_norm(x, (8,), weight).dtype == torch.float32
        assert functional.group_norm(x, 2, weight).dtype == torch.float32
        assert functional.linear(x, torch.ones(3, 8)).dtype == torch.bfloat16


def test_what_checkpoints_compute_again_is_in_the_same_precision():
    x, weight = torch.randn(2, 8, requires_grad=True), torch.ones(8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), AsOnCuda(True):
        y = checkpointed(True)(lambda one: functional.layer_norm(one.bfloat16(), (8,), weight).square(), x)
    y.sum().backward()  # torch refuses a recomputation of other types
    assert x.grad is not None


def estimate(
    batch: int,
    precision: str,
    needed: Collection[str] = (),
    optimizer: str = "adamw",
    word: int = 0,
    text: bool = False,
    shape: Mapping[str, Any] = MappingProxyType({}),
    layers: int = 12,
    **training: Any,
) -> MemoryEstimate:
    """For SD 1.5's structure at 512 px, rank 16 on attention, and on the text encoder with `text`; a new word of so many vectors.

    `shape` changes the UNet's configuration, `layers` the text encoder's."""
    config = load_config(
        {
            "data": {"train_data_dir": "embedded"},
            "network": {"rank": 16, "train_text_encoder": text},
            "embedding": {"token": "zarya", "init_text": "dress", "vectors": word} if word else {},
            "optimizer": {"optimizer_type": optimizer},
            "training": {"mixed_precision": precision, "train_batch_size": batch, **training},
            "evaluation": {"enabled": False},
        }
    )
    parts = {
        part: empty_model(part, json.loads((CONFIGS / "sd1" / part / "config.json").read_text("utf-8")) | of_part, "base")
        for part, of_part in (("unet", shape), ("text_encoder", {"num_hidden_layers": layers}), ("vae", {}))
    }
    reads = Tokens(torch.zeros(batch, 1, 77, dtype=torch.long)) if text or word else torch.zeros(batch, 77, 768)
    return lora_memory(config, SimpleNamespace(**parts), (batch, 4, 64, 64), reads, needed)


MEASURED = {
    (1, "bf16", False): 2.51,
    (8, "bf16", False): 7.92,
    (1, "no", False): 4.89,
}
"""`torch.cuda.max_memory_allocated` of real steps on one H100, GiB: batch, precision, gradient checkpointing; bf16 without autocast, and
float32 with TF32 (`training.tf32`): without it cuDNN's workspaces, which no estimate counts, took 18.7 GiB more on an H200."""


@pytest.mark.parametrize(("batch", "precision", "checkpointing"), [(1, "bf16", False), (8, "bf16", False), (1, "no", False)])
def test_the_estimate_is_within_a_twentieth_of_what_a_gpu_measured(batch: int, precision: str, checkpointing: bool):
    found = estimate(batch, precision, gradient_checkpointing=checkpointing).peak / GIB
    assert found == pytest.approx(MEASURED[batch, precision, checkpointing], rel=0.05)


def test_what_stays_on_the_gpu_and_the_optimisers_own_states_are_counted():
    """SD 1.5: the text encoder has 123,060,480 weights and the VAE 83,653,863, in float32; the LoRA of rank 16 3,188,736 in 256 tensors."""
    plain = estimate(1, "bf16", gradient_checkpointing=True)
    assert plain.states == pytest.approx(2 * 4 * 3_188_736, rel=0.01)
    everything = estimate(1, "bf16", ["text_encoder", "vae"], "prodigy", gradient_checkpointing=True)
    assert everything.states - plain.states == 2 * 4 * 3_188_736
    # a float32 image of 512 px and its 128 channels of features, of which several live at once, beside weights and states
    features = 128 * 512 * 512 * 4
    encoding = everything.peak - everything.weights - everything.states
    assert 3 * features < encoding < 12 * features
    assert everything.weights - plain.weights == 4 * (123_060_480 + 83_653_863)


def test_a_words_vectors_are_counted_beside_the_text_encoders_lora():
    """Two states of float32 for each of 3 x 768 numbers, whatever the models: here with one block, and one layer in the text encoder."""
    small = {"block_out_channels": [32], "layers_per_block": 1}
    small |= {"down_block_types": ["CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D"]}
    one, other = (estimate(1, "bf16", word=word, text=True, shape=small, layers=1) for word in (0, 3))
    assert 0 <= other.states - one.states - 2 * 4 * 3 * 768 <= 512  # and the counter of its steps, in a block of its own
    alone = estimate(1, "bf16", word=3, shape=small, layers=1)
    assert alone.states < one.states


@pytest.mark.parametrize("kind", ["adamw", "adafactor", "lion", "came", "torch.optim.RAdam"])
def test_the_bytes_of_states_are_those_that_the_optimiser_really_makes(kind: str):
    config = load_config({"data": {"train_data_dir": "embedded"}, "optimizer": {"optimizer_type": kind}})
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((64, 80), (80, 64), (8, 16, 3, 3), (24,))]
    optimizer = make_optimizer(config.optimizer, LoraParameters(weights, []), torch.device("cpu"))
    sum(one.square().sum() for one in weights).backward()
    optimizer.step()
    made = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor) and one.dim()]
    assert state_bytes(config.optimizer, [one.shape for one in weights]) == sum(
        one.numel() * 4 for one in made if one.numel() > 1
    )


def test_states_of_optimisers_that_need_a_gpu_are_counted_by_hand():
    """8 bits: 64 x 64 numbers in two bytes and a float32 for each of 2 x 16 blocks; 4,095 numbers stay in float32. Prodigy: four of each."""
    assert state_bytes(Optimizer(optimizer_type="adamw8bit"), [(64, 64)]) == 2 * 4096 + 2 * 16 * 4
    assert state_bytes(Optimizer(optimizer_type="adamw8bit"), [(4095,)]) == 2 * 4 * 4095
    assert state_bytes(Optimizer(optimizer_type="prodigy"), [(64, 64)]) == 4 * 4 * 4096
