"""Our StarGAN step beside two others: `python -m benchmarks.stargan_step [--base-dim N] [--batch N] [--side N] [--steps N]`.

The plain step is that of the tests: it runs every network on its own for every term, as the formulas read, and computes the same gradients
(a test holds both to 1e-9). The paper's order is that of the authors' training loop (Choi et al. 2020, arXiv:1912.01865), written anew for
the same networks and the same hinge: D by latent and D by reference, each with a step of its own and fakes of its own, then G by latent and
G by reference, whose second fake for diversity takes no gradient; it has no identity term and steps twice. All take turns, step by
step, each with its AdamW; the figure is the median of the ratios, round by round, at lambda_ds > 0 and at 0, on steps without the gradient
penalty, averages and logging. At 0 the step that measures ds, of which a training makes one in eight, is beside the others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import relu

from benchmarks.results import Row, report
from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.models.stargan import Networks, NetworkSizes, make_networks
from fashion_ml.training.stargan_step import LossWeights, d_losses, frozen, g_losses, make_fakes
from tests.unit.training import plain_stargan as plain

WEIGHTS = LossWeights()
_WARM_UP = 3


def random_batch(sizes: NetworkSizes, count: int, side: int) -> GanBatch:
    """Noise of the right shapes."""
    x_src, x_ref = torch.randn(2, count, sizes.latent_channels, side, side)
    y_src, y_trg = torch.randint(0, sizes.num_domains, (2, count))
    return GanBatch(x_src, y_src, x_ref, y_trg, *torch.randn(3, count, sizes.latent_dim))


def our_step(n: Networks, b: GanBatch, lambda_ds: float, *, measure_ds: bool = False) -> Callable[[], None]:
    """The step of the trainer."""
    d_optimizer, g_optimizer = _optimizers(n)

    def step() -> None:
        made = make_fakes(n, b)
        d_loss, _ = d_losses(n, b, made, WEIGHTS, with_r1=False)
        d_loss.backward()
        d_optimizer.step()
        d_optimizer.zero_grad()
        with frozen(n.d):
            g_loss, _ = g_losses(n, b, made, WEIGHTS, lambda_ds=lambda_ds, measure_ds=measure_ds)
            g_loss.backward()
        g_optimizer.step()
        g_optimizer.zero_grad()

    return step


def plain_step(n: Networks, b: GanBatch, lambda_ds: float, *, with_ds: bool = True) -> Callable[[], None]:
    """Fakes without graph for D, everything again for G (the diversity samples too, whatever their weight), gradients of D thrown away."""
    d_optimizer, g_optimizer = _optimizers(n)

    def step() -> None:
        plain.d_loss(n, b, WEIGHTS, with_r1=False)[0].backward()
        d_optimizer.step()
        d_optimizer.zero_grad()
        plain.g_loss(n, b, WEIGHTS, lambda_ds, with_ds=with_ds)[0].backward()
        g_optimizer.step()
        g_optimizer.zero_grad()
        d_optimizer.zero_grad()

    return step


def paper_step(n: Networks, b: GanBatch, lambda_ds: float) -> Callable[[], None]:
    """The authors' order: two D steps and two G steps, each making its fakes anew."""
    d_optimizer, g_optimizer = _optimizers(n)
    other_ref = b.x_ref.roll(1, 0)

    def d_step(style: Callable[[], torch.Tensor]) -> None:
        real = n.d(b.x_ref, b.y_trg)
        with torch.no_grad():
            fake = n.g(b.x_src, style())
        loss = relu(1 - real).mean() + relu(1 + n.d(fake, b.y_trg)).mean()
        d_optimizer.zero_grad()
        g_optimizer.zero_grad()
        loss.backward()
        d_optimizer.step()

    def g_step(style: Callable[[], torch.Tensor], second: Callable[[], torch.Tensor]) -> None:
        wanted = style()
        fake = n.g(b.x_src, wanted)
        loss = -n.d(fake, b.y_trg).mean() + (n.e(fake, b.y_trg) - wanted).abs().mean()
        with torch.no_grad():
            other = n.g(b.x_src, second())
        loss = loss - lambda_ds * (fake - other).abs().mean()
        loss = loss + (n.g(fake, n.e(b.x_src, b.y_src)) - b.x_src).abs().mean()
        d_optimizer.zero_grad()
        g_optimizer.zero_grad()
        loss.backward()
        g_optimizer.step()

    def step() -> None:
        d_step(lambda: n.f(b.z_trg, b.y_trg))
        d_step(lambda: n.e(b.x_ref, b.y_trg))
        g_step(lambda: n.f(b.z_1, b.y_trg), lambda: n.f(b.z_2, b.y_trg))
        g_step(lambda: n.e(b.x_ref, b.y_trg), lambda: n.e(other_ref, b.y_trg))

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
        sides: dict[str, Callable[..., Callable[[], None]]] = {
            "ours": our_step,
            "plain order": plain_step,
            "plain order without ds": partial(plain_step, with_ds=False),
            "the paper's order (two steps each)": paper_step,
            "ours that measures ds": partial(our_step, measure_ds=True),
        }
        if lambda_ds > 0:
            del (
                sides["plain order without ds"],
                sides["ours that measures ds"],
            )  # they would compute something else, or the same
        steps = {name: make(make_networks(sizes, seed=0), b, lambda_ds) for name, make in sides.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(_WARM_UP + arguments.steps):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                if number >= _WARM_UP:
                    seconds[name].append(time.perf_counter() - start)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        side = arguments.side
        what = f"StarGAN step, lambda_ds {lambda_ds:g}, base_dim {arguments.base_dim}, batch {arguments.batch}, 4 x {side} x {side}"
        ours = median.pop("ours")
        rows += [
            Row(
                what,
                f"{ours * 1000:.0f} ms",
                f"{name} {other * 1000:.0f} ms",
                statistics.median(o / m for o, m in zip(seconds[name], seconds["ours"], strict=True)),
            )
            for name, other in median.items()
        ]
    report(rows)


if __name__ == "__main__":
    main()
