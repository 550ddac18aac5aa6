"""`polytask auto`: finds the best plan for the tasks of a configuration, with a guaranteed floor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polytask.api import as_config
from polytask.artifact.bundle import Bundle
from polytask.artifact.folder import save_bundle
from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.comparison.arms import BASELINE
from polytask.comparison.budget import planned
from polytask.comparison.merging import is_of
from polytask.comparison.preparation import judged_by, short_notes
from polytask.comparison.runs import RunStore
from polytask.config import Config, values_of, without_test
from polytask.config.row_files import ROWS, with_row_files
from polytask.errors import ConfigError, OutputError, TrainingError, UserError
from polytask.files import put_in_place, read_json, write_json, write_text
from polytask.lock import FILE as LOCK
from polytask.lock import locked
from polytask.model.parameters import count_parameters
from polytask.options import build_options, flag_of
from polytask.probe import relate
from polytask.ray_cluster.session import ray_session, require_ray
from polytask.regular import is_file
from polytask.result import Result, listed
from polytask.search.candidates import Candidate, candidates
from polytask.search.final import FinalScores, look
from polytask.search.ladder import limits_of
from polytask.search.lift import composed_of
from polytask.search.options import BUDGET, AutoOptions
from polytask.search.outline import SearchOutline, outline_for, usable_shares
from polytask.search.plans import SearchInputs, TrialPlans
from polytask.search.record import (
    SHIPPED,
    WINNER,
    answer,
    candidate_record,
    doubts,
    evidence_record,
    rate_record,
    step_record,
    task_record,
)
from polytask.search.stages import SearchState, Stages
from polytask.search.trials import Trials
from polytask.terminal import PlainConsole
from polytask.training.options import TrainOptions
from polytask.training.rates import encoder_rate, head_rate
from polytask.training.recipe import resolve_rates

# The searched configuration and the results of the search.
CONFIG, RECORD, HOURS = "auto-config.json", "auto.json", "hours.json"
FEWEST_GROUPED = 3


@dataclass(frozen=True, repr=False)
class AutoResult(Result):
    """The result of a search.

    Attributes:
        folder: folder with model/, config.yaml, auto.json and the runs.
        tasks: sharing of each task in the shipped model, its score, and the difference to its single model.
        size, passes: size and passes of the shipped model, relative to one that shares everything.
        answer: the result as a sentence.
        spent: cost in trainings of the configuration.
        record: content of auto.json.
    """

    folder: Path
    tasks: Mapping[str, Any]
    size: float
    passes: float
    answer: str
    spent: float
    record: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """Folder of the shipped model."""
        return self.folder / "model"

    def summary(self) -> str:
        return f"{listed(self.tasks)}: {self.size:.2f} shared encoders, {self.passes:.2f} passes, in {self.model}"

    def records(self) -> list[dict[str, Any]]:
        columns = ("metric", "how", "score", "single", "delta", "low", "high")
        return [{"task": task, **{name: result[name] for name in columns}} for task, result in self.tasks.items()]


def auto(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    **values: Any,  # noqa: ANN401
) -> AutoResult:
    """Find the smallest model within a budget in which no task is worse than its single model.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        out: folder of the search; finished runs of the same configuration in it are reused.
        overrides: changes to the configuration, such as "train.epochs=1".
        values: options: budget, hours, floor, certainty, folds, max_size, max_passes, jobs, ray (see `AutoOptions`).

    Raises:
        UserError: the input is invalid; nothing has been trained.
        TrainingError: no joint model can be trained, or a single model cannot; finished runs are kept.
        Interrupted: stopped by Ctrl-C, after saving; the same call continues.
    """
    options = build_options(AutoOptions, values, flag_of)
    if options.ray:
        require_ray()
    checked, left_out = _answering(as_config(config, overrides))
    folder = Path(out)
    if len(checked.tasks) < 2:
        raise ConfigError(
            f"tasks: found only {', '.join(checked.tasks) or 'tasks that make no predictions'}; with one task there is "
            "nothing to share: train it"
        )
    with locked(folder):
        _require_free(folder, with_row_files(checked, folder, write=False))
        checked = with_row_files(checked, folder, write=True)
        search = _Search(checked, options, folder, left_out)
        with ray_session() if options.ray else nullcontext():
            return search.run()


def _answering(config: Config) -> tuple[Config, list[str]]:
    """Return the configuration with the tasks that make predictions, and notes on the others.

    Raises ConfigError if a task needs one of those.
    """
    kept = {name: task for name, task in config.tasks.items() if task.answers}
    mute = [name for name in config.tasks if name not in kept]
    for name, task in kept.items():
        needed = [other for other in task.needs if other in mute]
        if needed:
            raise ConfigError(
                f"tasks.{name}.needs: found {needed[0]!r}, which makes no predictions that auto could compare with "
                "those of a single model, so it is left out; remove it from these needs"
            )
    if not mute:
        return config, []
    note = (
        f"{', '.join(mute)}: left out, since there are no predictions to compare with those of a single model; "
        "polytask compare shows what it adds to the other tasks"
    )
    return config.model_copy(update={"tasks": kept}), [note]


def _require_free(folder: Path, config: Config) -> None:
    """Raise OutputError unless a folder is empty, or holds a search of the same configuration."""
    names = sorted(
        item.name for item in folder.iterdir() if item.name not in (LOCK, f".{CONFIG}", ROWS)
    )  # as a kill leaves it
    if names and not is_of(folder, config, CONFIG):
        if is_file(folder / CONFIG):
            read_json(folder / CONFIG, "so nobody knows what was searched here: restore it, or name another --out")
        content = "the search of another configuration" if is_file(folder / CONFIG) else f"other files ({names[0]})"
        raise OutputError(f"{folder}: the folder holds {content}; name another one with --out")


def _rates(options: TrainOptions, joint: Assembly, *tasks: str) -> tuple[float, float]:
    """Return the learning rates of the encoder and the heads in a model of some of the tasks."""
    size = int(joint.model.config.hidden_size), int(joint.model.config.num_hidden_layers)
    train, _ = resolve_rates(options, *size, [joint.tasks[task].rate_bound for task in tasks])
    return encoder_rate(train), head_rate(train)


class _Search:
    """One search: its inputs, its stages, and the shipped model."""

    def __init__(self, config: Config, options: AutoOptions, folder: Path, notes: Sequence[str]) -> None:
        self.config, self.options, self.folder = config, options, folder
        self.notes = list(notes)
        console = PlainConsole(stderr=True)
        for note in notes:  # before what they may explain
            console.print(f"auto: {note}")
        joint = assemble(config)  # with the test rows, so that their errors are found before anything trains
        budget = planned(joint)
        bare, judged = without_test(config), judged_by(joint)
        self.inputs = SearchInputs(
            config=bare,
            budget=budget,
            rates={
                "": _rates(config.train, joint, *joint.tasks),
                **{task: _rates(config.train, joint, task) for task in judged},
            },
            layers=int(joint.model.config.num_hidden_layers),
            parameters=joint.model.size_of_single(),
            words=joint.model.trunks[0].words.numel(),
            judged=judged,
            options=options,
        )
        del joint
        rows = budget.steps * budget.batch_size
        self.trials = Trials(
            store=RunStore(folder / "runs", ray=options.ray),
            seed=config.train.seed,
            jobs=options.jobs,
            rows=rows,
            parameters=self.inputs.parameters,
            console=console,
        )
        self.plans = TrialPlans(self.inputs, self.trials)
        self.singles = {task: self.plans.single(task, 1.0, 1.0).cost for task in self.inputs.judged}
        self.budget = 0.0

    def run(self) -> AutoResult:
        """Check all runs before training, divide the budget among them, train, and ship the model."""
        options = candidates(self.inputs.config, self.inputs.layers, self.inputs.budget.sizes)
        hours = self.options.hours
        self.budget = (self.options.budget or BUDGET) if hours is None else self._trainings_in(hours, options[0])
        outline = self._outline(len(options))  # raises for a budget that is too small
        self._open()
        if min(len(self.inputs.judged), outline.candidates) >= FEWEST_GROUPED:
            groups = self._groups(options[0])
            options = candidates(self.inputs.config, self.inputs.layers, self.inputs.budget.sizes, groups)
        usable = self._usable(options)
        alone = {task: self.inputs.budget.alone(task)["epochs"] for task in self.inputs.judged}
        self.notes += short_notes(alone, self.inputs.config.train)
        stages = Stages(self.plans, self._outline(len(usable)), usable, self.folder, self._say)
        return self._finish(stages.run(), stages)

    def _outline(self, candidates: int) -> SearchOutline:
        """Divide the remaining budget."""
        remaining = self.budget - sum(self.trials.others.values())
        return outline_for(remaining, self.singles, self.inputs.budget.steps, candidates, self.options.folds)

    def _open(self) -> None:
        """Write the searched configuration into the folder before anything else."""
        write_json(self.folder / CONFIG, values_of(self.config))

    def _groups(self, first: Candidate) -> Sequence[Sequence[str]]:
        """Return the groups of related tasks from a probe run; empty if that fails."""
        identity = self.plans.joint(first, 1.0, 1.0).run.identity
        file = self.folder / f"relatedness-{identity}" / "relatedness.json"
        try:
            record = read_json(file) if is_file(file) else relate(self.inputs.config, file.parent).to_json()
        except UserError as error:
            self.notes.append(f"relatedness was not measured: {error}")
            return ()
        self.trials.others["relatedness"] = float(record["cost"]["share_of_joint_run"])
        return record["groups"]

    def _usable(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates that are valid and not too large."""
        usable: list[Candidate] = []
        limits = limits_of(self.options)
        for candidate in candidates:
            try:
                trial = self.plans.joint(candidate, 1.0, 1.0)
            except ConfigError as error:
                self.notes.append(f"{candidate.name} is no candidate: {error}")
                continue
            why = limits.refuse(trial.size, trial.passes)
            if why:
                self.notes.append(f"{candidate.name} is no candidate: it would need {why}")
                continue
            usable.append(candidate)
        if not usable:
            raise ConfigError(f"no candidate can be trained: {'; '.join(self.notes)}")
        return usable

    def _trainings_in(self, hours: float, first: Candidate) -> float:
        """Return how many trainings fit into some hours, from the duration of one run, which is measured only once."""
        file = self.folder / HOURS
        measured: dict[str, float] = read_json(file) if is_file(file) else {}
        if measured.get("hours") == hours:
            return measured["budget"]
        shares = usable_shares(self.inputs.budget.steps)
        trial = self.plans.joint(first, shares[-1] if shares else 1.0, 1.0)
        self._open()
        self.trials.console.print(f"auto: {first.name} at {trial.cost:.2f} of a training, to see how long one takes")
        self.trials.train([trial], keep_models=not shares)
        seconds = self.trials.seconds_of_one()
        if seconds is None:
            raise TrainingError(self.trials.failed[trial.run.identity])
        budget = round(3600 * hours / seconds, 2)
        self.trials.console.print(
            f"auto: a training takes about {seconds / 60:.1f} min, so {hours:g} h are {budget:g} trainings"
        )
        write_json(file, {"hours": hours, "budget": budget})
        return budget

    def _say(self, text: str) -> None:
        spent, seconds = self.trials.spent, self.trials.seconds_of_one()
        time_left = "" if seconds is None else f", at most {max(0.0, self.budget - spent) * seconds / 60:.0f} min left"
        self.trials.console.print(f"auto: {text} ({spent:.1f} of {self.budget:.1f} trainings spent{time_left})")

    def _finish(self, state: SearchState, stages: Stages) -> AutoResult:
        """Ship the model, score it on test once, and write the record."""
        bundle = composed_of(state.parts)
        self._ship(bundle)  # before test rows are read, so that the model is kept whatever these hold
        winner = state.winner
        assert winner is not None
        arms = {
            BASELINE: list(state.singles.values()),
            WINNER: [self.trials.folder(winner.trial)],
            SHIPPED: [self.folder / "model"],
        }
        final_scores = look(self.config, arms, self.inputs.judged, self.config.train.seed)
        self._ship_scored(bundle, final_scores)
        parameters = count_parameters(bundle.model)
        size, passes = parameters.total / self.inputs.parameters, bundle.model.passes()
        single_size = sum(stages.final_single(task).size for task in self.inputs.judged)
        tasks = {
            task: task_record(task, state, final_scores, bundle.model.sharing, self.inputs)
            for task in self.inputs.judged
        }
        sentence = answer(tasks, size, passes, single_size, self.inputs.options)
        record = {
            "answer": sentence,
            "tasks": tasks,
            "size": round(size, 4),
            "passes": round(passes, 4),
            "parameters": parameters.total,
            "singles": {"size": round(single_size, 4), "passes": float(len(tasks))},
            "rows_per_second": final_scores.rows_per_second,
            "winner": winner.candidate.name,
            "options": {**self.options.model_dump(), "seed": self.config.train.seed},
            "budget": round(self.budget, 4),
            "spent": round(self.trials.spent, 4),
            "seconds_of_one_training": self.trials.seconds_of_one(),
            "rates": [rate_record(rated) for rated in state.rates],
            "candidates": [
                candidate_record(rated, self.folder, self.trials.folder(rated.trial)) for rated in state.rated
            ],
            "ladder": [step_record(step) for step in state.steps],
            "evidence": evidence_record(state),
            "singles_runs": {task: str(place.relative_to(self.folder)) for task, place in state.singles.items()},
            "picture": bundle.model.sharing.picture(),
            "notes": [*self.notes, *stages.notes, *self._all_apart(state), *doubts(tasks)],
        }  # fmt: skip
        self._write_config(stages, sentence, tasks)
        write_json(self.folder / RECORD, record)
        self.trials.console.print(f"auto: {sentence}")
        return AutoResult(self.folder, tasks, size, passes, sentence, self.trials.spent, record)

    def _all_apart(self, state: SearchState) -> list[str]:
        """Return a note if the result shares nothing."""
        if len(state.grafted) < len(self.inputs.judged):
            return []
        told = "every task got its own model, so nothing is shared"
        certainty = self.options.certainty
        return [f"{told}; with a --certainty below {certainty:g} tasks may share" if certainty > 0.5 else told]

    def _ship(self, bundle: Bundle) -> None:
        """Write the model in place of an earlier one."""
        temporary = self.folder / "model-new"
        shutil.rmtree(temporary, ignore_errors=True)
        save_bundle(temporary, bundle)
        put_in_place(temporary, self.folder / "model")

    def _ship_scored(self, bundle: Bundle, final_scores: FinalScores) -> None:
        """Write the model again with its test scores, if there are test rows."""
        tested = {
            task: scores for task, scores in final_scores.scores[SHIPPED].items() if final_scores.splits[task] == "test"
        }
        if tested:
            self._ship(bundle.with_scores("test", tested, final_scores.rows[SHIPPED]))

    def _write_config(self, stages: Stages, sentence: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the configuration of the winner, with the results of each task as comments."""
        winner = stages.state.winner
        assert winner is not None
        values = values_of(stages.config_of(winner, self.config))
        changed = [f"{step.task}: {step.name}" for step in stages.state.steps if step.taken]
        changed += [
            f"{', '.join(step.trained_further)}: trained further in the branch of {step.task}"
            for step in stages.state.steps
            if step.trained_further
        ]
        head = [sentence, *(record["sentence"] for record in tasks.values())]
        if changed:
            head.append(f"This trains the joint model; what polytask auto did to it then: {'; '.join(changed)}.")
        text = "".join(f"# {json.dumps(line, ensure_ascii=False)[1:-1]}\n" for line in head)
        body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        write_text(self.folder / "config.yaml", text + body)
