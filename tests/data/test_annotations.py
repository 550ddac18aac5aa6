"""Spans by character become words and BIO tags; what words cannot hold is refused or noted with its place."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.annotations import tag_words
from polytask.data.feed import feeds_of
from polytask.data.label_studio import row_of
from polytask.data.rows import DataTable, read_table
from polytask.data.words import split_words
from polytask.errors import ConfigError, DataError
from polytask.tasks import TaskOptions
from polytask.tasks.bio import spans as spans_of
from polytask.tasks.cells import shown_spans

Build = Callable[..., TaskOptions]
Write = Callable[..., str]
TEXT = "Ann Lee met 王小明 in New York."
SPANS = [[0, 7, "PER"], [12, 15, "PER"], [19, 27, "LOC"]]
TAGS = ["B-PER", "I-PER", "O", "B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC", "O"]


def objects(start: str = "start", end: str = "end", label: str = "label") -> list[dict[str, Any]]:
    return [{start: span[0], end: span[1], label: span[2]} for span in SPANS]


def task_of_label_studio(*results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"text": TEXT}, "annotations": [{"result": result, **more} for result in results]}


def regions(**more: Any) -> list[dict[str, Any]]:
    return [
        {"type": "labels", **more, "value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}}
        for start, end, label in SPANS
    ]


def table_of(**tasks: TaskOptions) -> DataTable:
    (feed,) = feeds_of(tasks, "train")
    return read_table(feed)


# How each tool writes it, the file's name, and the column of the spans.
FORMS: dict[str, tuple[Any, str, str]] = {
    "doccano": ({"id": 1, "text": TEXT, "label": SPANS}, "rows.jsonl", "label"),
    "doccano with relations": (
        {"text": TEXT, "entities": objects("start_offset", "end_offset"), "relations": []}, "rows.jsonl", "entities",
    ),
    "prodigy": (
        {"text": TEXT, "tokens": [{"text": TEXT[a:b], "start": a, "end": b} for a, b in split_words(TEXT)],
         "spans": objects(), "answer": "accept"},
        "rows.jsonl", "spans",
    ),
    "spacy": ([TEXT, {"entities": SPANS}], "rows.jsonl", "entities"),
    "spacy in a list": ([[TEXT, {"entities": SPANS}]], "rows.json", "entities"),
    "spacy's documents": (
        {"text": TEXT, "ents": objects(), "tokens": [{"id": 0, "start": a, "end": b} for a, b in split_words(TEXT)]},
        "rows.jsonl", "ents",
    ),
    "an annotator for spacy": (
        {"classes": ["PER"], "annotations": [None, [TEXT, {"entities": SPANS}]]}, "rows.json", "entities",
    ),
    "label studio": ([task_of_label_studio(regions())], "rows.json", "spans"),
    "label studio, named control": ([task_of_label_studio(regions(from_name="ner"))], "rows.json", "ner"),
    "label studio, small": ([{"text": TEXT, "ner": [region["value"] for region in regions()]}], "rows.json", "ner"),
    "polytask's answers": (
        {"text": TEXT, "predictions": {"it": [{**one, "text": TEXT[one["start"] : one["end"]]} for one in objects()]}},
        "rows.jsonl", "predictions.it",
    ),
    "json in a cell": ({"text": TEXT, "spans": json.dumps(SPANS)}, "rows.jsonl", "spans"),
    "tuples of Python in a cell": ({"text": TEXT, "spans": str([*map(tuple, SPANS)])}, "rows.jsonl", "spans"),
    "objects of Python in a cell": ({"text": TEXT, "spans": str(objects())}, "rows.jsonl", "spans"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_each_tool_writes_is_training_data(form: str, options: Build, tmp_path: Path) -> None:
    value, name, column = FORMS[form]
    (tmp_path / name).write_text(json.dumps(value) + "\n", "utf-8")
    table = table_of(it=options("tagging", str(tmp_path / name), tags=column))
    assert table.rows["label.it"][:] == [TAGS]
    (row,) = table.rows
    assert row["text"] == TEXT
    assert list(zip(row["starts"], row["ends"], strict=True)) == split_words(TEXT)
    assert table.apart == (0, "")


def test_texts_labels_and_spans_share_their_rows(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": TEXT, "topic": "x", "label": SPANS}, {"text": "nobody", "topic": "y", "label": []}])
    table = table_of(topic=options("classification", path, label="topic"), it=options("tagging", path, tags="label"))
    assert table.rows["label.it"][:] == [TAGS, ["O"]]
    assert table.rows["label.topic"][:] == ["x", "y"]


@pytest.mark.parametrize(("kind", "column"), [("tagging", "tags"), ("spans", "spans")])
def test_an_empty_list_in_a_cell_holds_no_span_and_an_empty_cell_is_not_labelled(
    kind: str, column: str, options: Build, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    cells = [json.dumps(SPANS), "[]", " [ ] ", ""]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", column], *([TEXT, cell] for cell in cells)])
    labels = table_of(it=options(kind, str(path))).rows["label.it"][:]
    empty = ["O"] * len(TAGS) if kind == "tagging" else [""] * len(TAGS)
    assert labels[1:] == [empty, empty, None]
    assert sum(word in ("O", "") for word in labels[0]) < len(TAGS)


@given(
    st.lists(
        st.lists(st.integers(-9, 999) | st.text(max_size=5) | st.none() | st.booleans(), max_size=3)
        | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2),
        max_size=3,
    )
)
def test_spans_in_a_cell_are_those_that_python_or_json_wrote(spans: list[Any]) -> None:
    tuples = [tuple(span) if isinstance(span, list) and len(span) > 1 else span for span in spans]
    assert shown_spans(repr(tuples)) == spans
    assert shown_spans(json.dumps(spans)) == spans


# Steps that grow with the square of the length would take hours.
@pytest.mark.parametrize("cell", ["[" * 100_000, "[(" + "'" * 99_999, "[[" + " " * 100_000 + "'", "[{" * 50_000 + "x"])
def test_a_cell_that_only_begins_as_spans_is_refused_soon(cell: str) -> None:
    with pytest.raises(ValueError, match="spans are a list"):
        shown_spans(cell)


REFUSED: list[tuple[Any, str]] = [
    ([[19, 40, "LOC"]], "the span LOC at characters 19 to 40 lies outside the text, which has 28 characters"),
    ([[-1, 7, "PER"]], "the span PER at characters -1 to 7 lies outside the text"),
    ([[7, 7, "PER"]], "the span PER at characters 7 to 7 is empty"),
    ([[7, 3, "PER"]], "the span PER at characters 7 to 3 ends before it begins"),
    ([[3, 4, "PER"]], "the span PER at characters 3 to 4 holds only white space"),
    ([[0, 7, "PER"], [4, 11, "ORG"]], "PER at characters 0 to 7 and ORG at characters 4 to 11 share the word 'Lee'"),
    ([[0, 2, "PER"], [2, 3, "PER"]], "share the word 'Ann'; a word has one tag, so spans must not overlap"),
    ([[0, 7]], r"found \[0, 7\]; a span is \[start, end, label\], or an object"),
    ([[0, "7", "PER"]], r"found \[0, '7', 'PER'\]; a span is"),
    ([[0, 7, ""]], r"found \[0, 7, ''\]; a span is"),
    ([[True, 7, "PER"]], r"found \[True, 7, 'PER'\]; a span is"),
    ([{"start": 0, "label": "PER"}], "found {.*}; a span is"),
    ([{"start": 0, "end": 7, "labels": ["PER", "ORG"]}], "has 2 labels; a word has one tag"),
    ([{"start": 0, "end": 7, "label": "PER", "text": "Bob"}], "says 'Bob', but the text has 'Ann Lee' there"),
    ('[[0, 7, "PER"]', "found .*; spans are a list in JSON or Python notation, such as"),
    ("[(0, 7, PER", "found .*; spans are a list in JSON or Python notation, such as"),
    ([[0, 7, "O"]], "has the label 'O', which tags words outside of entities; leave it out"),
    ([[0, 3, "B-PER"], [4, 7, "I-PER"]], "has the label 'B-PER', the tag of a word; .* the type, such as 'PER'"),
    ([{"entity": "I-PER", "start": 0, "end": 7}], "has the label 'I-PER', the tag of a word"),
    ([[0, 7, " "]], r"found \[0, 7, ' '\]; a span is"),
]


@pytest.mark.parametrize(("spans", "told"), REFUSED, ids=range(len(REFUSED)))
def test_spans_that_words_cannot_hold_are_named_with_their_line(
    spans: Any, told: str, options: Build, jsonl: Write
) -> None:
    path = jsonl([{"text": TEXT, "label": SPANS}, {"text": TEXT, "label": spans}])
    with pytest.raises(DataError, match=rf"rows.jsonl:2: task 'it': .*{told}"):
        table_of(it=options("tagging", path, tags="label"))


def test_a_span_in_a_json_list_is_named_with_the_line_of_its_object(options: Build, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": TEXT, "spans": SPANS}, {"text": TEXT, "spans": [[0, 99, "X"]]}], indent=1))
    line = path.read_text().split("\n").index(" {", 2) + 1
    with pytest.raises(DataError, match=rf"rows.json:{line}: task 'it': .* lies outside the text"):
        table_of(it=options("tagging", str(path), tags="spans"))


def test_a_span_that_cuts_a_word_is_widened_and_noted_or_refused_when_strict(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": TEXT, "label": [[0, 7, "PER"]]}, {"text": TEXT, "label": [[0, 5, "PER"], [20, 27, "LOC"]]}])
    table = table_of(it=options("tagging", path, tags="label"))
    assert table.rows["label.it"][1] == [tag if at not in (3, 4, 5) else "O" for at, tag in enumerate(TAGS)]
    (remark,) = table.remarks.messages()
    assert remark.startswith(f"2 spans cut a word and were widened to whole words, the first at {path}:2; ")
    with pytest.raises(DataError, match=r"rows.jsonl:2: task 'it': the span PER at characters 0 to 5 cuts .* 'Lee'"):
        table_of(it=options("tagging", path, tags="label", strict=True))


def test_white_space_and_repetition_change_nothing_and_are_noted(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": TEXT, "label": [[0, 8, "PER"], [0, 7, "PER"], *SPANS[1:]]}])
    table = table_of(it=options("tagging", path, tags="label"))
    assert table.rows["label.it"][:] == [TAGS]
    assert [remark.partition(", ")[0] for remark in table.remarks.messages()] == [
        "1 spans begin or end with white space",
        "1 spans occur twice and count once",
    ]


def test_offsets_of_javascript_are_told_by_the_text_of_the_span() -> None:
    text = "😀 Ann 😀😀 met Bo"
    wide = [
        {"start": 3, "end": 6, "labels": ["PER"], "text": "Ann"},
        {"start": 16, "end": 18, "labels": ["PER"], "text": "Bo"},
    ]
    tagged = tag_words(text, wide, None, strict=True)
    assert [tagged.tokens[span.first] for span in spans_of(tagged.tags)] == ["Ann", "Bo"]
    assert len(tagged.remarks) == 2


# A text, its spans by character, and the unit in which they are counted otherwise.
UNITS = [
    ("😀😀 Ann met Bo", [(3, 6), (11, 13)], "utf-16"),
    ("Café Ann met Bo", [(5, 8), (13, 15)], "utf-8"),
    ("我在北京", [(2, 4)], "utf-8"),
]


@pytest.mark.parametrize(("text", "places", "unit"), UNITS)
def test_spans_in_another_unit_are_refused_until_it_is_named_or_their_text_tells(
    text: str, places: list[tuple[int, int]], unit: Any, options: Build, jsonl: Write
) -> None:
    def counted(place: int) -> int:
        return len(text[:place].encode("utf-16-le")) // 2 if unit == "utf-16" else len(text[:place].encode())

    spans = [[counted(start), counted(end), "X"] for start, end in places]
    path = jsonl([{"text": text, "label": spans}])
    with pytest.raises(DataError, match=f"rows.jsonl:1: .* give `offsets: {unit}` next to the path"):
        table_of(it=options("tagging", path, tags="label"))
    table = table_of(it=options("tagging", path, tags="label", offsets=unit))
    expected = tag_words(text, [[start, end, "X"] for start, end in places], None, strict=True).tags
    assert table.rows["label.it"][:] == [expected]
    assert table.remarks.messages() == []
    said = [
        {"start": start, "end": end, "label": label, "text": text[slice(*place)]}
        for (start, end, label), place in zip(spans, places, strict=True)
    ]
    tagged = tag_words(text, said, None, strict=True)
    assert tagged.tags == expected
    assert len(tagged.remarks) == len(spans)
    right = [{"start": start, "end": end, "label": "X", "text": text[start:end]} for start, end in places]
    tagged = tag_words(text, right, None, strict=True, offsets=unit)
    assert tagged.tags == expected
    assert len(tagged.remarks) == len(spans)


def test_a_name_behind_an_at_sign_counts_characters_though_its_places_are_whole_words_in_bytes_as_well() -> None:
    text = "感觉又到了追巡演的日子！今天我们主场，我们负责花痴！@白举纲"
    place = text.index("白举纲")
    assert place % 3 == 0, "each character is a word, and three bytes: in bytes the span would be one of them"
    tagged = tag_words(text, [[place, place + 3, "PER"]], None, strict=False)
    assert [(token, tag) for token, tag in zip(tagged.tokens, tagged.tags, strict=True) if tag != "O"] == [
        ("@白举纲", "B-PER")
    ]
    assert "cut a word" in tagged.remarks[0]


def test_ends_that_include_the_last_character_are_told(options: Build, jsonl: Write) -> None:
    """In Chinese each character is a word, so such a span loses its last one: the others have to tell."""
    inclusive = [[start, end - 1, label] for start, end, label in SPANS]
    path = jsonl([{"text": TEXT, "label": inclusive}, {"text": TEXT, "label": SPANS}])
    table = table_of(it=options("tagging", path, tags="label"))
    assert table.rows["label.it"] == [[*TAGS[:5], "O", *TAGS[6:]], TAGS]
    (remark,) = table.remarks.messages()
    assert remark.startswith("2 spans end one character before the end of a word and were widened to it")
    assert "include the last character, add 1 to all of them" in remark


def test_offsets_that_cut_a_character_or_lie_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"X at characters 1 to 3 cuts a character in two, when it counts in utf-8"):
        tag_words("éa", [[1, 3, "X"]], None, strict=False, offsets="utf-8")
    with pytest.raises(ValueError, match=r"lies outside the text, which has 3 units of utf-8"):
        tag_words("éa", [[0, 4, "X"]], None, strict=False, offsets="utf-8")
    tagged = tag_words("Café Ann met Bo", [[6, 9, "X"]], None, strict=False, offsets="characters")
    assert tagged.tags == ["O", "B-X", "O", "O"]


def test_outer_spaces_of_a_span_label_are_left_out_and_noted() -> None:
    tagged = tag_words(TEXT, [[0, 7, " PER "]], None, strict=True)
    assert tagged.tags[:2] == ["B-PER", "I-PER"]
    assert [remark.partition(",")[0] for remark in tagged.remarks] == [
        "{count} labels of spans begin or end with white space"
    ]


def test_regions_of_label_studio_that_are_not_read_are_refused() -> None:
    region = {
        "type": "hypertextlabels",
        "from_name": "ner",
        "value": {"start": "/p[1]", "end": "/p[1]", "startOffset": 0, "endOffset": 7, "hypertextlabels": ["PER"]},
    }
    with pytest.raises(ValueError, match="found a region of the kind 'hypertextlabels', which is not read"):
        row_of(task_of_label_studio([region]))


def test_tokens_beside_the_spans_are_the_words(options: Build, jsonl: Write) -> None:
    path = jsonl([{"text": "can't go", "tokens": ["ca", "n't", "go"], "spans": [[2, 5, "NEG"]]}])
    assert table_of(it=options("tagging", path, tags="spans")).rows["label.it"][:] == [["O", "B-NEG", "O"]]
    for tokens in (["can", "go"], [{"id": 1}], [5]):
        path = jsonl([{"text": "can't go", "tokens": tokens, "spans": [[2, 5, "NEG"]]}])
        with pytest.raises(DataError, match=r"rows.jsonl:1: task 'it': (the tokens do not spell|found the token)"):
            table_of(it=options("tagging", path, tags="spans"))


def test_what_was_not_accepted_or_not_finished_is_not_labelled(options: Build, jsonl: Write) -> None:
    rows = [{"text": TEXT, "spans": objects(), "answer": answer} for answer in ("accept", "reject", "ignore")]
    path = jsonl([*rows, {"text": TEXT, "spans": None}, task_of_label_studio(regions(), was_cancelled=True)])
    table = table_of(it=options("tagging", path, tags="spans"))
    assert [label is not None for label in table.rows["label.it"][:]] == [True, False, False, False, False]


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_labels_that_were_refused_in_prodigy_are_none(kind: str, options: Build, jsonl: Write) -> None:
    rows = [
        {"text": f"{TEXT} {at}", "label": "ab"[at % 2], "answer": ("accept", "reject", "ignore")[at % 3]}
        for at in range(12)
    ]
    marked = [{**row, "_input_hash": 1, "_task_hash": 2} for row in rows]
    table = table_of(it=options(kind, jsonl(marked), label="label"))
    assert [label is not None for label in table.rows["label.it"][:]] == [True, False, False] * 4
    table = table_of(it=options(kind, jsonl(marked, "b.jsonl"), label="answer"))
    assert None not in table.rows["label.it"][:]
    # Of another tool: a column of answers.
    table = table_of(it=options(kind, jsonl(rows, "c.jsonl"), label="label"))
    assert None not in table.rows["label.it"][:]


def test_a_list_of_one_label_is_that_label_and_an_empty_one_none(options: Build, jsonl: Write) -> None:
    rows = [{"text": f"{TEXT} {at}", "label": label} for at, label in enumerate([["pos"], ["neg"], [], "pos", [1.0]])]
    table = table_of(it=options("classification", jsonl(rows)))
    assert table.rows["label.it"][:] == ["pos", "neg", None, "pos", "1"]
    path = jsonl([*rows, {"text": "x", "label": ["pos", "neg"]}], "more.jsonl")
    with pytest.raises(
        DataError, match=r"more.jsonl:6: .*a text has one label here, and several with `type: multilabel`"
    ):
        table_of(it=options("classification", path))


def test_ratings_numbers_and_choices_of_label_studio_are_told_apart() -> None:
    def chosen(name: str, **value: Any) -> dict[str, Any]:
        return {"from_name": name, "type": next(iter(value)), "value": value}

    region = chosen("tone", choices=["dry"], start=0, end=3, text=TEXT[:3])
    row = row_of(
        task_of_label_studio(
            [
                *regions(from_name="ner"),
                chosen("stars", rating=4),
                chosen("share", number=0.5),
                region,
                chosen("topic", choices=["food, drinks"]),
            ]
        )
    )
    assert (row["stars"], row["share"], row["topic"]) == (4, 0.5, ["food, drinks"])
    assert row["tone"] == region["value"]
    assert len(row["ner"]) == len(regions())


def test_spans_without_a_text_and_rows_without_spans_are_refused(options: Build, jsonl: Write) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:1: task 'it': spans count the characters of a text, and 'text'"):
        table_of(it=options("tagging", jsonl([{"spans": SPANS}]), tags="spans"))
    with pytest.raises(DataError, match=r"rows.jsonl:1: task 'it': found 2 tokens and 0 tags"):
        table_of(it=options("tagging", jsonl([{"text": "a b", "tokens": ["a", "b"], "spans": []}]), tags="spans"))
    with pytest.raises(ConfigError, match=r"no column 'tokens'"):
        table_of(it=options("tagging", jsonl([{"text": "a b"}]), tags="spans"))
    with pytest.raises(ConfigError, match=r"no column .*; if 'label' holds character spans, give `tags: label`"):
        table_of(it=options("tagging", jsonl([{"text": TEXT, "label": SPANS}])))


def test_a_task_of_label_studio_is_a_row() -> None:
    choice = {"from_name": "topic", "type": "choices", "value": {"choices": ["news"]}}
    several = {"from_name": "tones", "type": "choices", "value": {"choices": ["dry", "sad"]}}
    row = row_of(task_of_label_studio([*regions(from_name="ner"), choice, several]))
    assert (row["id"], row["text"], row["topic"], row["tones"]) == (7, TEXT, "news", ["dry", "sad"])
    assert row["ner"] == row["spans"] == [region["value"] for region in regions()]
    assert row_of(task_of_label_studio([choice]))["spans"] == []
    assert "spans" not in row_of(task_of_label_studio())
    assert row_of(task_of_label_studio(regions(), regions()))["spans"] == row["spans"]
    with pytest.raises(ValueError, match="found 2 annotations of one text that differ; keep one of them"):
        row_of(task_of_label_studio(regions(), []))
    plain = {"data": {"x": 1}, "text": "a"}
    assert row_of(plain) is plain


texts = st.text(st.sampled_from("ab 王电,.-\u3000😀é\u0301\n"), min_size=1, max_size=30)


@given(text=texts, data=st.data())
def test_spans_of_whole_words_come_back(text: str, data: st.DataObject) -> None:
    words = split_words(text)
    cuts = data.draw(st.lists(st.integers(0, len(words)), unique=True).map(sorted))
    given_spans = [
        [words[first][0], words[end - 1][1], data.draw(st.sampled_from("XY"))] for first, end in pairwise(cuts)
    ]
    tagged = tag_words(text, data.draw(st.permutations(given_spans)), None, strict=True)
    assert tagged.tokens == [text[start:end] for start, end in words]
    found = [[words[span.first][0], words[span.end - 1][1], span.label] for span in spans_of(tagged.tags)]
    assert found == given_spans
    assert tagged.remarks == []


@given(text=texts, spans=st.lists(st.tuples(st.integers(-2, 32), st.integers(-2, 32), st.sampled_from("XY"))))
def test_any_spans_give_a_tag_a_word_or_a_message(text: str, spans: list[tuple[int, int, str]]) -> None:
    try:
        tagged = tag_words(text, [list(span) for span in spans], None, strict=False)
    except ValueError:
        return
    assert len(tagged.tags) == len(tagged.tokens) == len(split_words(text))
    assert len(spans_of(tagged.tags)) == len({*spans}) or tagged.remarks
