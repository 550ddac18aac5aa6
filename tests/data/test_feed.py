"""A feed: which tasks share rows, what a share of the training rows holds out, and datasets of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.classes import ClassNames
from polytask.data.feed import feeds_of, hub_rows
from polytask.data.prepare import read_tables
from polytask.data.rows import DataTable, read_table
from polytask.errors import ConfigError, DataError
from polytask.options import DataOptions
from polytask.tasks import TASKS, TaskOptions
from polytask.terms import Split

Build = Callable[..., TaskOptions]
Write = Callable[..., str]
ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


def tables_of(split: Split, **tasks: TaskOptions) -> list[DataTable]:
    return [read_table(feed) for feed in feeds_of(tasks, split)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Write a dataset whose labels are numbers with names, as the hub holds them."""
    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["neg", "pos"]),
        tokens=datasets.List(datasets.Value("string")),
        ner_tags=datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"])),
    )
    rows = [
        {"text": "a b", "label": 1, "tokens": ["a", "b"], "ner_tags": [1, 2]},
        {"text": "c", "label": 0, "tokens": ["c"], "ner_tags": [0]},
        {"text": "d", "label": -1, "tokens": ["d"], "ner_tags": [-1]},
    ]
    (tmp_path / "reviews").mkdir()
    for split, chosen in (("train", rows), ("validation", rows[:2]), ("test", rows[1:2])):
        datasets.Dataset.from_list(chosen, features=features).to_parquet(tmp_path / "reviews" / f"{split}.parquet")
    return str(tmp_path / "reviews")


def test_feeds_are_shared_by_tasks_with_the_same_rows_and_inputs_only(options: Build, jsonl: Write) -> None:
    one, two = jsonl(ROWS, "one.jsonl"), jsonl(ROWS, "two.jsonl")
    feeds = feeds_of(
        {
            "a": options("classification", one),
            "b": options("regression", one, label="label"),
            "c": options("classification", two),
            "d": options("classification", one, text="title"),
            "e": options("classification", one, text_pair=("text", "title")),
            "f": options("classification", (one, two)),
            "g": options("classification", (two, one)),
            "h": options("classification", one, format="jsonl"),
            "i": options("classification", one, dev=0.1),
            "j": options("classification", ROWS),
            "k": options("classification", [dict(row) for row in ROWS]),
        },
        "train",
    )
    assert [tuple(feed.tasks) for feed in feeds] == [
        ("a", "b"), ("c",), ("d",), ("e",), ("f",), ("g",), ("h",), ("i",), ("j", "k"),
    ]  # fmt: skip


def test_rows_may_be_python_objects(options: Build) -> None:
    (table,) = tables_of("train", it=options("classification", ROWS, dev=ROWS[:1]))
    assert table.rows["text"][:] == ["a", "b"]
    assert table.rows["place"][:] == ["train row 1", "train row 2"]
    (same,) = tables_of("dev", it=options("classification", ROWS, dev=ROWS))
    assert same.rows["place"][:] == ["dev row 1", "dev row 2"]


def test_several_files_are_read_one_after_another(options: Build, jsonl: Write) -> None:
    files = tuple(jsonl([row], f"{name}.jsonl") for name, row in zip("ab", ROWS, strict=True))
    (table,) = tables_of("train", it=options("classification", files))
    assert table.rows["place"][:] == [f"{file}:1" for file in files]
    assert table.feed.name == "a.jsonl, b.jsonl"
    with pytest.raises(DataError, match=r"c.jsonl: no such file .*did you mean"):
        tables_of("train", it=options("classification", (*files, files[0].replace("a.jsonl", "c.jsonl"))))


def test_a_task_without_training_or_dev_rows_is_refused(options: Build, jsonl: Write) -> None:
    path = jsonl(ROWS)
    with pytest.raises(ConfigError, match=r"tasks.it.data: no training rows; give `train:`"):
        feeds_of({"it": options("classification")}, "train")
    with pytest.raises(ConfigError, match=r"tasks.it.data: no dev rows, .*such as `dev: 0.1`"):
        feeds_of({"it": options("classification", path)}, "dev")
    assert feeds_of({"it": options("classification", path)}, "test") == []


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1])
def test_a_share_lies_between_nothing_and_all(share: float, options: Build) -> None:
    with pytest.raises(ValueError, match="a fraction of the training rows lies between 0 and 1"):
        options("classification", ROWS, dev=share)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=60),
    share=st.floats(0.05, 0.95),
)
def test_a_share_cuts_the_rows_in_two_and_keeps_equal_texts_together(texts: list[str], share: float) -> None:
    rows = tuple({"text": text, "label": str(at)} for at, text in enumerate(texts))
    chosen = TASKS["classification"].Options(type="classification", data=DataOptions(train=rows, dev=share))
    (train,), (dev,) = tables_of("train", it=chosen), tables_of("dev", it=chosen)
    labels = [*train.rows["label.it"][:], *dev.rows["label.it"][:]]
    assert sorted(labels, key=int) == [row["label"] for row in rows]
    assert not set(train.rows["text"][:]) & set(dev.rows["text"][:])
    assert train.label_stats["it"].present == len(train.rows)
    assert train.feed.inputs == dev.feed.inputs


