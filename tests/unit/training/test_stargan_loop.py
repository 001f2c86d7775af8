"""The StarGAN loop: exact epochs, exact resume, one process or several."""

from __future__ import annotations

import copy
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from fashion_ml.config import StarganExperiment, checked
from fashion_ml.data.latents import read_latents
from fashion_ml.data.stargan_batches import GanBatch, GanInputs
from fashion_ml.errors import InputError
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.reports.stargan_log import contributions, read_epochs, reading_help
from fashion_ml.training.stargan_loop import GanHooks, TrainedStargan, train_stargan
from fashion_ml.training.stargan_step import LossWeights
from tests.unit.training import plain_stargan as plain

SMALL = {
    "network": {"base_dim": 8, "n_res_blocks": 2, "d_layers": 1, "style_dim": 4, "mapping_hidden_dim": 8},
    "optimizer": {"learning_rate": 1e-3, "lr_mapping": 1e-4},
    "loss": {"r1_interval": 3, "ds_decay_epochs": 2, "w_r1": 0.5},
    "training": {"epochs": 3, "batch_size": 4, "latent_scale": 0.5, "ema_decay": 0.9},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, draw = tmp_path_factory.mktemp("latents"), torch.Generator().manual_seed(0)
    for number, domain in enumerate("ab"):
        (place / domain).mkdir()
        for index in range(6 + number):
            torch.save(torch.randn(4, 8, 8, generator=draw) + number, place / domain / f"{index}.pt")
    return place


def experiment(folder: Path, **sections: Any) -> StarganExperiment:
    tree: dict[str, Any] = {name: {**section, **sections.get(name, {})} for name, section in SMALL.items()}
    data = {"latents_dir": str(folder), "validation_split": 0.2, **sections.get("data", {})}
    return checked({**tree, "data": data}, StarganExperiment)


def inputs_of(config: StarganExperiment, folder: Path, process: int = 0, processes: int = 1) -> GanInputs:
    training = config.training
    return GanInputs(
        read_latents(folder),
        validation_split=config.data.validation_split,
        contents_by=config.data.contents_by,
        batch_size=training.batch_size,
        epoch_size=training.epoch_size,
        latent_dim=config.network.latent_dim,
        scale=training.latent_scale,
        seed=training.seed,
        device=torch.device("cpu"),
        process=process,
        processes=processes,
    )


def train(
    config: StarganExperiment, folder: Path, out: Path, *, resume: bool = False, stop_after: int = 0
) -> TrainedStargan | None:
    """Train; with `stop_after` ask to stop after so many steps of this call, as Ctrl-C does."""
    inputs, calls = inputs_of(config, folder), itertools.count(1)
    plain = inputs.batch

    def batch(step: int) -> Any:
        if stop_after and next(calls) == stop_after:
            os.kill(os.getpid(), 2)
        return plain(step)

    inputs.batch = batch  # type: ignore[method-assign]
    try:
        return train_stargan(config, inputs, out, GanHooks(epoch=lambda row: None), Accelerator(cpu=True), resume=resume)
    except KeyboardInterrupt:
        return None


def tensors(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "stargan.safetensors")


def log_of(out: Path) -> list[dict[str, float]]:
    return read_epochs(out / "training_logs" / "training_log.jsonl")


def test_an_epoch_has_every_term_and_the_means_are_over_its_steps(folder: Path, tmp_path: Path):
    """12 contents an epoch (6 of each domain), batch 4: 3 steps an epoch; R1 every third step, so one of three has it: r1 counts two zeros."""
    trained = train(experiment(folder), folder, tmp_path)
    assert trained is not None
    assert (trained.steps, len(trained.epochs)) == (9, 3)
    rows = log_of(tmp_path)
    assert rows == trained.epochs
    assert [row["lambda_ds"] for row in rows] == [1.0, 0.5, 0.0]
    for row in rows:
        assert row["r1_computed"] == pytest.approx(3 * row["r1"])
        assert row["r1"] > 0
        assert row["ds"] > 0
        total = row["g_adv"] + row["sty"] + row["cyc"] + row["id"] - row["lambda_ds"] * row["ds"]
        assert row["g_loss"] == pytest.approx(total, rel=1e-5)
    assert set(trained.parameters) == {"generator", "style_encoder", "mapping", "discriminator"}


def test_an_epoch_size_changes_the_steps_of_an_epoch_and_every_latent_is_seen_in_turn(folder: Path):
    inputs = inputs_of(experiment(folder, training={"epoch_size": 22}, data={"contents_by": "size"}), folder)
    assert inputs.steps_per_epoch == 6
    assert (inputs.epoch(6), inputs.epoch(7)) == (1, 2)
    seen = [name for step in range(1, 12) for name in inputs.names(step)]
    assert sorted(seen[:11]) == sorted(seen[11:22]) == sorted(set(seen))


@pytest.mark.parametrize("by", ["domain", "size"])
def test_a_training_translates_to_other_domains_only_and_draws_contents_as_it_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
):
    """Looked at in the step itself; of 5 and 6 training latents, 44 contents are 20 and 24 by size, 22 and 22 by domain."""
    import fashion_ml.training.stargan_loop as loop

    seen: list[tuple[int, int]] = []
    plain = loop.make_fakes
    monkeypatch.setattr(
        loop, "make_fakes", lambda n, b: seen.extend(zip(b.y_src.tolist(), b.y_trg.tolist(), strict=True)) or plain(n, b)
    )
    train(experiment(folder, data={"contents_by": by}, training={"epochs": 4}), folder, tmp_path)
    assert set(seen) == {(0, 1), (1, 0)}
    assert [source for source, _ in seen[:44]].count(0) == {"domain": 22, "size": 20}[by]


