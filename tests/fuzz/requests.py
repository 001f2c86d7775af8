"""Hostile requests to a served model: values out of bounds and of other kinds, bodies that are none, headers and paths that nobody sends."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.mutations import changed, damaged

GOOD: dict[str, Any] = {
    "dataframe_records": [{"prompt": "a red dress"}],
    "params": {"seed": 7, "num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64},
}
MODEL: dict[str, Any] = {
    "flavors": {
        "diffusers": {"adapter_weights": "adapter_weights", "base_model": "embedded", "code": None},
        "python_function": {
            "loader_module": "fashion_ml.deploy.lora_model",
            "env": {"conda": "conda.yaml"},
            "python_version": "3.11.7",
        },
    },
    "metadata": {"base": "embedded", "num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64},
    "mlflow_version": "3.17.2",
    "model_uuid": "0",
    "signature": {
        "inputs": '[{"type": "string", "name": "prompt", "required": true}]',
        "outputs": '[{"type": "binary", "name": "image", "required": true}]',
        "params": '[{"name": "seed", "default": 0, "shape": null, "type": "long"}]',
    },
}
"""What `MLmodel` holds of a registered LoRA."""
_VALUES: dict[str, list[Any]] = {
    "seed": [-1, 2**63, 10**400, 1.5, "x", None, [], True, float("nan")],
    "num_inference_steps": [0, -5, 201, 10**9, 10**30, "many", None, 2.5],
    "guidance_scale": [-1, 1e9, float("nan"), float("inf"), -float("inf"), "strong", None, 10**400],
    "width": [0, -64, 63, 65, 4096, 10**6, 10**18, "wide", None, 64.5],
    "height": [0, -64, 63, 65, 4104, 10**6, 10**18, "high", None, [64]],
    "negative_prompt": ["x" * 2001, 3, None, ["a"]],
    "unknown": [1, "x"],
}
_ROWS: list[Any] = [
    [],
    [{"prompt": "a"}] * 17,
    [{"prompt": "a"}] * 5000,
    [{"prompt": None}],
    [{"prompt": 3}],
    [{"prompt": "x" * 2001}],
    [{"prompt": "x" * 900_000}],
    [{"other": "a"}],
    ["a"],
    "a",
    3,
    None,
    {"prompt": "a"},
    [{"prompt": {"a": 1}}],
    [{"prompt": ["a", "b"]}],
    [[[[["a"]]]]],
]


@dataclass(frozen=True)
class Asking:
    """One request."""

    body: bytes
    method: str = "POST"
    path: str = "/invocations"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def as_body(tree: Any) -> bytes:
    """JSON, with NaN and Infinity as Python writes them."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def hostile(count: int, seed: int = 0) -> list[Asking]:
    """So many, always the same: the named ones first, then mutated good ones."""
    found, rng = _named(), random.Random(seed)
    while len(found) < count:
        body = as_body(changed(GOOD, rng)) if rng.random() < 0.5 else damaged(as_body(GOOD), rng)
        found.append(Asking(body))
    return found[:count]


def _named() -> list[Asking]:
    params = [
        Asking(as_body({**GOOD, "params": {**GOOD["params"], name: value}}))
        for name, values in _VALUES.items()
        for value in values
    ]
    rows = [Asking(as_body({**GOOD, "dataframe_records": value})) for value in _ROWS]
    bodies = [
        b"",
        b"{",
        b"null",
        b"3",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xfe",
        b"9" * 5000,
        b'{"dataframe_records": [{"prompt": "a"}], "params": {"seed": 1, "seed": 2}}',
        b'{"inputs": [' + b"[]," * 300_000 + b"[]]}",
        b'{"params": {"seed": [' + b"0," * 400_000 + b'0]}, "dataframe_records": []}',
        b'{"dataframe_records": ' + b"[" * 5000,
    ]
    kinds = [
        "",
        "text/csv",
        "text/plain",
        "application/json; charset=latin-1",
        "application/json; x=1",
        "application/x-parquet",
        "a/b" * 2000,
    ]
    others = [
        Asking(b"", "GET"),
        Asking(b"", "DELETE"),
        Asking(as_body(GOOD), path="/invocations/../../etc/passwd"),
        Asking(as_body(GOOD), path="/" + "a" * 8000),
        Asking(as_body(GOOD), path="/%00"),
        Asking(as_body(GOOD), headers={"Content-Type": "application/json", "Transfer-Encoding": "x"}),
        Asking(b"x" * 2_000_000),
        Asking(as_body({"dataframe_split": {"columns": ["prompt"], "data": [["a"]] * 17}})),
        Asking(as_body({"inputs": {"prompt": ["a"] * 17}})),
        Asking(as_body({"dataframe_split": {"columns": ["prompt"], "data": "x" * 900_000, "index": list(range(16))}})),
        Asking(as_body({"instances": [{"prompt": "x" * 900_000}] + [{"prompt": ""}] * 15})),
        Asking(as_body({"instances": [{"image": base64.b64encode(b"%!PS").decode()}]})),
    ]
    return [
        *params,
        *rows,
        *(Asking(body) for body in bodies),
        *(Asking(b"prompt\na\n", headers={"Content-Type": one}) for one in kinds),
        *others,
    ]
