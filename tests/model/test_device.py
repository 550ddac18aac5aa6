"""A device is one that is there, or an error that says which are."""

from __future__ import annotations

import pytest
import torch

from polytask.errors import ConfigError
from polytask.model.device import choose_device


@pytest.mark.parametrize(
    ("name", "gpus", "told"),
    [
        ("gpu", 0, r"device: found 'gpu'; accepted: auto, cpu, cuda"),
        ("cuda", 0, r"device: found 'cuda', but torch sees no GPU; use auto or cpu"),
        ("cuda:2", 2, r"device: found 'cuda:2', but torch sees 2 GPUs, counted from 0"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(
    name: str, gpus: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=f"^train.{told}"):
        choose_device(name)
    with pytest.raises(ConfigError, match=f"^{told}"):
        choose_device(name, "device")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == torch.device(expected)
        assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda:1") == torch.device("cuda:1")
