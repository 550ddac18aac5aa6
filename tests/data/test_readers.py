"""Readers give back what was written, or say where the file is broken."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.files import ReadingNotes
from polytask.data.paths import format_of
from polytask.data.readers import READERS, read_file
from polytask.errors import DataError
from polytask.options import FileOptions, Format

# Everything that some libraries take for the end of a line, and that is an ordinary character of a text.
ODD_SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"

# A mark of the encoding at the beginning of a line is none of its text.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")
texts = st.text(st.one_of(characters, st.sampled_from(ODD_SEPARATORS + '",\t\r\n')))
names = st.text("abcdefghij_", min_size=1, max_size=6)
# A CoNLL cell holds no tab and no newline, no spaces at its ends, and a tag none at all; a line whose cells are all
# blank would end the sentence.
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff"), min_size=1).filter(
    lambda cell: cell.strip() and cell == cell.strip(" ") and cell != "-DOCSTART-"
)
tags = cells.filter(lambda cell: " " not in cell)
# A lone mark before a tag that no other line has begins a comment (test_conll.py).
tokens = cells.filter(lambda cell: cell != "#" and not cell.startswith("# "))
sentences = st.lists(st.lists(st.tuples(tokens, tags), min_size=1, max_size=5), min_size=1, max_size=5)


def written(path: Path, rows: list[list[str]], delimiter: str, ending: str) -> Path:
    target = io.StringIO()
    # All quoted: the writer of Python 3.11 leaves a bare carriage return outside of quotes. Of a tsv file the quotes
    # around the names of the columns tell that quotes count.
    csv.writer(target, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL).writerows(rows)
    path.write_bytes(target.getvalue().encode())
    return path


def as_jsonl(path: Path) -> None:
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n', "utf-8")


def as_json(path: Path) -> None:
    path.write_text('[\n{"text": "a", "label": "x"},\n{"text": "b", "label": "y"}]\n', "utf-8")


def as_csv(path: Path) -> None:
    path.write_text("text,label\na,x\nb,y\n", "utf-8")


def as_tsv(path: Path) -> None:
    path.write_text("text\tlabel\na\tx\nb\ty\n", "utf-8")


def as_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), path)


def as_conll(path: Path) -> None:
    path.write_text("a\tO\nb\tB-X\n\nc\tO\n", "utf-8")


def as_conllu(path: Path) -> None:
    line = "\t".join(["1", "a", *"_" * 8])
    path.write_text(f"# text = a\n{line}\n\n# text = a\n{line}\n\n", "utf-8")


# How two rows are written in each format: a new reader adds a line here.
WRITERS: dict[Format, Callable[[Path], None]] = {
    "jsonl": as_jsonl,
    "json": as_json,
    "csv": as_csv,
    "tsv": as_tsv,
    "parquet": as_parquet,
    "conll": as_conll,
    "conllu": as_conllu,
}


def test_every_reader_is_under_contract() -> None:
    assert len(READERS) == 7
    assert set(WRITERS) == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_yields_numbered_rows_with_text_keys(name: Format, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{name}"
    WRITERS[name](path)
    assert format_of(path) == name
    found = list(read_file(path))
    assert len(found) == 2
    assert 0 < found[0][0] < found[1][0]
    assert all(isinstance(key, str) for _, row in found for key in row)
    assert list(read_file(path)) == found


@pytest.mark.parametrize("name", READERS)
def test_a_format_beside_the_path_outweighs_the_extension(name: Format, tmp_path: Path) -> None:
    path = tmp_path / "rows.dat"
    WRITERS[name](path)
    assert len(list(read_file(path, FileOptions(format=name)))) == 2
    with pytest.raises(DataError, match=r"the extension '.dat' names no format \(accepted: .*\.jsonl.*format"):
        list(read_file(path))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("rows.tsv", 'text\tlabel\n"a"\t"x"\nb\ty\n"c"\t"y"\n', "2 lines have each cell in quotes"),
        ("rows.csv", "text,label\n'a','x'\nb,y\n'c','y'\n", "2 lines have each cell in quotes"),
        ("rows.csv", 'text,label\na, "x"\nb,y\nc, "y"\n', "2 rows hold cells that begin with a space and a quote"),
        ("rows.csv", 'text,label\n"a","x"\nb,y\n"c", y\n', None),
        ("rows.tsv", 'text\tlabel\n"a" b\tx\nb "c"\t"y"\n', None),
    ],
)
def test_quotes_that_may_stand_around_cells_are_remarked(
    name: str, text: str, told: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    remarks = ReadingNotes()
    list(read_file(path, remarks=remarks))
    assert [f"{told}, the first at {path}:2" in one for one in remarks.messages()] == [True] * (told is not None)


@pytest.mark.parametrize("name", READERS)
def test_an_empty_file_is_refused(name: Format, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{name}"
    path.touch()
    with pytest.raises(DataError, match=rf"rows.{name}: (the file holds no rows|not a parquet file)"):
        list(read_file(path))


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_names_the_nearest(name: Format, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"aaa{number}").touch()
    (tmp_path / f"train.{name}").touch()
    with pytest.raises(DataError, match=rf"trian.{name}: no such file .*did you mean 'train.{name}'"):
        list(read_file(tmp_path / f"trian.{name}"))
    with pytest.raises(DataError, match=r"the folder .* does not exist"):
        list(read_file(tmp_path / "nowhere" / f"train.{name}"))


@pytest.mark.parametrize("name", [name for name in READERS if name != "parquet"])
def test_bytes_that_are_not_utf8_are_refused_with_their_line(name: Format, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{name}"
    WRITERS[name](path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"caf\xe9\n", *lines[1:]]))
    with pytest.raises(DataError, match=rf"rows.{name}:2: byte 4 of the line is not UTF-8"):
        list(read_file(path))


@pytest.mark.parametrize("name", [name for name in READERS if name != "parquet"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(name: Format, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{name}"
    WRITERS[name](path)
    plain = list(read_file(path))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(read_file(path)) == plain


values = st.one_of(texts, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.lists(texts))


@given(rows=st.lists(st.dictionaries(names, values, min_size=1), min_size=1), escaped=st.booleans())
def test_jsonl_comes_back_as_written(rows: list[dict[str, Any]], escaped: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n\n".join(json.dumps(row, ensure_ascii=escaped) for row in rows).encode())
    assert list(read_file(path)) == [(2 * index + 1, row) for index, row in enumerate(rows)]


@given(
    data=st.data(),
    columns=st.lists(names, min_size=1, max_size=4, unique=True),
    ending=st.sampled_from(["\n", "\r\n"]),
    format_=st.sampled_from(["csv", "tsv"]),
)
def test_tables_come_back_as_written(
    data: st.DataObject, columns: list[str], ending: str, format_: Format, tmp_path: Path
) -> None:
    rows = data.draw(st.lists(st.lists(texts, min_size=len(columns), max_size=len(columns)), min_size=1, max_size=6))
    path = written(tmp_path / f"rows.{format_}", [columns, *rows], {"csv": ",", "tsv": "\t"}[format_], ending)
    assert [list(row.values()) for _, row in read_file(path)] == rows
    assert all(list(row) == columns for _, row in read_file(path))


@given(
    rows=st.lists(st.fixed_dictionaries({"text": texts, "tags": st.lists(texts), "n": st.integers(0, 9)}), min_size=1)
)
def test_parquet_comes_back_as_written(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    assert list(read_file(path)) == list(enumerate(rows, start=1))


@given(rows=sentences)
def test_conll_of_two_columns_comes_back_as_written(rows: list[list[tuple[str, str]]], tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_bytes("\n\n".join("\n".join("\t".join(pair) for pair in row) for row in rows).encode())
    found = [row for _, row in read_file(path)]
    assert [list(zip(row["tokens"], row["tags"], strict=True)) for row in found] == rows
    assert all(row["1"] == row["tokens"] and row["2"] == row["tags"] for row in found)


@given(rows=sentences)
def test_conll_of_four_columns_gives_each_its_number(rows: list[list[tuple[str, str]]], tmp_path: Path) -> None:
    path = tmp_path / "rows.iob2"
    lines = [["\t".join([token, "NN", f"{at}", tag]) for at, (token, tag) in enumerate(row)] for row in rows]
    path.write_bytes(("\n" * 3).join("\n".join(row) for row in lines).encode())
    found = [row for _, row in read_file(path)]
    assert [list(zip(row["tokens"], row["tags"], strict=True)) for row in found] == rows
    assert all(set(row) == {"tokens", "tags", "1", "2", "3", "4"} for row in found)
    assert [row["3"] for row in found] == [[str(at) for at in range(len(row))] for row in rows]


@given(rows=sentences, text=cells.map(str.strip))
def test_conllu_passes_over_multiword_tokens_and_empty_nodes(
    rows: list[list[tuple[str, str]]], text: str, tmp_path: Path
) -> None:
    blank = ["_"] * 8
    lines: list[str] = []
    for row in rows:
        lines += ["# sent_id = 7", f"# text = {text}", "\t".join(["1-2", "cannot", *blank])]
        for at, (token, tag) in enumerate(row, start=1):
            lines += ["\t".join([str(at), token, "_", tag, *blank[:6]]), "\t".join([f"{at}.1", "ghost", *blank])]
        lines.append("")
    path = tmp_path / "rows.conllu"
    path.write_bytes("\n".join(lines).encode())
    found = [row for _, row in read_file(path)]
    assert [list(zip(row["tokens"], row["upos"], strict=True)) for row in found] == rows
    assert all(row["text"] == text and row["form"] == row["tokens"] for row in found)


def test_conll_at_spaces_keeps_a_token_that_is_another_kind_of_space(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("\u3000  O\na\u00a0b  B-X\n", "utf-8")
    assert [row["tokens"] for _, row in read_file(path)] == [["\u3000", "a\u00a0b"]]


def test_conll_passes_over_the_mark_of_a_document_but_not_over_a_token_like_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("-DOCSTART- -X- O\n\na B-X\n-DOCSTART- O\n\n-DOCSTART-s O\n", "utf-8")
    assert [row["tokens"] for _, row in read_file(path)] == [["a"], ["-DOCSTART-s"]]


def test_a_cell_longer_than_the_csv_module_expects_is_read(tmp_path: Path) -> None:
    long = "word " * 40_000
    path = written(tmp_path / "rows.csv", [["text", "label"], [long, "x"]], ",", "\n")
    assert next(read_file(path))[1]["text"] == long


BROKEN = [
    ("rows.jsonl", '{"a": 1}\n{"a": \n', "rows.jsonl:2: not a JSON object .*expected one object per line"),
    ("rows.jsonl", '{"a": 1}\n\n[1]\n', "rows.jsonl:3: found list; expected one JSON object per line"),
    ("rows.jsonl", "[" * 100_000, "rows.jsonl:1: not a JSON object"),
    ("rows.jsonl", '{"a": ' + "9" * 5000 + "}", "rows.jsonl:1: not a JSON object"),
    ("rows.csv", "a,b\n1,2,3\n", "rows.csv:2: found 3 columns, and the header has 2; put quotes"),
    ("rows.csv", 'a,b\n1,"2\n', "rows.csv:2: .*check the quotes"),
    ("rows.json", '[{"a": 1},\n{"a": }]', "rows.json:2: not JSON .*expected a list of objects"),
    (
        "rows.json",
        '[{"a": 1}\n{"a": 2}]',
        "rows.json:1: found '{' after the item that begins here; expected a comma",
    ),
    ("rows.json", '[{"a": 1}, {"a": 2}', "rows.json:1: found the end of the file after the item"),
    ("rows.json", '[{"a": 1}] x', "rows.json: the list is not closed, or is followed by something else"),
    ("rows.json", "[" * 100_000, "rows.json:1: not JSON"),
    ("rows.json", '[{"a": 1}, [1]]', "rows.json:1: found a list in a list"),
    ("rows.json", '[{"a": 1},\n 2]', "rows.json:2: found 2; expected one JSON object per row"),
    ("rows.json", '["a", "b"]', "rows.json:1: found 'a'; expected .*; texts alone are read from a .txt file"),
    ("rows.jsonl", '[{"a": 1},\n{"a": 2}]', "rows.jsonl:1: not a JSON object .*name a file with one JSON list .json"),
    ("rows.jsonl", '[{"a": 1}]', "rows.jsonl:1: found list; .*one JSON list .json, or give `format: json`"),
    ("rows.jsonl", '{"a": 1, "b": 2, "a": 3}', "rows.jsonl:1: not a JSON object .the key 'a' stands twice"),
    (  # in time that grows linearly with the line
        "rows.jsonl",
        "{" + ", ".join(f'"{key}": 0' for key in (*range(100_000), 99_999)) + "}",
        "the key '99999' stands twice",
    ),
    ("rows.csv", "a,a\n1,2\n", "rows.csv:1: the header names 'a' twice"),
    ("rows.parquet", "PAR1 and nothing more PAR1", "rows.parquet: not a parquet file"),
    ("rows.conll", "a\tO\nb\n", "rows.conll:2: found 1 columns, expected 2"),
    ("rows.conll", "a\n", "rows.conll:1: found 1 columns, expected 2"),
    ("rows.conllu", "1\ta\tb\n", "rows.conllu:1: found 3 fields, CoNLL-U has 10"),
]


@pytest.mark.parametrize(
    ("name", "content", "message"), BROKEN, ids=[f"{row[0]}-{at}" for at, row in enumerate(BROKEN)]
)
def test_a_broken_line_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        list(read_file(tmp_path / name))


PIECES = [
    *(bytes([byte]) for byte in b"\"'\t\n\r\0#[]{},\\\xff"), b"", b"\n\n", b"# ", b"\\ud800", b"\xfe\xff",
    b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1", b"NaN", b"9" * 5000, b"[" * 5000, "é".encode(),
]  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 5), st.sampled_from(PIECES)), min_size=1, max_size=4
    ),
    encoding=st.sampled_from([None, "utf-16", "gb18030", "cp037"]),
)
def test_a_damaged_file_gives_rows_or_a_message(
    changes: list[tuple[int, int, bytes]], encoding: str | None, name: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{name}"
    WRITERS[name](path)
    content = path.read_bytes()
    for at, removed, piece in changes:
        content = content[:at] + piece + content[at + removed :]
    path.write_bytes(content)
    try:
        for number, row in read_file(path, FileOptions(encoding=encoding)):
            assert number > 0
            assert all(isinstance(key, str) for key in row)
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    as_parquet(path)
    whole = path.read_bytes()
    for size in (3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"rows.parquet: not a parquet file"):
            list(read_file(path))


def test_two_columns_of_one_name_are_refused_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], names=["text", "label", "label"])
    pq.write_table(table, path)
    with pytest.raises(DataError, match="rows.parquet: two columns are named 'label'; give every column a different"):
        list(read_file(path))
