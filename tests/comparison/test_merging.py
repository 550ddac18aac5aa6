"""A comparison in the folder of an earlier one of the same configuration adds to it, and trains what was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polytask.comparison.arms import Arm
from polytask.comparison.merging import CONFIG, RECORD, MergedRuns, StoredComparison, merge, read_earlier
from polytask.comparison.preparation import PlannedRun, Prepared
from polytask.comparison.runs import RunStore
from polytask.config import validate, values_of

Job = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class ArmModel:
    """A model of an arm whose run is named after it."""

    label: str
    fold: int = 0

    def seeded(self, seed: int, teachers: Sequence[Path] = ()) -> PlannedRun:
        taught_by = "".join(folder.name.replace("-", "_") for folder in teachers)
        return PlannedRun(self.label, f"{self.label}{seed}{taught_by}", None)  # type: ignore[arg-type]


def prepared(*names: str, overrides: Mapping[str, Sequence[str]] | None = None) -> dict[str, Prepared]:
    """Arms by name: `same` is made of the runs of global, `distill` is taught by single."""
    return {
        name: Prepared(
            Arm(name, {}, tuple((overrides or {}).get(name, ())), has_teachers=name == "distill"),
            (ArmModel("global" if name == "same" else name),),  # type: ignore[arg-type]
        )
        for name in ("single", *names)
    }


def complete(store: RunStore, *names: str) -> None:
    for name in names:
        (store.folder / f"run-{name}" / "model").mkdir(parents=True)
        (store.folder / f"run-{name}" / "scores.json").write_text("{}")


def merged(
    tmp_path: Path, there: str, asked: Sequence[str], seeds: Sequence[int], earlier: StoredComparison
) -> MergedRuns:
    store = RunStore(tmp_path)
    complete(store, *there.split())
    return merge(
        prepared(*dict.fromkeys([*asked, *earlier.arms]), overrides=earlier.arms), asked, seeds, earlier, store
    )


def test_earlier_arms_and_seeds_that_are_complete_take_part(tmp_path: Path) -> None:
    earlier = StoredComparison({"global": (), "low": ("a=1",)}, (3, 4, 5))
    there = "single3 single4 single5 global3 global4 global5 low3 low4 low5"
    found = merged(tmp_path, there, ["global"], [4, 5], earlier)
    assert (found.all_seeds, found.notes) == ((3, 4, 5), ())
    assert found.seeds == dict.fromkeys(["single", "global", "low"], (3, 4, 5))


def test_nothing_is_trained_for_what_was_not_asked_for(tmp_path: Path) -> None:
    earlier = StoredComparison({"global": (), "low": ("a=1",)}, (3, 4))
    found = merged(tmp_path, "single3 single4 global3 global4 low3 low4", ["global"], [4, 5], earlier)
    assert found.seeds == {"single": (3, 4, 5), "global": (3, 4, 5), "low": (3, 4)}
    (note,) = found.notes
    assert note.startswith("low: over the seeds 3, 4 only, of 3, 4, 5; name all arms with --arms and all seeds")


def test_no_arm_is_lost_to_a_comparison_of_fewer_arms(tmp_path: Path) -> None:
    earlier = StoredComparison({"global": (), "low": ("a=1",), "gone": ("a=2",)}, (3, 4))
    there = "single3 single4 global3 global4 low3 low4 gone3"
    found = merged(tmp_path, there, ["other"], [4, 5], earlier)
    assert found.seeds == {"single": (3, 4, 5), "other": (4, 5), "global": (3, 4), "low": (3, 4)}
    assert list(found.prepared) == ["single", "other", "global", "low"]
    gone, other, rest = found.notes
    assert gone.startswith("gone took part in an earlier comparison but not in this one: fewer than two of its seeds")
    assert other.startswith("other: over the seeds 4, 5 only, of 3, 4, 5;")
    assert rest.startswith("global, low: over the seeds 3, 4 only, of 3, 4, 5;")


def test_seeds_that_no_arm_has_all_runs_of_are_noted(tmp_path: Path) -> None:
    found = merged(tmp_path, "single3 global4", ["global"], [5, 6], StoredComparison({"global": ()}, (3, 4)))
    assert found.seeds == {"single": (5, 6), "global": (5, 6)}
    assert found.notes == (
        "the seeds 3, 4 took part in an earlier comparison but not in this one: no arm has all runs",
    )


def test_runs_that_will_be_trained_count_for_every_arm_made_of_them(tmp_path: Path) -> None:
    found = merged(tmp_path, "single3 single4", ["global"], [3, 4], StoredComparison({"same": ()}, (3, 4)))
    assert list(found.prepared) == ["single", "global", "same"]
    assert found.seeds["same"] == (3, 4)


@pytest.mark.parametrize("taught", ["distill3run_single3", "distill3run_single4"])
def test_a_taught_arm_is_complete_with_the_teachers_of_its_seed(tmp_path: Path, taught: str) -> None:
    found = merged(tmp_path, f"single3 global3 {taught}", ["global"], [3], StoredComparison({"distill": ()}, (3,)))
    assert list(found.prepared) == ["single", "global", *(["distill"] if taught.endswith("single3") else [])]


def test_a_name_that_means_something_else_now_is_noted(tmp_path: Path) -> None:
    store, now = RunStore(tmp_path), prepared("low", overrides={"low": ["a=2"]})
    found = merge(now, ["low"], [3, 4], StoredComparison({"low": ("a=1",)}, (3, 4)), store)
    assert found.notes == ("low was a=1 in an earlier comparison, and is a=2 in this one",)
    assert StoredComparison({"low": ("a=1",), "b": ("b=1",), "global": ()}, ()).with_arms(
        ["config"], {"low": ["a=2"]}
    ) == (
        ["config", "global"],
        {"low": ["a=2"], "b": ("b=1",)},
    )


def test_only_a_comparison_of_the_same_configuration_is_read(job: Job, tmp_path: Path) -> None:
    config, other = validate(job(rows=12)), validate(job(rows=12, seed=6))
    assert read_earlier(tmp_path, config) == StoredComparison({}, ())
    (tmp_path / CONFIG).write_text(json.dumps(values_of(config)), "utf-8")
    record = {"arms": {"low": {"overrides": ["a=1"]}}, "seeds": [3, 4]}
    for damaged in (None, "", "[]", "{}", '{"arms": [], "seeds": 3}', json.dumps(record)[:-3]):
        if damaged is not None:
            (tmp_path / RECORD).write_text(damaged, "utf-8")
        assert read_earlier(tmp_path, config) == StoredComparison({}, ())
    (tmp_path / RECORD).write_text(json.dumps(record), "utf-8")
    assert read_earlier(tmp_path, config) == StoredComparison({"low": ("a=1",)}, (3, 4))
    assert read_earlier(tmp_path, other) == StoredComparison({}, ())
