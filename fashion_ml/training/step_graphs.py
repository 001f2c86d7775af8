"""A LoRA step as CUDA graphs: its few thousand kernels are recorded once and started at once, where a host would start one after the other.

Forward and backward pass are one graph for each shape of a batch, clipping and AdamW another. Batches and learning rates are copied to where
the graphs read them; gradients are summed up where they lie. Captured as PyTorch's notes on CUDA graphs have it (warm-up on a side stream).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.lora_batches import Batch
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.pinned import pinned
from fashion_ml.runtime.tensor_tree import mapped, tensors_in

_WARM_UP = 2
"""Passes before a recording: libraries choose their kernels and make their workspaces in them."""


def check_graphs(config: LoraExperiment, device: str, processes: int) -> None:
    """InputError where training.compile is cudagraphs and the step cannot be recorded."""
    training = config.training
    if training.compile != "cudagraphs":
        return
    reasons = {
        tr("there is no CUDA GPU"): device != "cuda",
        tr("there are {processes} processes", processes=processes): processes > 1,
        tr(
            "optimizer.optimizer_type is {given}, not adamw", given=config.optimizer.optimizer_type
        ): config.optimizer.optimizer_type != "adamw",
        tr("training.mixed_precision is fp16, whose scale a host looks at; use bf16"): training.mixed_precision == "fp16",
        tr("network.algo is oft, whose equations a host looks at"): config.network.algo == "oft",
        tr("network.train_text_encoder is true"): config.network.train_text_encoder,
        tr("embedding.token trains a word of the text encoder"): config.embedding.token is not None,
        tr("network.dropout, rank_dropout or module_dropout draws anew at each step"): max(
            config.network.dropout, config.network.rank_dropout, config.network.module_dropout
        )
        > 0,
        tr("loss.output_preservation_prompt is given"): config.loss.output_preservation_prompt is not None,
        tr("training.gradient_checkpointing is true"): training.gradient_checkpointing,
    }
    for reason, holds in reasons.items():
        if holds:
            raise InputError(
                tr("training.compile: cudagraphs cannot record these steps, for {reason}; or use default or no", reason=reason)
            )


class CudaRecorder:
    """Records work on the current GPU; recordings share their memory, for they are replayed one after the other."""

    capturable = True
    """Whether optimisers must keep their counters on the device."""

    def __init__(self) -> None:
        self._pool: Any = None

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Inside the block work goes to a side stream, behind what was asked for before and before what comes after."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        """What does the work again, and where its result is then; nothing is done yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = work()
        self._pool = self._pool or graph.pool()
        return graph.replay, result


class StepGraphs:
    """Records what a loop does at its first batch of each shape, and replays it."""

    def __init__(
        self,
        loss_of: Callable[[Batch], torch.Tensor],
        parameters: Sequence[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        max_norm: float,
        recorder: Any,
    ):
        self._loss_of, self._parameters, self._optimizer, self._max_norm = loss_of, parameters, optimizer, max_norm
        self._recorder = recorder
        self._recorded: dict[tuple[Any, ...], tuple[Any, Batch, torch.Tensor]] = {}
        self._update: tuple[Any, torch.Tensor] | None = None

    def backward(self, batch: Batch) -> torch.Tensor:
        """Add the gradients of a batch to those there are; its loss, 0-d, which the next call overwrites."""
        if self._update is None:
            self._update = self._record_update()
        key = tuple((name, tuple(one.shape)) for name, part in vars(batch).items() for one in tensors_in(part))
        if key not in self._recorded:
            self._recorded[key] = self._record(batch)
        replay, place, loss = self._recorded[key]
        for old, new in zip(tensors_in(place), tensors_in(batch), strict=True):
            old.copy_(pinned(new) if self._recorder.capturable else new, non_blocking=True)
        replay()
        return loss

    def step(self) -> torch.Tensor:
        """Clip the gradients, step, and set them to zero; their norm before clipping."""
        assert self._update is not None
        replay, norm = self._update
        replay()
        return norm.clone()

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rates of the groups."""
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _pass(self, batch: Batch) -> torch.Tensor:
        loss = self._loss_of(batch)
        loss.backward()
        return loss.detach()

    def _record(self, batch: Batch) -> tuple[Any, Batch, torch.Tensor]:
        device = self._parameters[0].device
        place = mapped(lambda one: one.to(device).clone(), batch)
        kept = [_gradient(one).clone() for one in self._parameters]
        with self._recorder.warm_up():
            for _ in range(_WARM_UP):
                self._pass(place)
        for parameter, before in zip(self._parameters, kept, strict=True):
            _gradient(parameter).copy_(before)
        del kept
        replay, loss = self._recorder.record(partial(self._pass, place))
        return replay, place, loss

    def _record_update(self) -> tuple[Any, torch.Tensor]:
        """Record clipping and step; weights, states and what counts steps are as before afterwards."""
        device, fresh = self._parameters[0].device, not self._optimizer.state
        for group in self._optimizer.param_groups:
            group["capturable"] = self._recorder.capturable
            group["lr"] = torch.as_tensor(float(group["lr"]), dtype=torch.float32, device=device)
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        with self._recorder.warm_up():
            torch.nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
            if (
                fresh
            ):  # a step of rate and gradients 0 makes the states and moves nothing; a recording would make them anew each time
                rates = [group["lr"].clone() for group in self._optimizer.param_groups]
                self.set_rates([0.0] * len(rates))
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*capturable=True")  # this one step is not recorded, and says so
                    self._optimizer.step()
                for entry in self._optimizer.state.values():
                    entry["step"].zero_()
                for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                    group["lr"].copy_(rate)

        def update() -> torch.Tensor:
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=False)
            return norm

        replay, norm = self._recorder.record(update)
        return replay, norm


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad
