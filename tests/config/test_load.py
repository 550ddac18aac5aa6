"""The configuration file: everything that is wrong is told at once, with its place and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from polytask.config import Config, load_config, validate
from polytask.errors import ConfigError
from polytask.tasks import TASKS

TYPES = ", ".join(TASKS)
BASE = """\
encoder: some/encoder
tasks:
  intent:
    type: classification
    data: &shared {train: a.jsonl}
    label: intent
  slots:
    type: tagging
    data: *shared
    needs: intent
train:
  epochs: 2
"""
JARGON = re.compile(
    r"pydantic|https?://|union_tag|model_type|literal|tuple|dict\b|\bstr\b|instance of|Input|Options|'value_error'"
)
Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_text(text: str, overrides: Sequence[str] = ()) -> Config:
        (tmp_path / "run.yaml").write_text(text, "utf-8")
        return load_config(tmp_path / "run.yaml", overrides)

    return load_text


def complaint(load: Load, text: str, overrides: Sequence[str] = ()) -> str:
    """Return the message of the error, with the file's folder left out."""
    with pytest.raises(ConfigError) as caught:
        load(text, overrides)
    message = re.sub(r"\S*/run\.yaml", "run.yaml", str(caught.value))
    assert not JARGON.search(message), message
    return message


def test_yaml_lists_single_names_and_anchors_become_typed_values(load: Load, tmp_path: Path) -> None:
    config = load(BASE)
    assert config.tasks["slots"].needs == ("intent",)
    assert config.tasks["slots"].data == config.tasks["intent"].data
    pair = load(BASE.replace("label: intent", "text_pair: [premise, hypothesis]")).tasks["intent"]
    assert pair.text_pair == ("premise", "hypothesis")
    several = load(BASE.replace("a.jsonl", "[a.jsonl, b.jsonl]")).tasks["intent"].data
    assert several.train == (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))
    rows = load(BASE.replace("a.jsonl", "[{text: hi, intent: greet}]")).tasks["intent"].data
    assert rows.train == ({"text": "hi", "intent": "greet"},)


def test_tagging_columns_may_be_numbers(load: Load) -> None:
    slots = load(BASE.replace("needs: intent", "tokens: 1\n    tags: 4")).tasks["slots"]
    assert (slots.tokens, slots.tags) == ("1", "4")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "near"),
    [
        ("train:\n", "trian: 3\ntrain:\n", 11, "trian", "train"),
        ("label: intent", "lable: intent", 6, "tasks.intent.lable", "label"),
        ("{train: a.jsonl}", "{trian: a.jsonl}", 5, "tasks.intent.data.trian", "train"),
        ("{train: a.jsonl}", "{trian: a.jsonl}", 9, "tasks.slots.data.trian", "train"),
        ("epochs: 2", "epoch: 2", 12, "train.epoch", "epochs"),
        ("train:\n", "sharing: {stratgy: global}\ntrain:\n", 11, "sharing.stratgy", "strategy"),
        ("train:\n", "schedule: {proportion: uniform}\ntrain:\n", 11, "schedule.proportion", "proportions"),
        ("train:\n", "balance: {methods: sum}\ntrain:\n", 11, "balance.methods", "method"),
    ],
)
def test_unknown_keys_name_line_path_and_nearest_key(
    load: Load, old: str, new: str, line: int, path: str, near: str
) -> None:
    found = complaint(load, BASE.replace(old, new))
    lines = [text for text in found.splitlines() if f": {path}: " in text]
    assert len(lines) == 1
    # What an alias repeats stands where the anchor is.
    assert lines[0].startswith((f"run.yaml:{line}: ", "run.yaml:5: " if path.startswith("tasks.slots.data") else "-"))
    assert "unknown key; accepted: " in lines[0]
    assert lines[0].endswith(f"did you mean {near!r}?")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: tagging", "type: taging", f"run.yaml:8: tasks.slots.type: found 'taging'; accepted: {TYPES}; did you "
         "mean 'tagging'?"),
        ("    type: tagging\n", "", f"run.yaml:7: tasks.slots.type: missing; accepted: {TYPES}"),
        ("type: tagging", "type:", f"run.yaml:8: tasks.slots.type: found nothing; accepted: {TYPES}"),
        ("train:\n", "sharing: {strategy: globl}\ntrain:\n", "run.yaml:11: sharing.strategy: found 'globl'; accepted: "
         "*did you mean 'global'?"),
        ("train:\n", "schedule: {strategy: paralel}\ntrain:\n", "run.yaml:11: schedule.strategy: found 'paralel'; "
         "accepted: *did you mean 'parallel'?"),
        ("train:\n", "balance: {method: sun}\ntrain:\n", "run.yaml:11: balance.method: found 'sun'; accepted: *"
         "did you mean 'sum'?"),
        ("label: intent", "metric: acuracy", "run.yaml:6: tasks.intent.metric: found 'acuracy'; accepted: accuracy, "
         "average_precision, f1, macro_f1, mcc, micro_f1, precision, recall, roc_auc; did you mean 'accuracy'?"),
        ("label: intent", "class_weights: balansed", "run.yaml:6: tasks.intent.class_weights: found 'balansed'; "
         "accepted: balanced; did you mean 'balanced'?; or expected keys with values"),
        ("epochs: 2", "epochs: many", "run.yaml:12: train.epochs: found 'many'; expected a number"),
        ("epochs: 2", "epochs: yes", "run.yaml:12: train.epochs: found true; expected a number"),
        ("epochs: 2", "seed: false", "run.yaml:12: train.seed: found false; expected a whole number"),
        ("epochs: 2", "batch_size: on", "run.yaml:12: train.batch_size: found true; expected a whole number; or "
         "accepted: auto"),
        ("label: intent", "class_weights: {a: 1, b: true}", "run.yaml:6: tasks.intent.class_weights.b: found true; "
         "expected a number"),
        ("epochs: 2", "epochs: .nan", "run.yaml:12: train.epochs: found nan; expected a finite number"),
        ("epochs: 2", "batch_size: 1.5", "run.yaml:12: train.batch_size: found 1.5; expected a whole number"),
        ("epochs: 2", "batch_size: 0", "run.yaml:12: train.batch_size: found 0; should be greater than or equal to 1"),
        ("epochs: 2", "report_to: [maybe]", "run.yaml:12: train.report_to.0: found 'maybe'; accepted: tensorboard"),
        ("train:\n  epochs: 2", "train: 3", "run.yaml:11: train: found 3; expected keys with values"),
        ("encoder: some/encoder", "encoder: 3", "run.yaml:1: encoder: found 3; expected text (put it in quotes)"),
        ("encoder: some/encoder\n", "", "run.yaml:1: encoder: missing, and it has no default"),
        ("needs: intent", "needs: 3", "run.yaml:10: tasks.slots.needs: found 3; expected a list"),
        ("needs: intent", "tokens: true", "run.yaml:10: tasks.slots.tokens: found true; expected text "
         "(put it in quotes)"),
        ("label: intent", "text_pair: [a, b, c]", "run.yaml:6: tasks.intent.text_pair: found 3 items; "
         "expected at most 2"),
        ("label: intent", "class_weights: {a: 1, b: x}", "run.yaml:6: tasks.intent.class_weights.b: found 'x'; "
         "expected a number"),
        ("label: intent", "class_weights: {a: 1, b: -1}", "run.yaml:6: tasks.intent.class_weights.b: found -1; "
         "should be greater than 0"),
        ("  intent:\n", "  1ntent:\n", "run.yaml:3: tasks.1ntent: found '1ntent'; expected a name: a letter (of any "
         "script), then letters, digits, - or _, at most 120 bytes"),
    ],
)  # fmt: skip
def test_wrong_values_say_what_was_found_and_what_is_accepted(load: Load, old: str, new: str, message: str) -> None:
    begin, _, end = message.partition("*")
    found = complaint(load, BASE.replace(old, new, 1))
    assert found.startswith(begin)
    assert found.endswith(end)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("type: tagging", 'type: "\\ud800"', r"tasks\.slots\.type"),
        ("encoder:", 'balance: {method: "\\ud800"}\nencoder:', r"balance\.method"),
    ],
)
def test_half_of_a_surrogate_pair_is_no_name(load: Load, old: str, new: str, place: str) -> None:
    with pytest.raises(ConfigError, match=rf"{place}: found '\\ud800'; accepted: "):
        load(BASE.replace(old, new, 1))