def test_a_share_holds_out_about_so_many_rows(options: Build) -> None:
    rows = [{"text": f"row {at}", "label": "x"} for at in range(2000)]
    (dev,) = tables_of("dev", it=options("classification", rows, dev=0.1))
    assert 150 < len(dev.rows) < 250
    tokens = [{"tokens": ["row", str(at)], "tags": ["O", "O"]} for at in range(2000)]
    (held,) = tables_of("dev", it=options("tagging", tokens, dev=0.1))
    assert held.rows["text"][:] == dev.rows["text"][:]  # the text that the tokens spell decides


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=60),
    share=st.sampled_from([None, 0.3]),
    of=st.integers(2, 5),
)
def test_each_row_is_in_one_fold_and_trains_in_all_others(texts: list[str], share: float | None, of: int) -> None:
    rows = tuple({"text": text, "label": str(at)} for at, text in enumerate(texts))
    dev = ({"text": "dev", "label": "0"},) if share is None else share
    tested: list[str] = []
    for number in range(1, of + 1):
        data = DataOptions(train=rows, dev=dev, fold=f"{number}/{of}")
        chosen = TASKS["classification"].Options(type="classification", data=data)
        (train,), (held,), (test,) = (tables_of(split, it=chosen) for split in ("train", "dev", "test"))
        labels = [label for table in (train, test) for label in table.rows["label.it"][:]]
        labels += [] if share is None else held.rows["label.it"][:]
        assert sorted(labels, key=int) == [row["label"] for row in rows]
        assert not set(train.rows["text"][:]) & set(test.rows["text"][:])
        tested += test.rows["label.it"][:]
    whole = TASKS["classification"].Options(type="classification", data=DataOptions(train=rows, dev=dev))
    assert sorted(tested, key=int) == sorted(tables_of("train", it=whole)[0].rows["label.it"][:], key=int)


def test_a_label_that_only_the_fold_has_is_known(options: Build) -> None:
    rows = [{"text": f"row {at}", "label": "rare" if at == 0 else "xy"[at % 2]} for at in range(40)]
    folds = [options("classification", rows, dev=ROWS, fold=f"{number}/4") for number in range(1, 5)]
    found = [read_tables({"it": fold}) for fold in folds]
    assert all(tables.tasks["it"].labels == ("rare", "x", "y") for tables in found)
    assert sum("rare" in tables.tables["test"][0].rows["label.it"][:] for tables in found) == 1


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "1", "a/b", "1/0", "1/5000", "-1/5", "1/٥", "１/５", " 1/5"])
def test_a_fold_is_one_of_several(fold: str, options: Build) -> None:
    with pytest.raises(ValueError, match="expected the number of a fold and how many there are, such as 1/5"):
        options("classification", ROWS, fold=fold)


def test_a_fold_takes_the_place_of_test_rows(options: Build) -> None:
    with pytest.raises(ValueError, match="found both fold and test"):
        options("classification", ROWS, fold="1/5", test=ROWS)


def test_a_hub_dataset_gives_names_for_class_labels(options: Build, folder: str) -> None:
    tasks = {
        "sentiment": options("classification", hub=folder),
        "entities": options("tagging", hub=folder, tags="ner_tags"),
    }
    (table,) = tables_of("train", **tasks)
    assert table.rows["label.sentiment"][:] == ["pos", "neg", None]
    assert table.rows["label.entities"][:] == [["B-X", "I-X"], ["O"], None]
    assert table.rows["place"][0] == f"{folder} (train):1"
    (dev,) = tables_of("dev", **tasks)
    assert dev.rows["text"][:] == ["a b", "c"]
    assert feeds_of(tasks, "test") == []


def test_every_named_split_of_a_hub_dataset_is_read(options: Build, folder: str) -> None:
    (table,) = tables_of("train", it=options("classification", ("validation", "test"), hub=folder))
    assert table.rows["place"][:] == [f"{folder} (validation):{at}" for at in (1, 2)] + [f"{folder} (test):1"]
    assert table.feed.name == f"{folder} (validation, test)"


def test_a_hub_dataset_and_rows_of_ones_own_go_together(options: Build, folder: str) -> None:
    chosen = options("classification", hub=folder, dev=ROWS)
    assert len(tables_of("train", it=chosen)[0].rows) == 3
    assert tables_of("dev", it=chosen)[0].rows["text"][:] == ["a", "b"]


