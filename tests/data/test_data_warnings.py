"""What `check` notes of labels and rows: with the place and the mend, and once for all splits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from polytask.data.data_warnings import Finding, few, listed, loosely, merged
from polytask.data.feed import feeds_of
from polytask.data.prepare import DataTables, encode_tables, read_tables, unknown_warnings
from polytask.data.rows import read_table
from polytask.data.tokens import Tokenization
from polytask.errors import DataError
from polytask.tasks import TaskOptions

Build = Callable[..., TaskOptions]
CASES = Path(__file__).parents[3] / "shared" / "cases"
WORDS = ["EU", "sent", "Ann", "Lee", "home"]


def rows_of(labels: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {at} {label}", "label": label, **more} for at, label in enumerate(labels)]


def notes_of(tables: DataTables) -> list[str]:
    """Return the notes, those on leaks left out."""
    return [f"{note.place}: {note.message}" for note in tables.notes if "are also in" not in note.message]


def of_labels(options: Build, labels: Sequence[Any], dev: Sequence[Any] | None = None, **more: Any) -> list[str]:
    rows = {"train": rows_of(labels), "dev": rows_of(labels if dev is None else dev)}
    return notes_of(read_tables({"it": options("classification", rows["train"], dev=rows["dev"], **more)}))


def tagged(*rows: list[str]) -> list[dict[str, Any]]:
    return [{"tokens": WORDS, "tags": tags} for tags in rows] * 5


def test_labels_that_differ_in_spelling_only_are_noted_with_their_places(options: Build) -> None:
    assert of_labels(options, ["Pos", "neg", "pos", "neg"] * 5) == [
        "labels of it: 'Pos' (10, the first at train row 1) and 'pos' (10, the first at train row 3) differ "
        "only in spelling, but are learned as separate labels; if they are the same, spell them alike, such as 'Pos'"
    ]


def test_a_label_of_dev_in_another_spelling_names_that_of_training(options: Build) -> None:
    assert of_labels(options, ["pos", "neg"] * 5, ["pos", "neg"] * 5 + ["Pos"]) == [
        "dev of it: labels that training never has count as errors: Pos (1, the first at dev row 11; write it as in "
        "training: 'pos')"
    ]


def test_labels_read_in_another_spelling_are_noted_once_for_all_splits(options: Build) -> None:
    assert of_labels(options, ["1.0", "0"] * 5) == [
        "train and dev of it: labels are read in another spelling, the first at train row 1: '1.0' as '1'"
    ]


@pytest.mark.parametrize("label", ["NA", "N/A", "None", "null", "nan"])
def test_labels_that_may_mean_nothing_are_noted_with_the_mend(options: Build, label: str) -> None:
    assert of_labels(options, ["a", "b", label] * 5) == [
        f"labels of it: '{label}' (10, the first at train row 3) is learned as a label; if it means that a row is not "
        f'labelled, set `unlabelled: ["{label}"]`'
    ]
    found = of_labels(options, ["a", "b", label] * 5, unlabelled=label)
    assert found == ["train and dev of it: 5 of 15 and 5 of 15 rows carry no label and are masked"]


def test_minus_one_is_noted_beside_classes_by_number_only(options: Build) -> None:
    assert "'-1' (10, the first at train row 3)" in of_labels(options, [0, 1, -1] * 5)[0]
    assert of_labels(options, [1, -1] * 5) == []
    assert of_labels(options, [-2, -1, 0] * 5) == []


def test_nothing_is_told_from_none_of_the_labels(options: Build) -> None:
    rows = rows_of([["a"], ["none"], ["b"]] * 5)
    found = notes_of(read_tables({"it": options("multilabel", rows, dev=rows, label="label")}))
    assert found[0].endswith(
        'set `unlabelled: ["none"]`; if it means that a row has none of the labels, `no_label: "none"`'
    )
    rows = rows_of([["a"], None, ["b"]] * 5)
    found = notes_of(read_tables({"it": options("multilabel", rows, dev=rows, label="label")}))
    assert found[0].startswith(
        "train and dev of it: 5 of 15 and 5 of 15 rows carry no label and are masked; an empty cell"
    )


def test_dev_rows_that_can_score_nothing_are_noted(options: Build) -> None:
    one = of_labels(options, ["a", "b"] * 5, ["a"] * 12)
    assert one == [
        "dev of it: every row has the label 'a', and the model is chosen by them: scores cannot distinguish a "
        "model that learned from one that did not; add rows with other labels"
    ]
    two = of_labels(options, ["a", "b"] * 5, ["a", "b"])
    assert two == [
        "dev of it: only 2 rows carry a label, and the model is chosen by them: scores on so few are chance; add rows, "
        "or hold out more training rows"
    ]
    assert "only 1 row carries a label" in of_labels(options, ["a", "b"] * 5, ["a"])[0]


@pytest.mark.parametrize(
    ("kind", "train", "dev", "told"),
    [
        ("regression", [1, 2.5] * 5, [3] * 12, "every row has the score 3,"),
        ("multilabel", [["a"], ["a", "b"]] * 5, [["b", "a"]] * 12, "every row has the labels a, b,"),
        ("multilabel", [["a"], ["b"]] * 5, [[]] * 12, "every row has no label at all,"),
    ],
)
def test_every_type_knows_when_all_rows_are_alike(
    options: Build, kind: str, train: list[Any], dev: list[Any], told: str
) -> None:
    tables = read_tables({"it": options(kind, rows_of(train), dev=rows_of(dev), label="label")})
    assert [told in note for note in notes_of(tables)] == [True]


def test_dev_tags_without_an_entity_are_noted(options: Build) -> None:
    train, dev = tagged(["B-X", "I-X", "O", "O", "O"], ["O"] * 5), tagged(["O"] * 5, ["O"] * 5)
    found = notes_of(read_tables({"it": options("tagging", train, dev=dev)}))
    assert [note.partition(",")[0] for note in found] == ["dev of it: every row has the label 'O'"]


def test_other_schemes_are_read_as_bio_in_every_split_and_scored_by_entity(options: Build) -> None:
    train = tagged(["S-ORG", "O", "B-PER", "E-PER", "O"], ["O", "O", "O", "O", "S-LOC"])
    dev = tagged(["ORG-B", "O", "PER-B", "PER-I", "O"], ["O"] * 5)
    tables = read_tables({"it": options("tagging", train, dev=dev)})
    task = tables.tasks["it"]
    assert task.metric == "f1"
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    for split in ("train", "dev"):
        assert tables.tables[split][0].rows[0]["label.it"] == ["B-ORG", "O", "B-PER", "I-PER", "O"]
    assert tables.label_stats["it"].labels == {"O": 35, "B-ORG": 5, "B-PER": 5, "I-PER": 5, "B-LOC": 5} | {"O": 30}
    assert notes_of(tables) == [
        "train of it: the tags are BIOES, written as S-x; they are read as BIO, and scored by entity",
        "dev of it: the tags are BIO, written as x-B; they are read as BIO, and scored by entity",
    ]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_one_odd_tag_is_named_with_its_place_and_changes_no_metric(options: Build, split: str) -> None:
    good = tagged(["B-ORG", "O", "B-PER", "I-PER", "O"], ["O"] * 5)
    bad = [*good, {"tokens": WORDS, "tags": ["O", "O", "PER", "I-PER", "O"]}]
    rows = {"train": good, "dev": good, split: bad}
    with pytest.raises(
        DataError, match=rf"{split} row 11: word 3 \('Ann'\): task 'it': found the tag 'PER' \(1 of 55 words\)"
    ):
        read_tables({"it": options("tagging", rows["train"], dev=rows["dev"])})
    plain = read_tables({"it": options("tagging", rows["train"], dev=rows["dev"], scheme="plain")})
    assert plain.tasks["it"].metric == "accuracy"


def test_plain_tags_that_may_be_entities_are_noted(options: Build) -> None:
    rows = tagged(["PER", "PER", "O", "LOC", "O"])
    told = [
        "train of it: the tags are plain, and scored word by word; if they mark entities, write them as BIO (B-PER, "
        "I-PER, O); if not, set `scheme: plain`"
    ]
    assert notes_of(read_tables({"it": options("tagging", rows * 2, dev=rows * 2)})) == told
    assert notes_of(read_tables({"it": options("tagging", rows * 2, dev=rows * 2, scheme="plain")})) == []


def test_tags_that_lost_their_names_or_are_brackets_are_noted(options: Build) -> None:
    def told(*tags: str, **more: Any) -> list[str]:
        return notes_of(read_tables({"it": options("tagging", tagged([*tags]), dev=tagged([*tags]), **more)}))

    assert ["the tags are numbers" in note for note in told("3", "0", "1", "2", "0")] == [True, False]
    assert "the tags are numbers" not in str(told("3", "0", "1", "2", "0", scheme="plain"))
    assert "mark entities with brackets" in str(told("(ORG)", "*", "(PER*", "*)", "*"))


def test_entities_without_a_type_are_noted_with_the_name_that_they_get(options: Build) -> None:
    rows = tagged(["B", "I", "O", "B", "O"]) * 2
    tables = read_tables({"it": options("tagging", rows, dev=rows)})
    assert tables.tasks["it"].labels == ("O", "B-ENTITY", "I-ENTITY")
    assert notes_of(tables) == [
        "train and dev of it: the tags are BIO, written as B; they are read as BIO of the type ENTITY, and scored by "
        "entity"
    ]


def test_rows_of_a_plain_task_are_never_read_as_entities(options: Build) -> None:
    train = tagged(["NOUN", "VERB", "NOUN", "NOUN", "S-ADV"])
    dev = tagged(["S-ADV", "O", "S-ADV", "S-ADV", "O"])
    tables = read_tables({"it": options("tagging", train, dev=dev)})
    assert tables.tables["dev"][0].rows[0]["label.it"] == ["S-ADV", "O", "S-ADV", "S-ADV", "O"]


def test_counts_that_were_lost_are_counted_again_as_they_were(options: Build, cache: Path) -> None:
    (feed,) = feeds_of({"it": options("tagging", tagged(["S-A", "o", "B-B", "E-B", "I-B"]))}, "train")
    first = read_table(feed)
    shutil.rmtree(cache / f"{feed.digest()}.rows.json")
    again = read_table(feed)
    assert again.label_stats == first.label_stats
    assert first.label_stats["it"].repaired == 5
    assert first.rows[0]["label.it"] == ["B-A", "O", "B-B", "I-B", "B-B"]
    assert sorted(path.suffix for path in cache.iterdir()) == [".arrow", ".json"]


def test_text_in_a_script_that_the_encoder_does_not_know_is_noted(options: Build, tokenizer: Any) -> None:
    train = [{"text": f"龘靐齉 {at}", "label": "ab"[at % 2]} for at in range(20)]
    tables = read_tables({"it": options("classification", train, dev=train)})
    tokens = Tokenization.of(tokenizer, 16)
    (note,) = unknown_warnings(encode_tables(tables, tokens), tokenizer.unk_token_id, tokens)
    assert note.place == "train and dev of it"
    assert note.message.startswith("75 % and 75 % of the tokens are unknown to the encoder")
    assert "choose an encoder that was made for the language" in note.message
    english = [{"text": f"good film {at}", "label": "ab"[at % 2]} for at in range(20)]
    tables = read_tables({"it": options("classification", english, dev=english)})
    assert unknown_warnings(encode_tables(tables, tokens), tokenizer.unk_token_id, tokens) == []
    assert unknown_warnings(encode_tables(tables, tokens), None, tokens) == []


def test_the_same_about_several_splits_is_one_note() -> None:
    findings = [
        Finding("train", "a", "{count} rows, the first at {first}", "3", "x:1"),
        Finding("train", "b", "{count} rows, the first at {first}", "4", "z:1"),
        Finding("test", "a", "{count} rows, the first at {first}", "5", "y:1"),
    ]
    assert [(note.place, note.message) for note in merged(findings)] == [
        ("train and test of a", "3 and 5 rows, the first at x:1"),
        ("train of b", "4 rows, the first at z:1"),
    ]
    # What a label holds is no place for a number.
    assert merged([Finding("dev", "a", "", "3", tail=" {count}")])[0].message == " {count}"


def test_lists_are_written_as_people_do() -> None:
    assert [listed(list("abc"[:size])) for size in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert few([str(at) for at in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("Pos", "pos", True), ("very  good", "Very good", True), ("ｐｏｓ", "pos", True), ("1.50", "1.5", True),
     ("01", "1", True), ("\uff11", "1", True), ("\u0663.0", "3", True), ("1\u200b", "1", True),
     ("e\u0301", "é", True), ("1,000", "1000", True), ("1e3", "1000", True), ("1,5", "15", False),
     ("\u22121", "-1", True), ("\u22121.0", "-1", True), ("in\u2013out", "in-out", True), ("+1", "1", True),
     ("C", "C-", False), ("1", "-1", False), ("1", "\u22121", False), ("a", "b", False)],
)  # fmt: skip
def test_spelling_is_case_spaces_and_forms(one: str, other: str, alike: bool) -> None:
    assert (loosely(one) == loosely(other)) is alike


@pytest.mark.parametrize(
    ("labels", "alike"),
    [
        ([0, False, 1, True], [["0", "false"], ["1", "true"]]),
        (["0", "yes", "No", "1"], [["0", "No"], ["1", "yes"]]),
        (["true", "false", "n/a", "0"], [["0", "false"]]),
        (["0", "1"], []), (["true", "false"], []), (["yes", "no"], []), (["true", "false", "half-true"], []),
        (["0", "1", "2", "true"], []), (["yes", "no", "unsure"], []), (["t", "f", "n"], []),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_and_words_for_truth_values_are_noted(
    labels: list[Any], alike: list[list[str]], options: Build
) -> None:
    rows = [{"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(40)]
    notes = [
        note
        for note in notes_of(read_tables({"it": options("classification", rows, dev=rows)}))
        if "differ only in spelling" in note
    ]
    assert len(notes) == len(alike)
    assert all(any(all(repr(label) in note for label in group) for note in notes) for group in alike)


@pytest.mark.parametrize("name", ["train", "train_bilou", "train_lower_o", "train_suffix", "train_us"])
def test_files_of_public_reports_are_entities(options: Build, name: str) -> None:
    folder = CASES / "05-bioes"
    if not folder.is_dir():
        pytest.skip(f"the cases are not in {CASES}")
    tables = read_tables({"it": options("tagging", str(folder / f"{name}.conll"), dev=str(folder / "dev.conll"))})
    assert tables.tasks["it"].metric == "f1"
    assert tables.tables["train"][0].rows[1]["label.it"] == ["B-PER", "I-PER", "O", "O", "O"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("caf\u00e9".encode().decode("cp1252"), "look like UTF-8"),
        ("caf\u00e9".encode().decode("latin-1"), "look like UTF-8"),
        ("it\u2019s".encode().decode("cp1252"), "look like UTF-8"),
        ("\u597d\u7535\u5f71".encode().decode("latin-1"), "look like UTF-8"),
        ("\u043a\u0438\u043d\u043e".encode().decode("cp1252"), "look like UTF-8"),
        ("caf\ufffd", "hold U+FFFD"),
        ("one_x000D_\ntwo", "hold _x000D_"),
        ("cats &amp; dogs", None),
        ("caf\u00e9 \u00ab \u00c0 la carte \u00bb AMANH\u00c3\u201d", None),
        ("Fu\u00df\u00ab CAF\u00c9\u201d na\u00efve \u20ac5", None),
        ("\u597d\u7535\u5f71 \u043a\u0438\u043d\u043e \U0001f600", None),
    ],
)
def test_texts_that_were_damaged_on_their_way_are_noted(text: str, told: str | None, options: Build) -> None:
    rows = [*rows_of(["a", "b"] * 10), {"text": text, "label": "a"}]
    (feed,) = feeds_of({"it": options("classification", rows)}, "train")
    remarks = read_table(feed).remarks.messages()
    assert [told in remark and "the first at train row 21" in remark for remark in remarks] == [True] * (
        told is not None
    )


def test_labels_that_differ_by_what_is_not_seen_are_noted(options: Build) -> None:
    (note,) = of_labels(options, ["pos", "neg", "pos\u200b", "neg"] * 5)
    assert "differ only in spelling" in note


def test_labels_that_look_the_same_are_told_apart(options: Build) -> None:
    (note,) = of_labels(options, ["caf\u00e9", "tea", "cafe\u0301", "tea"] * 5)
    assert r"they look the same, but are 'cafe\u0301' and 'caf\xe9'" in note


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ('"pos"', "if these quotes enclose the cells"),
        ("'pos'", "if these quotes enclose the cells"),
        ("['pos']", "lists of labels are for `type: multilabel`"),
        ('["pos", "glad"]', "lists of labels are for `type: multilabel`"),
        ("[pos, glad]", "lists of labels are for `type: multilabel`"),
        ("('pos',)", "lists of labels are for `type: multilabel`"),
        ("(pos", "seem to be parts of something in brackets"),
        ("pos']", "seem to be parts of something in brackets"),
        ("\u201cpos\u201d", "typographic quotes"), ("\u00abpos\u00bb", "typographic quotes"),
        (":)", None), (":-(", None), ("[b]", None), ("(b) pos", None), ("pos (all)", None), ("it's", None),
        ("rock 'n' roll", None), ("<3", None), ("[/b]", None), ("5'", None), ('7"', None),
    ],
)  # fmt: skip
def test_labels_that_seem_to_be_no_names_are_noted(label: str, told: str | None, options: Build) -> None:
    notes = of_labels(options, [label, "neg"] * 10)
    assert [told in note and "train row 1" in note for note in notes] == [True] * (told is not None)


@pytest.mark.parametrize("tags", [["\uff22-PER", "\uff2f"], ["B\u2013PER", "N"], ["\uff22\uff0dPER", "N"]])
def test_tags_of_entities_in_other_characters_are_noted(tags: list[str], options: Build) -> None:
    rows = tagged([*tags, *tags[-1:] * 3])
    notes = notes_of(read_tables({"it": options("tagging", rows, dev=rows)}))
    assert any("the tags are plain" in note and "write them as BIO" in note for note in notes)


def test_a_tag_that_says_not_annotated_is_noted(options: Build) -> None:
    rows = tagged(["NOUN", "_", "X", "X", "X"])
    notes = notes_of(read_tables({"it": options("tagging", rows, dev=rows)}))
    assert any("'_'" in note and "it means not annotated" in note for note in notes)


def test_files_that_lack_the_column_of_the_labels_are_noted(options: Build, tmp_path: Path) -> None:
    for name, column in (("a", "label"), ("b", "Label"), ("c", "label"), ("d", "{x}")):
        lines = [f"{name} {at},{'xy'[at % 2]}" for at in range(20)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"text,{column}", *lines]), "utf-8")
    (tmp_path / "dev.csv").write_text(
        "\n".join(["text,label", *(f"dev {at},{'xy'[at % 2]}" for at in range(20))]), "utf-8"
    )

    def notes(*names: str) -> list[str]:
        files = [str(tmp_path / f"{name}.csv") for name in names]
        told = notes_of(read_tables({"it": options("classification", files, dev=str(tmp_path / "dev.csv"))}))
        return [note for note in told if "no column" in note]

    assert notes("a", "c") == []
    (note,) = notes("a", "b", "c", "d")
    assert "2 files have no column 'label' (accepted: Label, text; did you mean 'Label'?), where it has its" in note
    assert f"the first is {tmp_path / 'b.csv'}" in note
    (note,) = notes("c", "d")
    assert "1 files have no column 'label' (accepted: text, {x})" in note


def test_a_column_that_repeats_one_word_is_noted(options: Build, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text(
        "#begin document (a_1); part 000\na_1 0 1 EU B-ORG\na_1 0 2 is O\na_1 0 3 big O\n\na_1 0 1 so O\na_1 0 2 it O\n"
    )
    (feed,) = feeds_of({"it": options("tagging", str(path))}, "train")
    (remark,) = read_table(feed).remarks.messages()
    assert remark.startswith(f"1 rows repeat one word, the first at {path}:1; if it is not a word")
    (feed,) = feeds_of({"it": options("tagging", str(path), tokens=4)}, "train")
    table = read_table(feed)
    assert table.rows["text"][:] == ["EU is big", "so it"]
    assert table.remarks.messages() == []


def test_files_of_a_folder_that_are_left_out_are_noted(
    options: Build, jsonl: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    jsonl(rows_of(["a", "b"] * 5), "rows/one.jsonl")
    (folder / "more.txt").write_text("a text\n")
    (folder / ".hidden").write_text("")
    found = notes_of(read_tables({"it": options("classification", str(folder), dev=rows_of(["a", "b"] * 5))}))
    assert found == [
        f"train of it: files of {folder} (such as more.txt) are left out (1), since their extensions are unknown; "
        "name those that hold rows, with `format`"
    ]


def test_texts_of_which_no_token_is_known_have_nothing_to_hide(options: Build, tokenizer: Any) -> None:
    rows = [{"text": text} for text in ("a text", "\u4e50\ufffc", "\U0001f9ff\U0001f9ff", "another")]
    tables = read_tables({"rest": options("mlm", rows, dev=rows)})
    sources = encode_tables(tables, Tokenization.of(tokenizer, 16))
    assert sources["train"][0].carries["rest"].tolist() == [0, 3]


def test_rows_with_equal_texts_and_different_labels_are_noted(options: Build) -> None:
    rows = [{"text": text, "label": label} for text, label in [("a b", "x"), ("A  B", "y"), ("c", "x"), ("c", "x")]]
    others = [{"text": f"text {at}", "label": "xy"[at % 2]} for at in range(20)]
    notes = notes_of(read_tables({"it": options("classification", [*others, *rows], dev=others)}))
    assert notes == [
        "train of it: 2 of 24 rows have the text of a row with another label, such as those at train row 21 and train "
        "row 22; no model can get all of them right: correct the labels, leave such rows out, or, if a text can have "
        "several labels, write them in one cell and use `type: multilabel`"
    ]


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_several_numbers_or_lists_for_one_text_are_no_contradiction(kind: str, options: Build) -> None:
    labels: list[Any] = [1.0, 2.0] if kind == "regression" else [["x"], ["x", "y"]]
    column = "score" if kind == "regression" else "labels"
    rows = [{"text": "the same", column: labels[at % 2]} for at in range(20)]
    notes = notes_of(read_tables({"it": options(kind, rows, dev=rows)}))
    assert not [note for note in notes if "another label" in note]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a;b", "c;a"], "the label 'a;b' may be several labels joined by ';', since 'a' is a label too; if a "
         'text can have several, use `type: multilabel` with `separator: ";"`'),
        (["spam", "news, spam"], "the label 'news, spam' may be several labels joined by ',', since 'spam' is a label "
         "too; if a text can have several, use `type: multilabel`"),
        (["a", "b", "a#b"], "the label 'a#b' may be several labels joined by '#', since 'a' is a label too; if a "
         'text can have several, use `type: multilabel` with `separator: "#"`'),
        (["a", "b", "a\nb"], "the label 'a\\nb' may be several labels joined by '\\n', since 'a' is a label too; if a "
         'text can have several, use `type: multilabel` with `separator: "\\n"`'),
        (["war; drama", "drama; war"], "the labels 'drama; war' and 'war; drama' have the same parts in another order; "
         'if a text can have several, use `type: multilabel` with `separator: ";"`'),
        (["Paris, Texas", "London, Ontario"], None),
        (["en/de", "de/en"], None),
        (["1,2", "2,1"], None),
        (["C", "C#", "C++", "A+", "A", "D/A", "N"], None),
        (["sci/tech", "tech", "1/2", "1", "2"], None),
        ([";", ";-)"], None),
    ],
)  # fmt: skip
def test_classes_that_may_be_several_labels_are_noted(labels: list[str], message: str | None, options: Build) -> None:
    assert of_labels(options, labels * 10) == ([] if message is None else [f"train of it: {message}"])


@pytest.mark.parametrize(
    ("numbers", "noted"),
    [
        (["1.250", "12.500", "900", "103.000"], True),
        (["1.250", "12.5", "900", "103.000"], False),
        (["0.250", "1.500", "2.125"], False),
        ([1.25, 12.525, 900.125], False),
    ],
)
def test_numbers_whose_point_may_separate_thousands_are_noted(numbers: list[Any], noted: bool, options: Build) -> None:
    rows = [{"text": f"text {at}", "score": numbers[at % len(numbers)]} for at in range(20)]
    notes = notes_of(read_tables({"it": options("regression", rows, dev=rows)}))
    assert notes == (
        ["train of it: all 15 numbers with decimals have three of them, such as 1.250 or 12.500, and are read as such; "
         "if the sign before them separates thousands, remove it"] if noted else []
    )  # fmt: skip
