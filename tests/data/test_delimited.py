"""Tables in text files: where a quote counts, where it does not, and where one was opened by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.files import ReadingNotes
from polytask.data.readers import read_file
from polytask.errors import DataError
from polytask.options import FileOptions

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\ufeff"), min_size=1)
SWALLOWED = 'text,label\n"Hello world,a\nrow 1,a\nrow 2,b\nhe said "yes" to it,b\nlast,a\n'


def rows_of(path: Path, **options: str) -> tuple[list[list[str]], list[str]]:
    remarks = ReadingNotes()
    rows = [list(row.values()) for _, row in read_file(path, FileOptions(**options), remarks)]  # type: ignore[arg-type]
    return rows, remarks.messages()


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_every_line_of_a_tsv_file_is_one_row_with_its_quotes(rows: list[tuple[str, str]], tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes("\n".join("\t".join(row) for row in [("text", "label"), *rows]).encode())
    found = list(read_file(path))
    assert [tuple(row.values()) for _, row in found] == rows
    assert [number for number, _ in found] == list(range(2, len(rows) + 2))


def test_quotes_in_tsv_swallow_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"A dull film , he said\tneg\nfine\tpos\nshe said "so\tpos\nso"\tneg\n', "utf-8")
    rows, remarks = rows_of(path)
    assert rows == [['"A dull film , he said', "neg"], ["fine", "pos"], ['she said "so', "pos"], ['so"', "neg"]]
    assert remarks == []


def test_tsv_that_was_written_with_quotes_is_noted_or_told_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"He said ""yes"""\tx\nplain\ty\n', "utf-8")
    rows, remarks = rows_of(path)
    assert rows[0][0] == '"He said ""yes"""'
    assert remarks == [
        f"1 cells begin and end with a quote and hold doubled quotes, the first at {path}:2; quotes are read as "
        "ordinary characters here: if the file was written with quoted cells, give `quoting: standard`"
    ]
    assert rows_of(path, quoting="standard") == ([['He said "yes"', "x"], ["plain", "y"]], [])
    path.write_text('"text"\t"label"\n"a\tb"\t"x"\n', "utf-8")
    assert rows_of(path)[0] == [["a\tb", "x"]]


@pytest.mark.parametrize(
    ("content", "opened", "end"),
    [
        (SWALLOWED, 2, "down to line 5"),
        ('text,label\n"Hello world,a\nrow 1,a\nrow 2,b\n', 2, "down to line 4"),
        ('text,label\nfine,a\n"two\nlines","b\nrow,a\n', 4, "down to line 5"),
        ('text,label\n"so ""quoted""\nand on",b\nfine,"a\n', 4, "on this line"),
        ('text,label\n"He said \\"hi\\" to me",a\n', 2, "on this line"),
    ],
)
def test_an_unclosed_quote_names_the_line_where_it_was_opened(
    content: str, opened: int, end: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=rf"rows.csv:{opened}: a quote opens a cell here, .* {end}; check the quotes"):
        rows_of(path)


def test_cells_with_line_breaks_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\nfine,a\n"Hello,a\nrow,b\nhere",b\n"two\nlines","x\ny"\n', "utf-8")
    rows, (remark,) = rows_of(path)
    assert rows == [["fine", "a"], ["Hello,a\nrow,b\nhere", "b"], ["two\nlines", "x\ny"]]
    assert remark.startswith(f"3 cells hold line breaks, the first in the row at {path}:3; ")


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n\n"two\nlines",x\nlast,y\n', "utf-8")
    assert [number for number, _ in read_file(path)] == [3, 5]
    path.write_text('text,label\n"two\nlines",x,y\n', "utf-8")
    with pytest.raises(DataError, match=r"rows.csv:2: found 3 columns \(the row continues to line 3\), and the header"):
        rows_of(path)


