from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fashion_ml.config import load_config
from fashion_ml.embedded import domains
from fashion_ml.runs.stargan_inputs import embedded_latents_are_there, read_latent_set


def test_two_that_begin_together_draw_and_encode_the_embedded_domains_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(domains, "PICTURES", 2)  # of 240: drawing those takes half a minute
    monkeypatch.chdir(tmp_path)
    config = load_config({}, {"latents_dir": "embedded"}, kind="stargan")
    assert not embedded_latents_are_there()
    encoded: list[str] = []
    real = domains.write_domains

    def write_domains(folder: Path) -> Path:
        encoded.append(folder.name)
        return real(folder)

    monkeypatch.setattr(domains, "write_domains", write_domains)
    with ThreadPoolExecutor(2) as both:
        one, two = both.map(lambda _: read_latent_set(config, "cpu"), range(2))
    assert encoded == ["images"]
    assert embedded_latents_are_there()
    assert one.shape == two.shape == (4, 16, 16)
    assert [(domain.name, len(domain.files)) for domain in one.domains] == [("dotted", 2), ("plain", 2), ("striped", 2)]
