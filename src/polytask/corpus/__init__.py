"""The bundled corpus: short English texts written for polytask, with sentiment, topic and entities (CC0).

How it was annotated, and how well two annotations agree, is in docs/data.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from polytask.data.words import split_words
from polytask.terms import Split

_MARK = re.compile(r"\[([^\[\]]+)\]\((PER|ORG|LOC|WORK)\)")


@dataclass(frozen=True)
class CorpusText:
    """One text of the corpus.

    Attributes:
        sentiment, topic: labels; None if the cell is intentionally empty.
        entities: (first character, end, type) of each entity, or None if entities are not labelled.
    """

    place: str
    kind: str
    sentiment: str | None
    topic: str | None
    text: str
    entities: tuple[tuple[int, int, str], ...] | None

    def row(self) -> dict[str, Any]:
        """Return the text as a row of a data file, without empty cells."""
        words = split_words(self.text)
        cells = {"sentiment": self.sentiment, "topic": self.topic}
        row: dict[str, Any] = {"text": self.text, **{key: value for key, value in cells.items() if value}}
        row["tokens"] = [self.text[start:end] for start, end in words]
        if self.entities is not None:
            tags = ["O"] * len(words)
            for start, end, label in self.entities:
                inside = [index for index, (first, last) in enumerate(words) if start <= first and last <= end]
                for index in inside:
                    tags[index] = f"I-{label}"
                tags[inside[0]] = f"B-{label}"
            row["tags"] = tags
        return row

    @property
    def split(self) -> Split:
        """The split of the text: about 70 % train, 12 % dev and 18 % test."""
        drawn = hashlib.sha256(self.text.encode()).digest()[0]
        return "train" if drawn < 180 else "dev" if drawn < 210 else "test"


def texts() -> Iterator[CorpusText]:
    """Yield the texts of the corpus, file by file."""
    for file in sorted(files("polytask.corpus").iterdir(), key=lambda item: item.name):
        if file.name.endswith(".txt"):
            for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
                if line.strip() and not line.startswith("#"):
                    yield read_line(line, f"{file.name}:{number}")


def read_line(line: str, place: str) -> CorpusText:
    """Read `kind | sentiment | topic | text with [Ang Lee](PER) marks`; "-" is an empty cell, "~ " before the text
    means that its entities are not labelled.
    """
    kind, sentiment, topic, marked = line.split(" | ")
    labelled = not marked.startswith("~ ")
    marked = marked.removeprefix("~ ")
    plain, entities, last = "", [], 0
    for match in _MARK.finditer(marked):
        plain += marked[last : match.start()]
        entities.append((len(plain), len(plain) + len(match[1]), match[2]))
        plain += match[1]
        last = match.end()
    plain += marked[last:]
    empty = {"-": None}
    return CorpusText(
        place, kind, empty.get(sentiment, sentiment), empty.get(topic, topic), plain,
        tuple(entities) if labelled else None,
    )  # fmt: skip


def write_files(folder: Path) -> dict[Split, int]:
    """Write train.jsonl, dev.jsonl and test.jsonl, and return the number of rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Split, list[str]] = {"train": [], "dev": [], "test": []}
    for text in texts():
        rows[text.split].append(json.dumps(text.row(), ensure_ascii=False, allow_nan=False) + "\n")
    for split, lines in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    return {split: len(lines) for split, lines in rows.items()}
