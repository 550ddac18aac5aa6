"""The folder of the answers: whose it is, which shards are finished, and how one more is put into it.

    OUT/reviews-00000.jsonl         answers, in the order of the rows
    OUT/_bad/reviews-00000.jsonl    rows without an answer: file, row, reason
    OUT/_job/manifest.json          the model, the input and the options that they are answers of
    OUT/_job/shards.jsonl           the finished shards, one a line

Names that begin with an underscore are passed over by what reads a folder of data files: Spark, pyarrow, DuckDB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polytask.batch.reading import Input
from polytask.batch.shards import Shard
from polytask.batch.worker import ShardAnswers
from polytask.errors import OutputError
from polytask.files import parse_json, reason, replace_content, sync, to_json, write_json
from polytask.lock import FILE as LOCK
from polytask.regular import read_bytes
from polytask.tasks.cells import brief

BAD, JOB = "_bad", "_job"
_MANIFEST, _SHARDS, _SUMMARY, _WRITING = "manifest.json", "shards.jsonl", "summary.json", ".writing"
_FORM = 1


@dataclass(frozen=True)
class Finished:
    """A shard whose answers are in the folder.

    Attributes:
        file: the file's place among the inputs.
        shard: its place in the file.
        rows: how many the input has there.
        answered: how many answers there are.
        bad: how many rows have none.
        bytes: of the file of the answers.
        last: whether it ends its file.
        size: the bytes of the input that its rows take, about.
    """

    file: int
    shard: int
    rows: int
    answered: int
    bad: int
    bytes: int
    last: bool
    size: int

    @classmethod
    def of(cls, value: Any) -> Finished:  # noqa: ANN401
        """Read a line of the list. Raises ValueError, TypeError for what is none."""
        found = cls(**value)
        numbers = [number for name, number in asdict(found).items() if name != "last"]
        if not isinstance(found.last, bool) or not all(type(one) is int and one >= 0 for one in numbers):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError("a number is expected")
        return found


class AnswerFolder:
    """The folder, which is locked by this process.

    Attributes:
        finished: the finished shards, by the places of file and shard.

    Args:
        inputs: the files that are answered.
        form: what the answers' files are, which is also the end of their names.
    """

    def __init__(self, folder: Path, inputs: Sequence[Input], form: str) -> None:
        self.folder = folder
        self.finished: dict[tuple[int, int], Finished] = {}
        self._inputs = inputs
        self._form = form
        self._temporary = folder / JOB / _WRITING

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Make the folder one of these answers, or go on with what was begun.

        Raises OutputError where it holds something else: answers of another model, input or options, or files that are
        not of this command.
        """
        path = self.folder / JOB / _MANIFEST
        told = {"form": _FORM, **identity}
        if path.exists():
            _require_same(self.folder, path, told)
            self._read_finished()
        else:
            self._require_empty()
            path.parent.mkdir(exist_ok=True)
            write_json(path, told)
            sync(self.folder)
        with suppress(OSError):
            self._temporary.unlink()

    def _require_empty(self) -> None:
        try:
            held = sorted(entry.name for entry in self.folder.iterdir() if entry.name not in (LOCK, JOB))
            held += [f"{JOB}/{entry.name}" for entry in (self.folder / JOB).glob("*") if entry.name[0] != "."]
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be read ({reason(error)}); name another folder") from None
        if held:
            raise OutputError(
                f"{self.folder}: holds files that are no answers of this command ({', '.join(held[:5])}); name another "
                "folder"
            )

    def _read_finished(self) -> None:
        """Read which shards are finished; those whose files are gone, or of another size, are answered again."""
        path = self.folder / JOB / _SHARDS
        if not path.exists():
            return
        whole = read_bytes(path)
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:  # the line that a power cut or a full disk broke off
            with path.open("r+b") as file:
                file.truncate(len(kept))
        for number, line in enumerate(kept.splitlines(), start=1):
            try:
                one = Finished.of(parse_json(line))
            except (ValueError, TypeError) as error:
                raise OutputError(f"{path}:{number}: was altered ({error}); name another folder") from None
            self.finished[one.file, one.shard] = one
        for key, one in list(self.finished.items()):
            if one.file >= len(self._inputs) or not self._is_there(one):
                del self.finished[key]

    def _is_there(self, shard: Finished) -> bool:
        if not shard.rows:
            return True
        bad = self.path(shard.file, shard.shard, BAD)
        try:
            return self.path(shard.file, shard.shard).stat().st_size == shard.bytes and (not shard.bad or bad.is_file())
        except OSError:
            return False

    def path(self, file: int, shard: int, kind: str = "") -> Path:
        """Return where the answers of a shard lie; with the kind `_bad` those of its rows that have none."""
        suffix = self._form if not kind else "jsonl"
        return self.folder / kind / f"{self._inputs[file].stem}-{shard:05}.{suffix}"

    def put(self, shard: Shard, answers: ShardAnswers) -> None:
        """Write the answers of a shard, whole, and then that it is finished. Raises OutputError where it cannot be."""
        one = Finished(
            shard.file, shard.number, len(shard.rows), answers.num_answered, answers.num_unanswered,
            len(answers.answers), shard.last, shard.size,
        )  # fmt: skip
        target = self.path(*shard.key)
        try:
            if shard.rows:
                if answers.unanswered:
                    (self.folder / BAD).mkdir(exist_ok=True)
                    replace_content(self.path(*shard.key, BAD), answers.unanswered, self._temporary)
                replace_content(target, answers.answers, self._temporary)
                sync(self.folder)
            self._note(one)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be written ({reason(error)}); free space there, and the same command goes on from "
                "the last finished shard"
            ) from None
        self.finished[shard.key] = one

    def _note(self, shard: Finished) -> None:
        with (self.folder / JOB / _SHARDS).open("ab") as file:
            file.write(to_json(asdict(shard), _SHARDS).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def ended(self, file: int) -> bool:
        """Whether all shards of a file are finished."""
        last = [number for (place, number), one in self.finished.items() if place == file and one.last]
        return bool(last) and all((file, number) in self.finished for number in range(last[0] + 1))

    def end(self) -> dict[str, Any]:
        """Write what became of every file, and return it."""
        files = [{"file": file.path, "rows": 0, "answered": 0, "bad": 0, "shards": 0} for file in self._inputs]
        for one in self.finished.values():
            told: dict[str, Any] = files[one.file]
            for name in ("rows", "answered", "bad"):
                told[name] += getattr(one, name)
            told["shards"] += one.rows > 0
        found = {name: sum(int(file[name]) for file in files) for name in ("rows", "answered", "bad")}
        write_json(self.folder / JOB / _SUMMARY, {**found, "files": files})
        return {**found, "files": files}


def _require_same(folder: Path, path: Path, told: Mapping[str, Any]) -> None:
    """Raise OutputError, saying what differs, where the folder holds answers of something else."""
    try:
        before = parse_json(read_bytes(path))
        if not isinstance(before, dict):
            raise ValueError("an object is expected")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: was altered ({error}); name another folder") from None
    now = json.loads(json.dumps(told))
    differing = [_difference(name, before.get(name), now.get(name)) for name in {**now, **before}
                 if before.get(name) != now.get(name)]  # fmt: skip
    if differing:
        raise OutputError(
            f"{folder}: holds answers of another command ({'; '.join(differing)}); name another folder, or ask as "
            "before"
        )


def _difference(name: str, before: Any, now: Any) -> str:  # noqa: ANN401
    if name == "options" and isinstance(before, dict) and isinstance(now, dict):
        return ", ".join(
            f"{key}: {brief(before.get(key))} then, {brief(now.get(key))} now"
            for key in {**now, **before} if before.get(key) != now.get(key)
        )  # fmt: skip
    if name == "input" and isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"input: {len(before)} files then, {len(now)} now"
        changed = next(new for old, new in zip(before, now, strict=True) if old != new)
        return f"input: {changed.get('file')} is another file, or was changed since"
    return f"another {name}"