def test_a_folder_of_jsonl_is_a_hub_dataset_and_a_changed_one_is_read_again(
    options: Build, jsonl: Write, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    chosen = options("classification", hub=str(tmp_path / "set"), dev=0.5)
    for text in ("first", "second"):
        jsonl([{"text": f"{text} {at}", "label": "x"} for at in range(20)], "set/train.jsonl")
        both = [table.rows["text"][:] for split in ("train", "dev") for table in tables_of(split, it=chosen)]
        assert sorted(chain(*both)) == sorted(f"{text} {at}" for at in range(20))
        assert all(both)


def test_a_hub_dataset_that_is_not_to_be_had_says_why(
    options: Build, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"split 'tset': Unknown split .*check the name and the network"):
        tables_of("train", it=options("classification", "tset", hub=folder))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.jsonl").write_text("{broken", "utf-8")
    with pytest.raises(DataError, match=r"hub dataset '.*broken', split 'train': .*generating the dataset .*JSON"):
        tables_of("train", it=options("classification", hub=str(tmp_path / "broken")))

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"'nobody/nothing', split 'train': Couldn't reach the Hub; .*give the folder"):
        tables_of("train", it=options("classification", hub="nobody/nothing"))


def test_class_names_of_a_parquet_file_are_those_of_the_dataset(options: Build, folder: str) -> None:
    kinds = {"sentiment": ("classification", {}), "entities": ("tagging", {"tags": "ner_tags"})}
    files = {split: f"{folder}/{name}.parquet" for split, name in (("train", "train"), ("dev", "validation"))}
    by_hub, by_file = (
        {name: options(kind, **where, **rest) for name, (kind, rest) in kinds.items()}
        for where in ({"hub": folder}, {"train": files["train"], "dev": files["dev"]})
    )
    for split in ("train", "dev"):
        (one,), (other,) = tables_of(split, **by_hub), tables_of(split, **by_file)
        assert [one.rows[column][:] for column in ("text", "label.sentiment", "label.entities")] == [
            other.rows[column][:] for column in ("text", "label.sentiment", "label.entities")
        ]
    first, second = read_tables(by_hub), read_tables(by_file)
    assert {name: task.to_json() for name, task in first.tasks.items()} == {
        name: task.to_json() for name, task in second.tasks.items()
    }
    assert second.tables["train"][0].rows["label.sentiment"][:] == ["pos", "neg", None]


def test_class_names_lie_anywhere_in_a_row() -> None:
    label = {"names": ["x", "y"], "_type": "ClassLabel"}
    features = {
        "meta": {"label": label, "other": {"dtype": "string", "_type": "Value"}},
        "answers": {"feature": {"kind": label}, "_type": "Sequence"},
        "old": [label],
        "bare": {"num_classes": 2, "_type": "ClassLabel"},
    }
    names = ClassNames(features)
    row = {"meta": {"label": 1, "other": "a"}, "answers": {"kind": [0, 1]}, "old": [1, -1], "bare": 1, "more": 5}
    assert names.named(row) == {
        "meta": {"label": "y", "other": "a"}, "answers": {"kind": ["x", "y"]}, "old": None, "bare": 1, "more": 5,
    }  # fmt: skip
    assert ClassNames(datasets.Features(a=datasets.ClassLabel(names=["x"])).to_dict()).named({"a": 0}) == {"a": "x"}


def test_a_class_number_without_a_name_is_named_with_its_row(options: Build, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": [0, 2]})
    told = {"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}
    path = tmp_path / "rows.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(told)}), path)
    with pytest.raises(DataError, match=r"rows.parquet:2: found the class 2 in 'label', which has names for 0 to 1"):
        tables_of("train", it=options("classification", str(path)))
    for broken in (b"{", b"[]", b'{"info": []}', b'{"info": {"features": 5}}', b'{"info": null}'):
        pq.write_table(table.replace_schema_metadata({"huggingface": broken}), path)
        (found,) = tables_of("train", it=options("classification", str(path)))
        assert found.rows["label.it"][:] == ["0", "2"]


def test_a_folder_of_csv_keeps_labels_that_look_empty(options: Build, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    labels = ["NA", "None", "", "x", "null"]
    lines = "".join(f"text {at},{label}\n" for at, label in enumerate(labels))
    (tmp_path / "set" / "train.csv").write_text(f"text,label\n{lines}", "utf-8")
    (table,) = tables_of("train", it=options("classification", hub=str(tmp_path / "set"), dev=ROWS))
    assert table.rows["label.it"][:] == ["NA", "None", None, "x", "null"]


def test_options_of_files_are_refused_beside_hub() -> None:
    for name, value in (("separator", ";"), ("encoding", "cp1252"), ("format", "csv"), ("sentence", "n")):
        with pytest.raises(ValueError, match=f"found '{name}' together with `hub`"):
            DataOptions(hub="any", **{name: value})


def test_class_numbers_become_names_and_missing_ones_nothing() -> None:
    kinds = datasets.Features(
        one=datasets.ClassLabel(names=["x", "y"]), many=datasets.List(datasets.ClassLabel(names=["O", "B"]))
    )
    rows = [
        {"one": 1, "many": [0, 1]},
        {"one": None, "many": []},
        {"one": -1, "many": [0, -1]},
        {"one": 0, "many": None},
    ]
    found = hub_rows(datasets.Dataset.from_list(rows, features=kinds), "name")
    assert [row for _, row in found] == [
        {"one": "y", "many": ["O", "B"]},
        {"one": None, "many": []},
        {"one": None, "many": None},
        {"one": "x", "many": None},
    ]
