"""The real sets: every row that their description counts is read, and the traps in them are noted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.data.feed import feeds_of
from polytask.data.prepare import encode_tables, read_tables
from polytask.data.rows import read_table
from polytask.data.tokens import Tokenization
from polytask.tasks import TaskOptions
from polytask.terms import Split

Build = Callable[..., TaskOptions]
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the labelled sets are not in {SHARED}")

# Folder: the tasks that read it, as (type, options), and its rows by split, from the sets' README.
SETS: dict[str, tuple[dict[str, tuple[str, dict[str, Any]]], tuple[int, int, int]]] = {
    "imdb": (
        {"sentiment": ("classification", {}), "stars": ("regression", {"label": "rating"})},
        (4700, 300, 2000),
    ),
    "ag_news": ({"topic": ("classification", {})}, (6000, 1000, 2000)),
    "wnut17": ({"entities": ("tagging", {})}, (3394, 1009, 1287)),
    "snips": ({"intent": ("classification", {"label": "intent"}), "slots": ("tagging", {})}, (13084, 700, 700)),
    "ud_ewt": (
        {"upos": ("tagging", {"tags": "upos"}), "deprel": ("tagging", {"tokens": "form", "tags": "deprel"})},
        (2338, 2001, 2077),
    ),
    "vader_ratings": (
        {"intensity": ("regression", {}), "domain": ("classification", {"label": "domain"})},
        (8000, 2345, 2305),
    ),
    "chnsenticorp": ({"sentiment": ("classification", {})}, (3000, 1000, 1200)),
    "weibo_ner": ({"entities": ("tagging", {})}, (1350, 270, 270)),
}
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def tasks_of(name: str, options: Build) -> dict[str, TaskOptions]:
    files = {split: str(next((SHARED / name).glob(f"*{split}.*"))) for split in SPLITS}
    return {
        task: options(kind, files["train"], dev=files["dev"], test=files["test"], **rest)
        for task, (kind, rest) in SETS[name][0].items()
    }


def test_every_set_is_read() -> None:
    assert len(SETS) == 8
    assert set(SETS) == {folder.name for folder in SHARED.iterdir() if folder.is_dir()}


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_the_rows_that_its_description_counts(name: str, options: Build) -> None:
    tasks = tasks_of(name, options)
    for split, count in zip(SPLITS, SETS[name][1], strict=True):
        (feed,) = feeds_of(tasks, split)  # all tasks of a set share its rows
        table = read_table(feed)
        assert len(set(table.rows["place"][:])) == count
        assert all(stats.present == count for stats in table.label_stats.values())


@pytest.mark.slow
def test_intent_and_slots_of_snips_share_all_rows(options: Build, tokenizer: Any) -> None:
    tasks = tasks_of("snips", options)
    tables = read_tables(tasks)
    assert [table.apart for found in tables.tables.values() for table in found] == [(0, "")] * 3
    (source,) = encode_tables(tables, Tokenization.of(tokenizer, 64))["dev"]
    assert source.tasks == ("intent", "slots")
    assert source.carries["intent"].tolist() == source.carries["slots"].tolist() == list(range(700))
    assert all(len(source.targets["slots"][row]) == len(source.word_tokens[row]) for row in range(700))
    assert len(tables.tasks["intent"].labels) == 7


def test_the_traps_of_the_real_sets_are_noted(options: Build) -> None:
    said = {
        name: [f"{note.place}: {note.message}" for note in read_tables(tasks_of(name, options)).notes]
        for name in ("weibo_ner", "ud_ewt", "wnut17")
    }
    assert said["wnut17"] == []
    damaged, alike, both = said["weibo_ner"]
    assert damaged.startswith("train, dev and test of entities: 10, 5 and 7 texts hold U+FFFD")
    assert alike.startswith(
        "dev and test of entities: 42 of 270 texts and 40 of 270 texts are also in the training rows of entities"
    )
    assert both.startswith(
        "test of entities: 8 of 270 texts are also in the dev rows (which choose the model) of entities"
    )
    unseen = [note for note in said["ud_ewt"] if "training never has" in note]
    assert [note.partition(", the first at")[0] for note in unseen] == [
        "dev of deprel: labels that training never has count as errors: dep (2",
        "test of deprel: labels that training never has count as errors: csubj:outer (1",
    ]
