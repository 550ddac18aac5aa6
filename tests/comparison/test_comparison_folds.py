"""A comparison by folds: every training row is answered once, by models that were trained without it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import polytask
from polytask.errors import ConfigError, OutputError, UserError
from polytask.tasks.metric import METRICS
from samples import corpus_rows, write_jsonl

Lines = list[dict[str, Any]]
FOLDS = 3


def read(file: Path) -> Lines:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """Two tasks with training and dev rows, and a file of test rows that does not exist."""
    folder = tmp_path_factory.mktemp("rows")
    write_jsonl(folder / "train.jsonl", corpus_rows(60)[:45])
    write_jsonl(folder / "dev.jsonl", corpus_rows(60)[45:])
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    tasks = {name: {"type": "classification", "data": data, "label": name} for name in ("sentiment", "topic")}
    train = {"max_steps": 2, "batch_size": 8, "seed": 5, "precision": "fp32"}
    return {"encoder": str(tiny), "max_tokens": 48, "tasks": tasks, "train": train}


@pytest.fixture(scope="module")
def done(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> polytask.Comparison:
    out = tmp_path_factory.mktemp("folds") / "out"
    return polytask.compare(values, out, arms=["global", "distill", "pairs"], seeds=2, folds=FOLDS)


def answered(found: polytask.Comparison, arm: str, seed: str, task: str) -> Lines:
    """Return what an arm's models answered, over all folds."""
    files = [found.folder / run / "predictions" / f"{task}.jsonl" for run in found.arms[arm]["runs"][seed]]
    return [line for file in files if file.is_file() for line in read(file)]


def test_every_training_row_is_answered_once_by_models_that_did_not_train_on_it(
    done: polytask.Comparison, values: dict[str, Any]
) -> None:
    rows = read(Path(values["tasks"]["topic"]["data"]["train"]))
    texts = {task: sorted(row["text"] for row in rows if row.get(task) is not None) for task in values["tasks"]}
    for arm in ("single", "global", "distill"):
        for seed, runs in done.arms[arm]["runs"].items():
            for task in values["tasks"]:
                assert sorted(line["text"] for line in answered(done, arm, seed, task)) == texts[task]
            for run in runs:
                config = yaml.safe_load((done.folder / run / "config.yaml").read_text("utf-8"))
                (data,) = {json.dumps(task["data"], sort_keys=True) for task in config["tasks"].values()}
                number, of = json.loads(data)["fold"].split("/")
                assert (int(of), json.loads(data).get("test")) == (FOLDS, None)
                assert 1 <= int(number) <= FOLDS
                sources = json.loads((done.folder / run / "data.json").read_text("utf-8"))["sources"]
                held = {source["split"]: source["rows"] for source in sources}
                labelled = [row for row in rows if any(row.get(task) is not None for task in config["tasks"])]
                assert held["train"] + held["test"] == len(labelled)


def test_scores_are_those_of_all_rows_together(done: polytask.Comparison) -> None:
    for task, found in done.tasks.items():
        rows = found["rows"]
        for arm, scores in found["arms"].items():
            for seed, value in zip(done.record["seeds"], scores["values"], strict=True):
                lines = answered(done, arm, str(seed), task)
                labels, predictions = ([line[name] for line in lines] for name in ("label", "prediction"))
                assert len(lines) == rows
                assert value == pytest.approx(METRICS["row"][found["metric"]](labels, predictions), abs=1e-6)


def test_a_fold_is_taught_by_the_single_models_of_that_fold(done: polytask.Comparison) -> None:
    for seed, runs in done.arms["distill"]["runs"].items():
        singles = done.arms["single"]["runs"][seed]
        for at, run in enumerate(runs):
            train = yaml.safe_load((done.folder / run / "config.yaml").read_text("utf-8"))["train"]
            assert train["teachers"] == [str((done.folder / one).resolve()) for one in singles[2 * at : 2 * at + 2]]


def test_what_an_arm_takes_is_that_of_one_model(done: polytask.Comparison) -> None:
    seconds = [
        json.loads((done.folder / run / "run.json").read_text("utf-8"))["seconds"]
        for runs in done.arms["global"]["runs"].values()
        for run in runs
    ]
    assert done.arms["global"]["train_seconds"] == pytest.approx(sum(seconds) / len(seconds), abs=0.06)
    one = json.loads((done.folder / done.arms["global"]["runs"]["5"][0] / "run.json").read_text("utf-8"))
    assert done.arms["global"]["parameters"] == one["parameters"]["total"]
    assert done.arms["single"]["parameters"] < 2.1 * one["parameters"]["total"]
    matrix = done.record["transfer"]["matrix"]
    # Of two tasks the pair is what shares everything, with a plain sum of the losses.
    assert [[isinstance(value, float) for value in row] for row in matrix] == [[False, True], [True, False]]


