"""A feed read into rows: every cell is taken, masked or refused with its place; nothing is lost unsaid."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.data.feed import feeds_of
from polytask.data.prepare import read_tables
from polytask.data.readers import READERS
from polytask.data.rows import DataTable, read_table
from polytask.errors import ConfigError, DataError
from polytask.options import Format
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]
Write = Callable[..., str]
ODD_SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\u200b\ufeff"


def table_of(**tasks: TaskOptions) -> DataTable:
    (feed,) = feeds_of(tasks, "train")
    return read_table(feed)


def test_tasks_that_name_the_same_file_share_its_rows(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "a b", "label": "x", "score": 1, "tokens": ["a", "b"], "tags": ["O", "B-Z"], "labels": []}])
    kinds = ("classification", "multilabel", "regression", "tagging")
    table = table_of(**{kind: options(kind, path) for kind in kinds})
    (row,) = table.rows
    assert {key: value for key, value in row.items() if key.startswith("label.")} == {
        "label.classification": "x",
        "label.multilabel": [],
        "label.regression": 1.0,
        "label.tagging": ["O", "B-Z"],
    }
    assert (row["starts"], row["ends"]) == ([0, 2], [1, 3])
    assert row["place"] == f"{path}:1"
    assert table.apart == (0, "")


@pytest.mark.parametrize("missing", [{}, {"label": None}, {"label": ""}])
def test_a_missing_cell_is_masked_and_counted(missing: dict[str, Any], options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "a", "label": "x", "score": 1}, {"text": "b", **missing, "score": 2}])
    table = table_of(sentiment=options("classification", path), rating=options("regression", path))
    assert table.rows["label.sentiment"][:] == ["x", None]
    assert table.rows["label.rating"][:] == [1.0, 2.0]
    assert (table.label_stats["sentiment"].present, table.label_stats["sentiment"].missing) == (1, 1)
    assert (table.label_stats["rating"].present, table.label_stats["rating"].missing) == (2, 0)


def test_a_decimal_comma_is_read_where_it_is_said(options: Build, jsonl: Write, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,score,label,topics,sure\n"3,5",-1,"4,5",a,"0,5"\n7,"2,50","3","b,c",1\n', "utf-8")
    kinds = {"regression": {"label_weight": "sure"}, "ordinal": {}, "multilabel": {"label": "topics"}}
    rows = [*table_of(**{kind: options(kind, str(path), decimal=",", **more) for kind, more in kinds.items()}).rows]
    assert [row["text"] for row in rows] == ["3,5", "7"]  # a text stays as it is written
    assert [row["label.regression"] for row in rows] == [-1.0, 2.5]
    assert [row["label.ordinal"] for row in rows] == ["4.5", "3"]
    assert [row["label.multilabel"] for row in rows] == [["a"], ["b", "c"]]
    assert [row["weight.regression"] for row in rows] == [0.5, 1.0]


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_a_comma_in_a_number_names_the_option(kind: str, options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "a", "mark": "2.5"}, {"text": "b", "mark": "2,5"}])
    with pytest.raises(DataError, match=r'rows.jsonl:2: task \'it\': found \'2,5\'.* give `decimal: ","` next to'):
        table_of(it=options(kind, path, label="mark"))


@pytest.mark.parametrize("cell", ["3.5", "1.234", "1.234,5", "1 234,5"])
def test_beside_a_decimal_comma_other_marks_are_refused(cell: str, options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "a", "score": "2,5"}, {"text": "b", "score": cell}])
    with pytest.raises(DataError, match=f":2: task 'it': 'score': found '{cell}'; .* no point and no thousands"):
        table_of(it=options("regression", path, decimal=","))


def test_tokens_that_do_not_spell_out_the_text_get_a_row_of_their_own(options: Build, jsonl: Write) -> None:
    rows = [
        {"text": "cannot go", "label": "x", "tokens": ["can", "not", "go"], "tags": ["O", "O", "B-Z"]},
        {"text": "I <b>go</b>", "label": "y", "tokens": ["I", "go"], "tags": ["O", "B-Z"]},
        {"text": "never told", "label": "y", "tokens": ["else"]},
    ]
    path = jsonl(rows)
    table = table_of(topic=options("classification", path), slots=options("tagging", path))
    assert table.rows["text"][:] == ["cannot go", "I <b>go</b>", "I go", "never told"]
    assert table.rows["label.topic"][:] == ["x", "y", None, "y"]
    assert table.rows["label.slots"][:] == [["O", "O", "B-Z"], None, ["O", "B-Z"], None]
    assert table.apart == (1, f"{path}:2")
    assert table.label_stats["topic"].missing == 0


def test_a_text_that_nobody_reads_leaves_no_row_beside_its_tokens(options: Build, jsonl: Write) -> None:
    rows = [
        {"text": "du film", "tokens": ["de", "le", "film"], "tags": ["A", "D", "N"], "label": None},
        {"text": "un film", "tokens": ["un", "film"], "tags": ["D", "N"], "label": "x"},
        {"text": "du vin", "tokens": ["de", "le", "vin"], "tags": ["A", "D", "N"], "label": "y"},
    ]
    path = jsonl(rows)
    alone = table_of(pos=options("tagging", path))
    assert alone.rows["text"][:] == ["de le film", "un film", "de le vin"]
    assert alone.apart == (2, f"{path}:1")
    both = table_of(topic=options("classification", path), pos=options("tagging", path))
    assert both.rows["text"][:] == ["de le film", "un film", "du vin", "de le vin"]
    assert both.rows["label.topic"][:] == [None, "x", "y", None]
    assert both.label_stats["topic"].missing == 1


def test_tagging_tasks_share_a_row_when_their_tokens_are_equal(options: Build, jsonl: Write) -> None:
    odd = ["a", "", " ", "\u3000", "b"]
    path = jsonl([{"tokens": odd, "tags": [*"OOOOO"], "pos": [*"NXXXV"], "parts": ["a  ", "b"], "kinds": ["N", "V"]}])
    slots, pos = options("tagging", path), options("tagging", path, tags="pos")
    assert len(table_of(slots=slots, pos=pos).rows) == 1
    assert len(table_of(slots=slots, kinds=options("tagging", path, tokens="parts", tags="kinds")).rows) == 2


def test_words_without_a_text_are_joined_to_one(options: Build, tmp_path: Path) -> None:
    (tmp_path / "rows.conll").write_text("我\tO\n爱\tO\n北京\tB-LOC\n\nI\tO\nlove\tO\n", "utf-8")
    table = table_of(entities=options("tagging", str(tmp_path / "rows.conll")))
    assert table.rows["text"][:] == ["我爱北京", "I love"]
    assert table.rows["starts"][:] == [[0, 1, 2], [0, 2]]


def test_columns_of_a_conll_file_are_named_by_number(options: Build, tmp_path: Path) -> None:
    (tmp_path / "rows.conll").write_text("7 Lee NNP B-PER\n8 sings VBZ O\n", "utf-8")
    table = table_of(pos=options("tagging", str(tmp_path / "rows.conll"), tokens="2", tags="3"))
    assert (table.rows["text"][0], table.rows["label.pos"][0]) == ("Lee sings", ["NNP", "VBZ"])


def test_text_with_odd_line_separators_is_kept_as_it_is(options: Build, tmp_path: Path) -> None:
    text = ODD_SEPARATORS.join("abc")
    for name, line in (
        ("rows.jsonl", f'{{"text": "{text}", "label": "x"}}\n'),
        ("rows.csv", f"text,label\n{text},x\n"),
    ):
        # JSON asks for escapes below U+0020 only.
        line = line if name == "rows.csv" else "".join(c if c >= " " or c == "\n" else f"\\u{ord(c):04x}" for c in line)
        (tmp_path / name).write_bytes(line.encode())
        table = table_of(topic=options("classification", str(tmp_path / name)))
        assert table.rows["text"][:] == [text]


def test_texts_without_a_visible_character_are_counted_with_the_first_place(options: Build, jsonl: Write) -> None:
    texts = ["seen", "", " \t\u3000", "\x00\x1b\u200b", "\ufeff", "?"]
    path = jsonl([{"text": text, "label": "x"} for text in texts])
    table = table_of(topic=options("classification", path))
    assert table.empty == (4, f"{path}:2")
    assert table.rows["text"][:] == texts


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("classification", {"text": 5, "label": "x"}, "'text' holds 5; expected a text"),
    ("classification", {"text": None, "label": "x"}, "'text' holds None; expected a text"),
    ("classification", {"text": ["a"], "label": "x"}, r"'text' holds \['a'\]; expected a text"),
    ("classification", {"txet": "a", "label": "x"}, r"no column 'text' \(accepted: label, txet; did you mean 'txet'"),
    ("classification", {"text": "\ud800", "label": "x"}, "'text' holds half of a surrogate pair"),
    ("classification", {"text": "a", "label": "\udfff"}, "'label' holds half of a surrogate pair"),
    ("classification", {"text": "a", "label": 1.5}, "task 'it': found 1.5; a label is text or a whole number"),
    ("classification", {"text": "a", "label": ["x", "y"]}, r"task 'it': found \['x', 'y'\]; a text has one"),
    ("classification", {"text": "a", "label": {"x": "1"}}, "task 'it': found {'x': '1'}; a label is"),
    ("classification", {"text": "a", "label": {"x": 0.4}}, "task 'it': found {'x': 0.4}, which adds up to 0.4"),
    ("multilabel", {"text": "a", "labels": 5}, "task 'it': found 5; labels are a list"),
    ("multilabel", {"text": "a", "labels": ["x", None]}, "task 'it': found None; a label is"),
    ("multilabel", {"text": "a", "labels": ["\ud83d"]}, "'labels' holds half of a surrogate pair"),
    ("regression", {"text": "a", "score": "1_2"}, "task 'it': found '1_2'; a score is a finite number"),
    ("regression", {"text": "a", "score": "nan"}, "task 'it': found 'nan'; a score is a finite number"),
    ("regression", {"text": "a", "score": "３"}, "task 'it': found '３'; a score is a finite number"),
    ("regression", {"text": "a", "score": "1,5"}, "task 'it': found '1,5'; .*, give `decimal: \",\"` next to the path"),
    ("multilabel", {"text": "a", "labels": "['x'"}, "task 'it': found .*, which begins like a list and cannot be read"),
    (
        "multilabel",
        {"text": "a", "labels": '{"x": "1"}'},
        "task 'it': found .*; labels are a list, text joined by ',', or an object",
    ),
    ("tagging", {"tokens": "['a' 'b']", "tags": "O O"}, "task 'it': found .*, which begins like a list and cannot be"),
    ("tagging", {"tokens": ["a", "b"], "tags": ["O", ""]}, "task 'it': the tag of word 2 is empty; each token needs"),
    ("tagging", {"tokens": "a,b", "tags": "O,O"}, "task 'it': found 'a,b' with the tags 'O,O', joined by commas"),
    ("regression", {"text": "a", "score": float("inf")}, "task 'it': found inf; a score is"),
    ("regression", {"text": "a", "score": "high"}, "task 'it': found 'high'; a score is"),
    ("regression", {"text": "a", "score": True}, "task 'it': found True; a score is"),
    ("tagging", {"tokens": ["a"], "tags": ["O", "O"]}, "task 'it': found 1 tokens and 2 tags; each token needs one"),
    ("tagging", {"tokens": 5, "tags": ["O"]}, "task 'it': found 5 in 'tokens'; words and tags are lists"),
    ("tagging", {"tokens": ["a"], "tags": 5}, "task 'it': found 5 in 'tags'; words and tags are lists"),
    ("tagging", {"tokens": [None], "tags": ["O"]}, "task 'it': found None; a label is"),
    ("tagging", {"tokens": ["\ud800"], "tags": ["O"]}, "'tokens' holds half of a surrogate pair"),
    ("tagging", {"tokens": ["a"], "tags": ["\udc00"]}, "'tags' holds half of a surrogate pair"),
    ("tagging", {"tokens": None, "tags": None}, "'tokens' is empty, and so is 'text'; one is needed"),
    ("tagging", {"token": ["a"], "tags": ["O"]}, r"no column 'tokens' \(accepted: .*did you mean 'token'"),
]


@pytest.mark.parametrize(("kind", "row", "message"), REFUSED, ids=[f"{row[0]}-{at}" for at, row in enumerate(REFUSED)])
def test_a_bad_cell_is_refused_with_its_place(
    kind: str, row: dict[str, Any], message: str, options: Build, jsonl: Write
) -> None:
    good = {"text": "a", "label": "x", "labels": ["x"], "score": 1, "tokens": ["a"], "tags": ["O"]}
    path = jsonl([good, row])
    with pytest.raises(DataError, match=rf"rows.jsonl:2: {message}"):
        table_of(it=options(kind, path))
    with pytest.raises(DataError, match=f"train row 2: {message}"):
        table_of(it=options(kind, [good, row]))


@pytest.mark.parametrize(
    ("kind", "column"), [("classification", "label"), ("regression", "score"), ("tagging", "tags")]
)
def test_a_column_that_no_row_has_names_the_nearest(kind: str, column: str, options: Build, jsonl: Write) -> None:
    wrong = column[:-1] + "_" + column[-1]
    path = jsonl([{"text": "a", "tokens": ["a"], wrong: ["O"]}])
    with pytest.raises(ConfigError, match=rf"tasks.it.\w+: rows.jsonl: no column '{column}' .*did you mean '{wrong}'"):
        table_of(it=options(kind, path))


def test_an_orphan_tag_is_repaired_and_counted_or_refused_when_strict(options: Build, jsonl: Write) -> None:
    path = jsonl([{"tokens": ["a"], "tags": ["B-X"]}, {"tokens": ["a", "b", "c"], "tags": ["I-X", "I-X", "I-Y"]}])
    table = table_of(it=options("tagging", path))
    assert table.rows["label.it"][1] == ["B-X", "I-X", "B-Y"]
    assert (table.label_stats["it"].repaired, table.label_stats["it"].repaired_at) == (2, f"{path}:2")
    with pytest.raises(
        DataError, match=r"rows.jsonl:2: task 'it': an I- tag continues no entity; begin the entity with B-"
    ):
        table_of(it=options("tagging", path, strict=True))


def test_a_pair_of_texts_is_kept_for_every_row_made_of_it(options: Build, jsonl: Write) -> None:
    path = jsonl([{"a": "x <b>", "b": "second", "tokens": ["x"], "tags": ["O"], "label": "l"}])
    pair = ("a", "b")
    table = table_of(it=options("classification", path, text_pair=pair), words=options("tagging", path, text_pair=pair))
    assert list(zip(table.rows["text"], table.rows["pair"], strict=True)) == [("x <b>", "second"), ("x", "second")]


def test_rows_are_read_once_and_again_only_when_the_file_changes(
    options: Build, jsonl: Write, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    reads: list[Path] = []
    plain = READERS["jsonl"]
    monkeypatch.setitem(READERS, "jsonl", lambda file: (reads.append(file.path), plain(file))[1])
    path = jsonl([{"text": "a", "label": "x"}])
    first, second = (table_of(it=options("classification", path)) for _ in range(2))
    assert len(reads) == 1
    assert (first.digest, first.label_stats, first.rows[:]) == (second.digest, second.label_stats, second.rows[:])
    jsonl([{"text": "a", "label": "y"}])
    assert table_of(it=options("classification", path)).rows["label.it"][:] == ["y"]
    table_of(it=options("classification", path, strict=True))
    assert len(reads) == 3
    for counts in cache.glob("*.rows.json"):
        shutil.rmtree(counts)
    assert table_of(it=options("classification", path)).label_stats["it"].labels == {"y": 1}
    assert not list(cache.glob(".making-*"))


def test_a_broken_file_leaves_nothing_in_the_cache(options: Build, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": \n', "utf-8")
    for _ in range(2):
        with pytest.raises(DataError, match=r"rows.jsonl:2: not a JSON object"):
            table_of(it=options("classification", str(path)))
    assert not list(cache.glob("*"))


@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_text_cells_hold_scores_lists_and_labels(name: Format, options: Build, tmp_path: Path) -> None:
    separator = {"csv": ",", "tsv": "\t"}[name]
    lines = [
        ["text", "score", "labels", "tokens", "tags"],
        ["a b", "1.5", "x|y", "a b", "O B-Z"],
        ["c", "", "", "c", "O"],
    ]
    path = tmp_path / f"rows.{name}"
    path.write_text("".join(separator.join(line) + "\n" for line in lines), "utf-8")
    table = table_of(
        score=options("regression", str(path)),
        labels=options("multilabel", str(path), separator="|"),
        tags=options("tagging", str(path)),
    )
    assert table.rows["label.score"][:] == [1.5, None]
    assert table.rows["label.labels"][:] == [["x", "y"], None]
    assert table.rows["label.tags"][:] == [["O", "B-Z"], ["O"]]


def test_lists_written_as_text_are_the_lists_that_they_show(options: Build, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cells = [["text", "tokens", "tags", "labels"], ["a 'b'", "['a', \"'b'\"]", '["B-X", "I-X"]', "['x', 'y z']"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*cells, ["c d", "c d", "O O", "[]"]])
    table = table_of(tags=options("tagging", str(path)), labels=options("multilabel", str(path)))
    assert table.rows["label.tags"][:] == [["B-X", "I-X"], ["O", "O"]]
    assert table.rows["label.labels"][:] == [["x", "y z"], []]
    assert table.rows["starts"][:] == [[0, 2], [0, 2]]


@pytest.mark.parametrize("written", [[0, 0, 1], [0.0, 0.0, 1.0], [False, False, True], "[0, 0, 1]", "0,0,1"])
def test_rows_that_mark_every_label_need_the_names_of_the_labels(written: Any, options: Build) -> None:
    others = [[True, False, False], [False] * 3] if isinstance(written[0], bool) else [[1, 0, 0], [0, 0, 0]]
    rows = [{"text": text, "labels": labels} for text, labels in zip("abc", [written, *others], strict=True)]
    with pytest.raises(ConfigError, match=r"tasks.it .*each row lists 3 times 0 or 1.*`classes: \[first, second"):
        read_tables({"it": options("multilabel", rows, dev=rows)})
    table = table_of(it=options("multilabel", rows, classes=["joy", "fear", "love"]))
    assert table.rows["label.it"][:] == [["love"], ["joy"], []]
    with pytest.raises(DataError, match=r"train row 1: task 'it': .*`classes` names 2 labels, so a row is as many"):
        table_of(it=options("multilabel", rows, classes=["joy", "fear"]))


@pytest.mark.parametrize(
    ("yes", "no"), [(1, 0), (True, False), ("1", "0"), (1.0, 0.0), ("yes", "no"), ("TRUE", "FALSE"), (" 1.0 ", "0.0")]
)
def test_labels_may_have_a_column_each(options: Build, yes: Any, no: Any) -> None:
    marks = [(yes, no), (no, yes), (yes, yes), (no, no), (None, "")]
    rows = [{"text": f"text {at}", "sports": one, "food": two} for at, (one, two) in enumerate(marks)]
    table = table_of(it=options("multilabel", rows, label=["sports", "food"]))
    assert table.rows["label.it"][:] == [["sports"], ["food"], ["food", "sports"], [], None]
    stats = table.label_stats["it"]
    assert (stats.present, stats.missing, dict(stats.labels)) == (4, 1, {"sports": 2, "food": 2})


def test_a_column_of_a_label_holds_marks_only(options: Build) -> None:
    def read(row: dict[str, Any], **more: Any) -> DataTable:
        return table_of(it=options("multilabel", [{"text": "a", **row}], label=["sports", "food"], **more))

    with pytest.raises(DataError, match=r"train row 1: task 'it': found 0.3 in 'food'; a column for one label holds 0"):
        read({"sports": 1, "food": 0.3})
    with pytest.raises(DataError, match=r"found nothing in 'food', beside marks in other columns; write 0"):
        read({"sports": 1, "food": None})
    with pytest.raises(ConfigError, match=r"tasks.it.label: .*no column 'food'"):
        read({"sports": None, "foods": 1})
    assert read({"sports": "NA", "food": "NA"}, unlabelled=["NA"]).label_stats["it"].missing == 1
    for label in (["sports"], [], ["sports", "sports"]):
        with pytest.raises(ValueError, match="name two or more different columns"):
            options("multilabel", label=label)
    for more in ({"no_label": "none"}, {"classes": ["a", "b"]}, {"separator": ";"}):
        with pytest.raises(ValueError, match=f"found {next(iter(more))}, which is about the cells of one column"):
            options("multilabel", label=["sports", "food"], **more)


def test_a_label_that_no_training_row_has_is_noted(options: Build) -> None:
    rows = [{"text": f"text {at}", "a": at % 2, "b": at // 2 % 2, "c": 0} for at in range(40)]
    tables = read_tables({"it": options("multilabel", rows, dev=rows, label=["a", "b", "c"])})
    assert tables.tasks["it"].labels == ("a", "b")
    assert any(
        note.message == "no training row has c, which the model therefore cannot predict" for note in tables.notes
    )
    again = type(tables.tasks["it"]).from_json("it", tables.tasks["it"].to_json())
    assert again.options.label == ("a", "b", "c")


def test_labels_that_are_numbers_are_no_marks(options: Build) -> None:
    rows = [{"text": "a", "labels": [0, 1]}, {"text": "b", "labels": [1]}, {"text": "c", "labels": []}]
    assert read_tables({"it": options("multilabel", rows, dev=rows)}).tasks["it"].labels == ("0", "1")


@pytest.mark.parametrize("separator", [";", "|", "\uff0c", "\u3001"])
def test_labels_joined_by_another_separator_are_refused(separator: str, options: Build) -> None:
    rows = [{"text": "a", "labels": separator.join("xy")}, {"text": "b", "labels": "x"}]
    with pytest.raises(
        ConfigError, match=rf"the label 'x[{separator}]y' seems to be several, .*separator: \"[{separator}]\""
    ):
        read_tables({"it": options("multilabel", rows, dev=rows)})
    lists = [{"text": row["text"], "labels": [row["labels"]]} for row in rows]
    assert read_tables({"it": options("multilabel", lists, dev=lists)}).tasks["it"].labels == (
        "x",
        separator.join("xy"),
    )
    for chosen, labels in ((separator, ("x", "y")), (",", ("x", separator.join("xy")))):
        tables = read_tables({"it": options("multilabel", rows, dev=rows, separator=chosen)})
        assert tables.tasks["it"].labels == labels


TOKEN_ROWS = "Sentence #,Word,Tag\nSentence: 1,Ann,B-PER\n,sings,O\nSentence: 2,Bo,B-PER\n,Li,I-PER\n"


def test_one_token_a_row_is_refused_or_read_with_the_column_of_the_sentence(options: Build, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TOKEN_ROWS, "utf-8")
    columns = {"tokens": "Word", "tags": "Tag"}
    with pytest.raises(ConfigError, match=r"each of the 4 rows holds one word; .*`sentence: COLUMN`.*Sentence #, Word"):
        table_of(it=options("tagging", str(path), **columns))
    table = table_of(it=options("tagging", str(path), **columns, sentence="Sentence #"))
    assert table.rows["text"][:] == ["Ann sings", "Bo Li"]
    assert table.rows["label.it"][:] == [["B-PER", "O"], ["B-PER", "I-PER"]]
    assert table.rows["place"][:] == [f"{path}:2", f"{path}:4"]
    with pytest.raises(DataError, match=r"rows.csv:2: no column 'sentence' \(accepted: .*did you mean 'Sentence #'"):
        table_of(it=options("tagging", str(path), **columns, sentence="sentence"))
    path.write_text(TOKEN_ROWS.replace("Word", "text"), "utf-8")
    columns["tokens"] = "text"
    assert table_of(it=options("tagging", str(path), **columns, sentence="Sentence #")).rows["text"][1] == "Bo Li"
    rows = [{"n": n, "tokens": token, "tags": tag} for n, token, tag in ((1, "a", "B-X"), (1, "b", "O"), (2, "c", "O"))]
    assert table_of(it=options("tagging", rows, sentence="n")).rows["text"][:] == ["a b", "c"]


def test_one_sentence_has_one_name_in_whatever_spelling(options: Build, tmp_path: Path) -> None:
    """A column of numbers with gaps is one of floats, whose empty cells are NaN."""
    path = tmp_path / "rows.jsonl"
    names = ["1", "1.0", "NaN", '" 1"', "null", "2.0", "NaN", "NaN", '"x"', '"x "', '" "']
    path.write_text(
        "".join(f'{{"n": {n}, "tokens": "w{at}", "tags": "{"OB"[at % 2]}"}}\n' for at, n in enumerate(names))
    )
    table = table_of(it=options("tagging", str(path), sentence="n", scheme="plain"))
    assert table.rows["text"][:] == ["w0 w1 w2 w3 w4", "w5 w6 w7", "w8 w9 w10"]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_nan_is_not_labelled(kind: str, options: Build, jsonl: Write) -> None:
    rows = [{"text": "a", "label": 1.0, "score": 1.0}, {"text": "b", "label": float("nan"), "score": float("nan")}]
    for given in (rows, jsonl(rows)):
        table = table_of(it=options(kind, given))
        assert (table.label_stats["it"].present, table.label_stats["it"].missing) == (1, 1)


def test_nested_values_have_names_with_points(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "a", "meta": {"label": "x", "more": {"score": 2}}}])
    one, two = options("classification", path, label="meta.label"), options("regression", path, label="meta.more.score")
    assert [table_of(one=one, two=two).rows[f"label.{name}"][0] for name in ("one", "two")] == ["x", 2.0]


@pytest.mark.parametrize("column", ["text", "label", "tags", "meta"])
def test_what_is_nested_deeply_is_no_crash(column: str, options: Build, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    limit = sys.getrecursionlimit()
    for deep in (50, limit - 250, limit - 100, limit, 100_000):
        nested = '{"a": [' * deep + "1" + "]}" * deep
        path.write_text(
            f'{{"text": "a", "label": "x", "tokens": ["a"], "tags": ["O"], "{column}": {nested}}}\n', "utf-8"
        )
        tasks = {"topic": options("classification", str(path)), "tags": options("tagging", str(path))}
        try:
            rows = table_of(**tasks).rows
        except DataError as error:
            assert str(error).startswith(f"{path}:1: ")  # noqa: PT017
        else:
            assert (column, rows["label.tags"][0]) == ("meta", ["O"])


MEASURE = """
import gc, json, re, sys
from pathlib import Path
from polytask.data.feed import feeds_of
from polytask.data.prepare import read_tables
from polytask.data.rows import read_table
from polytask.options import DataOptions
from polytask.tasks import TASKS

def anonymous() -> int:
    gc.collect()
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def read(path):
    chosen = TASKS["classification"].Options(type="classification", data=DataOptions(train=path))
    return read_table(feeds_of({"it": chosen}, "train")[0])

read(sys.argv[1])  # imports and pools
before = anonymous()
table = read(sys.argv[2])
print(json.dumps([len(table.rows), anonymous() - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_rows_are_not_held_in_memory(jsonl: Write) -> None:
    small = jsonl([{"text": "a", "label": "x"}] * 3000, "small.jsonl")  # the pools of whole batches
    large = jsonl(
        ({"text": f"row {at} " + "word " * 20, "label": "xy"[at % 2]} for at in range(100_000)), "large.jsonl"
    )
    command = [sys.executable, "-c", MEASURE, small, large]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, grown = json.loads(done.stdout)
    assert count == 100_000
    assert grown < Path(large).stat().st_size / 4
