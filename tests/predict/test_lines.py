"""Files of texts: answered in order with bounded memory, whole or as far as they came."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from polytask.data.engine import RowOutputs
from polytask.data.tokens import Tokenization, TokenRow
from polytask.errors import ConfigError, DataError, OutputError, UserError
from polytask.predict.lines import answer_lines
from polytask.predict.predictor import BLOCK, Model
from polytask.progress import FileBar
from polytask.tasks.classification import Classification, ClassificationOptions


class Tokens:
    """Makes two tokens of any text."""

    max_tokens = 8
    frame = (1, 1)

    def rows(self, texts: Sequence[str], pairs: Any, words: Any) -> list[TokenRow]:
        return [TokenRow([len(text) % 7, 1], None, [], truncated=False) for text in texts]


class Engine:
    """Takes the first token for the answer; fails when it is told to."""

    failure: BaseException | None = None
    passes = 0

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        self.passes += 1
        if self.failure is not None and self.passes > 1:
            raise self.failure
        return [{"it": np.array([row.ids[0] % 2, 0.5], np.float32)} for row in rows]

    def describe(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def model(engine: Engine) -> Model:
    task = Classification("it", ClassificationOptions(type="classification"), ("no", "yes"), (1, 1))
    return Model({"it": task}, cast(Tokenization, Tokens()), engine, {})


@pytest.fixture
def said() -> list[str]:
    return []


def answered(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def test_answers_stand_in_the_order_of_the_file_and_appear_when_they_are_whole(
    model: Model, said: list[str], tmp_path: Path
) -> None:
    texts = [f"{'long ' * (index % 5)}text {index}" for index in range(2 * BLOCK + 3)]
    (tmp_path / "in.txt").write_text("\n".join(texts), "utf-8")
    with gzip.open(tmp_path / "in.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(texts))
    for name in ("in.txt", "in.txt.gz"):
        answer_lines(model, str(tmp_path / name), out=tmp_path / "out.jsonl", say=said.append)
        assert answered(tmp_path / "out.jsonl") == texts
    assert not said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "in.txt.gz", "out.jsonl"]


def test_a_bad_line_is_named_and_those_before_it_are_answered(
    model: Model, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "a"}\n\n{"text": "b"}\nnot an object\n{"text": "c"}\n', "utf-8")
    with pytest.raises(UserError, match=r"in.jsonl:4: not a JSON object"):
        answer_lines(model, str(file), say=said.append)
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    file.write_text('{"text": "a"}\n\n{"text": "b"}\n{"other": "c"}\n{"text": "d"}\n', "utf-8")
    with pytest.raises(DataError, match=r"in.jsonl:4: record 3: holds no text"):
        answer_lines(model, str(file), out=tmp_path / "out.jsonl", say=said.append)
    assert answered(tmp_path / "out.jsonl.partial") == ["a", "b"]
    assert said == [f"the answers so far are in {tmp_path / 'out.jsonl.partial'}"]
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["in.jsonl", "./sub/../in.jsonl", "link.jsonl", "hard.jsonl", "linked/in.jsonl"])
@pytest.mark.parametrize("given", ["in.jsonl", "link.jsonl"])
def test_answers_never_replace_their_input(
    model: Model, said: list[str], tmp_path: Path, name: str, given: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"text": "a", "label": "yes"}\n', "utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jsonl").symlink_to(file)
    (tmp_path / "hard.jsonl").hardlink_to(file)
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"out: \S+ is the input file, which the predictions would replace"):
        answer_lines(model, str(tmp_path / given), out=Path(str(tmp_path), name), say=said.append)
    assert file.read_text("utf-8") == '{"text": "a", "label": "yes"}\n'
    assert sorted(tmp_path.iterdir()) == before


def test_neither_do_answers_that_are_not_yet_complete(model: Model, said: list[str], tmp_path: Path) -> None:
    partial = tmp_path / "out.jsonl.partial"
    partial.write_text('{"text": "a"}\n', "utf-8")
    with pytest.raises(ConfigError, match=r"partial, which is written first, is the input file"):
        answer_lines(model, str(partial), out=tmp_path / "out.jsonl", written={"format": "jsonl"}, say=said.append)
    assert partial.read_text("utf-8") == '{"text": "a"}\n'


def test_nor_the_file_that_is_the_standard_input(
    model: Model, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.txt"
    file.write_text("a\n", "utf-8")
    with file.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(ConfigError, match="is the input file"):
            answer_lines(model, "-", out=file, say=said.append)
        answer_lines(model, "-", out=tmp_path / "out.jsonl", say=said.append)
    assert file.read_text("utf-8") == "a\n"
    assert answered(tmp_path / "out.jsonl") == ["a"]


def test_what_was_answered_before_an_interruption_is_kept(
    model: Model, engine: Engine, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("text\n" * (3 * BLOCK), "utf-8")
    (tmp_path / "out.jsonl").write_text("of before", "utf-8")
    engine.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        answer_lines(model, str(tmp_path / "in.txt"), out=tmp_path / "out.jsonl", say=said.append)
    assert len(answered(tmp_path / "out.jsonl.partial")) == BLOCK
    assert (tmp_path / "out.jsonl").read_text("utf-8") == "of before"
    assert len(said) == 1


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(model: Model, said: list[str], tmp_path: Path) -> None:
    with (tmp_path / "in.txt").open("w", encoding="utf-8") as file:
        for index in range(60):
            file.write((f"{index} " + "x" * 2000 + "\n") * BLOCK)  # 123 MB
    seen: list[int] = []

    class Watching:
        tasks = model.tasks

        def answers(self, records: Iterator[Any], tasks: Any, *, long: Any) -> Iterator[Any]:
            for number, answer in enumerate(model.answers(records, tasks, long=long)):
                if number % BLOCK == 0:
                    seen.append(resident())
                yield answer

    answer_lines(cast(Model, Watching()), str(tmp_path / "in.txt"), out=tmp_path / "out.jsonl", say=said.append)
    assert len(seen) == 60
    assert max(seen) - seen[2] < 30 * 2**20


def test_files_that_cannot_be_read_or_written_are_named(model: Model, said: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.txt: no such file"):
        answer_lines(model, str(tmp_path / "none.txt"), say=said.append)
    (tmp_path / "in.txt.gz").write_text("no gzip", "utf-8")
    with pytest.raises(UserError, match=r"in.txt.gz: not a complete gzip file"):
        answer_lines(model, str(tmp_path / "in.txt.gz"), say=said.append)
    (tmp_path / "in.txt").write_text("a\n", "utf-8")
    with pytest.raises(OutputError, match=r"out.jsonl: cannot be written"):
        answer_lines(model, str(tmp_path / "in.txt"), out=tmp_path / "none" / "out.jsonl", say=said.append)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_folder_is_refused_as_the_file_of_the_answers_before_the_first_is_made(
    model: Model, said: list[str], tmp_path: Path, form: str
) -> None:
    (tmp_path / "in.txt").write_text("a\n", "utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=rf"folder: is a folder, .*; name one, such as .*folder/answers.{form}"):
        answer_lines(model, str(tmp_path / "in.txt"), out=tmp_path / "folder", to=form, say=said.append)
    assert not said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "in.txt"]


@pytest.mark.parametrize("tasks", [[], ["tune"]])
def test_tasks_are_checked_before_a_file_is_written(
    model: Model, said: list[str], tmp_path: Path, tasks: list[str]
) -> None:
    (tmp_path / "in.txt").write_text("a\n", "utf-8")
    for form in ("jsonl", "csv"):
        with pytest.raises(ConfigError, match=r"tasks: found (none|'tune'); .*it"):
            answer_lines(model, str(tmp_path / "in.txt"), tasks, out=tmp_path / "out", to=form, say=said.append)
    assert not said
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_a_bar_says_how_much_is_done_and_nothing_when_it_is_not_shown(
    model: Model, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("text\n" * 9, "utf-8")
    answer_lines(model, str(tmp_path / "in.txt"), say=said.append)
    assert capsys.readouterr().err == ""
    screen = io.StringIO()
    with FileBar(900, show=True) as bar:
        bar._progress.live.console.file = screen  # pyright: ignore[reportPrivateUsage]
        for _ in range(3):
            bar.advance(300)
        bar._progress.refresh()  # pyright: ignore[reportPrivateUsage]
        task = bar._progress.tasks[0]  # pyright: ignore[reportPrivateUsage]
        assert (task.completed, task.total, task.fields["rows"]) == (300, 900, 3)
        assert "rows/s" in task.fields["rate"]
