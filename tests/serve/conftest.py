"""A small trained model of every task type, a model made by hand, and servers around them on free ports."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn

import polytask as pt
from polytask.predict.predictor import Model, TextPrediction
from polytask.serving.app import create_app
from polytask.serving.options import ServeOptions
from polytask.serving.run import configured
from polytask.tasks import TASKS, Task
from samples import corpus_rows, write_jsonl

Serving = Callable[..., AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A model folder with a task of each type, and one about pairs."""
    base = tmp_path_factory.mktemp("served")
    rows = [
        {**row, "stars": index % 5 + 0.5, "marks": ["odd"] * (index % 2) + ["third"] * (index % 3 == 0),
         "first": row["text"], "second": row["text"][: index % 40], "alike": str(index % 2)}
        for index, row in enumerate(corpus_rows(40))
    ]  # fmt: skip
    data = {split: str(write_jsonl(base / f"{split}.jsonl", rows)) for split in ("train", "dev", "test")}
    values = {
        "encoder": str(tiny),
        "max_tokens": 48,
        "tasks": {
            "sentiment": {"type": "classification", "data": data, "label": "sentiment"},
            "topic": {"type": "classification", "data": data, "label": "topic"},
            "entities": {"type": "tagging", "data": data},
            "stars": {"type": "regression", "data": data, "label": "stars"},
            "marks": {"type": "multilabel", "data": data, "label": "marks"},
            "alike": {"type": "classification", "data": data, "label": "alike", "text_pair": ["first", "second"]},
        },
        "train": {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "seed": 5, "precision": "fp32"},
    }
    pt.train(values, base / "run")
    return base / "run" / "model"


@pytest.fixture(scope="session")
def model(folder: Path) -> Model:
    return pt.load(folder)


class Panic(BaseException):
    """As pyo3_runtime.PanicException: no Exception."""


class Stub:
    """A model made by hand: it is slow when asked, and remembers what it was given at once.

    A word that begins with a capital letter is an entity; the text "fail" fails, "break" is refused, and "panic" ends
    as a panic in Rust code does.
    """

    tokens = SimpleNamespace(max_tokens=16, vocabulary=[])

    def __init__(self, labels: Sequence[str] = ("no", "yes")) -> None:
        self.about: dict[str, Any] = {"scores": {"test": {"mood": {"macro_f1": 0.5}}}}
        classes = {"type": "classification", "options": {"type": "classification", "label": "mood"}}
        tags = {"type": "tagging", "options": {"type": "tagging"}}
        self.labels = tuple(labels)
        self.tasks: Mapping[str, Task] = {
            "mood": TASKS["classification"].from_json(
                "mood", {**classes, "fitted": {"classes": list(labels), "counts": [1] * len(labels)}}
            ),
            "names": TASKS["tagging"].from_json(
                "names", {**tags, "fitted": {"tagset": ["O", "B-X", "I-X"], "counts": [3, 1, 1], "bio": True}}
            ),
        }
        self.long = "truncate"
        self.batches: list[list[Any]] = []
        self.seconds = 0.0
        self.resume = threading.Event()
        self.resume.set()

    def answers(
        self, records: Sequence[Any], tasks: Sequence[str] | None = None, *, long: str = "truncate"
    ) -> Iterator[TextPrediction]:
        assert long == self.long
        self.batches.append(list(records))
        assert self.resume.wait(20)
        time.sleep(self.seconds)
        if "break" in records:
            raise pt.UserError("record 1: holds no text")
        if "panic" in records:
            raise Panic
        if "fail" in records:
            raise RuntimeError("secret text: fail")
        for record in records:
            text = record if isinstance(record, str) else next(iter(record.values()))
            found: dict[str, Any] = {}
            for task in tasks if tasks is not None else self.tasks:
                found[task] = self.names(text) if task == "names" else self.mood(text)
            yield TextPrediction(text, found, len(text.split()) > self.tokens.max_tokens)

    def mood(self, text: str) -> dict[str, Any]:
        return {"label": self.labels[0], "probabilities": {label: 1 / len(self.labels) for label in self.labels}}

    def names(self, text: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        start = 0
        for word in text.split(" "):
            if word[:1].isupper():
                found.append(
                    {
                        "label": f"X{len(found) % 3}",
                        "start": start,
                        "end": start + len(word),
                        "text": word,
                        "score": 0.9,
                    }
                )
            start += len(word) + 1
        return found


@contextmanager
def running(model: Any, **options: Any) -> Iterator[httpx.Client]:
    """Serve a model, or an application, in a thread, and give a client of it."""
    chosen = ServeOptions(**options)
    application = model if inspect.isfunction(model) else create_app(model, chosen)
    server = uvicorn.Server(configured(application, chosen, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            vars(client)["stop"] = lambda: setattr(server, "should_exit", True)
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def serving() -> Serving:
    return running


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture(scope="session")
def client(model: Model) -> Iterator[httpx.Client]:
    """A client of a server of the trained model, with small limits."""
    with running(model, max_body_bytes=20_000, max_texts=12, max_characters=2000) as found:
        yield found
