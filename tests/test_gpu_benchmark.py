"""The benchmark for a GPU, on a CPU: it prints every figure, and times nothing that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from benchmarks import gpu

from polytask.model.packing import Padding

SMALL = ["--device", "cpu", "--shapes", "small", "--rows", "6", "--tokens", "24"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "WARM", 1)
    monkeypatch.setattr(gpu, "UPDATES", 1)
    monkeypatch.setattr(gpu, "rate_of", lambda device: 1e11)


def lines_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    monkeypatch.setattr("sys.argv", ["gpu", *arguments])
    gpu.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_prints_every_arm_beside_the_plain_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(SMALL, monkeypatch, capsys)
    assert lines[0]["device"] == "cpu"
    for lengths in ("full", "many"):
        own = [line for line in lines if line.get("lengths") == lengths]
        assert [line["arm"] for line in own if "arm" in line] == ["plain loop", *gpu.ARMS]
        assert [line["predicts"] for line in own if "predicts" in line] == ["stock encoder", "polytask"]
        assert all(line["tokens_per_second"] > 0 and line["of_rate"] > 0 for line in own)
    (checked,) = (line for line in lines if "differences" in line)
    assert all(0 <= value < checked["limit"] for value in checked["differences"].values())


def test_it_ends_where_padding_changes_a_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Padding.add
    monkeypatch.setattr(Padding, "add", lambda self, states: add(self, states.flip(0)))
    with pytest.raises(SystemExit, match=r"losses without padding, .*: differ by more than 0\.0"):
        lines_of(SMALL, monkeypatch, capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="torch sees no GPU; --device cpu checks the script"):
        lines_of([], monkeypatch, capsys)
