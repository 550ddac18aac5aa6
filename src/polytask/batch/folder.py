"""The output folder: records what it belongs to and which shards are finished, and adds shards.

    OUT/reviews-00000.jsonl         predictions, in the order of the rows
    OUT/_bad/reviews-00000.jsonl    rows without a prediction: file, row, reason
    OUT/_job/manifest.json          the model, the input and the options
    OUT/_job/shards.jsonl           the finished shards, one per line

Programs that read folders of data files (Spark, pyarrow, DuckDB) skip names that begin with an underscore.
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
    """A shard whose predictions are in the folder.

    Attributes:
        file: index of its file among the inputs.
        shard: index of the shard in the file.
        rows: number of input rows.
        answered: number of predictions.
        bad: number of rows without a prediction.
        bytes: size of the file of predictions.
        last: whether it is the last shard of its file.
        size: approximate number of input bytes of its rows.
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
        """Read a line of the list. Raises ValueError or TypeError for an invalid one."""
        shard = cls(**value)
        numbers = [number for name, number in asdict(shard).items() if name != "last"]
        if not isinstance(shard.last, bool) or not all(type(one) is int and one >= 0 for one in numbers):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError("a number is expected")
        return shard


class AnswerFolder:
    """The output folder, which is locked by this process.

    Attributes:
        finished: the finished shards, by the indices of file and shard.

    Args:
        folder: path of the folder.
        inputs: the input files.
        form: format of the output files, which is also their extension.
    """

    def __init__(self, folder: Path, inputs: Sequence[Input], form: str) -> None:
        self.folder = folder
        self.finished: dict[tuple[int, int], Finished] = {}
        self._inputs = inputs
        self._form = form
        self._temporary = folder / JOB / _WRITING

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Initialise the folder, or continue with it.

        Raises OutputError if it contains something else: predictions of another model, input or options, or files that
        do not belong to this command.
        """
        path = self.folder / JOB / _MANIFEST
        manifest = {"form": _FORM, **identity}
        if path.exists():
            _require_same(self.folder, path, manifest)
            self._read_finished()
        else:
            self._require_empty()
            path.parent.mkdir(exist_ok=True)
            write_json(path, manifest)
            sync(self.folder)
        with suppress(OSError):
            self._temporary.unlink()

    def _require_empty(self) -> None:
        try:
            names = sorted(entry.name for entry in self.folder.iterdir() if entry.name not in (LOCK, JOB))
            names += [f"{JOB}/{entry.name}" for entry in (self.folder / JOB).glob("*") if entry.name[0] != "."]
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be read ({reason(error)}); name another folder") from None
        if names:
            raise OutputError(
                f"{self.folder}: holds files that do not belong to this command ({', '.join(names[:5])}); name another "
                "folder"
            )

    def _read_finished(self) -> None:
        """Read the finished shards, without those whose files are missing or have another size."""
        path = self.folder / JOB / _SHARDS
        if not path.exists():
            return
        content = read_bytes(path)
        complete_lines = content[: content.rfind(b"\n") + 1]
        if complete_lines != content:  # an incomplete line, after a power cut or with a full disk
            with path.open("r+b") as file:
                file.truncate(len(complete_lines))
        for number, line in enumerate(complete_lines.splitlines(), start=1):
            try:
                finished = Finished.of(parse_json(line))
            except (ValueError, TypeError) as error:
                raise OutputError(f"{path}:{number}: was altered ({error}); name another folder") from None
            self.finished[finished.file, finished.shard] = finished
        for key, finished in list(self.finished.items()):
            if finished.file >= len(self._inputs) or not self._is_there(finished):
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
        """Return the output file of a shard; with the kind `_bad`, that of the rows without a prediction."""
        suffix = self._form if not kind else "jsonl"
        return self.folder / kind / f"{self._inputs[file].stem}-{shard:05}.{suffix}"

    def put(self, shard: Shard, answers: ShardAnswers) -> None:
        """Write the predictions of a shard atomically, then record it as finished. Raises OutputError on failure."""
        finished = Finished(
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
            self._note(finished)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be written ({reason(error)}); free space there, and run the same command to "
                "continue from the last finished shard"
            ) from None
        self.finished[shard.key] = finished

    def _note(self, shard: Finished) -> None:
        with (self.folder / JOB / _SHARDS).open("ab") as file:
            file.write(to_json(asdict(shard), _SHARDS).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def ended(self, file: int) -> bool:
        """Whether all shards of a file are finished."""
        last = [number for (place, number), finished in self.finished.items() if place == file and finished.last]
        return bool(last) and all((file, number) in self.finished for number in range(last[0] + 1))

    def end(self) -> dict[str, Any]:
        """Write the summary of all files, and return it."""
        files = [{"file": file.path, "rows": 0, "answered": 0, "bad": 0, "shards": 0} for file in self._inputs]
        for finished in self.finished.values():
            record: dict[str, Any] = files[finished.file]
            for name in ("rows", "answered", "bad"):
                record[name] += getattr(finished, name)
            record["shards"] += finished.rows > 0
        totals = {name: sum(int(file[name]) for file in files) for name in ("rows", "answered", "bad")}
        write_json(self.folder / JOB / _SUMMARY, {**totals, "files": files})
        return {**totals, "files": files}


def _require_same(folder: Path, path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise OutputError, naming the differences, if the folder belongs to another command."""
    try:
        before = parse_json(read_bytes(path))
        if not isinstance(before, dict):
            raise ValueError("an object is expected")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: was altered ({error}); name another folder") from None
    now = json.loads(json.dumps(manifest))
    differing = [_difference(name, before.get(name), now.get(name)) for name in {**now, **before}
                 if before.get(name) != now.get(name)]  # fmt: skip
    if differing:
        raise OutputError(
            f"{folder}: holds predictions of another command ({'; '.join(differing)}); name another folder, or use "
            "the same options"
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
