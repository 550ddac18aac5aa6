"""Prediction reads files as training does: every row answered in order with its id, what cannot be read refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.engine import RowOutputs
from polytask.data.readers import read_file
from polytask.data.tokens import Tokenization, TokenRow
from polytask.errors import ConfigError, DataError, OutputError
from polytask.options import FileOptions
from polytask.predict.columns import Columns, is_id
from polytask.predict.lines import answer_lines
from polytask.predict.predictor import Model
from polytask.predict.record import queries_of
from polytask.predict.source import PredictionSource
from polytask.tasks import Task
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.multilabel import Multilabel, MultilabelOptions
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.tasks.tagging import Tagging, TaggingOptions
from samples import files_up_to

PYTHON = sys.executable  # itself, and no stand-in
CASES = Path(__file__).parents[3] / "shared" / "cases" / "10-predict-inputs"
Row = dict[str, Any]


class Tokens:
    """Makes one token a word."""

    max_tokens = 8
    frame = (1, 1)

    def rows(self, texts: Sequence[str], pairs: Any, words: Sequence[Any]) -> list[TokenRow]:
        return [TokenRow([len(text) % 7, 1], None, list(range(len(w))), truncated=False)
                for text, w in zip(texts, words, strict=True)]  # fmt: skip


class Engine:
    """Finds an entity in every word, and the same for every text."""

    def __init__(self, tasks: dict[str, Task]) -> None:
        self.tasks = tasks

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        return [{name: self.outputs(name, row) for name in names} for row, names in zip(rows, tasks, strict=True)]

    def outputs(self, name: str, row: TokenRow) -> Any:
        found = np.linspace(0, 1, self.tasks[name].head.size).astype(np.float32)
        found[-2:] = found[-2:][::-1]  # the begin of an entity
        return np.tile(found, (len(row.word_tokens), 1)) if self.tasks[name].level == "word" else found

    def describe(self) -> dict[str, Any]:
        return {}


def model_of(**tasks: Task) -> Model:
    return Model(tasks, cast(Tokenization, Tokens()), cast(Any, Engine(tasks)), {})


def tone(**options: Any) -> Task:
    return Classification(
        "tone", ClassificationOptions(type="classification", **options), ("bad", 'good, "so"'), (1, 1)
    )


def tagging(**options: Any) -> Task:
    return Tagging("names", TaggingOptions(type="tagging", **options), ("O", "B-X", "I-X"), (1, 1, 1), True)


def everything() -> Model:
    topics = Multilabel("topics", MultilabelOptions(type="multilabel"), ("a", "b"), (1, 1), 2)
    length = Regression("length", RegressionOptions(type="regression"), 1.0, 2.0)
    return model_of(tone=tone(), topics=topics, length=length, names=tagging())


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Row]]:
    """Answer a file, and return the answers of stdout."""

    def run(path: Path, model: Model | None = None, **options: Any) -> list[Row]:
        capsys.readouterr()
        answer_lines(model or model_of(tone=tone()), str(path), say=str, **options)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def texts(answers: list[Row]) -> list[Any]:
    return [answer["text"] for answer in answers]


ROWS = [{"id": "7", "text": 'A film, "so" good'}, {"id": "x", "text": ""}, {"id": "9", "text": "two\nlines"}]


def write(path: Path, rows: Sequence[Row] = ROWS) -> Path:
    """Write rows in the format that a name tells."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    if suffix == ".csv":
        sink = io.StringIO()
        table = csv.DictWriter(sink, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        text = sink.getvalue()
    else:
        text = json.dumps(list(rows)) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.txt", "a.json", "a.csv", "a.parquet", "a.csv.gz", "a.JSON"])
def test_every_format_gives_the_same_answers_with_their_ids(
    name: str, answer: Callable[..., list[Row]], tmp_path: Path
) -> None:
    answers = answer(write(tmp_path / name))
    assert [(row["id"], row["text"]) for row in answers] == [(row["id"], row["text"]) for row in ROWS]
    assert [list(row) for row in answers] == [
        ["id", "text", "predictions", *(["empty"] if not row["text"] else [])] for row in ROWS
    ]


def test_tsv_and_conll_are_read_as_in_training(answer: Callable[..., list[Row]], tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('doc_id\ttext\n1\t"open\n2\tfine\n', "utf-8")
    assert [(row["doc_id"], row["text"]) for row in answer(tmp_path / "a.tsv")] == [("1", '"open'), ("2", "fine")]
    (tmp_path / "a.conll").write_text("Anna B-X\nsaid O\n\nKarl B-X\n", "utf-8")
    model = model_of(names=tagging())
    answers = answer(tmp_path / "a.conll", model)
    assert texts(answers) == ["Anna said", "Karl"]
    assert [entity["text"] for entity in answers[0]["predictions"]["names"]] == ["Anna", "said"]
    assert texts(answer(tmp_path / "a.conll", columns=Columns(("tokens",)))) == ["Anna said", "Karl"]


@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"])), max_size=8),
    bom=st.booleans(), end=st.sampled_from(["\n", "\r\n"]), last=st.booleans(),
)  # fmt: skip
def test_every_line_of_texts_is_answered(
    lines: list[str], bom: bool, end: str, last: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    lines = [line.lstrip("{[\ufeff") for line in lines]
    whole = end.join(lines) + (end if last and lines else "")
    path.write_bytes(b"\xef\xbb\xbf" * bom + whole.encode())
    kept = lines if last or not lines or lines[-1] else lines[:-1]  # the last line ends without a line break
    assert [text for _, text in PredictionSource.of(str(path)).rows()] == kept


def test_blank_lines_are_answered_in_texts_and_passed_over_in_jsonl(
    answer: Callable[..., list[Row]], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("\n \none\n\ntwo\n\n", "utf-8")
    assert texts(answer(tmp_path / "a.txt")) == ["", " ", "one", "", "two", ""]
    (tmp_path / "b.txt").write_text('\n \n{"text": "one"}\n\n{"text": "two"}\n', "utf-8")
    assert texts(answer(tmp_path / "b.txt")) == ["one", "two"]
    for name in ("empty.txt", "empty.jsonl", "empty.csv"):
        (tmp_path / name).write_bytes(b"")
        assert answer(tmp_path / name) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", "one\ntwo\n".encode("utf-16"), r"the file is UTF-16.*--written encoding="),
        ("a.jsonl", b"\xef\xbb\xbf" + b'{"text": "a"}\nnot json\n', r"a.jsonl:2: not a JSON object"),
        ("a.txt", "one\ntwo\n".encode("utf-16-le"), "seems to be UTF-16 without a byte order mark"),
        ("a.txt", b"one\ncaf\xe9\n", r"a.txt:2: byte 4 of the line is not UTF-8.*--written encoding=cp1252"),
        ("a.txt", b"one\nt\0wo\n", r"a.txt:2: holds a NUL character"),
        ("a.bin", b"PAR1\x15\x04", "the file is a parquet file"),
        ("a.xlsx", b"PK\x03\x04rest", r"zip archive \(as xlsx files are\)"),
        ("a.pdf", b"%PDF-1.7\n1 0 obj\n", "the file is a PDF"),
        ("a.rtf", b"{\\rtf1\\ansi text}", "rich text"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
        ("a.parquet", b"no parquet", "not a parquet file"),
        ("a.txt", b"one\rtwo\rthree", "the lines end in carriage returns alone"),
        ("a.txt", b'[\n {"text": "a"}\n]\n', r"a.txt:1: begins like JSON.*`format: json`"),
        ("a.txt", b'[{"text": "a"}]\n', r"a.txt:1: begins like JSON"),
        ("a.txt", b'{"text": "a",}\n{"text": "b"}\n', r"a.txt:1: begins like JSON"),
        ("a.txt", b'{"text": "a"}\n\ntext\n', r"a.txt:3: not a JSON object"),
        ("a.jsonl", b'{"text": "a", "text": "b"}\n', r"a.jsonl:1: .*'text' stands twice"),
        ("a.jsonl", b'{"text": 5}\n', r"a.jsonl:1: record 1: found 5; a text is expected"),
        ("a.jsonl", b'{"text": {}}\n', r"a.jsonl:1: record 1: found {}; a text is expected"),
        ("a.jsonl", b'{"review": "a"}\n', r"a.jsonl:1: .*accepted: text; found: review; --text COLUMN"),
        ("a.jsonl", b'{"id": "\\ud800", "text": "a"}\n', r"a.jsonl:1: 'id' cannot be kept"),
        ("a.jsonl", b'{"id": Infinity, "text": "a"}\n', r"a.jsonl:1: 'id' cannot be kept"),
        ("a.csv", b'text\nfine\n"open\n', r"a.csv:3: a quote opens a cell here"),
        ("a.csv", b"text,x\nfine,1\nodd\n", r"a.csv:3: found 1 columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(
    name: str, content: bytes, told: str, answer: Callable[..., list[Row]], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){told}"):
        answer(tmp_path / name)


def test_how_a_file_is_written_can_be_told(answer: Callable[..., list[Row]], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café\nthé\n".encode("utf-16"))
    assert texts(answer(tmp_path / "a.txt", written={"encoding": "utf-16"})) == ["café", "thé"]
    (tmp_path / "b.txt").write_text("id;text\n1;a, b\n", "utf-8")
    rows = answer(tmp_path / "b.txt", written={"format": "csv", "separator": ";"})
    assert [(row["id"], row["text"]) for row in rows] == [("1", "a, b")]
    with pytest.raises(DataError, match=r"b.txt: is read as texts.*give `format` as well"):
        answer(tmp_path / "b.txt", written={"separator": ";"})
    (tmp_path / "c.csv").write_text('{"a": 1}\n[\n', "utf-8")
    assert texts(answer(tmp_path / "c.csv", written={"format": "text"})) == ['{"a": 1}', "["]
    with pytest.raises(ConfigError, match=r"files: found 'seperator'.*did you mean 'separator'"):
        answer(tmp_path / "b.txt", written={"seperator": ";"})


def test_the_columns_of_the_texts_are_those_of_the_tasks_or_are_told(
    answer: Callable[..., list[Row]], tmp_path: Path
) -> None:
    rows = [{"title": "t", "review": {"body": "b"}, "other": "o"}]
    path = write(tmp_path / "a.jsonl", rows)
    assert texts(answer(path, model_of(tone=tone(text="title")))) == ["t"]
    assert texts(answer(path, model_of(tone=tone(text="review.body")))) == ["b"]
    assert texts(answer(path, columns=Columns(("other",)))) == ["o"]
    pair = model_of(tone=tone(text_pair=("one", "two")))
    assert texts(answer(path, pair, columns=Columns(("title", "other")))) == [["t", "o"]]
    with pytest.raises(DataError, match=r"a.jsonl:1: no column 'titel'.*did you mean 'title'"):
        answer(path, columns=Columns(("titel",)))
    with pytest.raises(ConfigError, match=r"text: found 1, but the tasks read a pair"):
        answer(path, pair, columns=Columns(("title",)))
    (tmp_path / "a.txt").write_text("text\n", "utf-8")
    with pytest.raises(DataError, match="it has no columns"):
        answer(tmp_path / "a.txt", columns=Columns(("title",)))
    (tmp_path / "pair.jsonl").write_text('{"one": "a", "two": 5}\n', "utf-8")
    with pytest.raises(DataError, match="found 5; a text is expected"):
        answer(tmp_path / "pair.jsonl", pair)


NAN = float("nan")


@pytest.mark.parametrize("null", [None, NAN, np.nan])
def test_null_is_an_empty_text_wherever_rows_are_answered(null: Any) -> None:
    model, pair = model_of(tone=tone()), model_of(tone=tone(text_pair=("one", "two")))
    (empty,) = model.answers([""])
    for record in ({"text": null}, {"text": null, "id": 1}, null):
        (found,) = model.answers([record])
        assert (found.to_json(), found.tokens) == (empty.to_json(), empty.tokens)
    assert [answer.empty for answer in model.answers(["a", {"text": null}, "b"])] == [False, True, False]
    assert list(model.answers(pd.DataFrame({"text": ["a", null]})))[1].empty
    for record in ({"one": "a", "two": null}, ("a", null)):
        (found,) = pair.answers([record])
        assert (found.text, found.empty) == (("a", ""), False)
    for record in ({"one": null, "two": null}, (null, null)):
        (found,) = pair.answers([record])
        assert (found.text, found.empty) == (("", ""), True)
    words = model_of(names=tagging())
    assert next(words.answers([{"text": null, "tokens": ["Ann"]}])).text == "Ann"
    for record in ({"tokens": null}, {"text": null, "tokens": null}):
        (found,) = words.answers([record])
        assert (found.text, found.predictions, found.empty) == ("", {"names": []}, True)
    for record in ({}, {"other": null}):
        with pytest.raises(DataError, match="holds no text for any of the tasks"):
            list(model.answers([record]))


def test_null_in_a_file_is_answered_like_an_empty_cell(answer: Callable[..., list[Row]], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": null}\n{"id": 3, "text": "b"}\n')
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2,\n3,b\n")
    pq.write_table(pa.table({"id": [1, 2, 3], "text": ["a", None, "b"]}), tmp_path / "a.parquet")
    expected = [("1", "a", False), ("2", "", True), ("3", "b", False)]
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        found = answer(tmp_path / name)
        assert [(str(row["id"]), row["text"], row.get("empty", False)) for row in found] == expected
    found = answer(tmp_path / "a.jsonl", columns=Columns(("text",)))
    assert [row["text"] for row in found] == ["a", "", "b"]


def test_columns_are_kept_that_identify_a_row_and_that_are_told(
    answer: Callable[..., list[Row]], tmp_path: Path
) -> None:
    assert all(map(is_id, ("id", "ID", "_id", "doc_id", "docId", "Tweet ID", "uuid", "guid", "idx", "index")))
    assert not any(map(is_id, ("valid", "text", "paid", "label", "ids", "id_text")))
    path = write(tmp_path / "a.jsonl", [{"id": 1, "meta": {"day": 2}, "text": "a", "gold": ["x"]}, {"text": "b"}])
    answers = answer(path, columns=Columns(keep=("gold", "meta.day")))
    assert [{key: row[key] for key in row if key not in ("text", "predictions")} for row in answers] == [
        {"id": 1, "gold": ["x"], "meta.day": 2}, {"gold": None, "meta.day": None},
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"a.jsonl: no row has the column 'gole' to keep"):
        answer(path, columns=Columns(keep=("gole",)))
    table = write(tmp_path / "a.csv", [{"gold": "x", "text": "a"}])
    with pytest.raises(DataError, match=r"a.csv:2: no column 'gole' to keep.*did you mean 'gold'"):
        answer(table, columns=Columns(keep=("gole",)))
    with pytest.raises(ConfigError, match=r"keep: found 'text'"):
        answer(path, columns=Columns(keep=("text",)))


@pytest.mark.parametrize(
    "tokens",
    [
        ["Lee", "'s", "film"],
        "Lee 's film",
        '["Lee", "\'s", "film"]',
        [{"text": "Lee"}, {"text": "'s"}, {"text": "film"}],
    ],
)
def test_words_are_read_as_in_training(tokens: Any) -> None:
    tasks = {"names": tagging()}
    words = [(0, 3), (3, 5), (6, 10)]
    (query,) = queries_of(0, {"text": "Lee's film", "tokens": tokens}, tasks, ["names"], "r")
    assert query.words == words
    (query,) = queries_of(0, {"tokens": tokens}, tasks, ["names"], "r")
    assert (query.text, query.words) == ("Lee 's film", [(0, 3), (4, 6), (7, 11)])


def test_words_in_the_column_of_the_texts_are_a_text() -> None:
    tasks = {"names": tagging(tokens="text"), "tone": tone()}
    (query,) = queries_of(0, {"text": ["a", "b"]}, tasks, ["names", "tone"], "r")
    assert (query.text, query.words, query.tasks) == ("a b", [(0, 1), (2, 3)], ("names", "tone"))
    with pytest.raises(DataError, match="r: found 5 in 'tokens'"):
        queries_of(0, {"tokens": 5}, {"names": tagging()}, ["names"], "r")


def test_tables_hold_what_json_lines_hold(answer: Callable[..., list[Row]], tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"id": n, "text": text} for n, text in enumerate(['Anna, "so"', "", "a\r\nb"])])
    expected = answer(path, everything())
    for name in ("out.csv", "out.csv.gz", "out.parquet", "out.jsonl.gz"):
        answer_lines(everything(), str(path), out=tmp_path / name, say=str)
    packed = gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).decode()
    assert [json.loads(line) for line in packed.splitlines()] == expected
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == (tmp_path / "out.csv").read_bytes()
    table = [row for _, row in read_file(tmp_path / "out.parquet")]
    cells = [row for _, row in read_file(tmp_path / "out.csv", FileOptions())]
    assert list(table[0]) == list(cells[0]) == [
        "id", "text", "predictions.tone.label", "predictions.tone.probabilities.bad",
        'predictions.tone.probabilities.good, "so"', "predictions.topics.labels", "predictions.topics.probabilities.a",
        "predictions.topics.probabilities.b", "predictions.length.value", "predictions.names", "truncated", "empty",
    ]  # fmt: skip
    for told, row, cell in zip(expected, table, cells, strict=True):
        assert (row["id"], row["text"]) == (told["id"], told["text"])
        assert row["predictions.names"] == told["predictions"]["names"] == json.loads(cell["predictions.names"])
        assert row["predictions.topics.labels"] == told["predictions"]["topics"]["labels"]
        assert row["predictions.length.value"] == told["predictions"]["length"]["value"]
        assert float(cell["predictions.length.value"]) == told["predictions"]["length"]["value"]
        assert cell["text"] == told["text"]
        assert (row["truncated"], cell["truncated"]) == (False, "false")
        assert (row["empty"], cell["empty"]) == ((True, "true") if not told["text"] else (False, "false"))
    assert [row["predictions.names"] != [] for row in table] == [True, False, True]


def test_a_table_has_its_columns_where_no_row_is_answered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n", "utf-8")
    for name in ("out.csv", "out.parquet"):
        answer_lines(model_of(names=tagging()), str(tmp_path / "a.csv"), out=tmp_path / name, say=str)
    assert (tmp_path / "out.csv").read_text("utf-8") == "text,predictions.names,truncated,empty\n"
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.parquet"])
@pytest.mark.parametrize("size", [0, 3000])
def test_a_full_disk_is_told_and_the_same_command_goes_on(name: str, size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"id": at, "text": f"{at} {'ab' * (at % 7)}"} for at in range(2000)])
    out = tmp_path / name
    out.write_text("before", "utf-8")
    with (
        files_up_to(size),
        pytest.raises(OutputError, match=rf"{name}.partial: cannot be written any further \(.*\); free space"),
    ):
        answer_lines(everything(), str(path), out=out, say=str)
    assert out.read_text("utf-8") == "before"
    answer_lines(everything(), str(path), out=out, say=str)
    assert not (tmp_path / f"{name}.partial").exists()
    assert out.read_bytes()[:6] != b"before"


def test_a_row_that_does_not_fit_into_a_table_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"id": 1, "text": "a"}, {"id": "x", "text": "b"}])
    with pytest.raises(DataError, match=r"a.jsonl:2: 'id' is 'x', and 1 in the first row; write jsonl or csv"):
        answer_lines(everything(), str(path), out=tmp_path / "out.parquet", say=str)
    assert pq.read_table(tmp_path / "out.parquet.partial").to_pylist()[0]["id"] == 1
    path = write(tmp_path / "b.jsonl", [{"text": "a"}, {"id": "x", "text": "b"}])
    with pytest.raises(DataError, match=r"b.jsonl:2: 'id' is not a column of the first row"):
        answer_lines(everything(), str(path), out=tmp_path / "out.csv", say=str)
    assert not (tmp_path / "out.csv").exists()
    path = write(tmp_path / "c.jsonl", [{"id": 2**70, "text": "a"}])
    with pytest.raises(DataError, match=r"c.jsonl:1: 'id' is \d+, which a column of whole numbers cannot hold"):
        answer_lines(everything(), str(path), out=tmp_path / "out.parquet", say=str)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"to": "xml"}, "to: found 'xml'; accepted: csv, jsonl, parquet"),
        ({"to": "parquet"}, r"to: parquet has its own compression; give --out NAME.parquet"),
        ({"to": "csv", "out": Path("o.jsonl")}, "out: o.jsonl has the extension of jsonl, but csv was requested"),
        ({"out": Path("o.tsv")}, "out: found o.tsv; tsv is not written"),
        ({"out": Path("o.csv"), "spans": "doccano"}, "spans: annotations are written as jsonl, not as csv"),
    ],
)
def test_a_form_that_is_not_written_is_refused(options: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n", "utf-8")
    with pytest.raises(ConfigError, match=told):
        answer_lines(model_of(names=tagging()), str(tmp_path / "a.txt"), say=str, **options)


def test_annotations_keep_ids(answer: Callable[..., list[Row]], tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"id": 7, "text": "Anna"}])
    model = model_of(names=tagging())
    assert answer(path, model, spans="doccano") == [{"id": 7, "text": "Anna", "label": [[0, 4, "X"]]}]
    assert answer(path, model, spans="label-studio")[0]["data"] == {"id": 7, "text": "Anna"}
    assert answer(path, model, spans="spacy") == [["Anna", {"entities": [[0, 4, "X"]]}]]


