"""`polytask init`: what columns and file names are taken for, and that what is written passes `check`."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.assemble import assemble
from polytask.config import load_config, validate
from polytask.config.document import parse
from polytask.data.prepare import read_tables
from polytask.data.readers import read_file
from polytask.errors import DataError, OutputError, UserError
from polytask.init import init
from polytask.init.language import ENGLISH, MULTILINGUAL, choose_reader, language_of
from polytask.init.splits import data_sets
from polytask.init.text import comment, scalar
from polytask.options import FileOptions

ROOT = Path(__file__).parents[2]
NOUNS = ("film", "phone", "train", "song", "book", "shop", "meal")


def sentence(number: int) -> str:
    return f"The {NOUNS[number % 7]} of the {NOUNS[number // 7 % 7]} was number {number}, and that is all."


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], separator: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        lines.writeheader()
        lines.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def proposed(folder: Path, *files: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """What init writes for files: the tasks, without the files of their data."""
    init(files, folder / "first.yaml", force=True, **options)
    values = yaml.safe_load((folder / "first.yaml").read_text("utf-8"))
    return values["tasks"]


def test_each_kind_of_column_becomes_its_kind_of_task(tmp_path: Path) -> None:
    rows = [
        {
            "id": number, "review": sentence(number), "label": "neg" if number % 3 else "pos", "stars": number % 5 + 1,
            "grade": number % 3, "topics": ("a, b", "b", "a, c", "c")[number % 4], "spam": number % 20 == 0,
            "price": f"{number * 0.37:.2f}", "seen": f"2024-01-{number % 28 + 1:02d}", "empty": "", "lang": "en",
            "rare": "x" if number == 7 else "", "author": f"name {number}", "cost": f"{number},5",
        }
        for number in range(120)
    ]  # fmt: skip
    tasks = proposed(tmp_path, write_csv(tmp_path / "reviews.csv", rows))
    kinds = {name: (task["type"], task["label"], task.get("metric")) for name, task in tasks.items()}
    assert kinds == {
        "reviews": ("classification", "label", None),
        "stars": ("ordinal", "stars", None),
        "grade": ("ordinal", "grade", None),
        "topics": ("multilabel", "topics", None),
        "spam": ("classification", "spam", "f1"),
        "price": ("regression", "price", None),
        "cost": ("regression", "cost", None),
    }
    assert (tasks["spam"]["positive"], tasks["spam"]["threshold"]) == ("true", "tuned")
    assert {task["text"] for task in tasks.values()} == {"review"}
    assert tasks["price"]["data"] == {"train": "reviews.csv", "dev": 0.2}
    assert tasks["cost"]["data"] == {"train": "reviews.csv", "dev": 0.2, "decimal": ","}
    text = (tmp_path / "first.yaml").read_text("utf-8")
    for told in (
        "id: an identifier", "seen: dates or times", "empty: empty in every row",
        "lang: the same in every row: en", "rare: almost empty: 1 of 120 rows", "author: 120 different texts",
    ):  # fmt: skip
        assert f"#   {told}" in text, told
    assert "# 2 classes: neg 66.7 %, pos 33.3 %" in text


def test_decimal_commas_are_said_beside_the_files_of_all_tasks(tmp_path: Path) -> None:
    rows = [
        {"text": sentence(n), "label": "ab"[n % 2], "note": f"{n % 9 / 2 + 1:g}".replace(".", ",")} for n in range(80)
    ]
    tasks = proposed(tmp_path, write_csv(tmp_path / "hotel.csv", rows, ";"))
    assert {name: task["type"] for name, task in tasks.items()} == {"hotel": "classification", "note": "regression"}
    assert [task["data"]["decimal"] for task in tasks.values()] == [",", ","]  # of one table, so that rows are shared
    text = (tmp_path / "first.yaml").read_text("utf-8")
    assert "numbers from 1 to 5, with a decimal comma" in text
    assert "`type: multilabel`" in text


@pytest.mark.parametrize(
    ("cells", "decimal"),
    [
        (["1,037", "12,500", "700"], False),
        (["1,037,200", "2,000"], False),
        (["-1,037", "2,125"], False),
        (["1,037", "0,500"], True),
        (["1,037", "1,5"], True),
        (["1,037", "1200"], False),
        (["1,037", "1037,125"], True),
    ],
)
def test_commas_that_may_stand_between_thousands_are_never_read_as_decimals(
    cells: list[str], decimal: bool, tmp_path: Path
) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2], "price": cells[n % len(cells)]} for n in range(80)]
    tasks = proposed(tmp_path, write_csv(tmp_path / "hotel.csv", rows, ";"))
    assert ("price" in tasks, "decimal" in tasks["hotel"]["data"]) == (decimal, decimal)
    told = "price: numbers whose commas all precede three digits" in (tmp_path / "first.yaml").read_text("utf-8")
    assert told is not decimal


def test_a_file_without_names_of_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{sentence(n).replace(',', '')},{'ab'[n % 2]}\n" for n in range(80)), "utf-8")
    told = r"rows.csv: the first line seems to be a row \(.*, 'a'\) and not the names of the columns"
    with pytest.raises(UserError, match=told):
        init([path], tmp_path / "first.yaml")


def test_a_rating_in_whole_numbers_is_a_scale_and_a_quantity_is_none(tmp_path: Path) -> None:
    rows = [
        {"text": sentence(n), "stars": n % 5 + 1, "age": n % 9 + 20, "code": n % 4, "评分": n % 11, "points": n % 15}
        for n in range(150)
    ]
    tasks = proposed(tmp_path, write_csv(tmp_path / "reviews.csv", rows))
    assert {name: task["type"] for name, task in tasks.items()} == {
        "stars": "ordinal", "age": "regression", "code": "classification", "评分": "ordinal", "points": "regression",
    }  # fmt: skip
    text = " ".join((tmp_path / "first.yaml").read_text("utf-8").replace("#", " ").split())
    assert "5 ordered levels, 1 to 5: " in text
    assert "use `type: regression` with `range: [1, 5]`" in text
    assert "if the numbers are ordered, like ratings, use `type: ordinal`" in text


def test_levels_that_no_row_has_belong_to_the_scale(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "stars": (1, 2, 4, 5)[n % 4], "rating": (0, 50, 100)[n % 3]} for n in range(120)]
    tasks = proposed(tmp_path, write_csv(tmp_path / "reviews.csv", rows))
    assert tasks["stars"]["levels"] == [1, 2, 3, 4, 5]
    assert "levels" not in tasks["rating"]  # of 101 levels none would be learned
    text = " ".join((tmp_path / "first.yaml").read_text("utf-8").replace("#", " ").split())
    assert "5 ordered levels, 1 to 5: " in text
    assert "; no row has 3; for predictions with decimals" in text


def test_pairs_other_separators_and_class_numbers(tmp_path: Path) -> None:
    rows = [{"premise": sentence(n), "hypothesis": sentence(n + 1), "label": n % 3} for n in range(60)]
    tasks = proposed(tmp_path, write_csv(tmp_path / "pairs.csv", rows, ";"))
    assert tasks["pairs"]["text_pair"] == ["premise", "hypothesis"]
    assert tasks["pairs"]["data"]["separator"] == ";"
    assert tasks["pairs"]["type"] == "classification"
    rows = [{"text1": sentence(n), "text2": sentence(n + 1), "similarity": n / 7} for n in range(60)]
    assert proposed(tmp_path, write_csv(tmp_path / "sts.tsv", rows, "\t"))["similarity"]["text_pair"] == [
        "text1",
        "text2",
    ]


def test_commas_of_a_single_label_and_lists_are_told_apart(tmp_path: Path) -> None:
    rows = [
        {"text": sentence(n), "shelf": ("Toys, Games", "Books")[n % 2], "tags": [["x"], ["x", "y"], []][n % 3],
         "cells": ('["p"]', '["p", "q"]')[n % 2], "marks": ("a|b", "a", "b|c")[n % 3], "vector": [n, 1.5]}
        for n in range(60)
    ]  # fmt: skip
    tasks = proposed(tmp_path, write_jsonl(tmp_path / "shop.jsonl", rows))
    assert {name: task["type"] for name, task in tasks.items()} == {
        "shelf": "classification", "tags": "multilabel", "cells": "multilabel", "marks": "multilabel",
    }  # fmt: skip
    assert tasks["marks"]["separator"] == "|"
    assert "vector: lists of numbers or objects" in (tmp_path / "first.yaml").read_text("utf-8")


def test_tags_beside_tokens_by_token_and_as_spans(tmp_path: Path) -> None:
    words = [["Ann", f"{NOUNS[n % 7]}", "sings", "in", "Rome"] for n in range(60)]
    tags = ["B-PER", "I-PER", "O", "O", "B-LOC"]
    rows = [{"text": " ".join(own), "tokens": own, "ner": tags, "mood": "ab"[n % 2]} for n, own in enumerate(words)]
    tasks = proposed(tmp_path, write_jsonl(tmp_path / "x.jsonl", rows))
    assert (tasks["ner"]["type"], tasks["ner"]["tags"], tasks["ner"]["text"]) == ("tagging", "ner", "text")
    assert tasks["mood"]["text"] == "text"
    rows = [{"words": " ".join(own), "labels": " ".join(tags)} for own in words]
    assert proposed(tmp_path, write_csv(tmp_path / "y.csv", rows))["y"]["tokens"] == "words"
    flat = [
        {"Sentence #": f"Sentence {n}" if at == 0 else "", "Word": word, "POS": "NN", "Tag": tag}
        for n, own in enumerate(words) for at, (word, tag) in enumerate(zip(own, tags, strict=True))
    ]  # fmt: skip
    task = proposed(tmp_path, write_csv(tmp_path / "z.csv", flat))["z"]
    assert (task["tokens"], task["tags"], task["data"]["sentence"]) == ("Word", "Tag", "Sentence #")
    rows = [{"text": " ".join(own), "entities": [[0, 3, "PER"]]} for own in words]
    assert proposed(tmp_path, write_jsonl(tmp_path / "w.jsonl", rows))["entities"]["tags"] == "entities"
    lines = "\n\n".join("\n".join(f"{w}\t{t}" for w, t in zip(own, tags, strict=True)) for own in words)
    (tmp_path / "v.conll").write_text(lines + "\n", "utf-8")
    assert proposed(tmp_path, tmp_path / "v.conll")["v"]["type"] == "tagging"


def test_spans_of_a_table_may_be_empty_and_what_keeps_them_from_being_read_is_told(tmp_path: Path) -> None:
    def rows(*spans: str) -> list[dict[str, str]]:
        return [{"text": sentence(n), "names": spans[n % len(spans)], "mood": "ab"[n % 2]} for n in range(60)]

    tasks = proposed(tmp_path, write_csv(tmp_path / "a.csv", rows("[]", "[(4, 8, 'THING')]", "")))
    assert (tasks["names"]["type"], tasks["names"]["tags"]) == ("tagging", "names")
    assemble(load_config(tmp_path / "first.yaml"))
    overlapping = write_csv(tmp_path / "c.csv", rows("[]", "[[4, 8, 'THING'], [4, 15, 'PHRASE']]"))
    tasks = proposed(tmp_path, overlapping)
    assert (tasks["names"]["type"], tasks["names"]["spans"]) == ("spans", "names")
    assemble(load_config(tmp_path / "first.yaml"))
    start = init([write_csv(tmp_path / "b.csv", rows("[[4, 8, 'THING']]", "[[4, 900, 'THING']]"))], tmp_path / "b.yaml")
    assert (
        "character spans, one of which cannot be read: the span THING at characters 4 to 900 lies outside"
        in (start.left_out["names"])
    )


GERMAN = "Der Zug fährt über die Brücke nach Köln, und wir hören ihn früh; "
CHINESE = "房间很干净，服务态度也非常好，下次还会再来住。第"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", GERMAN),
        ("gb18030", CHINESE),
        ("euc-kr", "방이 아주 깨끗하고 직원들도 친절했습니다 "),
        ("cp1251", "Номер был очень чистый "),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_not_utf_8_is_read_in_the_encoding_that_it_looks_like_and_that_is_told(
    encoding: str, text: str, packed: bool, tmp_path: Path
) -> None:
    lines = [f'{number};"{text}{number}.";{"ab"[number % 2]}' for number in range(60)]
    data = "\r\n".join(["Nr;Text;Label", *lines]).encode(encoding)
    path = tmp_path / ("x.csv.gz" if packed else "x.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    start = init([path], tmp_path / "first.yaml", encoder=ENGLISH)
    (guess,) = start.guesses
    assert f"is read as {encoding}, the most likely encoding: " in guess
    assert text[:10] in guess
    written = (tmp_path / "first.yaml").read_text("utf-8")
    assert "is not UTF-8 and is read as" in written
    (task,) = yaml.safe_load(written)["tasks"].values()
    assert (task["data"]["encoding"], task["data"]["separator"]) == (encoding, ";")
    assemble(load_config(tmp_path / "first.yaml"))


def test_what_is_written_names_the_command_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "my table.csv"
    path.write_text(
        "\n".join(["text;label", *(f"{GERMAN.replace(';', ',')}{n};{'ab'[n % 2]}" for n in range(60))]), "cp1252"
    )
    init([path], tmp_path / "first.yaml", written={"encoding": "cp1252", "separator": ";"}, encoder="some/name")
    head = " ".join((tmp_path / "first.yaml").read_text("utf-8").partition("encoder:")[0].replace("#", "").split())
    assert f"polytask init '{path}' --written encoding=cp1252 --written 'separator=;' --encoder some/name" in head


@pytest.mark.parametrize("name", ["stars", "评分", "用户评分", "星级", "Bewertung", "Puntuación"])
def test_ratings_are_levels_in_other_languages_too(name: str, tmp_path: Path) -> None:
    rows = [{"text": sentence(number), name: number % 5 + 1} for number in range(60)]
    (task,) = proposed(tmp_path, write_csv(tmp_path / "x.csv", rows)).values()
    assert task["type"] == "ordinal"


@pytest.mark.parametrize("name", ["正文", "Kommentar"])
def test_the_text_is_told_by_its_name_in_other_languages_too(name: str, tmp_path: Path) -> None:
    rows = [
        {"a": f"{sentence(number)} {sentence(number)}", name: sentence(number), "b": "xy"[number % 2]}
        for number in range(60)
    ]
    assert proposed(tmp_path, write_csv(tmp_path / "x.csv", rows))["b"]["text"] == name


def test_files_are_splits_by_their_names_or_further_tasks(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "mood": "ab"[n % 2]} for n in range(60)]
    other = [{"text": sentence(n), "mood": "xy"[n % 2]} for n in range(60)]
    bare = [{"text": sentence(n)} for n in range(60)]
    files = [
        write_csv(tmp_path / "film-train.csv", rows), write_csv(tmp_path / "film-valid.csv", rows[:20]),
        write_csv(tmp_path / "film-test.csv", bare), write_csv(tmp_path / "books.csv", other),
    ]  # fmt: skip
    tasks = proposed(tmp_path, *files)
    assert tasks["mood"]["data"] == {"train": "film-train.csv", "dev": "film-valid.csv"}
    assert tasks["books_mood"]["data"] == {"train": "books.csv", "dev": 0.2}
    assert "film-test.csv is left out: it has no column mood" in (tmp_path / "first.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train.csv", "dev.csv", "test.csv"], {"": ["train", "dev", "test"]}),
        (["a.train.conll", "a.eval.conll", "b.train.conll"], {"a": ["train", "dev"], "b": ["train"]}),
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], {"": ["train"]}),
        (["reviews.csv", "test.csv"], {"reviews": ["train", "test"]}),
        (["test.csv"], {"": ["train"]}),
        (["train/x.csv", "test/x.csv"], {"x": ["train", "test"]}),
        (["trainers.csv", "latest.csv"], {"trainers": ["train"], "latest": ["train"]}),
        (["reviews_train.csv", "reviews_testing.csv"], {"reviews": ["train", "test"]}),
        (["training.csv", "validation.csv", "testing.csv"], {"": ["train", "dev", "test"]}),
        (["a-training.csv", "a-val.csv", "a-test.csv"], {"a": ["train", "dev", "test"]}),
        (["a_Training_00.csv", "a_development.csv"], {"a": ["train", "dev"]}),
        (["training/x.csv", "testing/x.csv"], {"x": ["train", "test"]}),
        (["en-ud-train.conllu.gz", "en-ud-dev.conllu"], {"en-ud": ["train", "dev"]}),
    ],
)
def test_split_names(tmp_path: Path, names: list[str], found: dict[str, list[str]]) -> None:
    folder = tmp_path / "data"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    sets = data_sets([folder / name for name in names])
    assert {one.name: list(one.files) for one in sets} == found
    assert sum(len(listed) for one in sets for listed in one.files.values()) == len(names)


def test_files_that_belong_to_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test.csv: no training file belongs to this"):
        data_sets([tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "test.csv"])
    with pytest.raises(DataError, match="the folder holds no data file"):
        data_sets([tmp_path])


def test_the_encoder_follows_the_language_of_the_texts() -> None:
    assert language_of(["The film was not for you, and that is it."]) == "English"
    assert language_of(["iPhone 12 64GB", "Ann met Bob in Rome"]) == "English"
    assert language_of(["Das ist nicht der Film, den ich mit dir und ihr sehen will."]) == "German"
    assert language_of(["电影很好看 w na z", "Привет, мир"]) == ""
    assert language_of(["房间很干净"]) == "Chinese"
    assert language_of(["この映画はとても面白い"]) == "Japanese"
    assert language_of(["방이 깨끗합니다"]) == "Korean"
    assert language_of([]) == "English"
    assert choose_reader(["The film was good."], None).encoder == ENGLISH
    chosen = choose_reader(["电影很好看" * 40, "电影很好看"], None)
    assert (chosen.encoder, chosen.max_tokens) == (MULTILINGUAL, 256)
    assert "50 % of the texts" in chosen.length
    assert choose_reader(["电影"], "my/encoder").encoder == "my/encoder"


def test_thousands_of_columns_are_looked_at_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polytask.init import tagged
    from polytask.init.proposal import outline
    from polytask.init.sample import read_sample

    looked: list[str] = []
    before = tagged._marks_entities  # pyright: ignore[reportPrivateUsage]

    def counted(column: tagged.Column) -> bool:
        looked.append(column.name)
        return before(column)

    monkeypatch.setattr(tagged, "_marks_entities", counted)
    names = [f"c{number}" for number in range(60)]
    lines = [",".join("ab"[(row + at) % 2] for at in range(60)) for row in range(20)]
    (tmp_path / "wide.csv").write_text("\n".join([",".join(names), *lines]), "utf-8")
    outline(read_sample(tmp_path / "wide.csv", FileOptions()))
    assert sorted(looked) == sorted(names)


def test_a_dataset_that_was_saved_to_disk_is_told_how_to_be_read(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"text": sentence(n), "label": "ab"[n % 2]} for n in range(40)])
    several, single = tmp_path / "several", tmp_path / "single"
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(several)
    rows.save_to_disk(single)
    inside = [several, several / "dataset_dict.json", several / "train", several / "train" / "state.json"]
    for path in [*inside, *(several / "test").glob("*.arrow")]:
        with pytest.raises(DataError, match=rf"save_to_disk.*`data: {{hub: {several}}}`"):
            init([path], tmp_path / "x.yaml")
    for path in [single, *single.glob("*.arrow")]:
        with pytest.raises(DataError, match=r"one split of a dataset, .*to_parquet"):
            init([path], tmp_path / "x.yaml")
    task = {"type": "classification", "label": "label"}
    for hub, told in ((single, "one split of a dataset"), (several / "train", f"hub: {several}")):
        values = {"encoder": "x", "tasks": {"mood": {**task, "data": {"hub": str(hub), "dev": 0.2}}}}
        with pytest.raises(DataError, match=told):
            read_tables(validate(values, base=tmp_path).tasks)
    data = {"hub": str(several), "dev": 0.2, "test": "test"}
    tables = read_tables(validate({"encoder": "x", "tasks": {"mood": {**task, "data": data}}}, base=tmp_path).tasks)
    assert len(tables.tables["test"][0].rows) == 40


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        init([tmp_path], tmp_path / "no" / "x.yaml")
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(OutputError, match="a.csv: this is one of the data files"):
        init([tmp_path / "a.csv"], tmp_path / "a.csv", force=True)
    with pytest.raises(DataError, match="found no file"):
        init([], tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"b.csv: found nothing to train; .* \(one: no column holds texts; two: no"):
        init([write_csv(tmp_path / "b.csv", [{"one": 1, "two": 2}, {"one": 3, "two": 4}])], tmp_path / "x.yaml")
    with pytest.raises(UserError, match=r"\(text: holds the texts; lang: the same in every row: en\)"):
        init(
            [write_csv(tmp_path / "d.csv", [{"text": sentence(n), "lang": "en"} for n in range(9)])],
            tmp_path / "x.yaml",
        )
    (tmp_path / "c.csv").write_bytes("text,label\n北京,a\n".encode() + b"caf\xe9 and more,a\n")
    with pytest.raises(
        DataError, match=r"c.csv:3: byte 4 of the line is not UTF-8 \(0xe9\), but other lines of the file are"
    ):
        init([tmp_path / "c.csv"], tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


@given(st.text(max_size=30))
def test_any_text_reads_back_from_yaml_and_stays_in_its_comment(text: str) -> None:
    try:
        assert parse(f"{scalar(text)}: {scalar(text)}", "x")[0] == {text: text}
        lines = list(comment(f"a {text}"))
        assert parse("\n".join([*lines, "a: 1"]), "x")[0] == {"a": 1}
    except UnicodeEncodeError:
        assert any("\ud800" <= character <= "\udfff" for character in text)


CELLS = st.one_of(
    st.none(), st.integers(-5, 5), st.floats(-9, 9), st.booleans(),
    st.sampled_from(["a", "b", "a,b", "O", "B-x", "", " "]), st.text(max_size=12),
    st.sampled_from([sentence(n) for n in range(40)]), st.lists(st.sampled_from("xyz"), max_size=3),
    st.sampled_from([[[0, 3, "N"]], [], "[1", {"a": 1}, [0.5]]),
)  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(["text", "label", "tokens", "tags", "id", "labels", "no", "1e5", "a: b", "#"]), st.text(max_size=6)
)


TOKENS = ["Ann", "sings", "in", "Rome"]
# How the cells of a column follow from the number of the row.
KINDS: tuple[Callable[[int], Any], ...] = (
    sentence,
    lambda n: "abc"[n % 3],
    lambda n: n % 2 == 0,
    lambda n: n % 4,
    lambda n: n * 0.37,
    lambda n: ("a, b", "b", "a, c", "c")[n % 4],
    lambda n: [["x"], ["x", "y"], []][n % 3],
    lambda n: [*TOKENS, NOUNS[n % 7]],
    lambda n: ["B-PER", "O", "O", "B-LOC", "O"],
    lambda n: "B-PER O" if n % 2 else "O O",
    lambda n: [[0, 3, "X"]] if n % 2 else [],
    lambda n: {"a": n % 2, "b": sentence(n)},
    lambda n: f"row-{n}",
    lambda n: "" if n % 3 else "z",
)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Tables of texts and labels, some with cells that fit nothing."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4)) + draw(
        st.sampled_from([[sentence]] * 5 + [[]])
    )
    names = draw(st.lists(NAMES, min_size=len(kinds), max_size=len(kinds), unique=True))
    count = draw(st.integers(1, 60))
    rows = [{name: kind(n) for name, kind in zip(names, kinds, strict=True)} for n in range(count)]
    for at, name, cell in draw(
        st.lists(
            st.tuples(st.integers(0, count - 1), st.sampled_from(names), CELLS), max_size=draw(st.sampled_from([0, 3]))
        )
    ):
        rows[at][name] = cell
    return rows


@settings(max_examples=20)
@given(tables(), st.sampled_from(["csv", "tsv", "jsonl", "json"]))
def test_what_is_written_for_any_table_passes_check_or_init_says_why(
    tmp_path_factory: pytest.TempPathFactory, tiny: Path, rows: list[dict[str, Any]], form: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / f"data.{form}"
    if form in ("csv", "tsv"):
        try:
            write_csv(path, rows, "," if form == "csv" else "\t")
        except (UnicodeEncodeError, csv.Error):
            return
    else:
        path.write_text(
            json.dumps(rows) if form == "json" else "".join(json.dumps(row) + "\n" for row in rows), "utf-8"
        )
    told = ""
    try:
        init([path], folder / "first.yaml", encoder=str(tiny))
    except UserError as error:
        told = str(error)
    assert (path.name in told) != (folder / "first.yaml").exists()
    if not told:
        assert assemble(load_config(folder / "first.yaml")).tasks


def test_the_examples_of_the_docs_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    found = re.findall(r"^`([\w.]+)`: [^\n]*\n\n```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(found) == 9
    for name, text in found:
        (tmp_path / name).write_text(text, "utf-8")
        rows = [row for _, row in read_file(tmp_path / name)]
        assert rows
        assert {"text", "tokens", "premise", "Word"} & rows[0].keys()


@pytest.mark.parametrize(
    ("folder", "tasks", "encoder"),
    [
        ("snips", {"tags": "tagging", "intent": "classification"}, ENGLISH),
        ("vader_ratings", {"score": "regression", "domain": "classification"}, ENGLISH),
        ("weibo_ner", {"weibo_ner": "tagging"}, MULTILINGUAL),
        ("ud_ewt", {"upos": "tagging"}, ENGLISH),
    ],
)
def test_real_data(shared_data: Path, tmp_path: Path, folder: str, tasks: dict[str, str], encoder: str) -> None:
    found = init([shared_data / folder], tmp_path / "first.yaml")
    assert found.tasks == tasks
    config = load_config(tmp_path / "first.yaml")
    assert config.encoder == encoder
    assert all(task.data.dev and task.data.test for task in config.tasks.values())
