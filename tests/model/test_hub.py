"""Without a network the hub is asked once: what is in its cache is read, and anything else is an error at once."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from polytask.errors import ModelError
from polytask.model import loading
from polytask.model.loading import load_config, load_tokenizer, settle_hub

NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of a hub that does not answer."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    settle_hub.cache_clear()
    yield tmp_path / "hub"
    settle_hub.cache_clear()


def test_a_hub_that_does_not_answer_is_told_at_once(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=rf"some/encoder: no folder .*{NOWHERE} cannot be reached .*give a folder"):
        load_tokenizer("some/encoder")
    assert not hub_cache.exists()


def test_what_is_in_the_cache_is_read_without_a_network(hub_cache: Path, tiny: Path) -> None:
    repository = hub_cache / "models--some--encoder"
    shutil.copytree(tiny, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert load_config("some/encoder").hidden_size == load_config(str(tiny)).hidden_size
    assert len(load_tokenizer("some/encoder")) == len(load_tokenizer(str(tiny)))


def test_a_hub_that_answers_is_asked_once(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        for _ in range(2):
            settle_hub("some/encoder")
        server.shutdown()
    assert len(asked) == 1
    assert not constants.HF_HUB_OFFLINE


def test_a_folder_asks_nobody(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "HUB_SECONDS", -1)
    load_tokenizer(str(tiny))