def test_half_of_a_surrogate_pair_is_no_text(load: Load) -> None:
    refused = r"found '\\ud800'; expected text without half of a surrogate pair, which is no character"
    with pytest.raises(ConfigError, match=rf"run\.yaml:12: train\.lr_scheduler_type: {refused}"):
        load(BASE.replace("epochs: 2", 'lr_scheduler_type: "\\ud800"'))
    with pytest.raises(ConfigError, match=rf"run\.yaml:1: {refused}"):
        load(BASE + '"\\ud800": 3\n')


@pytest.mark.parametrize("value", ["3", "[a.jsonl, {text: hi}]", "{text: hi}", "true"])
def test_training_rows_are_files_or_rows_and_never_both(load: Load, value: str) -> None:
    found = complaint(load, BASE.replace("a.jsonl", value).replace("data: *shared", "data: {train: b.jsonl}"))
    assert "run.yaml:5: tasks.intent.data.train: found" in found
    assert "expected a file, a list of files, or a list of rows" in found


@pytest.mark.parametrize("share", ["0.0", "1", "1.5", "-0.1"])
def test_held_out_share_lies_between_0_and_1(load: Load, share: str) -> None:
    found = complaint(load, BASE.replace("{train: a.jsonl}", f"{{train: a.jsonl, dev: {share}}}"))
    assert "a fraction of the training rows lies between 0 and 1, such as 0.1" in found


def test_all_mistakes_are_listed_at_once(load: Load) -> None:
    text = BASE.replace("label:", "lable:").replace("type: tagging", "type: taging").replace("epochs: 2", "epochs: -1")
    found = complaint(load, text + "sharing: {strategy: x}\nbogus: 1\n").splitlines()
    paths = {line.split(": ")[1] for line in found}
    assert paths == {"tasks.intent.lable", "tasks.slots.type", "train.epochs", "sharing.strategy", "bogus"}
    assert len(found) == 5


def test_repeated_keys_are_refused_with_both_lines(load: Load) -> None:
    assert complaint(load, BASE + "encoder: other\n") == "run.yaml:13: the key 'encoder' is already on line 1"
    assert complaint(load, BASE + "  epochs: 3\n") == "run.yaml:13: the key 'epochs' is already on line 12"


@pytest.mark.parametrize(
    ("added", "begin"),
    [
        ("sharing: {strategy: [}\n", "run.yaml:13: not YAML: "),
        ("\tsharing: 3\n", "run.yaml:13: not YAML: "),
        ("sharing: *nobody\n", "run.yaml:13: not YAML: found undefined alias 'nobody'"),
        ("---\na: 1\n", "run.yaml:13: not YAML: but found another document"),
        ("sharing: !!python/object:os.system {}\n", "run.yaml:13: not YAML: could not determine a constructor"),
        ("sharing: !!int many\n", "run.yaml: not YAML: a value does not fit its explicit tag"),
        ("? [a, b]\n: 3\n", "run.yaml:13: found a list or a mapping as a key"),
        ("sharing: &a {strategy: *a}\n", "run.yaml:13: an anchor occurs inside the value that it names"),
        ("sharing: \x07\n", "run.yaml: not YAML: unacceptable character"),
        ("sharing: " + "[" * 2000, "run.yaml: the values are nested too deeply"),
    ],
)
def test_broken_yaml_names_its_line(load: Load, added: str, begin: str) -> None:
    assert complaint(load, BASE + added).startswith(begin)


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n", "---\n"])
def test_empty_files_say_so(load: Load, text: str) -> None:
    found = complaint(load, text)
    assert "the file is empty" in found or "a configuration is a mapping" in found


