"""The result of a search: tune.json, and the same as a Python object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from polytask.api import tables_of_split
from polytask.config import Config
from polytask.data.encode import encode_table
from polytask.errors import UserError
from polytask.evaluation.scoring import Scorer
from polytask.files import read_json
from polytask.predict.load import load
from polytask.result import Result
from polytask.tuning.folder import evaluations_of, trial_folder
from polytask.tuning.study import FEWEST_FOR_IMPORTANCE, RANDOM_TRIALS, Study

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running"}


@dataclass(frozen=True, repr=False)
class Tuning(Result):
    """The result of a search.

    Attributes:
        folder: folder with best.yaml, model/, tune.json and the runs of the trials.
        best: the best trial: its number, value, parameters and dev scores.
        trials: state, value, parameters and seconds of each trial.
        importance: share of the variance between complete trials that each option explains, by path; None if too few
            trials are complete.
        test: scores and intervals of the best model on the test rows, if there are any.
        trained: number of trials that this call ran; the others existed already.
        record: the content of tune.json.
    """

    folder: Path
    best: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    importance: Mapping[str, float] | None
    test: Mapping[str, Any] | None
    trained: int
    record: Mapping[str, Any]

    @property
    def config(self) -> Path:
        """Path of the best configuration, which can be trained again."""
        return self.folder / "best.yaml"

    @property
    def model(self) -> Path:
        """Path of the best model's folder."""
        return self.folder / "model"

    def summary(self) -> str:
        values = ", ".join(f"{path} {value}" for path, value in self.best["parameters"].items())
        return f"trial {self.best['trial']} of {len(self.trials)} is best: {self.best['value']:.4f} with {values}"

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                **{name: trial[name] for name in ("trial", "state", "value")},
                **trial["parameters"],
                "seconds": trial["seconds"],
            }
            for trial in self.trials
        ]


def trial_record(folder: Path, study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial as JSON; its value is the best rating of its evaluations so far, by the run's selection rule."""
    reason: str | None = trial.user_attrs.get("reason")
    pruned = trial.state == TrialState.PRUNED
    kind, colon, _ = (reason or "").partition(": ")
    state = kind if pruned and colon and kind in ("failed", "refused") else _STATES[trial.state]
    evaluations = [trial.intermediate_values[number] for number in sorted(trial.intermediate_values)]
    if trial.state == TrialState.COMPLETE:
        evaluations = evaluations_of(trial_folder(folder, trial.number)) or evaluations
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
    return {
        "trial": trial.number,
        "state": state,
        "value": max(evaluations, default=None) if trial.value is None or pruned else trial.value,
        "parameters": study.values(trial.number),
        "evaluations": evaluations,
        "seconds": seconds,
        "reason": reason,
        "run": trial_folder(folder, trial.number).relative_to(folder).as_posix(),
    }


def to_record(
    folder: Path, study: Study, settings: Mapping[str, Any], rule: Mapping[str, Any], requested: int, as_it_is: bool
) -> dict[str, Any]:
    """Return the content of tune.json, without test scores.

    Args:
        rule: the selection rule by which evaluations are rated.
        requested: number of trials that was requested.
        as_it_is: whether trial 0 is the unchanged configuration.
    """
    trials = [trial_record(folder, study, trial) for trial in study.trials()]
    best = best_of(trials)[0]
    dev = read_json(trial_folder(folder, best["trial"]) / "scores.json")["dev"]
    return {
        "selection": rule,
        "asked": requested,
        **{name: settings[name] for name in ("search", "seed", "prune")},
        "best": {**{name: best[name] for name in ("trial", "value", "parameters", "run")}, "dev": dev},
        "as_it_is": trials[0]["value"] if as_it_is and trials[0]["state"] == "complete" else None,
        "importance": study.importance(),
        "test": None,
        "trials": trials,
        "notes": _notes(trials, requested, as_it_is=as_it_is),
    }


def best_of(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the complete trials, the best first; ties go to the earlier trial."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    return sorted(complete, key=lambda trial: (-trial["value"], trial["trial"]))


def _notes(trials: Sequence[Mapping[str, Any]], requested: int, *, as_it_is: bool) -> list[str]:
    notes = [
        "the best dev score of several trials is optimistic: it was chosen for being high, and the model will score "
        "lower on new rows"
    ]
    complete = sum(trial["state"] == "complete" for trial in trials)
    if complete < FEWEST_FOR_IMPORTANCE:
        notes.append(
            f"importance needs at least {FEWEST_FOR_IMPORTANCE} complete trials with different values; {complete} are "
            "complete"
        )
    elif complete < 2 * RANDOM_TRIALS:
        notes.append(f"importance from {complete} complete trials is only a hint; more --trials make it more reliable")
    if len(trials) <= RANDOM_TRIALS:
        notes.append(
            f"the first {RANDOM_TRIALS} trials are drawn at random, so all of these were; later ones follow the "
            "best results so far"
        )
    if not as_it_is:
        notes.append("the unchanged configuration is outside the search space, so no trial shows its score")
    if len(trials) > requested:
        notes.append(f"{len(trials)} trials existed already, more than the {requested} that were requested")
    return notes


def score_test(model: Path, config: Config) -> dict[str, Any] | None:
    """Score the best model on the test rows, which are only read here; None if there are none.

    Problems with the rows are returned in the record, so that the search is not lost.
    """
    if all(task.data.test is None for task in config.tasks.values()):
        return None
    loaded = load(model)
    scorer = Scorer(loaded.tasks)
    try:
        tables = tables_of_split(loaded, config, "test")
        sources = [encode_table(table, loaded.tasks, loaded.tokens) for table in tables]
    except UserError as error:
        return {"problem": f"the test rows could not be scored: {error}"}
    answers = {name: given for name, given in scorer.answers(loaded.engine, sources).items() if given.labels}
    return {
        "scores": scorer.scores_of(answers),
        "intervals": scorer.intervals_of(answers),
        "rows": {name: len(given.labels) for name, given in answers.items()},
    }
