"""What `polytask init` refuses, or does not read as a plain table: titles, splits, tokens in lines, tags of words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_init import proposed

from polytask.config import load_config
from polytask.errors import DataError, UserError
from polytask.init import init


def comments(folder: Path) -> str:
    lines = (folder / "first.yaml").read_text("utf-8").splitlines()
    return " ".join(line.strip().lstrip("# ") for line in lines if line.strip().startswith("#"))


def refusal(path: Path, content: str, **written: Any) -> str:
    path.write_text(content, "utf-8")
    with pytest.raises(UserError) as refused:
        init([path], path.parent / "refused.yaml", **written)
    return str(refused.value)


def rows_of(*cells: str) -> str:
    return "".join(f"the {number} film is long,{cells[number % len(cells)]}\n" for number in range(60))


@pytest.mark.parametrize("odd", ["", "unlabelled", "public_test"])
@pytest.mark.parametrize("name", ["split", "Usage"])
def test_rows_without_a_split_are_not_guessed(name: str, odd: str, tmp_path: Path) -> None:
    told = refusal(tmp_path / "rows.csv", f"text,label,{name}\n" + rows_of("a,train", "b,train", "a,test", f"b,{odd}"))
    assert f"the column '{name}' names the split of most rows (test, train)" in told
    assert (repr(odd) if odd else "nothing in some rows") in told


@pytest.mark.parametrize("title", ["Customer reviews 2024,", "Reviews,2024,"])
def test_a_title_above_the_names_is_refused(title: str, tmp_path: Path) -> None:
    names, labels = ("text,stars", "1 2 3 4 5") if title.count(",") == 1 else ("text,year,mood", "9,good 8,bad")
    told = refusal(tmp_path / "rows.csv", f"{title}\n{names}\n" + rows_of(*labels.split()))
    assert "rows.csv: the first line seems to be a title" in told
    assert told.endswith("delete the first line")


def test_a_first_row_of_few_words_is_no_line_of_names(tmp_path: Path) -> None:
    told = refusal(tmp_path / "rows.csv", "a good film,pos\n" + rows_of("pos", "neg"))
    assert "the first line seems to be a row ('a good film', 'pos')" in told


def test_a_label_may_be_called_as_its_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,spam\n" + rows_of("spam", "ham"))
    assert proposed(tmp_path, tmp_path / "rows.csv")["spam"]["type"] == "classification"


TOKENS = "Ann B-PER\nsings O\nin O\nRome B-LOC\n\nBo B-PER\ncame O\nhome O\nlate O\n\n".replace(" ", "\t") * 6


@pytest.mark.parametrize("header", ["", "token\ttag\n"], ids=["none", "names"])
def test_a_token_in_each_line_is_told_from_a_table(header: str, tmp_path: Path) -> None:
    told = refusal(tmp_path / "rows.tsv", header + TOKENS)
    assert "each row is one token" in told
    assert "--written format=conll" in told
    init([tmp_path / "rows.tsv"], tmp_path / "c.yaml", written={"format": "conll"})
    assert load_config(tmp_path / "c.yaml").tasks["rows"].type == "tagging"


def test_tokens_without_sentences_are_refused_and_sentences_preferred_to_documents(tmp_path: Path) -> None:
    lines = [line.split("\t") for line in TOKENS.split("\n") if line]
    numbered = [(at // 16, at // 4, *line) for at, line in enumerate(lines)]
    names = "doc_id,sent_id,token,tag\n"
    good = names + "".join(",".join(map(str, row)) + "\n" for row in numbered)
    (tmp_path / "good.csv").write_text(good)
    init([tmp_path / "good.csv"], tmp_path / "c.yaml")
    assert "sentence: sent_id" in (tmp_path / "c.yaml").read_text()
    restarting = names + "".join(f"{doc},{sentence % 4},{token},{tag}\n" for doc, sentence, token, tag in numbered)
    told = refusal(tmp_path / "again.csv", restarting)
    assert "no column numbers the sentences of the whole file; add such a column" in told


TAGGED = [("Ann sings", ["B-PER", "O"]), ("Bo is in Rome", ["B-PER", "O", "O", "B-LOC"]), ("we left", ["O", "O"])] * 20


@pytest.mark.parametrize("write", [json.dumps, str, ",".join, " ".join], ids=["json", "python", "commas", "spaces"])
def test_tags_of_the_words_of_a_text_are_tags(write: Callable[[list[str]], str], tmp_path: Path) -> None:
    rows = "".join(json.dumps({"sentence": text, "word_labels": write(tags)}) + "\n" for text, tags in TAGGED)
    (tmp_path / "rows.jsonl").write_text(rows)
    ((_, task),) = proposed(tmp_path, tmp_path / "rows.jsonl").items()
    assert (task["type"], task["tokens"], task["tags"]) == ("tagging", "sentence", "word_labels")
    assert "B-PER 25.0 %" in comments(tmp_path)


def test_tags_that_are_not_as_many_as_words_are_no_labels(tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"text": f"{text} and so", "tags": tags, "label": "ab"[len(tags) // 3]}) + "\n"
        for text, tags in TAGGED
    )
    (tmp_path / "rows.jsonl").write_text(rows)
    tasks = proposed(tmp_path, tmp_path / "rows.jsonl")
    assert [task["type"] for task in tasks.values()] == ["classification"]
    assert "tags: entity tags, as many as no other column has words" in comments(tmp_path)


def test_columns_of_pandas_in_one_object_are_refused(tmp_path: Path) -> None:
    texts, labels = [f"film {number} is long" for number in range(8)], ["a", "b"] * 4
    for split in ("train", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps({"text": texts, "label": labels}))
    numbered = {name: {str(at): cell for at, cell in enumerate(cells)} for name, cells in (("t", texts), ("l", labels))}
    for path in ("train.json", "numbered.json"):
        (tmp_path / "numbered.json").write_text(json.dumps(numbered))
        with pytest.raises(UserError, match="holds whole columns"):
            init([tmp_path / path], tmp_path / "c.yaml")


def test_the_other_column_of_tags_is_named(tmp_path: Path) -> None:
    lines = "".join(f"Ann{n}\tO\tB-PER\tO\nof\tO\tO\tO\nRome{n}\tO\tB-LOC\tB-PERpart\n\n" for n in range(40))
    (tmp_path / "rows.conll").write_text(lines)
    proposed(tmp_path, tmp_path / "rows.conll")
    assert "column 3 holds entity tags too" in comments(tmp_path)


def test_a_missing_file_is_told_before_a_configuration_that_exists(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine", "utf-8")
    with pytest.raises(DataError, match=r"nope.csv: no such file"):
        init([tmp_path / "nope.csv"], tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text("utf-8") == "mine"
