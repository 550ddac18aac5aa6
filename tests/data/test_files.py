"""Files: compression, encodings, and which files a folder or a pattern names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data import files
from polytask.data.feed import feeds_of
from polytask.data.files import DataFile
from polytask.data.paths import files_of, format_of, require_file
from polytask.data.prepare import read_tables
from polytask.data.readers import read_file
from polytask.errors import ConfigError, DataError
from polytask.options import FileOptions, Format
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]
CONTENTS: dict[Format, str] = {
    "jsonl": '{"text": "Zoë"}\n{"text": "b"}\n',
    "json": '[{"text": "Zoë"},\n {"text": "b"}]\n',
    "csv": 'text,label\n"Zoë\nb",x\n',
    "tsv": "text\tlabel\nZoë\tx\n",
    "conll": "Zoë\tO\nb\tB-X\n",
    "conllu": "1\tZoë" + "\t_" * 8 + "\n",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("end", [".gz", ""])
def test_a_gzip_file_is_read_whatever_its_name(name: Format, end: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / f"plain.{name}", tmp_path / f"packed.{name}{end}"
    plain.write_text(CONTENTS[name], "utf-8")
    packed.write_bytes(gzip.compress(CONTENTS[name].encode()))
    assert format_of(packed) == name
    assert list(read_file(packed)) == list(read_file(plain))


def test_a_broken_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress(json.dumps({"text": "a" * 5000}).encode() * 50)
    for content in (whole[: len(whole) // 2], whole[:-4], b"no gzip at all", whole[:20] + b"x" * 30 + whole[50:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"rows.jsonl.gz: not a complete gzip file|rows.jsonl.gz:1: "):
            list(read_file(path))


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037", "utf-7"])
def test_an_encoding_beside_the_path_is_read(name: Format, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{name}"
    path.write_text(CONTENTS[name], "utf-8")
    plain = list(read_file(path))
    path.write_bytes(CONTENTS[name].encode(encoding))
    assert list(read_file(path, FileOptions(encoding=encoding))) == plain


@given(texts=st.lists(st.text("电影很好看\u4e00，a\u2028\x85\x0b", min_size=1), min_size=1, max_size=5))
@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_lines_are_cut_at_newlines_in_every_encoding(texts: list[str], encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes("\r\n".join(["text", *texts]).encode(encoding))
    assert [row["text"] for _, row in read_file(path, FileOptions(encoding=encoding))] == texts


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\na,x\n".encode("utf-16"), r"the file is UTF-16, .*give `encoding: utf-16`"),
        (
            "text,label\na,x\n".encode("utf-16-le"),
            r"the file seems to be UTF-16 without a byte order mark, .*`encoding: utf-16-le`",
        ),
        (
            "text,label\na,x\n".encode("utf-16-be"),
            r"the file seems to be UTF-16 without a byte order mark, .*`encoding: utf-16-be`",
        ),
        ("text,label\na,x\n".encode("utf-32"), r"the file is UTF-32, .*give `encoding: utf-32`"),
        (b"PK\x03\x04rest", "the file is a zip archive .*save the table as csv"),
        (b"ARROW1\0\0" + bytes(99), "the file is an Arrow .*write it as parquet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "the file is in an old Office format .*save it as CSV"),
        (b"SQLite format 3\0" + bytes(99), "the file is an SQLite database"),
        (b"\x80\x04\x95" + bytes(99), "the file is a pickle"),
        (b"a/b.csv".ljust(257, b"\0") + b"ustar  \0" + bytes(99), "the file is a tar archive"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>", "the file is a web page .*download the file itself"),
        (b"<?xml version='1.0'?>\n<rows/>", "the file is an XML file"),
        (bytes(999), "the file is binary, not text"),
        (bytes(range(1, 64)) * 9, "the file is binary, not text"),
        (b"PAR1rest", "the file is a parquet file, .*give `format: parquet`"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "the file is a Git LFS pointer in place of the data.*git lfs pull",
        ),
        ("text,label\ncafé,x\n".encode("cp1252"), r"byte 4 of the line is not UTF-8; .*such as `encoding: cp1252`"),
    ],
)
def test_what_is_no_utf8_is_refused_by_name(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"rows.csv(:2)?: {told}"):
        list(read_file(path))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.ann", 'annotations of brat, .*"spans"'),
        ("a.spacy", r"a binary file of spaCy, .*ent.start_char"),
        ("a.pkl", "a pickle runs code when it is opened"),
        ("a.feather", "an Arrow file, .*write it as parquet"),
        ("a.ZIP", "an archive, .*unpack it"),
        ("a.xml", "markup, .*as csv or jsonl"),
    ],
)
def test_files_of_tools_that_are_not_read_are_told_with_what_to_do(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"T1")
    with pytest.raises(DataError, match=f"{name}: {told}"):
        list(read_file(tmp_path / name))


_TEXTS = {
    "gb18030": "房间很干净，服务态度也非常好，下次还会再来住。",
    "big5": "房間很乾淨，服務態度也非常好，下次還會再來住。",
    "shift_jis": "部屋はとてもきれいで、スタッフも親切でした。",
    "euc-jp": "部屋はとてもきれいで、スタッフも親切でした。",
    "euc-kr": "방이 아주 깨끗하고 직원들도 친절했습니다",
    "cp949": "방이 아주 깨끗하고 햏 직원들도 친절했습니다",
    "cp1251": "Номер был очень чистый, и персонал вежливый",
    "koi8-r": "Номер был очень чистый, и персонал вежливый",
    "cp866": "Номер был очень чистый, и персонал вежливый",
    "cp1253": "Το δωμάτιο ήταν πολύ καθαρό και ωραίο",
    "cp874": "ห้องสะอาดมาก พนักงานบริการดี",
    "cp1252": "Die Br\u00fccke, \u201ctr\u00e8s bien\u201d, d\u2019o\u00f9, \u00bfqu\u00e9? 5 \u20ac",
    "cp1250": "Zażółć gęślą jaźń, łódź jest piękna",
    "cp850": "Der Zug fährt über die Brücke nach Köln",
    "mac-roman": "Der Zug fährt über die Brücke nach Köln",
}


@pytest.mark.parametrize("encoding", _TEXTS)
@pytest.mark.parametrize("count", [1, 40])
def test_the_encoding_that_is_named_is_that_of_the_file(encoding: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = ["text,label", *(f'"{_TEXTS[encoding]} {number}",x' for number in range(count))]
    path.write_bytes("\n".join(lines).encode(encoding))
    likely = DataFile(path).likely_encoding()
    assert likely is not None
    assert (likely.name, likely.line) == (encoding, f'"{_TEXTS[encoding]} 0",x')
    with pytest.raises(DataError, match=rf"rows.csv:2: .*such as `encoding: {encoding}` \(on a command line"):
        list(read_file(path))
    with pytest.raises(
        DataError, match=rf"that are not ascii .*give another `encoding`, such as `encoding: {encoding}`"
    ):
        list(read_file(path, FileOptions(encoding="ascii")))
    assert len(list(read_file(path, FileOptions(encoding=encoding)))) == count
    if likely.other is not None:
        assert path.read_bytes().decode(likely.other)


def test_cp437_is_never_taken_for_an_encoding_that_cannot_decode_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nDer Zug fährt über die Brücke,x\n".encode("cp437"))
    with pytest.raises(DataError, match=r"such as `encoding: cp850`"):
        list(read_file(path))
    path.write_bytes(b"text,label\n" + bytes(range(0x80, 0x100)) * 3 + b",x\n")
    with pytest.raises(DataError, match=r"or name its encoding next to the path \(`encoding`\)$"):
        list(read_file(path))


@pytest.mark.parametrize("damage", [b"caf\xe9", b"\x81\x82", b"\xff", b"\xe4\xb8"])
def test_a_damaged_place_of_utf8_is_named_and_no_other_encoding(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    good = "".join(f"thé à Köln 北京 {number},x\n" for number in range(20)).encode()
    path.write_bytes(b"text,label\n" + good + b"ab " + damage + b",y\n" + good)
    place = 4 + len(damage.decode("utf-8", "ignore"))
    with pytest.raises(DataError) as told:
        list(read_file(path))
    assert f"rows.csv:22: byte {place} of the line is not UTF-8 (0x" in str(told.value)
    assert "other lines of the file are: correct this place" in str(told.value)
    assert "encoding" not in str(told.value)


def test_a_wrong_or_unknown_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text\n\xff\xfe\xfd\n")
    for encoding in ("ascii", "utf-32", "shift_jis"):
        with pytest.raises(DataError, match=r"rows.csv:[12]: found bytes that are not .*give another `encoding`"):
            list(read_file(path, FileOptions(encoding=encoding)))
    for encoding in ("latin-17", "rot13", ""):
        with pytest.raises(ValueError, match=r"found '.*'; accepted: the encodings of Python, such as utf-8"):
            FileOptions(encoding=encoding)
    with pytest.raises(DataError, match="a parquet file has no encoding to choose"):
        list(read_file(path, FileOptions(format="parquet", encoding="cp1252")))


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_LINE_BYTES", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": "' + "a" * 1000 + '"}\n', "utf-8")
    for encoding in (None, "utf-16"):
        if encoding:
            path.write_bytes(path.read_bytes().decode().encode(encoding))
        with pytest.raises(DataError, match=r"rows.jsonl:2: the line has more than 1,000 bytes"):
            list(read_file(path, FileOptions(encoding=encoding)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("part-1.jsonl", "part-0.csv", ".hidden.csv", "README.md"):
        (tmp_path / name).write_text(
            '{"text": "b", "label": "y"}\n' if "jsonl" in name else "text,label\na,x\n", "utf-8"
        )
    return tmp_path


def test_a_folder_and_a_pattern_name_their_files_in_order(folder: Path, options: Build) -> None:
    expected = [str(folder / "part-0.csv"), str(folder / "part-1.jsonl")]
    assert files_of(str(folder)) == expected
    assert files_of(str(folder / "part-*")) == expected
    assert files_of(str(folder / "**" / "*.csv")) == [expected[0]]
    tasks = {"a": options("classification", str(folder)), "b": options("classification", tuple(expected))}
    (feed,) = feeds_of(tasks, "train")  # the same files share their rows
    assert [values["text"] for _, values in feed.read()] == ["a", "b"]


def test_a_file_with_the_marks_of_a_pattern_in_its_name_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").touch()
    assert files_of(str(tmp_path / "a[1].csv")) == [str(tmp_path / "a[1].csv")]
    assert files_of(str(tmp_path / "missing.csv")) == [str(tmp_path / "missing.csv")]


def test_a_folder_or_a_pattern_without_files_is_refused(folder: Path, options: Build) -> None:
    with pytest.raises(DataError, match=r"tasks.it.data.train: .*none-\*: no file matches this pattern"):
        feeds_of({"it": options("classification", str(folder / "none-*"))}, "train")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"tasks.it.data.train: .*empty: the folder holds no data file"):
        feeds_of({"it": options("classification", str(folder / "empty"))}, "train")


def test_a_folder_of_several_splits_is_refused_and_test_files_are_found_in_patterns(
    folder: Path, options: Build
) -> None:
    (folder / "test.csv").write_text("text,label\nc,x\n", "utf-8")
    (folder / "train-0.csv").write_text("text,label\nd,x\ne,y\n", "utf-8")
    with pytest.raises(
        DataError, match=r"files of several splits \(test.csv, train-0.csv\); name a file, or a pattern"
    ):
        files_of(str(folder))
    chosen = options("classification", str(folder / "t*.csv"), dev=0.5, test=str(folder / "test.csv"))
    with pytest.raises(ConfigError, match=r"tasks.it.data.test: found .*test.csv', which is also tasks.it.data.train"):
        read_tables({"it": chosen})


def test_a_missing_file_in_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.csv: no such file \(the folder .* is empty\)"):
        require_file(tmp_path / "rows.csv")
