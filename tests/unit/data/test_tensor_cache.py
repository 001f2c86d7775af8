from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.runtime.weights_hash import weights_sha256

KEY, OTHER = key_of(image="a", vae="b"), key_of(image="c", vae="b")


def test_a_key_depends_on_every_part_and_not_on_their_order():
    assert key_of(a=1, b=2) == key_of(b=2, a=1)
    assert len({KEY, OTHER, key_of(image="a", vae="c"), key_of(image="a")}) == 4


def test_what_was_put_comes_back_equal_also_in_another_process(tmp_path: Path):
    value = {"mean": torch.randn(4, 2, 2), "std": torch.rand(4, 2, 2).half()}
    TensorCache(tmp_path).put(KEY, value)
    found = TensorCache(tmp_path).get(KEY)
    assert found is not None
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in value.items())
    assert TensorCache(tmp_path).get(OTHER) is None
    assert TensorCache().get(KEY) is None


def test_a_damaged_file_counts_as_missing_and_is_made_again(tmp_path: Path):
    TensorCache(tmp_path).put(KEY, {"x": torch.ones(9)})
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    cache = TensorCache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(KEY, {"x": torch.ones(9)})
    assert TensorCache(tmp_path).get(KEY) is not None


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(RuntimeError("power")))
    with pytest.raises(RuntimeError):
        TensorCache(tmp_path).put(KEY, {"x": torch.ones(2)})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_memory_is_bounded_when_there_is_a_folder_and_everything_still_comes_back(tmp_path: Path):
    cache = TensorCache(tmp_path, memory_bytes=250)
    keys = [key_of(index=index) for index in range(10)]
    for index, key in enumerate(keys):
        cache.put(key, {"x": torch.full((10,), float(index))})  # 104 bytes each, 64 of them the header
    assert len(cache._memory) == 2
    assert all(cache.get(key)["x"][0] == index for index, key in enumerate(keys))  # type: ignore[index]
    assert all(key in cache for key in keys)


def test_what_is_asked_for_again_is_the_same_without_a_copy_and_goes_with_its_memory(tmp_path: Path):
    one, large = {"x": torch.arange(4.0)}, {"x": torch.zeros(1000)}
    cache = TensorCache(tmp_path, memory_bytes=2000)
    cache.put(KEY, one)
    first, again = cache.get(KEY), cache.get(KEY)
    assert first is not None
    assert again is not None
    assert first["x"].data_ptr() == again["x"].data_ptr()
    cache.put(OTHER, large)
    assert KEY not in cache._memory
    assert KEY not in cache._views
    back = cache.get(KEY)
    assert back is not None
    assert torch.equal(back["x"], one["x"])
    assert back["x"].data_ptr() != first["x"].data_ptr()


def test_the_hash_of_weights_sees_a_changed_bit():
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second)
    second.weight.data[0, 0] = torch.nextafter(second.weight.data[0, 0], torch.tensor(9.0))
    assert weights_sha256(first) != weights_sha256(second)