@pytest.mark.parametrize(
    ("name", "separator"), [("rows.csv", ";"), ("rows.csv", "\t"), ("rows.tsv", ","), ("rows.csv", "|")]
)
def test_another_separator_is_recognised_and_read_when_it_is_given(name: str, separator: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(f"text{separator}label\na{separator}x\n", "utf-8")
    with pytest.raises(
        DataError, match=rf"{name}:1: the header .* is one column, and holds .*give `separator: \""
    ) as told:
        rows_of(path)
    assert f'separator: "{separator}"'.replace("\t", "\\t") in str(told.value)
    assert rows_of(path, separator=separator)[0] == [["a", "x"]]


def test_the_separator_that_excel_writes_above_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('\ufeffsep=;\ntext;label\n"a;b";x\n', "utf-8")
    assert rows_of(path) == ([["a;b", "x"]], [])
    assert [number for number, _ in read_file(path)] == [3]


def test_quoting_is_chosen_beside_the_path(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"He said \\"hi\\", I think",a\n', "utf-8")
    with pytest.raises(DataError, match=r"rows.csv:2: .*give `quoting: backslash`"):
        rows_of(path)
    assert rows_of(path, quoting="backslash")[0] == [['He said "hi", I think', "a"]]
    path.write_text('text,label\n"open,a\n', "utf-8")
    assert rows_of(path, quoting="none")[0] == [['"open', "a"]]
    path.with_suffix(".tsv").write_text('a\tb\n"1\t2"\t3\n', "utf-8")
    with pytest.raises(DataError, match=r"rows.tsv:2: found 3 columns.*give `quoting: standard`"):
        rows_of(path.with_suffix(".tsv"))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_carriage_return_outside_of_quotes_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"text,label\ra,x\rb,y\r".replace(b",", b"\t" if "tsv" in name else b","))
    with pytest.raises(
        DataError, match=rf"{name}:1: (found a carriage return outside|the lines end with carriage).*CRLF"
    ):
        rows_of(path)


def test_options_of_tables_are_refused_for_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n', "utf-8")
    for options in ({"separator": ";"}, {"quoting": "none"}):
        with pytest.raises(DataError, match=r"rows.jsonl: `separator` and `quoting` are for csv and tsv"):
            rows_of(path, **options)


@pytest.mark.parametrize("value", ["", ";;", "\n", '"'])
def test_a_separator_is_one_character(value: str) -> None:
    with pytest.raises(ValueError, match="expected one character"):
        FileOptions(separator=value)
    assert FileOptions(separator="\\t").separator == "\t"


@pytest.mark.parametrize(("name", "separator"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_files_put_together_are_read_without_their_headers_and_marks(name: str, separator: str, tmp_path: Path) -> None:
    path = tmp_path / name
    parts = ["\ufefftext,label\na,x\n", "\ufefftext,label\nb,y\n", "\ufeffc,x\n", "text,x\n"]
    path.write_text("".join(parts).replace(",", separator), "utf-8")
    rows, remarks = rows_of(path)
    assert rows == [["a", "x"], ["b", "y"], ["c", "x"], ["text", "x"]]
    assert sorted(remark.partition(",")[0] for remark in remarks) == [
        "1 lines repeat the header",
        "2 lines begin with a byte order mark (BOM)",
    ]


@pytest.mark.parametrize(("name", "separator"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_empty_columns_beside_a_table_are_left_out(name: str, separator: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("text,label,,,\na,x,,,\n,,,,\n".replace(",", separator), "utf-8")
    assert rows_of(path) == ([["a", "x"], ["", ""]], [])
    path.write_text("text,label,,,\na,x,,y,\n".replace(",", separator), "utf-8")
    with pytest.raises(DataError, match=f"{name}:2: found 5 columns, and the header has 2"):
        rows_of(path)


def test_a_separator_at_the_end_of_a_row_and_a_title_above_the_header_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,x,\n", "utf-8")
    with pytest.raises(DataError, match=r"rows.csv:2: found 3 columns, .*remove the separator at the end of the line"):
        rows_of(path)
    path.write_text("# of 2026\ntext,label\na,x\n", "utf-8")
    with pytest.raises(DataError, match=r"rows.csv:2: found 2 columns, .*the first line is a title or a comment"):
        rows_of(path)


@pytest.mark.parametrize("cell", ['="01"', '"=""01"""'])
def test_cells_that_are_written_for_excel_are_what_they_show(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'text,label\na,{cell}\n="b,=1+1\n', "utf-8")
    rows, remarks = rows_of(path)
    assert rows == [["a", "01"], ['="b', "=1+1"]]
    assert remarks == [
        f'1 cells are written for Excel, as ="01", and were read as they appear there, the first at {path}:2'
    ]


def test_one_column_has_no_header_to_repeat(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\na\ntext\n", "utf-8")
    assert rows_of(path) == ([["a"], ["text"]], [])


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.conll"])
def test_nul_characters_are_noted(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"text,label\na\0b,x\n".replace(b",", b"\t" if name != "rows.csv" else b","))
    assert rows_of(path)[1] == [
        f"1 lines hold NUL characters, as in damaged files, the first at {path}:2",
        *([f"the line at {path}:1 was read as the column names"] if name == "rows.conll" else []),
    ]
