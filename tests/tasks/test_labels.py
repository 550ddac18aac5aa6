"""Label cells: what is certainly one label is read as one, and what is not labelled is told from `none of them`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polytask.tasks import TASKS, LabelStats
from polytask.tasks.classification import Classification, ClassificationOptions
from polytask.tasks.labels import label_text, number_in, only_item, says_nothing, with_decimal_point
from polytask.tasks.multilabel import Multilabel, MultilabelOptions
from polytask.tasks.regression import Regression, RegressionOptions
from polytask.terms import Label


def labels_of(cell: Any, **options: Any) -> Label:
    chosen = MultilabelOptions(type="multilabel", label="x", **options)
    return Multilabel.read(chosen, {"x": cell}, LabelStats())


@pytest.mark.parametrize(
    ("cells", "label"),
    [
        ((1, 1.0, "1", "1.0", "1.00", " 1 ", "1\n"), "1"),
        ((0, 0.0, "0", "0.0", "-0.0"), "0"),
        ((-3, "-3", "-3.0"), "-3"),
        ((True, "True", "TRUE", "true", " true"), "true"),
        ((False, "False", "FALSE"), "false"),
        (("pos", " pos", "pos\u3000", "\u00a0pos"), "pos"),
    ],
)
def test_what_is_certainly_one_label_is_read_as_one(cells: tuple[Any, ...], label: str) -> None:
    assert {label_text(cell) for cell in cells} == {label}


@pytest.mark.parametrize(
    "cell", ["1.5", "01", "1.", ".0", "1.0.0", "v1.0", "+1", "1e3", "tRue", "Pos", "1_0", "\u0661.0"]
)
def test_what_may_be_another_label_stays(cell: str) -> None:
    assert label_text(cell) == cell


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_reading_a_label_again_changes_nothing(text: str) -> None:
    label = label_text(f"{text} a")
    assert label_text(label) == label


@pytest.mark.parametrize("item", ["", " ", "\u200b", "\u2060 \ufeff"])
def test_a_label_that_cannot_be_seen_is_none(item: str) -> None:
    for cell in ([item], ["a", item], {item: 0.5}):
        with pytest.raises(ValueError, match="a label without a visible character; leave it out"):
            labels_of(cell)


def test_labels_read_in_another_spelling_are_remembered() -> None:
    stats, options = LabelStats(), ClassificationOptions(type="classification")
    for cell in ("1.0", 1, True, "True", "a", " a"):
        Classification.read(options, {"label": cell}, stats)
    assert stats.respelled == {"1.0": "1", "True": "true", " a": "a"}
    assert stats.labels == {"1": 2, "true": 2, "a": 2}


def test_class_weights_name_labels_as_the_rows_do() -> None:
    options = ClassificationOptions(type="classification", class_weights={"1.0": 2.0, " no": 1.0})
    assert options.class_weights == {"1": 2.0, "no": 1.0}


@pytest.mark.parametrize("cell", [None, "", "  ", "\u3000", "\u200b", "\ufeff \u2060"])
def test_an_empty_cell_is_not_labelled_whatever_the_type(cell: Any) -> None:
    for name, kind in TASKS.items():
        options, stats = kind.Options.model_validate({"type": name}), LabelStats()
        row = {kind.columns(options)[-1]: cell, "tokens": ["a"]}
        assert kind.read(options, row, stats) is None, name
        assert stats == LabelStats()


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("NA", "NA"), (" NA ", "NA"), (-1, -1), ("-1", -1), ("null", ["n/a", "null"]), ("-1.0", -1), (-1.0, -1),
        (-1, "-1.0"), ("-1.00", -1.0), (-9.9, "-9.90"), (-9.899999618530273, -9.9), (True, "true"), ("True", "true"),
    ],
)  # fmt: skip
def test_words_that_the_options_name_are_not_labelled_whatever_the_type(cell: Any, word: Any) -> None:
    for name, kind in ((name, kind) for name, kind in TASKS.items() if kind.Options.answers):
        options = kind.Options.model_validate({"type": name, "unlabelled": word})
        assert kind.read(options, {kind.columns(options)[-1]: cell, "tokens": ["a"]}, LabelStats()) is None, name


def test_other_words_than_the_options_name_are_labels() -> None:
    options = ClassificationOptions(type="classification", unlabelled=("1", "-1.0", "na"))
    for cell in ("01", "NA", "-01", "1e0", "11"):
        assert Classification.read(options, {"label": cell}, LabelStats()) == cell


def test_a_list_without_labels_and_a_word_of_the_options_are_labelled_with_none() -> None:
    assert labels_of([]) == []
    assert labels_of("none", no_label="none") == []
    assert labels_of(["none"], no_label="none") == []
    assert labels_of("none") == ["none"]
    assert labels_of("a, none") == ["a", "none"]
    with pytest.raises(ValueError, match="found 'a, none', and 'none' means that there is no label"):
        labels_of("a, none", no_label="none")


def test_a_cell_of_separators_alone_is_refused_with_the_mend() -> None:
    with pytest.raises(
        ValueError, match=r"found ' , ,', which holds no label; .* write \[\] in JSON, or a word .*`no_label`"
    ):
        labels_of(" , ,")
    assert labels_of("a,,b,") == ["a", "b"]


def test_one_label_and_empty_cells_tell_how_none_is_written() -> None:
    stats = LabelStats(present=2, missing=3)
    stats.labels["rude"] = 2
    with pytest.raises(ValueError, match=r"every training row has the labels rude; .*\(3 rows are empty: .*`no_label`"):
        Multilabel.fit("it", MultilabelOptions(type="multilabel"), stats)


@pytest.mark.parametrize("cell", ["1_2", "1_000.5", "NA", "3,5", True])
def test_a_score_is_a_number_as_people_write_it(cell: Any) -> None:
    with pytest.raises(
        ValueError, match=r"found .*; a score is a finite number \(if it is unknown, leave the cell empty"
    ):
        Regression.read(RegressionOptions(type="regression"), {"score": cell}, LabelStats())


def test_a_word_means_one_thing() -> None:
    with pytest.raises(ValidationError, match="which `unlabelled` names too"):
        MultilabelOptions(type="multilabel", no_label="none", unlabelled=(" none ", "NA"))


def test_an_empty_word_of_the_options_is_refused() -> None:
    with pytest.raises(ValidationError):
        MultilabelOptions(type="multilabel", no_label="")


@pytest.mark.parametrize(
    ("cell", "number"), [("\u22121", -1.0), (" \u22120.5e1", -5.0), ("\u2212\u22121", None), ("\u2212", None)]
)
def test_the_minus_sign_of_typesetting_is_a_minus(cell: str, number: float | None) -> None:
    assert number_in(cell) == number


def test_the_minus_sign_of_typesetting_is_one_with_a_decimal_comma_and_in_unlabelled_words() -> None:
    assert with_decimal_point("\u22123,5") == "-3.5"
    assert says_nothing("\u22121", ClassificationOptions(type="classification", unlabelled=("-1",)))


@pytest.mark.parametrize("cell", [{"choices": ["a", "b"]}, '{"choices": ["b", "a"]}'])
def test_an_object_of_choices_is_several_labels(cell: Any) -> None:
    stats = LabelStats()
    assert Multilabel.read(MultilabelOptions(type="multilabel"), {"labels": cell}, stats) == ["a", "b"]
    with pytest.raises(ValueError, match="a text has one label here, and several with `type: multilabel`"):
        only_item(cell)
    assert only_item({"choices": ["a"]}) == "a"


@pytest.mark.parametrize("cell", [{"choices": "a"}, {"choices": ["a"], "x": 1}, {"x": ["a"]}, '{"choices": ["a"'])
def test_other_objects_are_no_labels(cell: Any) -> None:
    with pytest.raises(ValueError, match=r"found .*; labels are a list, text joined by ',', or an object"):
        Multilabel.read(MultilabelOptions(type="multilabel"), {"labels": cell}, LabelStats())


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["a", "b", "a#b"], "'a#b' seems to be several, joined by '#'"),
        (["a", "a\nb"], "'a\\\\nb' seems to be several, joined by"),
        ([["a, b", "c"], "a, b", "c"], "'a, b' of a list would be split at ',' in a text cell"),
    ],
)
def test_labels_that_another_separator_joins_are_refused(cells: list[Any], told: str) -> None:
    stats = LabelStats()
    options = MultilabelOptions(type="multilabel")
    for cell in cells:
        Multilabel.read(options, {"labels": cell}, stats)
        stats.present += 1
    with pytest.raises(ValueError, match=told):
        Multilabel.fit("it", options, stats)
    named = MultilabelOptions(type="multilabel", separator=",")
    assert Multilabel.fit("it", named, stats).classes


@pytest.mark.parametrize("cells", [["a", "b", "a/b, c"], ["C", "C#", "A+"], [["a, b"], ["c"]], ["sci/tech", "tech"]])
def test_labels_whose_names_hold_separators_are_read(cells: list[Any]) -> None:
    stats = LabelStats()
    options = MultilabelOptions(type="multilabel")
    for cell in cells:
        Multilabel.read(options, {"labels": cell}, stats)
        stats.present += 1
    assert Multilabel.fit("it", options, stats).classes
