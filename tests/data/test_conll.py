"""CoNLL files: which lines are tokens, which are comments, and which line is odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.files import ReadingNotes
from polytask.data.readers import read_file
from polytask.errors import DataError

TOKENS = "EU B-ORG\nrejects O\n\nBo B-PER\nsings O\n"


def read(path: Path, content: str) -> tuple[list[dict[str, Any]], list[str]]:
    path.write_text(content, "utf-8")
    remarks = ReadingNotes()
    return [row for _, row in read_file(path, remarks=remarks)], remarks.messages()


def tokens_of(path: Path, content: str) -> list[list[str]]:
    return [row["tokens"] for row in read(path, content)[0]]


@pytest.mark.parametrize(
    "comment",
    [
        "# id 52-39\tdomain=en",
        "# 0",
        "# sent_id = 4",
        "#\thttp://example.org\t[2009]",
        "#begin document (bc/0); part 000",
    ],
)
@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_comments_before_a_sentence_are_passed_over(comment: str, columns: int, separator: str, tmp_path: Path) -> None:
    middle = ["_"] * (columns - 2)
    sentence = "\n".join(separator.join([token, *middle, tag]) for token, tag in (("EU", "B-ORG"), ("rejects", "O")))
    content = f"{comment}\n{sentence}\n\n{comment}\n{sentence}\n#end document\n"
    assert tokens_of(tmp_path / "rows.conll", content) == [["EU", "rejects"]] * 2


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_hashtags_and_the_mark_alone_stay_tokens(separator: str, tmp_path: Path) -> None:
    lines = ["#hashtag O", "EU B-ORG", "", "# O", "1 O", "fan O", "", "we O", "# O", "#wow B-ORG"]
    content = "\n".join(separator.join(line.split()) for line in lines)
    found, remarks = read(tmp_path / "rows.conll", content)
    assert [row["tokens"] for row in found] == [["#hashtag", "EU"], ["#", "1", "fan"], ["we", "#", "#wow"]]
    assert remarks == []


def test_what_may_be_read_in_two_ways_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    found, (remark,) = read(path, "# 7\n" + TOKENS)
    assert found[0]["tokens"] == ["EU", "rejects"]
    assert (
        remark
        == f"1 lines that begin with # and have as many columns as a token were read as comments, the first at {path}:1"
    )
    found, (remark,) = read(path, "#win HT\n" + TOKENS)
    assert found[0]["tokens"] == ["#win", "EU", "rejects"]
    assert remark.startswith(
        "1 lines that begin with # were read as tokens although no other line has their last column"
    )


def test_a_tag_far_down_the_file_makes_a_mark_a_token(tmp_path: Path) -> None:
    many = "word O\n\n" * 1500
    assert tokens_of(tmp_path / "rows.conll", f"# SYM\n{many}+ SYM\n")[0] == ["#", "word"]


@pytest.mark.parametrize("header", ["word tag\n", "Token\tTag\n\n", "TOKEN NER\n"])
def test_a_header_names_the_columns(header: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    found, remarks = read(path, header + TOKENS)
    assert [row["tokens"] for row in found] == [["EU", "rejects"], ["Bo", "sings"]]
    assert found[0][header.split()[1]] == ["B-ORG", "O"]
    assert remarks == [f"the line at {path}:1 was read as the column names"]


def test_a_sentence_that_begins_with_the_word_token_is_no_header(tmp_path: Path) -> None:
    assert tokens_of(tmp_path / "rows.conll", "Word O\nof O\nmouth O\n") == [["Word", "of", "mouth"]]


def test_numbers_of_words_in_the_first_column_are_no_tokens(tmp_path: Path) -> None:
    found, (remark, _) = read(tmp_path / "rows.conll", "#\tx\n1\tEU\tB-ORG\tO\n2\trejects\tO\tO\n\n1\tBo\tB-PER\tO\n")
    assert [row["tokens"] for row in found] == [["EU", "rejects"], ["Bo"]]
    assert found[0]["1"] == ["1", "2"]
    assert "the second column was read as the tokens" in remark
    assert tokens_of(tmp_path / "rows.conll", "1 O\n2 O\n") == [["1", "2"]]


@pytest.mark.parametrize(
    ("content", "line", "width"),
    [
        ("EU X B-ORG\n" + TOKENS, 1, 3),
        (TOKENS + "last\n", 6, 1),
        ("EU\tB-ORG\nrejects\n\nBo\tB-PER\n", 2, 1),
        ("we O\n# no comment here\nrun O\n\n" + TOKENS, 2, 4),
    ],
)
def test_the_line_that_is_odd_is_named(content: str, line: int, width: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"rows.conll:{line}: found {width} columns, expected 2"):
        read(tmp_path / "rows.conll", content)


@pytest.mark.parametrize("end", [" ", "\t", "\t\t"])
def test_a_separator_at_the_end_of_every_line_is_no_column(end: str, tmp_path: Path) -> None:
    lines = TOKENS.replace(" ", end[0]).split("\n")
    content = "\n".join(line + end if line else line for line in lines)
    found, _ = read(tmp_path / "rows.conll", content)
    assert [row["tags"] for row in found] == [["B-ORG", "O"], ["B-PER", "O"]]


@pytest.mark.parametrize("mark", ["-DOCSTART- O", "-DOCSTART-\tO", "-DOCSTART- (2)"])
def test_a_document_that_begins_without_a_blank_line_begins_a_sentence(mark: str, tmp_path: Path) -> None:
    content = TOKENS.replace(" ", mark[10]).rstrip("\n") + f"\n{mark}\n" + TOKENS.replace(" ", mark[10])
    once = tokens_of(tmp_path / "once.conll", TOKENS)
    assert tokens_of(tmp_path / "rows.conll", content) == once * 2


def test_tags_in_another_column_than_the_last_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    _, remarks = read(path, "EU B-ORG 0.9\nrejects O 0.8\n\nBo B-PER 0.7\n")
    assert remarks == [
        "the last column, which is the default of `tags`, holds no entity tags but for example 0.9, and column 2 "
        f"holds entity tags such as B-ORG: name the right column in `tags` ({path})"
    ]
    assert read(path, "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")[1] == []
    assert read(path, "EU B-x NN\nrejects up VB\n")[1] == []


TURNED = "\n".join(" ".join(reversed(line.split())) for line in TOKENS.split("\n"))


@pytest.mark.parametrize(
    "before", ["", "# id 4\n", "tag word\n", "-DOCSTART- O\n\n"], ids=["bare", "comment", "names", "mark"]
)
def test_tags_before_their_tokens_are_read_as_tags(before: str, tmp_path: Path) -> None:
    found, remarks = read(tmp_path / "rows.bio", before + TURNED)
    plain, none = read(tmp_path / "plain.bio", TOKENS)
    assert [(row["tokens"], row["tags"]) for row in found] == [(row["tokens"], row["tags"]) for row in plain]
    assert [remark for remark in remarks if "the first was read as the tags" in remark]
    assert none == []


@pytest.mark.parametrize(
    "content",
    [
        "O B-ORG\nB-PER O\n\nO O\nO B-PER\n",  # tokens that look like tags, next to tags
        "DET the\nNOUN film\n\nDET the\nVERB ends\n",
        "O the\nO film\n\nO ends\n",
    ],
)
def test_a_first_column_that_may_be_tokens_is_read_as_tokens(content: str, tmp_path: Path) -> None:
    found, _ = read(tmp_path / "rows.conll", content)
    assert found[0]["tokens"] == [line.split()[0] for line in content.split("\n\n")[0].split("\n")]


def test_a_file_of_one_sentence_without_an_end_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    told = f"the file has no blank line, so all of its 201 words are one sentence ({path}); write a blank line"
    (remark,) = read(path, "EU B-ORG\n" * 201)[1]
    assert remark.startswith(told)
    assert read(path, "EU B-ORG\n" * 200)[1] == read(path, "EU B-ORG\n" * 201 + "\nX O\n")[1] == []


@given(
    data=st.lists(st.lists(st.sampled_from(["we", "#we", "#"]), min_size=1, max_size=4), min_size=1, max_size=4),
    comments=st.lists(st.sampled_from(["# id = 1", "# text of a tweet", "#"]), max_size=2),
)
def test_comments_and_tokens_are_told_apart(data: list[list[str]], comments: list[str], tmp_path: Path) -> None:
    sentences = [["first"], *data]
    blocks = ["\n".join([*comments, *(f"{token}\tO" for token in sentence)]) for sentence in sentences]
    assert tokens_of(tmp_path / "rows.conll", "\n\n".join(blocks)) == sentences


def test_conllu_plus_names_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.conllup"
    (row,), _ = read(path, "# global.columns = ID FORM UPOS\n1\tIl\tPRON\n2-3\tdu\t_\n2\tde\tADP\n3\tle\tDET\n")
    assert (row["tokens"], row["upos"]) == (["Il", "de", "le"], ["PRON", "ADP", "DET"])
    with pytest.raises(DataError, match=r"rows.conllup:1: found the columns 'A B'; CoNLL-U Plus has ID first, FORM"):
        read(path, "# global.columns = A B\n1\tIl\n")


def test_a_line_of_conllu_that_is_no_word_is_named(tmp_path: Path) -> None:
    blank = "\t".join(["_"] * 8)
    with pytest.raises(DataError, match=r"rows.conllu:2: found 'x' in the field ID; expected a word's number"):
        read(tmp_path / "rows.conllu", f"1\ta\t{blank}\nx\tb\t{blank}\n")


def test_spaces_beside_tabs_are_no_part_of_a_token(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "rows.conll", "EU \tB-ORG\n \tO\nNew York\t B-LOC\n")
    assert rows[0]["tokens"] == ["EU", " ", "New York"]
    assert rows[0]["tags"] == ["B-ORG", "O", "B-LOC"]


def test_tabs_and_spaces_in_one_line_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.conll:2: found the tag 'NNP B-ORG'; columns are separated by tabs or"):
        read(tmp_path / "rows.conll", "x\tO\nEU\tNNP B-ORG\n")


@pytest.mark.parametrize("name", ["rows.conll", "rows.conllu"])
def test_carriage_returns_alone_are_refused(name: str, tmp_path: Path) -> None:
    line = "1\tEU\tB-ORG" + "\t_" * 7 if name == "rows.conllu" else "EU B-ORG"
    path = tmp_path / name
    path.write_bytes(f"{line}\r{line}\r".encode())
    with pytest.raises(DataError, match=r":1: the line holds a carriage return"):
        list(read_file(path))


def test_a_mark_of_the_encoding_is_no_part_of_a_token(tmp_path: Path) -> None:
    rows, remarks = read(tmp_path / "rows.conll", "\ufeffEU B-ORG\n\n\ufeffEU B-ORG\n")
    assert [row["tokens"] for row in rows] == [["EU"], ["EU"]]
    assert remarks[0].startswith("1 lines begin with a byte order mark (BOM)")
