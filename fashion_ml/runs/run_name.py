"""What a run is called that nobody has named: by what it is, such as `dress r8 lr5e-4 800st`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.config.lora_network import Network

DESCRIBED = "described_as"
"""Tag of a training: what it is called by what it is, also where it has a name of its own."""
_LONGEST = 40
"""Characters of what is trained; of a longer one the beginning stands."""
_METHODS = {"lora": "", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "ia3": "IA3"}


def lora_name(config: LoraExperiment, classes: Sequence[str], folder: Path) -> str:
    """What a LoRA is called: its classes (else the folder of its images), method, rank, alpha where it is another, rate, seed but 0, steps.

    >>> from fashion_ml.config import load_config
    >>> config = load_config({"train_data_dir": "x", "rank": 8, "lr": 5e-4, "steps": 800})
    >>> lora_name(config, ["dress"], Path("photos"))
    'dress r8 lr5e-4 800st'
    """
    rates, training = config.optimizer, config.training
    subsets = [one.class_tokens or Path(one.image_dir).name for one in config.data.subsets if not one.is_reg]
    parts = [_subject(classes or subsets, folder), *_network(config.network), f"lr{_short(rates.learning_rate)}"]
    return _joined(parts, f"{training.max_train_steps}st", training.seed)


def stargan_name(config: StarganExperiment, domains: Sequence[str], folder: Path) -> str:
    """What a StarGAN is called: its domains (else the folder of their latents), w_ds, rate, seed but 0, epochs.

    >>> from fashion_ml.config import load_config
    >>> config = load_config({}, {"epochs": 40, "lr": 1e-4}, kind="stargan")
    >>> stargan_name(config, ["coat", "dress"], Path("latents"))
    'coat+dress w_ds1 lr1e-4 40ep'
    """
    parts = [_subject(domains, folder), f"w_ds{_short(config.loss.w_ds)}", f"lr{_short(config.optimizer.learning_rate)}"]
    return _joined(parts, f"{config.training.epochs}ep", config.training.seed)


def evaluation_name(training: str, at: str) -> str:
    """What an evaluation of a training is called that is `at` a step or an epoch.

    >>> evaluation_name("dress r8 lr5e-4 800st", "step 800")
    'evaluation of dress r8 lr5e-4 800st, step 800'
    """
    return f"evaluation of {training}, {at}" if training else f"evaluation, {at}"


def comparison_name(names: Sequence[str]) -> str:
    """What a comparison is called.

    >>> comparison_name(["dress r8", "dress r16", "dress r32"])
    'comparison of dress r8 with 2 others'
    """
    others = names[1] if len(names) == 2 else f"{len(names) - 1} others"
    return f"comparison of {names[0]} with {others}"


def told_with(run_name: str, described: str, params: Mapping[str, str]) -> str:
    """A training's name and, where that does not say it, what it is, or of earlier versions' runs these params."""
    more = [described] if described else [f"{name} {value}" for name, value in params.items()]
    return ", ".join([run_name, *(one for one in more if one != run_name)])


def _joined(parts: Sequence[str], length: str, seed: int) -> str:
    return " ".join([*(part for part in parts if part), *([f"seed {seed}"] if seed else []), length])


def _subject(words: Sequence[str], folder: Path) -> str:
    """The words where they are short enough together, else the folder's name."""
    plain = [" ".join(one.replace("_", " ").split()) for one in dict.fromkeys(words)]
    joined = "+".join(one for one in plain if one)
    if joined and (len(plain) == 1 or len(joined) <= _LONGEST):
        return joined[:_LONGEST].rstrip()
    return " ".join(folder.absolute().name.replace("_", " ").split())[:_LONGEST].rstrip()


def _network(network: Network) -> list[str]:
    method = [_METHODS[network.algo], "DoRA" if network.use_dora else ""]
    if network.algo == "ia3":
        return method
    if network.block_ranks is not None:
        return [*method, "ranks by block"]
    alpha = "" if network.algo == "oft" or network.alpha in (None, network.rank) else f"a{network.alpha:g}"
    return [*method, f"r{network.rank}", alpha]


def _short(value: float) -> str:
    """A number as people write rates: 5e-4, 1.5e-4, 0.5, 1."""
    if value == 0 or 0.01 <= value < 10_000:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
