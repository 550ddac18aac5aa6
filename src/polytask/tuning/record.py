"""What a search found: tune.json, and the same as a value."""

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
    """What a search found.

    Attributes:
        folder: with best.yaml, model/, tune.json and the trials' runs.
        best: the best trial: its number, value, parameters and dev scores.
        trials: for each trial its state, value, parameters and seconds.
        importance: by path the share of the differences between complete trials that the option explains; None where
            too few are complete.
        test: scores and intervals of the best model on test rows, where there are any.
        trained: trials that ran now; the others were there already.
        record: all of tune.json.
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
        """The best configuration, which trains again."""
        return self.folder / "best.yaml"

    @property
    def model(self) -> Path:
        """The folder of the best model."""
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
    """Return a trial as JSON: its value is the best of its evaluations so far, by the rule of the run."""
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
    folder: Path, study: Study, settings: Mapping[str, Any], rule: Mapping[str, Any], asked: int, as_it_is: bool
) -> dict[str, Any]:
    """Return tune.json without what is said about test rows.

    Args:
        rule: by which evaluations are rated.
        asked: the number of trials that was asked for.
        as_it_is: whether trial 0 is the configuration as it is.
    """
    trials = [trial_record(folder, study, trial) for trial in study.trials()]
    best = best_of(trials)[0]
    dev = read_json(trial_folder(folder, best["trial"]) / "scores.json")["dev"]
    return {
        "selection": rule,
        "asked": asked,
        **{name: settings[name] for name in ("search", "seed", "prune")},
        "best": {**{name: best[name] for name in ("trial", "value", "parameters", "run")}, "dev": dev},
        "as_it_is": trials[0]["value"] if as_it_is and trials[0]["state"] == "complete" else None,
        "importance": study.importance(),
        "test": None,
        "trials": trials,
        "notes": _notes(trials, asked, as_it_is=as_it_is),
    }


def best_of(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the complete trials, the best one first; of equal ones the earlier one."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    return sorted(complete, key=lambda trial: (-trial["value"], trial["trial"]))


def _notes(trials: Sequence[Mapping[str, Any]], asked: int, *, as_it_is: bool) -> list[str]:
    notes = [
        "the best dev score of several trials is higher than what its model will score on new rows: that is why it "
        "was chosen"
    ]
    complete = sum(trial["state"] == "complete" for trial in trials)
    if complete < FEWEST_FOR_IMPORTANCE:
        notes.append(
            f"importance needs at least {FEWEST_FOR_IMPORTANCE} complete trials with different values; {complete} are "
            "complete"
        )
    elif complete < 2 * RANDOM_TRIALS:
        notes.append(f"importance from {complete} complete trials is a hint, no measurement: more --trials tell more")
    if len(trials) <= RANDOM_TRIALS:
        notes.append(
            f"the first {RANDOM_TRIALS} trials are drawn at random, so all of these were; from then on the search "
            "follows what was found"
        )
    if not as_it_is:
        notes.append("the configuration as it is lies outside of what is searched, so no trial shows what it scores")
    if len(trials) > asked:
        notes.append(f"{len(trials)} trials were there already, more than the {asked} that were asked for")
    return notes


def score_test(model: Path, config: Config) -> dict[str, Any] | None:
    """Score the best model on the test rows, the only time that these are read; None where there are none.

    What is wrong with the rows is told in the record: the search is not lost for it.
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
    answers = {name: found for name, found in scorer.answers(loaded.engine, sources).items() if found.labels}
    return {"scores": scorer.scores_of(answers), "intervals": scorer.intervals_of(answers)}
