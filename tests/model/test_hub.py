"""Without a network the hub is asked once: what is in its cache is read, and anything else is an error at once."""

from __future__ import annotations

import http.server
import shutil
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from polytask.errors import ModelError
from polytask.model import loading
from polytask.model.loading import cached_if_offline, load_config, load_tokenizer

NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a hub that does not answer."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def test_a_hub_that_does_not_answer_is_told_at_once(hub_cache: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"some/encoder: no folder .*{NOWHERE} cannot be reached .*give the folder of an encoder"
    ):
        cached_if_offline("some/encoder")
    assert not hub_cache.exists()


def test_what_is_in_the_cache_is_read_without_a_network(hub_cache: Path, tiny: Path) -> None:
    repository = hub_cache / "models--some--encoder"
    shutil.copytree(tiny, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    found = cached_if_offline("some/encoder")
    assert load_config(found).hidden_size == load_config(str(tiny)).hidden_size
    assert len(load_tokenizer(found)) == len(load_tokenizer(str(tiny)))


def test_a_hub_that_answers_is_asked_once_and_read(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert cached_if_offline("some/encoder") == "some/encoder"
        server.shutdown()
    assert len(asked) == 1


def test_a_folder_asks_nobody(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "HUB_SECONDS", -1)
    assert cached_if_offline(str(tiny)) == str(tiny)


def test_what_is_no_name_of_the_hub_is_told(hub_cache: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load the encoder from 'a/b/c': .*give a folder"):
        cached_if_offline("a/b/c")
