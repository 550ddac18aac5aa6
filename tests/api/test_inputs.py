"""What the functions of the package accept in the place of a folder, of a list of names, and of functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import polytask as pt
from polytask.comparison.compare import requested_arms


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> pt.Run:
    """A run that was written into a folder."""
    from samples import small_job

    folder = tmp_path_factory.mktemp("inputs")
    return pt.train(small_job(folder, tiny, rows=24, max_steps=1), folder / "run")


TEXTS = ["A moving film.", "Rain in Leeds."]
ROWS = [{"text": "A moving film.", "sentiment": "positive"}, {"text": "A dull one.", "sentiment": "negative"}]


def test_a_run_stands_for_its_folder(run: pt.Run, tiny: Path, tmp_path: Path) -> None:
    assert pt.load(run).predict(TEXTS) == run.model.predict(TEXTS)
    assert pt.evaluate(run, ROWS, tasks=["sentiment"]).rows == {"sentiment": 2}
    pt.export(run, tmp_path / "exported", tasks=["topic"])
    assert list(pt.load(tmp_path / "exported").tasks) == ["topic"]
    assert pt.report(run) == Path(run) / "report.html"
    assert pt.BatchPredictor(run).model == str(run.folder)
    task = {"type": "classification", "label": "sentiment", "data": {"train": ROWS, "dev": ROWS}}
    more = {"encoder": str(tiny), "tasks": {"mood": task}, "train": {"max_steps": 1, "device": "cpu"}}
    extended = pt.extend(run, more, tmp_path / "extended")
    assert list(extended.model.tasks) == [*run.model.tasks, "mood"]
    both = pt.compose([run, f"{extended.folder}:mood"], tmp_path / "both")
    assert set(pt.load(both).tasks) == set(extended.model.tasks)


def test_the_model_of_a_run_in_memory_is_scored(run: pt.Run) -> None:
    in_memory = pt.Run(None, run.model, run.scores, run.baselines, run.intervals, run.stages)
    assert pt.evaluate(in_memory, ROWS, tasks=["sentiment"]) == pt.evaluate(run, ROWS, tasks=["sentiment"])
    with pytest.raises(pt.ConfigError, match=r"found a run that was kept in memory.*run.model.save\(FOLDER\)"):
        pt.load(in_memory)


CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "load": lambda value, _: pt.load(value),
    "evaluate": lambda value, _: pt.evaluate(value, ROWS),
    "export": lambda value, folder: pt.export(value, folder / "new"),
    "export to": lambda value, folder: pt.export(folder, value),
    "report": lambda value, _: pt.report(value),
    "extend": lambda value, folder: pt.extend(value, {"encoder": "tiny", "tasks": {"a": {"type": "mlm"}}}, folder),
    "compose": lambda value, folder: pt.compose([value, value], folder / "new"),
    "compose to": lambda value, folder: pt.compose([folder, folder], value),
    "serve": lambda value, _: pt.serve(value),
    "BatchPredictor": lambda value, _: pt.BatchPredictor(value),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("value", "told"), [(None, "None"), (3, "3"), ("", "''"), (["a"], "a value of type list")])
def test_what_is_no_folder_is_refused(name: str, value: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(pt.ConfigError, match=f"found {told}; expected the path of a folder"):
        CALLS[name](value, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_no_folder(run: pt.Run, tmp_path: Path) -> None:
    for name in CALLS:
        if name not in ("evaluate", "serve"):
            with pytest.raises(pt.ConfigError, match=r"a value of type Model; expected.*model.save\(FOLDER\)"):
                CALLS[name](run.model, tmp_path)


def test_one_text_is_a_list_of_names(run: pt.Run, tmp_path: Path) -> None:
    assert run.model.predict(TEXTS, tasks="topic") == run.model.predict(TEXTS, tasks=["topic"])
    assert list(run.model.predict(TEXTS, tasks="topic, sentiment")[0]) == ["topic", "sentiment"]
    assert list(pt.evaluate(run, ROWS, tasks="sentiment").scores) == ["sentiment"]
    pt.export(run, tmp_path / "exported", tasks="topic,sentiment")
    assert set(pt.load(tmp_path / "exported").tasks) == {"topic", "sentiment"}
    columns = pt.BatchPredictor(run, tasks="topic", keep="text")({"text": TEXTS, "id": [1, 2]})
    assert {name.split(".")[1] for name in columns if "." in name} == {"topic"}
    assert "id" not in columns
    with pytest.raises(pt.ConfigError, match="tasks: found 'topics'; .*did you mean 'topic'"):
        run.model.predict(TEXTS, tasks="topics")


def test_one_text_is_a_list_of_overrides_and_of_arms(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    values = job(rows=24)
    assert pt.check(values, overrides="train.max_steps=3").config.train.max_steps == 3
    assert requested_arms("single,global", {"low": "a=1"}) == (["single", "global"], {"low": ["a=1"]})
    assert requested_arms(None, {}, "a=1,2") == (["single"], {"a-1": ["a=1"], "a-2": ["a=2"]})
    wrong: dict[str, Any] = {
        "overrides: found a value of type dict; expected a list of texts": {"overrides": {"train.epochs": 1}},
        "overrides: found 3; expected": {"overrides": 3},
        "arms: found 1 among them; expected a list of names": {"arms": [1]},
        "seeds: found '1,2'; expected a number of seeds": {"seeds": "1,2"},
    }
    for told, options in wrong.items():
        with pytest.raises(pt.ConfigError, match=told):
            pt.compare(values, tmp_path / "out", **options)
    with pytest.raises(pt.ConfigError, match="found 1 source; name two or more"):
        pt.compose("run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_callback_may_be_one_function(job: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    events: list[str] = []
    pt.train(job(rows=24, max_steps=1), callbacks=lambda event, step, values: events.append(event))
    assert {"start", "evaluation"} <= set(events)
    wrong: dict[str, Any] = {"callbacks: found 3;": 3, "callbacks: found 'f' among them; expected a list of": ["f"]}
    for told, callbacks in wrong.items():
        with pytest.raises(pt.ConfigError, match=told):
            pt.train(job(rows=24), tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["encoder: tiny\ntasks:\n  a: {}\n" * 50, "{encoder: tiny, tasks: {a: {}}}"])
def test_the_text_of_a_configuration_is_not_taken_for_a_path(text: str) -> None:
    with pytest.raises(
        pt.ConfigError, match="config: found a text that begins with .*expected the path of a YAML"
    ) as told:
        pt.check(text)
    assert len(str(told.value)) < 250