def test_how_a_file_was_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"two\nlines"\n', "utf-8")
    said: list[str] = []
    answer_lines(everything(), str(tmp_path / "a.csv"), out=tmp_path / "o.jsonl", say=said.append)
    (note,) = said
    assert note.startswith(f"note: 1 cells hold line breaks, the first in the row at {tmp_path / 'a.csv'}:2;")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        (b"\xef\xbb\xbfa\n\nb", ["a", "", "b"]),
        (gzip.compress(b"a\nb\n", mtime=0), ["a", "b"]),
    ],
)
@pytest.mark.usefixtures("quick_processes")
def test_stdin_and_pipes_are_texts_or_jsonl(given: bytes, told: list[str]) -> None:
    program = (
        "import sys\nfrom polytask.predict.source import PredictionSource\n"
        "print([row if isinstance(row, str) else row['text'] for _, row in PredictionSource.of(sys.argv[1]).rows()])"
    )
    for name in ("-", "/dev/stdin"):
        done = subprocess.run([PYTHON, "-c", program, name], input=given, capture_output=True, check=True)
        assert eval(done.stdout) == told


WITHOUT = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "datasets", "pyarrow", "scipy", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
from polytask.errors import UserError
from polytask.predict.lines import answer_lines
from polytask.predict.predictor import Model
from pathlib import Path
folder = Path(sys.argv[1])
class Fixed(Model):
    def answers(self, records, tasks, *, long):
        from polytask.predict.predictor import TextPrediction
        return (TextPrediction(record["text"], {}, False) for record in records)
