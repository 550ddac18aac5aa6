"""What `polytask init` must not take for something else: splits, codes, dates, missing labels, first rows, totals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_init import proposed, sentence, write_csv, write_jsonl

from polytask.config import load_config, validate
from polytask.data.prepare import read_tables
from polytask.errors import DataError, UserError
from polytask.init import init

ROWS = 150


def column(folder: Path, values: list[Any], name: str = "value", **others: Any) -> dict[str, dict[str, Any]]:
    """Return the tasks proposed for a column next to texts."""
    rows = [{"text": sentence(n), name: values[n % len(values)], **others} for n in range(ROWS)]
    rows = [{**row, "topic": "ab"[n % 2]} for n, row in enumerate(rows)]
    return proposed(folder, write_csv(folder / "rows.csv", rows))


def comments(folder: Path) -> str:
    lines = (folder / "first.yaml").read_text("utf-8").splitlines()
    return " ".join(line.strip().lstrip("# ") for line in lines if line.strip().startswith("#"))


@pytest.mark.parametrize("words", [("train", "valid", "test"), ("Training", "dev", "TEST"), ("train", "test")])
def test_a_column_that_names_splits_divides_the_rows(tmp_path: Path, words: tuple[str, ...]) -> None:
    split = [words[0]] * 8 + [words[-1]] + [words[-2] if len(words) > 2 else words[0]]
    tasks = column(tmp_path, split, "split")
    assert set(tasks) == {"topic"}
    data = tasks["topic"]["data"]
    assert (data["train"], data["test"], data["split_column"]) == ("rows.csv", "rows.csv", "split")
    assert data["dev"] == ("rows.csv" if len(words) > 2 else 0.2)
    tables = read_tables(load_config(tmp_path / "first.yaml").tasks).tables
    sizes = {name: sum(len(table.rows) for table in tables[name]) for name in ("train", "dev", "test")}
    assert sizes["test"] == split.count(words[-1]) * ROWS // 10
    assert sum(sizes.values()) == ROWS


def test_words_of_splits_among_others_are_classes(tmp_path: Path) -> None:
    assert column(tmp_path, ["train", "bus", "test"], "about")["about"]["type"] == "classification"


def test_numbers_with_leading_zeros_are_codes(tmp_path: Path) -> None:
    assert column(tmp_path, ["007", "12", "130"])["value"]["type"] == "classification"
    many = [f"{number:05}" for number in range(ROWS)]
    assert "value" not in column(tmp_path, many)
    assert "00000 has leading zeros, so they are codes" in comments(tmp_path)
    assert column(tmp_path, ["0", "0.5", "10"])["value"]["type"] == "regression"


@pytest.mark.parametrize(
    "days",
    [
        ["01-Jan-2024", "02-Feb-2024", "13-Dec-2023"],
        ["January 01, 2024", "March 5, 2021"],
        ["01/01/24", "31/12/23"],
        ["2024-W01", "2024-W33"],
        ["2024-01", "2023-12"],
        ["Mon Apr 06 22:19:45 PDT 2009", "Tue Apr 07 02:19:45 UTC 2009"],
        ["20240101", "20231224", "20230630"],
        [1704067200, 1704153600, 1700000000],
        [1704067200000, 1704153600000, 1700000000000],
        ["2024年1月5日", "2024年11月15日"],
        ["12:30", "08:15:10"],
    ],
    ids=str,
)
def test_dates_are_left_out(tmp_path: Path, days: list[Any]) -> None:
    assert "value" not in column(tmp_path, days)
    assert "value: dates or times" in comments(tmp_path)


@pytest.mark.parametrize(
    "labels", [["May", "June", "July"], ["Sat 1", "Jan 6 riots"], ["1/5", "4/5", "5/5"], ["A1", "B2", "C3"]], ids=str
)
def test_labels_that_remind_of_dates_are_classes(tmp_path: Path, labels: list[str]) -> None:
    assert column(tmp_path, labels)["value"]["type"] == "classification"


@pytest.mark.parametrize(
    ("values", "name", "kind", "marked"),
    [
        ([1, 2, 3, 4, 5, -1], "rating", "ordinal", True),
        ([0, 1, 2, 3, -1], "group", "classification", True),
        ([0.0, 1.0, 2.0, 3.0, -1.0], "group", "classification", True),
        ([1.0, 2.0, 3.0, 4.0, 5.0, -1.0], "rating", "ordinal", True),
        ([-1, 0, 1], "group", "classification", False),
        (["-1", "0", "+1"], "group", "classification", False),
        (["\u22121", "0", "+1"], "group", "classification", False),
        (["\u22121", "0", "1", "2"], "group", "classification", True),
        ([-2, -1, 0, 1, 2], "rating", "ordinal", False),
    ],
)
def test_minus_one_that_means_no_label(tmp_path: Path, values: list[Any], name: str, kind: str, marked: bool) -> None:
    task = column(tmp_path, values, name)[name]
    assert task["type"] == kind
    assert task.get("unlabelled") == (["-1"] if marked else None)
    assert ("rows with -1 are taken for rows without a label" in comments(tmp_path)) == marked
    assert "levels" not in task


@pytest.mark.parametrize("withheld", ["-1", "-1.0"])
def test_a_test_file_whose_labels_are_withheld_is_left_out(tmp_path: Path, withheld: str) -> None:
    rows = [{"text": sentence(n), "label": n % 4} for n in range(ROWS)]
    train = write_csv(tmp_path / "train.csv", rows)
    test = write_csv(tmp_path / "test.csv", [{**row, "label": withheld} for row in rows[:50]])
    (task,) = proposed(tmp_path, train, test).values()
    assert "test" not in task["data"]
    assert "test.csv is left out: the label of every row is -1, which stands for no label" in comments(tmp_path)


def test_a_number_that_is_no_number_in_a_few_rows(tmp_path: Path) -> None:
    numbers: list[Any] = [f"{n}.5" for n in range(ROWS)]
    task = column(tmp_path, [*numbers[:-3], "N/A", "-", "n/a"])["value"]
    assert (task["type"], sorted(task["unlabelled"])) == ("regression", ["-", "N/A", "n/a"])
    assert "value" not in column(tmp_path, [*numbers[:-1], "broken"])
    assert 'numbers, except in 1 rows: "broken"' in comments(tmp_path)


def test_classes_that_are_numbers_with_something_are_told(tmp_path: Path) -> None:
    for values, told in (
        (["1/5", "3/5", "5/5"], "numbers with a unit"),
        (["1 star", "2 stars", "3 stars"], "numbers with a unit"),
        (["5%", "10%", "100 %"], "numbers with a unit"),
        (["$5", "$10", "$20"], "numbers with a unit"),
        (["EUR 5", "EUR 10", "EUR 20"], "numbers with a unit"),
        (["★", "★★", "★★★"], "levels drawn by their length"),
    ):
        assert column(tmp_path, values)["value"]["type"] == "classification"
        assert told in comments(tmp_path)
    for values in (["a1", "b2", "c3"], ["cls0", "cls1", "cls12"], ["ann0", "ann1", "ann2"], ["good", "bad", "ugly"]):
        column(tmp_path, values)
        assert "with a unit" not in comments(tmp_path)


def test_a_line_of_totals_is_told(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(ROWS)]
    file = write_csv(tmp_path / "rows.csv", [*rows, {"text": "Total", "label": "150"}])
    proposed(tmp_path, file)
    assert "found only once: '150'" in comments(tmp_path)
    notes = read_tables(load_config(tmp_path / "first.yaml").tasks).notes
    assert any(
        "labels with a single row, perhaps by mistake" in note.message and "rows.csv:152" in note.message
        for note in notes
    )


@pytest.mark.parametrize("first", ["2.0", "1001"])
def test_a_first_row_with_a_number_is_no_header(tmp_path: Path, first: str) -> None:
    path = tmp_path / "rows.csv"
    lines = [
        f"{sentence(n).replace(',', '')},{n % 40 + 0.5 if '.' in first else 1002 + n},{'ab'[n % 2]}"
        for n in range(ROWS)
    ]
    path.write_text(f"This one is a whole sentence too,{first},c\n" + "\n".join(lines), "utf-8")
    with pytest.raises(DataError, match="the first line seems to be a row"):
        init([path], tmp_path / "first.yaml")


def test_a_question_may_be_the_name_of_a_column(tmp_path: Path) -> None:
    rows = [{"How do you like our new shop?": sentence(n), "stars": n % 5 + 1} for n in range(ROWS)]
    assert proposed(tmp_path, write_csv(tmp_path / "form.csv", rows))["stars"]["type"] == "ordinal"


def test_entity_tags_are_found_in_any_column_of_conll(tmp_path: Path) -> None:
    sentences = [f"George B-PER NNP\nmet O VBD\nword{n} O NN\n" for n in range(80)]
    path = tmp_path / "tags.conll"
    path.write_text("\n".join(sentences), "utf-8")
    (task,) = proposed(tmp_path, path).values()
    assert task["tags"] == "2"
    turned = "\n".join(sentences).replace("B-PER NNP", "NNP B-PER").replace("O VBD", "VBD O").replace("O NN", "NN O")
    path.write_text(turned, "utf-8")
    (task,) = proposed(tmp_path, path).values()
    assert "tags" not in task


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ([{"offset": 0, "length": 3, "type": "who"}], "a span is"),
        ([[0, 300, "who"]], "outside the text"),
    ],
)
def test_spans_that_cannot_be_read_say_why(tmp_path: Path, spans: list[Any], told: str) -> None:
    file = write_jsonl(tmp_path / "spans.jsonl", [{"text": sentence(n), "label": spans} for n in range(80)])
    with pytest.raises(UserError, match=told):
        init([file], tmp_path / "first.yaml")


def test_files_with_the_same_columns_are_told(tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": "ab"[n % 2]} for n in range(ROWS)]
    files = [
        write_csv(tmp_path / "part-1.csv", rows),
        write_csv(tmp_path / "part-2.csv", [{"Text": row["text"], "Label": row["label"]} for row in rows]),
    ]
    found = init(files, tmp_path / "first.yaml")
    assert any("part-1.csv and part-2.csv have the same columns" in guess for guess in found.guesses)


def test_a_folder_of_texts_for_each_class_says_what_to_do(tmp_path: Path) -> None:
    for name in ("pos", "neg"):
        (tmp_path / "reviews" / name).mkdir(parents=True)
        (tmp_path / "reviews" / name / "1.txt").write_text("A film.", "utf-8")
    with pytest.raises(DataError, match="2 folders in it hold texts, such as (pos|neg): if each is a class"):
        init([tmp_path / "reviews"], tmp_path / "first.yaml")


def test_a_column_with_one_mark_says_how_many_rows_have_it(tmp_path: Path) -> None:
    column(tmp_path, ["x", "", ""])
    assert "value: the same in each of the 50 rows that hold something: x" in comments(tmp_path)


def test_columns_of_0_and_1_may_be_one_task_with_several_labels(tmp_path: Path) -> None:
    column(tmp_path, [0, 1], "rude", toxic=1)
    assert "multilabel" not in comments(tmp_path)
    for no, yes in ((0, 1), (False, True), ("no", "yes"), ("False", "True")):
        rows = [
            {
                "text": sentence(n),
                **{name: (no, yes)[n // size % 2] for name, size in (("rude", 1), ("on", 2), ("bad", 4))},
            }
            for n in range(ROWS)
        ]
        tasks = proposed(tmp_path, write_csv(tmp_path / "rows.csv", rows))
        assert {task["type"] for task in tasks.values()} == {"classification"}
        found = comments(tmp_path)
        assert found.count("3 columns hold two marks such as 0 and 1, and each is a task of its own here") == 1
        written = re.search(r"`type: multilabel`, `label: (\[.*?\])`", found)
        assert written is not None
        task = {**tasks["rude"], "type": "multilabel", "label": yaml.safe_load(written[1])}
        assert task["label"] == ["rude", "on", "bad"]
        values = {"encoder": "x", "tasks": {"all": task}}
        (table,) = read_tables(validate(values, base=tmp_path).tasks).tables["train"]
        assert set(table.label_stats["all"].labels) == {"rude", "on", "bad"}


@pytest.mark.parametrize(
    "content", ['{"train": [{"text": "a", "label": "x"}]}', '{"text": {"0": "a"}, "label": {"0": "x"}}']
)
def test_one_object_in_place_of_rows_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match="rows.json holds a single object: write a list of objects"):
        init([path], tmp_path / "first.yaml")