def test_what_is_there_is_taken_and_other_folds_are_another_comparison(
    done: polytask.Comparison, values: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    again = polytask.compare(values, out, arms=["global"], seeds=2, folds=FOLDS)
    assert (again.trained, set(again.arms)) == (0, set(done.arms))
    assert again.tasks == done.tasks
    other = polytask.compare(values, out, arms=["global"], seeds=2, folds=2)
    assert other.trained == 2 * 2 * 3
    assert "or with other folds; its runs are kept, and its results are kept in" in other.record["notes"][0]
    assert set(other.arms) == {"single", "global"}


def test_answers_that_are_lost_are_missed(done: polytask.Comparison, values: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    for arm in ("single", "global"):
        (out / done.arms[arm]["runs"]["6"][0] / "predictions" / "sentiment.jsonl").unlink()
    with pytest.raises(UserError, match="no readable predictions.*the same command trains it again"):
        polytask.compare(values, out, arms=["global"], seeds=2, folds=FOLDS)


@pytest.mark.parametrize("damage", ["swapped", "cut", "empty", "other", "labels"])
def test_answers_to_other_rows_are_refused_though_all_runs_agree(
    done: polytask.Comparison, values: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    for arm in done.arms.values():
        for runs in arm["runs"].values():
            files = [out / run / "predictions" / "sentiment.jsonl" for run in runs]
            first, second, *_ = (file for file in files if file.is_file())
            lines = first.read_text("utf-8").splitlines(keepends=True)
            label = json.dumps({"label": json.loads(lines[0])["label"]})[1:-1]
            changed = {
                "swapped": lines, "cut": lines[:-1], "empty": [], "other": ['{"text": "x"}\n'],
                "labels": [re.sub(r'"label": "[^"]*"', label, line) for line in lines],
            }[damage]  # fmt: skip
            (second if damage == "swapped" else first).write_text("".join(changed), "utf-8")
    with pytest.raises(UserError, match="for other rows or labels|no readable predictions|but the run made"):
        polytask.compare(values, out, arms=["global"], seeds=2, folds=FOLDS)


def test_a_run_without_its_scores_is_told(done: polytask.Comparison, values: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    run = out / done.arms["global"]["runs"]["6"][0]
    (run / "scores.json").unlink()
    with pytest.raises(OutputError, match=f"{run.name}: the scores of this run are missing; delete the folder"):
        polytask.compare(values, out, arms=["global"], seeds=2, folds=FOLDS)


def test_no_earlier_comparison_has_modules_imported(
    done: polytask.Comparison, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done.folder, out)
    (tmp_path / "planted_in_a_folder.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    record = json.loads((out / "comparison.json").read_text("utf-8"))
    record["arms"]["mine"] = {**record["arms"]["global"], "overrides": ["extensions=[planted_in_a_folder]"]}
    (out / "comparison.json").write_text(json.dumps(record), "utf-8")
    found = polytask.compare(values, out, arms=["global"], seeds=2, folds=FOLDS)
    assert not (tmp_path / "ran").exists()
    assert "mine took part in an earlier comparison but not in this one: arms that import" in str(found.record["notes"])
    assert found.tasks == done.tasks


def test_folds_in_which_no_row_is_labelled_are_named(values: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        {**row, "sentiment": None if number > 2 else "ab"[number % 2]} for number, row in enumerate(corpus_rows(40))
    ]
    path = str(write_jsonl(tmp_path / "few.jsonl", rows))
    task = {"type": "classification", "label": "sentiment", "data": {"train": path, "dev": path}}
    few = {**values, "tasks": {**values["tasks"], "sentiment": task}}
    with pytest.raises(
        ConfigError, match=r"tasks.sentiment: few.jsonl: no row of fold \d of 9 carries a label; take fewer folds"
    ):
        polytask.compare(few, tmp_path / "out", arms=["global"], seeds=2, folds=9)
    held_out = {**task, "data": {"train": path, "dev": 0.01}}
    with pytest.raises(ConfigError, match=r"few.jsonl: none of the rows that `dev: 0.01` holds out carries a label"):
        polytask.check({**few, "tasks": {"sentiment": held_out}})


@pytest.mark.parametrize("folds", [1, -1, 21, 2.5, "3"])
def test_a_number_of_folds_that_says_nothing_is_refused(values: dict[str, Any], tmp_path: Path, folds: Any) -> None:
    with pytest.raises(ConfigError, match=f"--folds: found {folds}; expected 2 to 20 folds of the training rows"):
        polytask.compare(values, tmp_path / "out", seeds=2, folds=folds)


def test_teachers_from_elsewhere_may_know_the_folds(
    done: polytask.Comparison, values: dict[str, Any], tmp_path: Path
) -> None:
    teacher = done.folder / done.arms["single"]["runs"]["5"][0]
    taught = {**values, "train": {**values["train"], "max_steps": 1, "teachers": [str(teacher)]}}
    found = polytask.compare(taught, tmp_path / "out", arms=["config"], seeds=2, folds=2)
    assert "teachers that were trained on these rows have seen the folds" in found.record["notes"][0]


def test_page_and_tables_say_what_was_compared(done: polytask.Comparison) -> None:
    assert "2 seeds and 3 folds of the training rows" in done.to_markdown()
    assert "bootstrap over rows and seeds" in done.to_latex()
    page = polytask.report(done.folder).read_text("utf-8")
    assert "2 seeds, 3 folds of the training rows" in page
    assert "--folds 3 --out" in page
