"""From options to tasks and sources: what a person should know is noted, and what cannot work is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polytask.data.prepare import DataTables, encode_tables, fingerprints, read_tables, truncation_warnings
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError, DataError
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]
Write = Callable[..., str]
TRAIN = [{"text": "good film", "label": "pos"}, {"text": "bad film", "label": "neg"}]
DEV = [{"text": "fine film", "label": "pos"}]


def noted(tables: DataTables) -> list[tuple[str, str]]:
    """Return the notes as (place, message), without those on splits that are too small to score anything."""
    small = ("only ", "every row has ")
    return [(note.place, note.message) for note in tables.notes if not note.message.startswith(small)]


def notes_of(tasks: Mapping[str, TaskOptions]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place, message in noted(read_tables(tasks)):
        found.setdefault(place, []).append(message)
    return found


def encoded(tables: DataTables, tokenizer: Any, max_tokens: int = 32) -> Any:
    return encode_tables(tables, Tokenization.of(tokenizer, max_tokens))


def test_a_clean_job_has_nothing_to_note(options: Build, tokenizer: Any) -> None:
    tables = read_tables({"it": options("classification", TRAIN, dev=DEV, test=[{"text": "new", "label": "neg"}])})
    assert noted(tables) == []
    sources = encoded(tables, tokenizer)
    assert {split: [len(source) for source in found] for split, found in sources.items()} == {
        "train": [2], "dev": [1], "test": [1],
    }  # fmt: skip
    assert truncation_warnings(sources, 32) == []


def test_tasks_of_the_same_files_share_one_source(options: Build, jsonl: Write, tokenizer: Any) -> None:
    rows = [
        {"text": "go home", "label": "xy"[at % 2], "tokens": ["go", "home"], "tags": ["O", "B-P"]} for at in range(4)
    ]
    path, other = jsonl(rows), jsonl(TRAIN, "other.jsonl")
    tables = read_tables(
        {
            "intent": options("classification", path, dev=path),
            "alone": options("classification", other, dev=other),
            "slots": options("tagging", path, dev=path),
        }
    )
    sources = encoded(tables, tokenizer)
    assert [source.tasks for source in sources["train"]] == [("intent", "slots"), ("alone",)]
    shared = sources["train"][0]
    assert len(shared) == 4
    assert np.array_equal(shared.carries["intent"], shared.carries["slots"])


def test_leaks_into_dev_and_test_are_found_in_every_tasks_training_rows(options: Build) -> None:
    found = notes_of(
        {
            "one": options("classification", TRAIN, dev=[*DEV, {"text": "GOOD \n film", "label": "pos"}]),
            "two": options(
                "classification",
                [{"text": "sunny", "label": "x"}, {"text": "rainy", "label": "y"}],
                dev=[{"text": "windy", "label": "x"}],
                test=[{"text": "dry", "label": "y"}, {"text": "bad film", "label": "x"}],
            ),
        }
    )
    assert found == {
        "dev of one": ["1 of 2 texts are also in the training rows of one, the first at dev row 2"],
        "test of two": ["1 of 2 texts are also in the training rows of one, the first at test row 2"],
    }


def test_test_texts_that_choose_the_model_are_noted(options: Build) -> None:
    new = [*DEV, {"text": "new", "label": "neg"}]
    found = notes_of({"it": options("classification", TRAIN, dev=DEV, test=new)})
    assert found == {
        "test of it": [
            "1 of 2 texts are also in the dev rows (which choose the model) of it, the first at test row 1"
        ]
    }  # fmt: skip


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_file_of_another_split_named_as_test_is_an_error(options: Build, jsonl: Write, split: str) -> None:
    files = {"train": jsonl(TRAIN, "a.jsonl"), "dev": jsonl(DEV, "b.jsonl")}
    chosen = options("classification", files["train"], dev=files["dev"], test=[files[split]])
    with pytest.raises(ConfigError) as caught:
        read_tables({"it": chosen})
    told = f"tasks.it.data.test: found {files[split]!r}, which is also tasks.it.data.{split}; "
    assert str(caught.value).startswith(told)


def test_a_pair_leaks_as_a_pair_only(options: Build) -> None:
    def pairs(*texts: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"a": first, "b": second, "label": "xy"[at % 2]} for at, (first, second) in enumerate(texts)]

    train, dev = pairs(("p", "q"), ("r", "s")), pairs(("p", "s"), ("q", "p"), ("r", "S "))
    found = notes_of({"it": options("classification", train, dev=dev, text_pair=("a", "b"))})
    assert found == {"dev of it": ["1 of 3 texts are also in the training rows of it, the first at dev row 3"]}


def test_fingerprints_are_equal_for_equal_texts_whatever_case_and_white_space(options: Build) -> None:
    rows = [{"text": text, "label": "xy"[at % 2]} for at, text in enumerate(["A  b", " a\u3000B\n", "ab", "a b c"])]
    tables = read_tables({"it": options("classification", rows, dev=DEV)})
    hashes = fingerprints(tables.tables["train"][0]).tolist()
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_a_held_out_share_does_not_leak(options: Build) -> None:
    rows = [{"text": f"text {at % 50}", "label": "xy"[at % 2]} for at in range(200)]
    tables = read_tables({"it": options("classification", rows, dev=0.3)})
    assert tables.notes == ()
    assert sum(len(tables.tables[split][0].rows) for split in ("train", "dev")) == 200


def test_labels_that_training_never_has_are_noted_and_become_ignored_targets(options: Build, tokenizer: Any) -> None:
    dev = [*DEV, *({"text": f"so so {at}", "label": "mixed"} for at in range(2))]
    tables = read_tables({"it": options("classification", TRAIN, dev=dev)})
    assert noted(tables) == [
        ("dev of it", "labels that training never has count as errors: mixed (2, the first at dev row 2)")
    ]
    assert tables.tasks["it"].labels == ("neg", "pos")
    assert encoded(tables, tokenizer)["dev"][0].targets["it"].tolist() == [1, -100, -100]
    words = [{"tokens": ["a", "b"], "tags": ["B-X", "O"]}]
    new = [{"tokens": ["c", "d"], "tags": ["B-Y", "I-X"]}]  # not IOB1, where no entity begins with B- here
    tables = read_tables({"it": options("tagging", words, dev=new)})
    assert [message for _, message in noted(tables)] == [
        "1 orphan I- tags were read as B-, the first at dev row 1",
        "labels that training never has count as errors: B-Y (1, the first at dev row 1)",
    ]
    assert encoded(tables, tokenizer)["dev"][0].targets["it"][0].tolist() == [-100, 1]


def test_masked_empty_and_unspelled_rows_are_noted(options: Build) -> None:
    rows = [
        *TRAIN,
        {"text": "", "label": "pos"},
        {"text": "no label"},
        {"text": "a<br>b", "label": "pos", "tokens": ["a", "b"], "tags": ["O", "B-X"]},
    ]
    dev = [{**DEV[0], "tokens": ["fine", "film"], "tags": ["O", "B-X"]}]
    found = notes_of({"topic": options("classification", rows, dev=dev), "slots": options("tagging", rows, dev=dev)})
    assert found == {
        "train of topic, slots": [
            "1 texts are empty or hold no visible character, the first at train row 3",
            "the tokens of 1 rows do not spell out their text, the first at train row 5; "
            "the joined tokens are encoded as a separate row, in addition to the text if a task reads it",
        ],
        "train of topic": ["1 of 5 rows carry no label and are masked"],
        "train of slots": ["4 of 5 rows carry no label and are masked"],
    }


def test_what_the_readers_say_is_noted(options: Build, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('text,label\n"two\nlines",x\nfine,y\n', "utf-8")
    for _ in range(2):  # the second time from the cache
        (said,) = notes_of({"it": options("classification", str(path), dev=DEV)})["train of it"]
        assert said.startswith(f"1 cells hold line breaks, the first in the row at {path}:2; ")


@pytest.mark.parametrize(
    ("more", "splits"),
    [
        ({"dev": 0.3}, "train and dev"),
        ({"dev": 0.2, "fold": "1/3"}, "train, dev and test"),
        ({"dev": "rows.csv", "test": "rows.csv", "split_column": "part"}, "train, dev and test"),
    ],
)
def test_a_file_that_is_split_is_noted_once(
    more: dict[str, Any], splits: str, options: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f'"text {number}\nline",{"xy"[number % 2]},{("train", "dev", "test")[number % 3]}' for number in range(39)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,part", *lines, "text,label,part", ""]), "utf-8")
    found = notes_of({"it": options("classification", "rows.csv", **more)})[f"{splits} of it"]
    assert [message.split(", ")[0] for message in found] == ["39 cells hold line breaks", "1 lines repeat the header"]


def test_files_of_several_splits_are_counted_each(options: Build, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text('text,label\n"two\nlines",x\nfine,y\n', "utf-8")
    found = notes_of({"it": options("classification", str(tmp_path / "a.csv"), dev=str(tmp_path / "b.csv"))})
    assert any(message.startswith("1 and 1 cells hold line breaks") for message in found["train and dev of it"])


def test_truncated_texts_are_counted(options: Build, tokenizer: Any) -> None:
    long = {"text": "word " * 50, "label": "pos"}
    tables = read_tables({"it": options("classification", [*TRAIN, long, long], dev=DEV)})
    sources = encoded(tables, tokenizer)
    assert [(note.place, note.message) for note in truncation_warnings(sources, 32)] == [
        ("train of it", "2 of 4 texts (50 %) are longer than 32 tokens and truncated")
    ]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_without_any_label_is_refused(split: str, options: Build, jsonl: Write) -> None:
    bare = jsonl([{"text": "a", "label": ""}], "bare.jsonl")
    with pytest.raises(ConfigError, match=rf"tasks.it: bare.jsonl: no {split} row carries a label; check the column"):
        read_tables({"it": options("classification", TRAIN, **{"dev": DEV, split: bare})})


def test_training_rows_that_teach_nothing_are_refused(options: Build) -> None:
    with pytest.raises(ConfigError, match=r"tasks.it \(1 rows\): .*only the label 'pos'.*at least two classes"):
        read_tables({"it": options("classification", TRAIN[:1], dev=DEV)})


def test_a_task_without_dev_rows_is_refused_before_anything_is_tokenised(options: Build) -> None:
    with pytest.raises(ConfigError, match=r"tasks.it.data: no dev rows.*such as `dev: 0.1`"):
        read_tables({"it": options("classification", TRAIN)})


def test_a_missing_file_and_a_wrong_column_name_the_nearest(options: Build, jsonl: Write) -> None:
    path = jsonl(TRAIN, "train.jsonl")
    with pytest.raises(DataError, match=r"trian.jsonl: no such file .*did you mean 'train.jsonl'"):
        read_tables({"it": options("classification", path.replace("train.jsonl", "trian.jsonl"), dev=0.5)})
    with pytest.raises(ConfigError, match=r"tasks.it.label: train.jsonl: no column 'lable' .*did you mean 'label'"):
        read_tables({"it": options("classification", path, dev=path, label="lable")})
    with pytest.raises(DataError, match=r"tasks.it.text: .*train.jsonl:1: no column 'txt' .*did you mean 'text'"):
        read_tables({"it": options("classification", path, dev=path, text="txt")})
