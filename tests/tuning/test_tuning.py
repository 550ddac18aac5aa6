"""A search rates trials on dev alone, goes on where it was stopped, and says before the first trial what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tunings import RATE, Job, one_task

import polytask as pt
from polytask.errors import ConfigError, OutputError, UserError
from polytask.tuning.folder import evaluations_of, trial_folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> tuple[dict[str, Any], Path, pt.Tuning]:
    """A search over rates of which one trains nothing, on two tasks."""
    from samples import small_job

    folder = tmp_path_factory.mktemp("tuning")
    values = small_job(folder, tiny, rows=48, epochs=2, learning_rate=1e-9)
    del values["tasks"]["entities"]
    search = {"train.learning_rate": "log:1e-9:1e-2", "tasks.topic.weight": "1:5"}
    out = folder / "out"
    return values, out, pt.tune(values, out, search=search, trials=5, keep=2)


def test_an_obviously_better_rate_is_found(done: tuple[dict[str, Any], Path, pt.Tuning]) -> None:
    _, out, tuning = done
    assert tuning.best["parameters"]["train.learning_rate"] > 1e-5
    assert [found["trial"] for found in tuning.trials] == list(range(5))
    assert tuning.trials[0]["parameters"] == {"train.learning_rate": 1e-9, "tasks.topic.weight": 1.0}
    assert tuning.record["as_it_is"] == tuning.trials[0]["value"] < tuning.best["value"]
    complete = [found for found in tuning.trials if found["state"] == "complete"]
    assert tuning.best["value"] == max(found["value"] for found in complete)
    for found in complete:
        assert found["value"] == max(evaluations_of(trial_folder(out, found["trial"])))


def test_the_best_configuration_trains_again_to_the_same_scores(
    done: tuple[dict[str, Any], Path, pt.Tuning], tmp_path: Path
) -> None:
    _, out, tuning = done
    run = pt.train(tuning.config, tmp_path / "again")
    assert run.scores["dev"] == tuning.best["dev"]
    assert tuning.test is not None
    assert run.scores["test"] == tuning.test["scores"]
    assert json.loads(json.dumps(run.intervals["test"])) == tuning.test["intervals"]
    trained, tuned = (
        json.loads((place / "model" / "polytask.json").read_text("utf-8"))["about"]
        for place in (tmp_path / "again", out)
    )
    assert tuned == trained
    assert (tuning.model / "README.md").read_bytes() == (tmp_path / "again" / "model" / "README.md").read_bytes()
    of_trial = json.loads((out / tuning.best["run"] / "model" / "polytask.json").read_text("utf-8"))["about"]
    assert set(of_trial["scores"]) == {"dev"}
    text = ["A short text."]
    assert pt.load(tuning.model).predict(text) == pt.load(out).predict(text) == run.model.predict(text)


def test_no_trial_has_test_rows_and_only_the_best_models_are_kept(
    done: tuple[dict[str, Any], Path, pt.Tuning],
) -> None:
    _, out, tuning = done
    kept = 0
    for found in tuning.trials:
        run = out / found["run"]
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert not any(task["data"].get("test") for task in config["tasks"].values())
        assert all(source["split"] != "test" for source in json.loads((run / "data.json").read_text())["sources"])
        assert not (run / "checkpoints").exists()
        kept += (run / "model").is_dir()
    assert kept == 2


def test_the_result_is_a_table(done: tuple[dict[str, Any], Path, pt.Tuning]) -> None:
    _, out, tuning = done
    assert repr(tuning).startswith(f"<Tuning: trial {tuning.best['trial']} of 5 is best: ")
    assert "<table>" in tuning._repr_html_()
    frame = tuning.to_pandas()
    columns = ["trial", "state", "value", "train.learning_rate", "tasks.topic.weight", "seconds"]
    assert list(frame.columns) == columns
    assert json.loads((out / "tune.json").read_text()) == tuning.record


def test_the_page_leads_with_the_best_trial_and_lists_all(done: tuple[dict[str, Any], Path, pt.Tuning]) -> None:
    _, out, tuning = done
    text = pt.report(out).read_text("utf-8")
    assert f"Trial {tuning.best['trial']} is the best" in text
    for heading in (
        "Importance of the options",
        "Course of the search",
        "Each option",
        "Trials",
        "The best configuration",
    ):
        assert f">{heading}</h2>" in text
    assert "<script" not in text


def test_more_trials_go_on_and_nothing_is_trained_twice(done: tuple[dict[str, Any], Path, pt.Tuning]) -> None:
    values, out, tuning = done
    search = {"train.learning_rate": "log:1e-9:1e-2", "tasks.topic.weight": "1:5"}
    again = pt.tune(values, out, search=search, trials=5, keep=2)
    assert again.trained == 0
    assert again.record == tuning.record


def test_another_search_or_configuration_is_refused_with_the_mend(
    done: tuple[dict[str, Any], Path, pt.Tuning],
) -> None:
    values, out, _ = done
    search = {"train.learning_rate": "log:1e-9:1e-2", "tasks.topic.weight": "1:5"}
    with pytest.raises(OutputError, match=r"topic\.weight: 1\.0:5\.0 -> 1\.0:6\.0; use the same values"):
        pt.tune(values, out, search={**search, "tasks.topic.weight": "1:6"})
    with pytest.raises(OutputError, match=r"seed 5 -> 6; use"):
        pt.tune(values, out, search=search, seed=6)
    with pytest.raises(OutputError, match=r"train\.epochs: 2\.0 -> 4\.0; use"):
        pt.tune(values, out, search=search, overrides=["train.epochs=4"])


REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "unknown option": ({"train.learnin_rate": "1:2"}, r"--search train\.learnin_rate: .*did you mean 'learning_rate'"),
    "unknown section": ({"trian.epochs": "1:2"}, r"--search trian\.epochs: .*did you mean 'train'"),
    "no section": ({"learning_rate": "1:2"}, r"--search learning_rate: .*did you mean 'train\.learning_rate'"),
    "unknown task": ({"tasks.topc.weight": "1:2"}, r"found the task 'topc'; accepted: topic; did you mean 'topic'"),
    "out of range": ({"train.warmup_ratio": "0.5:2"}, r"--search train\.warmup_ratio: .*found 2\.0; .*less than 1"),
    "fractions": ({"train.batch_size": "8:16"}, r"--search train\.batch_size: .*found 11\.06; expected a whole number"),
    "layers": (
        {"sharing.shared_layers": "int:0:6"}, r"--search sharing\.shared_layers: .*with the value 6.*2 layers",
    ),
    "unknown method": ({"balance.method": ["sum", "alinged_mtl"]}, r"--search balance\.method: .*'aligned_mtl'"),
    "below a value": ({"train.epochs.x": "1:2"}, r"'epochs' holds a single value, so nothing below it can be searched"),
    "seed": ({"train.seed": "int:1:5"}, r"--search train\.seed: cannot be searched: .*luck.*; set it with --set"),
    "rule": ({"train.select": "gap,mean"}, "cannot be searched"),
    "data": ({"tasks.topic.data.train": "a,b"}, "cannot be searched: trials would be rated on different rows"),
    "nothing": ({}, "--search: found nothing to search"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_searched_is_told_before_the_first_trial(name: str, job: Job, tmp_path: Path) -> None:
    search, message = REFUSED[name]
    values = {**one_task(job), "sharing": {"strategy": "partial", "shared_layers": 1}}
    with pytest.raises(UserError, match=message):
        pt.tune(values, tmp_path / "out", search=search)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [{"trials": 0}, {"jobs": 0}, {"keep": 0}, {"seed": -1}])
def test_counts_have_limits(option: dict[str, Any], job: Job, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(option))}: found .*; expected a whole number from"):
        pt.tune(one_task(job), tmp_path / "out", search=RATE, **option)


def test_a_folder_with_other_files_is_refused(job: Job, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(notes\.txt\) and no search; name a new folder"):
        pt.tune(one_task(job), tmp_path / "out", search=RATE)