for name in ("a.csv", "a.json", "a.parquet"):
    for out in ("o.jsonl", "o.csv", "o.parquet"):
        try:
            answer_lines(Fixed({}, None, None, {}), str(folder / name), out=folder / out, say=str)
            print(name, out)
        except UserError as error:
            print(name, out, error)
"""


def test_only_parquet_needs_a_package(tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.parquet"):
        write(tmp_path / name)
    command = [PYTHON, "-W", "error", "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONUTF8": "1"})
    told = done.stdout.splitlines()
    needs = [line.split() for line in told if "needs the package 'pyarrow'" in line and "polytask[train]" in line]
    assert [line for line in told if "needs" not in line] == [
        f"{a} {o}" for a in ("a.csv", "a.json") for o in ("o.jsonl", "o.csv")
    ]
    assert len(needs) == 5
    assert not list(tmp_path.glob("o.parquet*"))


def test_the_collected_cases_are_answered_or_refused(answer: Callable[..., list[Row]]) -> None:
    if not CASES.is_dir():
        pytest.skip(f"the cases are not in {CASES}")
    four = ["doc-0", "doc-1", "doc-2", "doc-3"]
    for name in ("array.json", "array1.json", "bom.jsonl", "plain.jsonl"):
        assert [row["id"] for row in answer(CASES / name)] == four, name
    assert len(answer(CASES / "blank.txt")) == 5
    assert texts(answer(CASES / "bom.txt"))[0] == "Anna said the film in Leeds was great ."
    assert [row["id"] for row in answer(CASES / "data.csv")] == ["1", "2"]
    assert texts(answer(CASES / "tokens.conll", model_of(names=tagging()))) == ["Anna said", "Karl"]
    for name in ("dup.jsonl", "firstjson.txt", "latin.txt", "noteq.jsonl", "num.jsonl", "utf16.jsonl", "utf16.txt"):
        with pytest.raises(DataError, match=name):
            answer(CASES / name)


def test_nested_values_that_are_kept_are_json_in_a_table(tmp_path: Path) -> None:
    kept = [{"k": [1, 2]}, 5, [{"other": None}], None, "a"]
    path = write(tmp_path / "a.jsonl", [{"text": "a", "meta": value} for value in kept])
    for name in ("out.parquet", "out.csv"):
        answer_lines(
            model_of(names=tagging()), str(path), out=tmp_path / name, columns=Columns(keep=("meta",)), say=str
        )
    rows = [row["meta"] for _, row in read_file(tmp_path / "out.parquet")]
    assert rows == ['{"k": [1, 2]}', "5", '[{"other": null}]', None, "a"]
    assert [row["meta"] for _, row in read_file(tmp_path / "out.csv", FileOptions())] == [cell or "" for cell in rows]


def test_ids_of_every_type_are_kept(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "day_id": [date(2020, 1, 2)], "key_id": [Decimal("1.50")], "raw_id": [b"x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    answer_lines(model_of(names=tagging()), str(tmp_path / "a.parquet"), out=tmp_path / "out.jsonl", say=str)
    answer = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    assert {name: value for name, value in answer.items() if name.endswith("_id")} == {
        "day_id": "2020-01-02", "key_id": "1.50",
    }  # fmt: skip


@pytest.mark.parametrize(("form", "name"), [("doccano", "label"), ("prodigy", "spans"), ("label-studio", "text")])
def test_a_column_that_annotations_have_of_their_own_is_not_kept_in_silence(
    form: str, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", [{"body": "Anna", "text": "Anna", name: "old"}])
    columns = Columns(keep=(name,)) if name != "text" else Columns(texts=("body",), keep=("text",))
    with pytest.raises((DataError, ConfigError), match=f"'{name}'.* own value under this name"):
        answer_lines(
            model_of(names=tagging()), str(path), out=tmp_path / "out.jsonl", spans=form, columns=columns, say=str
        )


def test_pairs_of_spacy_have_no_place_for_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "Anna", "meta": 1}])
    with pytest.raises(ConfigError, match="keep: found meta; spacy writes pairs of a text and its spans"):
        answer_lines(model_of(names=tagging()), str(path), spans="spacy", columns=Columns(keep=("meta",)), say=str)
