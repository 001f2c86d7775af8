"""A registered LoRA behind `mlflow models serve`: the picture that comes over HTTP is the pipeline's."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from tests.runs.command import SHORT, Finished, fashion_ml, free_port
from tests.runs.test_register import PROMPT, SETTINGS, expected


def test_served_over_http_it_draws_the_same(workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    store = os.environ["MLFLOW_TRACKING_URI"]
    trained = fashion_ml("train", "lora", *SHORT, "--no-evaluate", "--json", "facts.json", cwd=workdir, uri=store)
    assert trained.returncode == 0, trained.stderr
    own = Finished(workdir, json.loads((workdir / "facts.json").read_text(encoding="utf-8")), "", "", store)
    assert fashion_ml("register", own.facts["run_id"], "--name", "look", cwd=workdir, uri=store).returncode == 0
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/look/1", "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (own.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        body = json.dumps({"dataframe_records": [{"prompt": PROMPT}], "params": SETTINGS}).encode()
        request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(request, timeout=120) as response:
                    answer = json.loads(response.read())
                break
            except OSError:
                assert process.poll() is None, (own.folder / "serve.log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, (own.folder / "serve.log").read_text(encoding="utf-8")
                time.sleep(0.5)
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["predictions"][0]))))
    assert np.array_equal(picture, expected(own))
