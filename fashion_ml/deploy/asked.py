"""One request to a served model: what it may ask for, how long it may take, and whether its client is still there.

What is refused is MLflow's error of a bad parameter, which its server answers with status 400; the text names the field.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

from fashion_ml.deploy.mlflow_answers import answer, unanswered
from fashion_ml.deploy.turns import FullError, Share, Turns
from fashion_ml.errors import InputError

MOST_ROWS, MOST_LETTERS, MOST_STEPS, MOST_GUIDANCE = 16, 2000, 200, 100.0
MOST_PIXELS, LEAST_SIDE, MOST_SIDE = 2048 * 2048, 8, 4096
_USUAL = 512 * 512, 50
IMAGE = _USUAL[0] * _USUAL[1]
"""What work is counted in: the pixels of an image of 512 x 512, times 50 steps."""
MOST_IMAGES = 16.0
"""Of them a request asks for at most so many, where nobody said how many."""
_DECODED = 32
"""Pixels of a picture that are decoded take the time and memory of one that a step computes, or less."""
_AT_ONCE = 4
"""Images that are made at the same time; others wait for their turn."""
_turns = Turns(_AT_ONCE)
ending = threading.Event()
"""Set once the server ends: nothing more is made."""


def work_of(rows: int, pixels: int, steps: int | None) -> int:
    """Pixels times steps of a request; a model without steps has one."""
    return rows * pixels * (steps or 1)


def is_more(cost: int, most_images: float) -> bool:
    """Whether work is more than that of so many images."""
    return cost > round(most_images * IMAGE)


def shown_work(cost: int) -> str:
    """Work as so many images, to three digits and no less than it is: who gives so many gives enough, and what is too much looks so."""
    places = max(2 - math.floor(math.log10(max(cost, 1) / IMAGE)), 0)
    return f"{-(-cost * 10**places // IMAGE) / 10**places:.{places}f}"


def usual_seconds() -> float:
    """How long a request may take where nobody said: as long as MLflow's server waits for it."""
    try:
        return float(os.environ.get("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "60"))
    except ValueError:
        return 60.0


class Asked:
    """A request that is being answered."""

    def __init__(self, seconds: float, most_images: float = MOST_IMAGES):
        self.gone = threading.Event()
        """Set once its client has left."""
        self._seconds, self._until, self._most, self._share = seconds, time.monotonic() + seconds, most_images, Share()

    def weigh(
        self,
        rows: int,
        pixels: int,
        steps: int | None = None,
        *,
        decoded: int = 0,
        usual: tuple[int, int] = _USUAL,
        side: str = "width",
    ) -> None:
        """Say what it is going to compute, and how many pixels of pictures are decoded for it; InputError for more than is served, by what is
        most above one row of the `usual` pixels and steps; `side` is what pixels are told by. Without `steps` it is a model that has none, and
        whose size is its own.

        Lighter ones come first, and large pictures are heavy: they are decoded one at a time.
        """
        cost = work_of(rows, pixels, steps)
        if is_more(cost, self._most):
            each = f"of {pixels:,} pixels" if steps is None else f"of {pixels:,} pixels at {steps} steps"
            bounds = {"dataframe_records": (float(rows), f"{rows} rows {each}")}
            if steps is not None:
                bounds[side] = pixels / usual[0], f"{pixels:,} pixels for {rows} images at {steps} steps"
                bounds["num_inference_steps"] = steps / usual[1], f"{steps} for {rows} images of {pixels:,} pixels"
            field = max(bounds, key=lambda name: (bounds[name][0], name))
            refuse(
                field,
                f"{bounds[field][1]}, the work of {shown_work(cost)} images of 512 x 512 at 50 steps,",
                f"ask for the work of {self._most:g} at most: {'fewer rows' if steps is None else 'fewer rows, steps or pixels'}",
            )
        self._share = Share(cost + decoded // _DECODED)

    def check(self) -> None:
        """Raise MLflow's error where there is nobody to answer, or no time left: call it between steps."""
        if ending.is_set():
            raise answer("TEMPORARILY_UNAVAILABLE", "the server ends; ask another one")
        if self.gone.is_set():
            raise answer("CANCELLED", "the client has left")
        if time.monotonic() > self._until:
            raise answer(
                "DEADLINE_EXCEEDED",
                f"timeout: this took more than {self._seconds:g} seconds; ask for fewer images, steps or pixels",
            )

    def on_step(self, pipeline: Any, step: int, timestep: Any, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """`callback_on_step_end` of a pipeline of diffusers: others that ask for less come first."""
        del pipeline, step, timestep
        self.check()
        _turns.step_aside(self._share, self.check)
        return tensors

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until fewer than four others compute, and none that is heavy where this one is; errors as `check`."""
        self.check()
        try:
            _turns.take(self._share, self.check)
        except FullError:
            text = "as many large requests wait as are let wait; ask again later, or for fewer images, steps or pixels"
            raise answer("TEMPORARILY_UNAVAILABLE", text) from None
        try:
            self.check()
            yield
        finally:
            _turns.give(self._share)


current: ContextVar[Asked | None] = ContextVar("asked", default=None)
"""The request that this thread answers, as the server knows it; None behind MLflow's own server."""


@contextmanager
def answering() -> Iterator[Asked]:
    """The request of this thread; what is wrong with its input, or does not fit into memory, becomes an answer to it."""
    from mlflow.exceptions import MlflowException

    from fashion_ml.runtime.gpu_memory import full_memory

    try:
        yield current.get() or Asked(usual_seconds())
    except InputError as error:
        raise answer("INVALID_PARAMETER_VALUE", "; ".join(error.problems)) from None
    except MlflowException:  # an answer already
        raise
    except Exception as error:
        if where := full_memory(error):
            raise answer("RESOURCE_EXHAUSTED", f"width: this does not fit into {where}; ask for fewer pixels") from None
        raise unanswered(error) from None


def check_rows(count: int, field: str = "dataframe_records") -> None:
    """InputError for none, or more than are answered at once."""
    if not 1 <= count <= MOST_ROWS:
        refuse(field, f"{count} rows", f"ask for 1 to {MOST_ROWS} at once")


def text_of(field: str, value: Any, *, most: int = MOST_LETTERS) -> str:
    """A text of bounded length."""
    if not isinstance(value, str):
        refuse(field, type(value).__name__, "give a text")
    if len(value) > most:
        refuse(field, f"{len(value):,} characters", f"give at most {most:,}")
    return value


def seed_of(value: Any) -> int:
    """A seed that every generator takes."""
    return _whole("seed", value, 0, 2**63 - 1)


def sampler_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """`num_inference_steps`, `guidance_scale`, `width` and `height` of a request, each within what is served."""
    width, height = (_whole(side, params[side], LEAST_SIDE, MOST_SIDE) for side in ("width", "height"))
    for name, side in (("width", width), ("height", height)):
        if side % LEAST_SIDE:
            refuse(name, str(side), f"give a multiple of {LEAST_SIDE}")
    if width * height > MOST_PIXELS:
        refuse("width", f"{width} x {height} pixels", f"give at most {MOST_PIXELS:,} in all")
    guidance = params["guidance_scale"]
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance <= MOST_GUIDANCE:
        refuse("guidance_scale", str(guidance)[:40], f"give a number from 0 to {MOST_GUIDANCE:g}")
    steps = _whole("num_inference_steps", params["num_inference_steps"], 1, MOST_STEPS)
    return {"num_inference_steps": steps, "guidance_scale": float(guidance), "width": width, "height": height}


def refuse(field: str, value: str, fix: str) -> NoReturn:
    """InputError for a field of a request."""
    raise InputError(f"{field}: {value} is not accepted; {fix}")


def _whole(field: str, value: Any, least: int, most: int) -> int:
    import numbers

    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        refuse(field, str(value)[:40], f"give a whole number from {least} to {most}")
    return int(value)


Load = Callable[[], Any]


class LoadedOnce:
    """What is loaded by the first request that needs it, while others wait."""

    def __init__(self, load: Load):
        self._load, self._lock, self._loaded = load, threading.Lock(), None

    def get(self) -> Any:
        """The same for everyone."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded
