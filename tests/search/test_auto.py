"""From tasks to the best plan: what is shipped, what it is chosen by, and that an interrupted search goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from searching import GRAFTING, SMALL, tasks_on, without_times

import polytask
from polytask.artifact.folder import load_bundle
from polytask.comparison import runs
from polytask.errors import ConfigError, Interrupted, OutputError, TrainingError
from polytask.files import file_digest
from polytask.model.parameters import count_parameters
from polytask.page import report
from polytask.search.stages import Stages
from polytask.search.trials import Trials

Searched: TypeAlias = tuple[dict[str, Any], polytask.AutoResult]


def copied(found: polytask.AutoResult, place: Path) -> Path:
    """Copy the runs of a search, so that what another one ships does not stand in its place."""
    for name in ("runs", "ladder", "auto-config.json"):
        source = found.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
    return place


def answers(model: Path, texts: list[str]) -> list[dict[str, Any]]:
    return list(polytask.load(model).predict(texts))


def test_it_ships_one_model_a_configuration_and_a_record(searched: Searched) -> None:
    values, found = searched
    assert set(found.tasks) == set(values["tasks"])
    assert set(answers(found.model, ["A fine cast."])[0]) == set(values["tasks"])
    written = yaml.safe_load((found.folder / "config.yaml").read_text("utf-8"))
    for name, task in values["tasks"].items():
        assert task["data"].items() <= written["tasks"][name]["data"].items()
    polytask.check(written)
    assert json.loads((found.folder / "auto.json").read_text("utf-8")) == found.record
    assert found.answer in (found.folder / "config.yaml").read_text("utf-8")
    assert found.spent <= found.record["budget"] * 1.05


def test_the_shipped_model_names_its_test_scores(searched: Searched) -> None:
    values, found = searched
    about = json.loads((found.model / "polytask.json").read_text("utf-8"))["about"]
    card = (found.model / "README.md").read_text("utf-8")
    rows = [json.loads(line) for line in Path(values["tasks"]["topic"]["data"]["test"]).read_text("utf-8").splitlines()]
    for name, task in found.tasks.items():
        labelled = [row for row in rows if row.get(name) is not None]
        assert about["scores"]["test"][name][task["metric"]] == pytest.approx(task["score"], abs=1e-6)
        assert about["data"][name]["rows"]["test"] == len(labelled)
        assert f"| {name} | test | {task['metric']} " in card
    assert not (found.folder / "model-new").exists()


def test_a_grafted_task_answers_as_its_own_model_does(searched: Searched) -> None:
    values, found = searched
    grafted = [name for name, task in found.tasks.items() if task["lifted_by"] == "graft"]
    assert grafted
    texts = [
        json.loads(line)["text"] for line in Path(values["tasks"]["topic"]["data"]["test"]).read_text().splitlines()
    ]
    shipped = answers(found.model, texts)
    for task in grafted:
        own = answers(found.folder / found.record["singles_runs"][task], texts)
        assert [answer[task] for answer in shipped] == [answer[task] for answer in own]
        assert found.tasks[task]["delta"] == 0
        assert "exactly as its own model" in found.tasks[task]["sentence"]


def test_the_search_sees_no_test_row(searched: Searched) -> None:
    values, found = searched
    configs = [*found.folder.glob("runs/*/config.yaml"), *found.folder.glob("ladder/*/config.yaml")]
    assert len(configs) >= 3
    test = values["tasks"]["topic"]["data"]["test"]
    assert all(test not in path.read_text("utf-8") for path in configs)


def test_other_test_rows_change_no_choice(
    searched: Searched, given: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    values, found = searched
    _, folder = given
    other = {**values, "tasks": tasks_on(folder, "other_test")}
    again = copied(found, tmp_path)
    (again / "auto-config.json").write_text(
        json.dumps(polytask.Config(**other).model_dump(mode="json", exclude_unset=True))
    )
    seen = polytask.auto(other, again, budget=SMALL, floor=0, certainty=0.99, max_size=3, max_passes=3)
    for key in ("winner", "candidates", "ladder", "size", "passes"):
        assert seen.record[key] == found.record[key]
    assert file_digest(seen.model / "model.safetensors") == file_digest(found.model / "model.safetensors")
    assert [one["single"] for one in seen.tasks.values()] != [one["single"] for one in found.tasks.values()]


def test_the_same_call_trains_nothing_and_says_the_same(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = searched
    monkeypatch.setattr(runs, "train", _refuse)
    monkeypatch.setattr("polytask.search.ladder.extend", _refuse)
    again = polytask.auto(
        values, found.folder, budget=SMALL, floor=0, certainty=0.99, max_size=3, max_passes=3
    )  # fmt: skip
    assert without_times(again.record) == without_times(found.record)


def _refuse(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("trained again")


def test_limits_forbid_a_graft_and_the_result_says_what_would_allow_it(searched: Searched, tmp_path: Path) -> None:
    values, found = searched
    tight = polytask.auto(
        values, copied(found, tmp_path), budget=SMALL, floor=0, certainty=0.99, max_size=1, max_passes=1
    )
    below = [task for task in tight.tasks.values() if task["below_floor"]]
    assert below
    assert all("--max-size 2" in task["would_need"] and "--max-passes 2" in task["would_need"] for task in below)
    assert tight.size == pytest.approx(1)
    assert any(told in tight.answer for told in ("below the floor", "not above the floor with the certainty of 0.99"))


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let training be interrupted before the n-th run."""
    real = runs.train
    left: list[int] = []

    def train(*arguments: Any, **options: Any) -> Any:
        if left:
            left[0] -= 1
            if left[0] == 0:
                left.clear()
                raise Interrupted("stopped, and saved; go on with --resume")
        return real(*arguments, **options)

    monkeypatch.setattr(runs, "train", train)
    return left.append


def test_a_search_that_was_stopped_goes_on_to_the_same_result(
    searched: Searched, tmp_path: Path, interrupting: Callable[[int], None]
) -> None:
    values, found = searched
    for number in (2, 2):
        interrupting(number)
        with pytest.raises(Interrupted, match="the same command continues from there"):
            polytask.auto(values, tmp_path / "out", budget=SMALL, floor=0, certainty=0.99, max_size=3, max_passes=3)
    again = polytask.auto(values, tmp_path / "out", budget=SMALL, floor=0, certainty=0.99, max_size=3, max_passes=3)
    assert without_times(again.record) == without_times(found.record)
    assert file_digest(again.model / "model.safetensors") == file_digest(found.model / "model.safetensors")


def test_a_candidate_that_cannot_be_trained_is_told_and_the_others_go_on(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, found = searched
    real = runs.train

    def train(config: Any, place: Path, **options: Any) -> Any:
        if "partial" in place.name:
            raise TrainingError("the loss is not a number")
        return real(config, place, **options)

    monkeypatch.setattr(runs, "train", train)
    seen = polytask.auto(values, copied(found, tmp_path), budget=5, max_size=3)
    failed = [one for one in seen.record["candidates"] if one["failed"]]
    assert [one["name"] for one in failed] == ["partial_1"]
    assert seen.record["winner"] == "global"
    assert "not a number" in failed[0]["failed"]


def test_no_joint_model_is_an_error_with_its_reason(
    given: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, _ = given
    monkeypatch.setattr(
        Stages, "choose_rates", lambda self: self.state.factors.update({"": 1.0, "sentiment": 1.0, "topic": 1.0})
    )

    def train(config: Any, place: Path, **options: Any) -> Any:
        raise TrainingError("the loss is not a number")

    monkeypatch.setattr(runs, "train", train)
    with pytest.raises(TrainingError, match=r"sentiment: its single model failed: .*not a number"):
        polytask.auto(values, tmp_path / "out", budget=SMALL)


def test_hours_become_trainings_once(searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, found = searched
    out = copied(found, tmp_path)
    monkeypatch.setattr(Trials, "seconds_of_one", lambda self: 9.0)
    assert polytask.auto(values, out, hours=0.01).record["budget"] == pytest.approx(SMALL)
    # A machine that has become slower changes nothing in a search that has begun.
    monkeypatch.setattr(Trials, "seconds_of_one", lambda self: 90.0)
    assert polytask.auto(values, out, hours=0.01).record["budget"] == pytest.approx(SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1}, r"--budget: found 1, .* give at least 2\.9"),
        ({"budget": 0}, r"--budget: found 0; expected greater than 0"),
        ({"budget": 8, "hours": 1}, r"found budget and hours; give one of them"),
        ({"max_size": 0.5}, r"--max-size: found 0\.5"),
        ({"certainty": 1.0}, r"--certainty: found 1\.0"),
        ({"flor": 1}, r"--flor: unknown option; .*floor"),
    ],
)
def test_options_are_refused_before_anything_is_trained(
    given: tuple[dict[str, Any], Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    values, _ = given
    with pytest.raises(ConfigError, match=message):
        polytask.auto(values, tmp_path / "out", **options)
    assert not (tmp_path / "out" / "runs").exists()


def test_one_task_has_nothing_to_share(given: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    values, _ = given
    alone = {**values, "tasks": {"topic": values["tasks"]["topic"]}}
    with pytest.raises(ConfigError, match="found only topic"):
        polytask.auto(alone, tmp_path / "out")


def test_a_task_without_predictions_is_left_out_and_named(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, found = searched
    monkeypatch.setattr(runs, "train", _refuse)
    monkeypatch.setattr("polytask.search.ladder.extend", _refuse)
    words = {"type": "mlm", "data": values["tasks"]["topic"]["data"]}
    again = polytask.auto(
        {**values, "tasks": {"words": words, **values["tasks"]}}, copied(found, tmp_path), **GRAFTING
    )  # fmt: skip
    assert again.record["notes"][0].startswith("words: left out, since there are no predictions to compare")
    assert again.record["notes"][1:] == found.record["notes"]
    assert set(again.tasks) == set(found.tasks)
    assert "words" not in yaml.safe_load((again.folder / "config.yaml").read_text("utf-8"))["tasks"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topic": {"needs": ["words"]}}, r"tasks.topic.needs: found 'words', which makes no predictions .*remove it"),
        ({"topic": None}, r"tasks: found only sentiment; with one task"),
        ({"topic": None, "sentiment": None}, r"tasks: found only tasks that make no predictions"),
    ],
)
def test_what_needs_a_task_without_predictions_is_refused(
    given: tuple[dict[str, Any], Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    values, _ = given
    tasks = {name: {**task, **(changes.get(name) or {})} for name, task in values["tasks"].items()}
    tasks = {name: task for name, task in tasks.items() if changes.get(name, task) is not None}
    tasks["words"] = {"type": "mlm", "data": values["tasks"]["topic"]["data"]}
    with pytest.raises(ConfigError, match=message):
        polytask.auto({**values, "tasks": tasks}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(searched: Searched, tmp_path: Path) -> None:
    values, found = searched
    other = {**values, "train": {**values["train"], "seed": 6}}
    with pytest.raises(OutputError, match="holds the search of another configuration; name another one with --out"):
        polytask.auto(other, found.folder)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(letter\.txt\)"):
        polytask.auto(values, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_the_page_leads_with_the_answer(searched: Searched) -> None:
    _, found = searched
    text = report(found.folder).read_text("utf-8")
    assert found.answer in text
    told, _, standing = found.answer.partition("; ")
    assert text.index(told) < text.index(standing[1:]) < text.index("Size and worst task</h2>")
    for task in found.tasks:
        assert task in text
    assert "not finished" not in text


def test_the_page_of_an_unfinished_search_says_so(tmp_path: Path) -> None:
    (tmp_path / "auto-config.json").write_text("{}")
    assert "Not finished" in report(tmp_path).read_text("utf-8")


def test_a_graft_on_frozen_words_costs_its_layers(given: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    values, _ = given
    frozen = {**values, "train": {**values["train"], "freeze_embeddings": True}}
    found = polytask.auto(frozen, tmp_path / "out", **GRAFTING)
    grafts = [step for step in found.record["ladder"] if step["step"] == "graft" and step["lifts"]]
    assert grafts
    # What was foretold is what was shipped: all but the words is there twice.
    assert found.size == pytest.approx(grafts[-1]["size"], abs=1e-4)
    bundle = load_bundle(tmp_path / "out" / "model")
    assert found.size * bundle.model.size_of_single() == pytest.approx(count_parameters(bundle.model).total, rel=1e-3)
    words = bundle.model.trunks[0].words.numel() / bundle.model.size_of_single()
    assert found.size < 1 + len(grafts) * (1 - words) + 0.01