@pytest.mark.parametrize(("text", "shown"), [("hello", "'hello'"), ("- a\n- b\n", "a list"), ("3", "3")])
def test_anything_but_a_mapping_is_refused(load: Load, text: str, shown: str) -> None:
    assert complaint(load, text) == f"run.yaml: found {shown}; a configuration is a mapping of keys to values"


def test_missing_files_name_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "reviews.yaml").write_text(BASE)
    with pytest.raises(ConfigError, match=r"review\.yaml: no such file \(accepted: .*did you mean 'reviews\.yaml'\?"):
        load_config(tmp_path / "review.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "nowhere" / "review.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("encoder: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="save the configuration as UTF-8"):
        load_config(tmp_path / "latin.yaml")


MERGED = """\
encoder: e
tasks:
  a: &a
    type: classification
    weight: 2
    data: {train: x.jsonl}
  b:
    <<: *a
    label: other
"""


def test_merge_keys_work_and_keep_their_lines(load: Load) -> None:
    config = load(MERGED)
    assert config.tasks["b"].weight == 2
    assert config.tasks["b"].label == "other"  # type: ignore[attr-defined]
    found = complaint(load, MERGED.replace("weight: 2", "weight: -2").replace("label:", "lable:"))
    assert "run.yaml:5: tasks.b.weight: found -2" in found
    assert "run.yaml:9: tasks.b.lable: unknown key" in found


@pytest.mark.parametrize(
    ("written", "value"), [("1e-5", 1e-5), ("1E5", 1e5), ("2.5e3", 2500.0), (".5e-1", 0.05), ("3", 3.0)]
)
def test_numbers_in_powers_of_ten_are_numbers(load: Load, written: str, value: float) -> None:
    assert load(BASE + f"  learning_rate: {written}\n").train.learning_rate == value
    assert load(BASE, [f"train.learning_rate={written}"]).train.learning_rate == value
    if value < 1:  # where text is accepted too
        dev = load(BASE.replace("a.jsonl", f"a.jsonl, dev: {written}")).tasks["intent"].data.dev
        assert dev == value


def test_keys_are_names_as_they_are_written(load: Load) -> None:
    intent = load(BASE.replace("label: intent", "class_weights: {yes: 1, no: 2, 0: 3}")).tasks["intent"]
    assert intent.class_weights == {"yes": 1, "no": 2, "0": 3}  # type: ignore[attr-defined]


def test_paths_are_relative_to_the_file(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local-encoder").mkdir()
    (tmp_path / "local-data").mkdir()
    monkeypatch.chdir("/")
    config = load(
        "encoder: local-encoder\ntasks:\n"
        "  a: {type: classification, data: {train: [sub/a.jsonl, /abs/b.jsonl], dev: ../dev.jsonl, test: t.csv}}\n"
        "  b: {type: classification, data: {hub: local-data, train: train}}\n"
        "  c: {type: classification, data: {hub: some/set, train: train, dev: 0.1}}\n"
    )
    assert config.encoder == str(tmp_path / "local-encoder")
    data = config.tasks["a"].data
    assert data.train == (str(tmp_path / "sub/a.jsonl"), "/abs/b.jsonl")
    assert (data.dev, data.test) == (str(tmp_path.parent / "dev.jsonl"), str(tmp_path / "t.csv"))
    assert (config.tasks["b"].data.hub, config.tasks["b"].data.train) == (str(tmp_path / "local-data"), "train")
    assert (config.tasks["c"].data.hub, config.tasks["c"].data.dev) == ("some/set", 0.1)
    assert load(BASE).encoder == "some/encoder"


def test_python_values_are_checked_alike() -> None:
    with pytest.raises(ConfigError, match=r"^config: encoder: missing.*\nconfig: tasks: missing"):
        validate({})
