"""Our StarGAN step beside the plain one: `python -m benchmarks.stargan_step [--base-dim N] [--batch N] [--side N] [--steps N]`.

The plain step is that of the tests: it runs every network on its own for every term, as the formulas read, and computes the same gradients
(a test holds both to 1e-9). The two take turns, step by step, each with its AdamW; the figure is the ratio of the medians, at
lambda_ds > 0 and at 0, on steps without the gradient penalty.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.results import Row, report
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.training.stargan_step import GanBatch, LossWeights, d_losses, frozen, g_losses, make_fakes
from tests.unit.training import plain_stargan as plain

WEIGHTS = LossWeights()
_WARM_UP = 3


def random_batch(sizes: NetworkSizes, count: int, side: int) -> GanBatch:
    """Noise of the right shapes."""
    x_src, x_ref = torch.randn(2, count, sizes.latent_channels, side, side)
    y_src, y_trg = torch.randint(0, sizes.num_domains, (2, count))
    return GanBatch(x_src, y_src, x_ref, y_trg, *torch.randn(3, count, sizes.latent_dim))


def our_step(n: Networks, b: GanBatch, lambda_ds: float) -> Callable[[], None]:
    """The step of the trainer."""
    d_optimizer, g_optimizer = _optimizers(n)

    def step() -> None:
        made = make_fakes(n, b)
        d_loss, _ = d_losses(n, b, made, WEIGHTS, with_r1=False)
        d_loss.backward()
        d_optimizer.step()
        d_optimizer.zero_grad()
        with frozen(n.d):
            g_loss, _ = g_losses(n, b, made, WEIGHTS, lambda_ds=lambda_ds)
            g_loss.backward()
        g_optimizer.step()
        g_optimizer.zero_grad()

    return step


def plain_step(n: Networks, b: GanBatch, lambda_ds: float) -> Callable[[], None]:
    """Fakes without graph for D, everything again for G (the diversity samples too, whatever their weight), gradients of D thrown away."""
    d_optimizer, g_optimizer = _optimizers(n)

    def step() -> None:
        plain.d_loss(n, b, WEIGHTS, with_r1=False)[0].backward()
        d_optimizer.step()
        d_optimizer.zero_grad()
        plain.g_loss(n, b, WEIGHTS, lambda_ds)[0].backward()
        g_optimizer.step()
        g_optimizer.zero_grad()
        d_optimizer.zero_grad()

    return step


def _optimizers(n: Networks) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    rest = [p for network in (n.g, n.e, n.f) for p in network.parameters()]
    return torch.optim.AdamW(n.d.parameters(), lr=1e-4, fused=True), torch.optim.AdamW(rest, lr=1e-4, fused=True)


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("base-dim", 64), ("batch", 16), ("side", 16), ("steps", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    sizes = NetworkSizes(base_dim=arguments.base_dim, num_domains=3)
    b = random_batch(sizes, arguments.batch, arguments.side)
    rows = []
    for lambda_ds in (1.0, 0.0):
        steps = [make(make_networks(sizes, seed=0), b, lambda_ds) for make in (our_step, plain_step)]
        seconds: list[list[float]] = [[], []]
        for number in range(_WARM_UP + arguments.steps):
            for which, step in enumerate(steps):
                start = time.perf_counter()
                step()
                if number >= _WARM_UP:
                    seconds[which].append(time.perf_counter() - start)
        ours, plain = (statistics.median(part) for part in seconds)
        side = arguments.side
        what = f"StarGAN step, lambda_ds {lambda_ds:g}, base_dim {arguments.base_dim}, batch {arguments.batch}, 4 x {side} x {side}"
        rows.append(Row(what, f"{ours * 1000:.0f} ms", f"plain order {plain * 1000:.0f} ms", plain / ours))
    report(rows)


if __name__ == "__main__":
    main()
