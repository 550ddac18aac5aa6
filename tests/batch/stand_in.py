"""A model that answers at once, and a folder that describes it; run as a program, a worker with that model.

Texts that begin with a marker say what happens to the worker: `wait PATH ...` until the file is there, `kill PATH ...`
once (or ever, where the path is -).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from polytask.artifact.description import write_description
from polytask.batch.predictor import BatchPredictor
from polytask.data.tokens import Tokenization, TokenRow
from polytask.predict.predictor import Model
from polytask.tasks import Task
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.tagging import Tagging, TaggingOptions


class Tokens:
    """Makes one token a word; the first is the text's length."""

    max_tokens = 8
    frame = (1, 1)

    def rows(self, texts: Sequence[str], pairs: Any, words: Sequence[Any]) -> list[TokenRow]:
        for text in texts:
            obey(text.split(" "))
        return [TokenRow([len(text), 1], None, list(range(len(w))), truncated=False)
                for text, w in zip(texts, words, strict=True)]  # fmt: skip


class Engine:
    def __init__(self, tasks: dict[str, Task]) -> None:
        self.tasks = tasks

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        return [{name: self.outputs(name, row) for name in names} for row, names in zip(rows, tasks, strict=True)]

    def outputs(self, name: str, row: TokenRow) -> Any:
        found = np.linspace(0, row.ids[0] % 2, self.tasks[name].head.size).astype(np.float32)
        return np.tile(found, (len(row.word_tokens), 1)) if self.tasks[name].level == "word" else found

    def describe(self) -> dict[str, Any]:
        return {}


def obey(words: Sequence[str]) -> None:
    if words[0] == "wait":
        Path(f"{words[1]}.reached").touch()
        while not Path(words[1]).exists():
            time.sleep(0.01)
    if words[0] == "kill" and (words[1] == "-" or not Path(words[1]).exists()):
        if words[1] != "-":
            Path(words[1]).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def tasks() -> dict[str, Task]:
    tone = Classification("tone", ClassificationOptions(type="classification"), ("bad", "good"), (1, 1))
    names = Tagging("names", TaggingOptions(type="tagging"), ("O", "B-X", "I-X"), (1, 1, 1), True)
    return {"tone": tone, "names": names}


def model() -> Model:
    return Model(tasks(), cast(Tokenization, Tokens()), cast(Any, Engine(tasks())), {})


class Predictor(BatchPredictor):
    """Has this model, in whatever process."""

    @cached_property
    def loaded(self) -> Model:
        return model()


def replace_models() -> None:
    """Have workers of this process load this model."""
    from polytask.predict import load

    load.load = lambda *_, **__: model()  # type: ignore[assignment]


def describe(folder: Path, weights: str = "weights") -> Path:
    """Write what a model folder says of the model."""
    folder.mkdir()
    (folder / "model.safetensors").write_text(weights)
    (folder / "tokenizer.json").write_text("{}")
    said = {"tasks": {name: task.to_json() for name, task in tasks().items()}, "max_tokens": 8, "precision": "fp32",
            "about": {}}  # fmt: skip
    write_description(folder, "torch", said)
    return folder


def work() -> None:
    """Be a worker with this model."""
    from polytask.batch import process

    replace_models()
    process.main()


class Forked:
    """A worker that is a fork of this process: it starts at once, and ends as one that was started does."""

    def __init__(self, lifeline: int) -> None:
        shards, self.stdin = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self.stdout, answers = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._become(lifeline, shards.fileno(), answers.fileno())
        shards.close()
        answers.close()

    def _become(self, lifeline: int, shards: int, answers: int) -> None:
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            os.dup2(shards, 0)
            os.dup2(answers, 1)
            for handle in {int(link.name) for link in Path("/proc/self/fd").iterdir()} - {0, 1, 2, lifeline}:
                with suppress(OSError):
                    os.close(handle)
            os.environ["POLYTASK_LIFELINE"] = str(lifeline)
            work()
            code = 0
        finally:
            os._exit(code)

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def fork_workers() -> None:
    """Have workers forked in this process, in place of being started."""
    from polytask.launch import Lifeline

    Lifeline.start = lambda self, *_, **__: Forked(self._handle)  # type: ignore[assignment]


if __name__ == "__main__":
    work()