def test_the_loop_makes_the_steps_of_a_plain_loop_with_two_optimisers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In float64, every step plainly written: D then G, E and F, R1 every third step, AdamW betas (0, 0.99), a rate each, averages.

    Weight decay 0.1 so that a step on a frozen network would show.
    """
    import fashion_ml.training.stargan_loop as loop

    rates = {"lr_g": 1e-3, "lr_d": 2e-3, "lr_mapping": 1e-4, "weight_decay": 0.1}
    config = experiment(folder, optimizer=rates, training={"seed": 1})
    made, inputs, sizes = make_networks, inputs_of(config, folder), loop.network_sizes(config, 2)

    def double(network_sizes: NetworkSizes, seed: int) -> Networks:
        networks = made(network_sizes, seed)
        for network in networks.named().values():
            network.double()
        return networks

    plain_batch = inputs.batch
    inputs.batch = lambda step: as_double(plain_batch(step))  # type: ignore[method-assign]
    monkeypatch.setattr(loop, "make_networks", double)
    trained = train_stargan(config, inputs, tmp_path, GanHooks(epoch=lambda row: None), Accelerator(cpu=True))

    n = double(sizes, config.training.seed)
    averages = {name: copy.deepcopy(n.named()[name]) for name in ("generator", "style_encoder", "mapping")}
    options = {"betas": (0.0, 0.99), "weight_decay": 0.1}
    d_optimizer = torch.optim.AdamW(n.d.parameters(), lr=2e-3, **options)  # type: ignore[arg-type]
    g_groups = [{"params": [*n.g.parameters(), *n.e.parameters()], "lr": 1e-3}, {"params": [*n.f.parameters()], "lr": 1e-4}]
    g_optimizer = torch.optim.AdamW(g_groups, **options)  # type: ignore[arg-type]
    weights, losses = loop.loss_weights(config), []
    for step in range(1, 10):
        b, fading = as_double(plain_batch(step)), [1.0, 0.5, 0.0][(step - 1) // 3]
        d_loss, _ = plain.d_loss(n, b, weights, with_r1=step % 3 == 0)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss, _ = plain.g_loss(n, b, weights, fading)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        losses.append(d_loss.item())
        for name, average in averages.items():
            for mean, value in zip(average.parameters(), n.named()[name].parameters(), strict=True):
                mean.data = 0.9 * mean.data + 0.1 * value.data
    assert [row["d_loss"] for row in trained.epochs] == pytest.approx([sum(losses[i : i + 3]) / 3 for i in (0, 3, 6)])
    found = tensors(tmp_path)
    for name, network in {**n.named(), **{f"ema.{name}": average for name, average in averages.items()}}.items():
        for key, value in network.state_dict().items():
            assert (found[f"{name}.{key}"] - value).abs().max() < 1e-8, (name, key)


def as_double(b: GanBatch) -> GanBatch:
    return GanBatch(*(value.double() if value.is_floating_point() else value for value in vars(b).values()))


def a_gan(config: StarganExperiment) -> Any:
    import fashion_ml.training.stargan_loop as loop

    return loop._Gan(config, 2, Accelerator(cpu=True))


def overflowing(b: GanBatch) -> GanBatch:
    """The batch, with contents that no fp16 holds."""
    return replace(b, x_src=b.x_src * 1e6)


def test_a_step_that_overflows_half_precision_has_terms_that_are_not_finite_and_moves_no_weight(folder: Path):
    config = experiment(folder, training={"mixed_precision": "fp16"})
    gan, inputs = a_gan(config), inputs_of(config, folder)
    first = gan.step(inputs.batch(1), LossWeights(), with_r1=False, lambda_ds=1.0)
    assert all(value.isfinite() for value in first.values())
    assert "r1" not in first
    before = copy.deepcopy(gan.networks.g.state_dict())
    second = gan.step(overflowing(inputs.batch(2)), LossWeights(), with_r1=True, lambda_ds=1.0)
    assert not all(value.isfinite() for value in second.values())
    assert all(torch.equal(before[name], value) for name, value in gan.networks.g.state_dict().items())


def test_a_training_whose_steps_mostly_overflow_stops(folder: Path, tmp_path: Path):
    config = experiment(folder, training={"mixed_precision": "fp16"})
    inputs = inputs_of(config, folder)
    plain = inputs.batch
    inputs.batch = lambda step: plain(step) if step in (1, 2, 3, 4) else overflowing(plain(step))  # type: ignore[method-assign]
    with pytest.raises(
        InputError, match=r"^training\.mixed_precision: loss of most steps is not finite at step 6 \(images [ab]/\d"
    ):
        train_stargan(config, inputs, tmp_path, GanHooks(epoch=lambda row: None), Accelerator(cpu=True))
    (row,) = log_of(tmp_path)
    assert row["overflowed_steps"] == 0


def test_the_average_follows_the_weights(folder: Path, tmp_path: Path):
    """With decay 0 the average is the weights; with 0.9 it lags."""
    train(experiment(folder, training={"ema_decay": 0.0}), folder, tmp_path / "none")
    train(experiment(folder), folder, tmp_path / "slow")
    for name, equal in (("none", True), ("slow", False)):
        found = tensors(tmp_path / name)
        key = "generator.to_latent.weight"
        assert torch.equal(found[key], found[f"ema.{key}"]) == equal


@settings(max_examples=6)
@given(seed=st.integers(0, 1000), stop=st.integers(1, 8), again=st.integers(1, 4))
def test_resume_matches_the_uninterrupted_run_bit_for_bit(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, stop: int, again: int
):
    """Networks, averages, optimisers and epoch values; stopped twice, also in the middle of an epoch and of the fading of lambda_ds."""
    from safetensors.torch import load_file

    config, out = experiment(folder, training={"seed": seed}), tmp_path_factory.mktemp("resume")
    train(config, folder, out / "whole")
    train(config, folder, out / "parts", stop_after=stop)
    if train(config, folder, out / "parts", resume=True, stop_after=again) is None:
        train(config, folder, out / "parts", resume=True)
    first, second = tensors(out / "whole"), tensors(out / "parts")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert log_of(out / "whole") == log_of(out / "parts")
    states = [load_file(out / part / "state" / "training_state.safetensors") for part in ("whole", "parts")]
    assert any(name.startswith("optimizer.100000.") for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_patch_discriminator_with_spectral_norm_trains_and_resumes_bit_for_bit(folder: Path, tmp_path: Path, precision: str):
    """Its vectors too, which every pass moves."""
    network = {"discriminator": "patch", "spectral_norm": True, "d_layers": 2}
    config = experiment(folder, network=network, training={"mixed_precision": precision})
    train(config, folder, tmp_path / "whole")
    train(config, folder, tmp_path / "parts", stop_after=4)
    train(config, folder, tmp_path / "parts", resume=True)
    first, second = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert any(name.startswith("discriminator.convolutions.0.parametrizations.weight.0.u") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")


def test_the_rows_of_two_processes_are_those_of_one_with_the_same_global_batch(folder: Path):
    one = inputs_of(experiment(folder), folder)
    config = experiment(folder, training={"batch_size": 2})
    parts = [inputs_of(config, folder, process, 2) for process in (0, 1)]
    for step in (1, 5):
        whole, halves = one.batch(step), [part.batch(step) for part in parts]
        for name in ("x_src", "y_src", "x_ref", "y_trg", "z_trg", "z_1", "z_2"):
            joined = torch.stack([getattr(half, name) for half in halves], 1).flatten(0, 1)
            assert torch.equal(getattr(whole, name), joined), name


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_on_in_the_steps_where_it_is_asked_for_and_off_behind_them(folder: Path, tmp_path: Path, tf32: bool):
    config, seen = experiment(folder, training={"tf32": tf32}), set[tuple[bool, bool]]()

    def switches() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = switches()
    hooks = GanHooks(epoch=lambda row: seen.add(switches()))
    train_stargan(config, inputs_of(config, folder), tmp_path, hooks, Accelerator(cpu=True))
    assert (seen, switches()) == ({(tf32, tf32)}, before)


def test_a_loss_that_is_not_finite_stops_and_writes_no_state(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"is not finite at step \d+ \(images [ab]/\d"):
        train(experiment(folder, optimizer={"learning_rate": 1e30}, training={"epochs": 4}), folder, tmp_path)
    assert not (tmp_path / "state").exists()


def test_only_the_last_files_stay(folder: Path, tmp_path: Path):
    train(experiment(folder, training={"epochs": 4, "save_every_n_epochs": 1, "save_last_n": 2}), folder, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "stargan-000002.safetensors",
        "stargan-000003.safetensors",
        "stargan.safetensors",
    ]


def rows(**series: list[float]) -> list[dict[str, float]]:
    count = len(next(iter(series.values())))
    base = {"d_loss": 1.0, "ds": 0.5, "lambda_ds": 1.0, "r1_computed": 0.001}
    return [{"epoch": i + 1.0, **base, **{name: values[i] for name, values in series.items()}} for i in range(count)]


def test_the_reading_help_says_what_was_measured_and_nothing_else():
    quiet = reading_help(rows(d_loss=[1.0] * 8), 2.0, 16)
    assert quiet == ["A falling g_loss alone says nothing: it holds -lambda_ds * ds. The evaluation comes first."]
    assert "for 5 epochs" in reading_help(rows(d_loss=[1.0, 2.05, 1.95, 2.0, 2.09, 1.91, 1.5]), 2.0, 16)[0]
    assert len(reading_help(rows(d_loss=[2.0] * 4), 2.0, 16)) == 1
    assert "mode collapse" in reading_help(rows(ds=[0.5, 0.4, 0.1]), 2.0, 16)[0]
    assert "ds never reached 0.02" in reading_help(rows(ds=[0.005, 0.006, 0.007, 0.007, 0.007]), 2.0, 16)[0]
    assert len(reading_help(rows(ds=[0.005, 0.006, 0.03, 0.01, 0.01]), 2.0, 16)) == 1
    assert len(reading_help(rows(ds=[0.005] * 4), 2.0, 16)) == 1
    faded = reading_help(rows(ds=[0.5, 0.4, 0.1], lambda_ds=[1.0, 0.5, 0.0]), 2.0, 16)
    assert len(faded) == 2  # it may fall when it is not asked for
    assert faded[0].startswith(
        "From epoch 3 on lambda_ds is 0; ds is then the mean of the first step of an epoch and every 8th"
    )
    # w_r1 * r1_interval * r1 = 2 * 16 * 0.02 = 0.64 of a d_loss of 1, so 0.36 is hinge; with 0.015 it is 0.48 and 0.52
    assert "smaller w_r1" in reading_help(rows(d_loss=[1.0] * 3, r1=[0.02] * 3), 2.0, 16)[0]
    assert len(reading_help(rows(d_loss=[1.0] * 3, r1=[0.015] * 3), 2.0, 16)) == 1
    assert len(reading_help(rows(d_loss=[2.0] * 8, r1=[0.02] * 8), 2.0, 16)) == 1  # 2 by its penalty alone is no lack of skill


def test_contributions_are_weight_times_value_and_fade_with_lambda_ds():
    """d_loss 1 with r1 0.01 weighted 2 * 16: 0.32 of it is the penalty."""
    shares = contributions(rows(ds=[0.5, 0.5], lambda_ds=[1.0, 0.5], cyc=[2.0, 3.0], r1=[0.01, 0.0]), {"cyc": 2.0}, 32.0)
    assert shares["w_cyc · cyc"] == [(1.0, 4.0), (2.0, 6.0)]
    assert shares["−lambda_ds · ds"] == [(1.0, -0.5), (2.0, -0.25)]
    assert shares["hinge of d_loss"] == [(1.0, pytest.approx(0.68)), (2.0, 1.0)]
    assert shares["w_r1 · r1_interval · r1"] == [(1.0, pytest.approx(0.32)), (2.0, 0.0)]
