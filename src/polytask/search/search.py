"""`polytask auto`: one command from tasks to the best plan, with a floor that holds."""

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
from polytask.artifact.composition import join
from polytask.artifact.description import model_folder
from polytask.artifact.folder import load_bundle, save_bundle
from polytask.assemble import assemble
from polytask.comparison.arms import BASELINE
from polytask.comparison.budget import planned
from polytask.comparison.merging import is_of
from polytask.comparison.preparation import judged_by
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
from polytask.search.final import look
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

# CONFIG is what the search is of, RECORD what it found.
CONFIG, RECORD, HOURS = "auto-config.json", "auto.json", "hours.json"
FEWEST_GROUPED = 3


@dataclass(frozen=True, repr=False)
class AutoResult(Result):
    """What a search found.

    Attributes:
        folder: where model/, config.yaml, auto.json and the runs lie.
        tasks: for each task how it stands in the shipped model, its score, and the difference to its single model.
        size, passes: of the shipped model, relative to one that shares everything.
        answer: the result in a sentence.
        spent: the trainings of the configuration that it cost.
        record: all of auto.json.
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
        return [{"task": task, **{name: found[name] for name in columns}} for task, found in self.tasks.items()]


def auto(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    **values: Any,  # noqa: ANN401
) -> AutoResult:
    """Find one model in which no task is worse than its own model, as small as may be, within a budget.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        out: folder of the search; what lies there of the same configuration is reused.
        overrides: of the configuration, such as "train.epochs=1".
        values: budget, hours, floor, certainty, folds, max_size, max_passes, jobs, ray (see `AutoOptions`).

    Raises:
        UserError: the input is at fault; nothing has been trained.
        TrainingError: no joint model, or not every single one, can be trained; what was finished stays.
        Interrupted: stopped by Ctrl-C, after saving; the same call goes on.
    """
    options = build_options(AutoOptions, values, flag_of)
    if options.ray:
        require_ray()
    checked, folder = as_config(config, overrides), Path(out)
    mute = [name for name, task in checked.tasks.items() if not task.answers]
    if mute:
        raise ConfigError(
            f"tasks: found {', '.join(mute)}; auto plans tasks that answer, each against its own model: leave it out"
        )
    if len(checked.tasks) < 2:
        raise ConfigError(
            f"tasks: found {', '.join(checked.tasks)} alone; with one task there is nothing to share: train it"
        )
    with locked(folder):
        checked = with_row_files(checked, folder, write=False)
        _require_free(folder, checked)
        checked = with_row_files(checked, folder, write=True)
        search = _Search(checked, options, folder)
        with ray_session() if options.ray else nullcontext():
            return search.run()


def _require_free(folder: Path, config: Config) -> None:
    """Raise OutputError unless a folder is empty, or holds a search of the same configuration."""
    held = sorted(
        item.name for item in folder.iterdir() if item.name not in (LOCK, f".{CONFIG}", ROWS)
    )  # as a kill leaves it
    if held and not is_of(folder, config, CONFIG):
        what = "the search of another configuration" if is_file(folder / CONFIG) else f"other files ({held[0]})"
        raise OutputError(f"{folder}: the folder holds {what}; name another one with --out")


class _Search:
    """One search: what it starts from, its stages, and what it ships."""

    def __init__(self, config: Config, options: AutoOptions, folder: Path) -> None:
        self.config, self.options, self.folder = config, options, folder
        self.notes: list[str] = []
        joint = assemble(config)  # with the test rows: what is wrong with them is found before anything trains
        budget = planned(joint)
        train = joint.config.train
        assert train.learning_rate != "auto"
        assert train.head_learning_rate != "auto"
        bare = without_test(config)
        self.inputs = SearchInputs(
            config=bare,
            budget=budget,
            rates=(train.learning_rate, train.head_learning_rate),
            layers=int(joint.model.config.num_hidden_layers),
            parameters=joint.model.size_of_single(),
            words=joint.model.trunks[0].words.numel(),
            judged=judged_by(joint),
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
            console=PlainConsole(stderr=True),
        )
        self.plans = TrialPlans(self.inputs, self.trials)
        self.singles = {task: self.plans.single(task, 1.0, 1.0).cost for task in self.inputs.judged}
        self.budget = 0.0

    def run(self) -> AutoResult:
        """Check every run before the first one trains, divide the budget among them, train, and ship."""
        found = candidates(self.inputs.config, self.inputs.layers, self.inputs.budget.sizes)
        hours = self.options.hours
        self.budget = (self.options.budget or BUDGET) if hours is None else self._trainings_in(hours, found[0])
        outline = self._outline(len(found))  # refuses a budget that is too small
        self._open()
        if min(len(self.inputs.judged), outline.candidates) >= FEWEST_GROUPED:
            groups = self._groups(found[0])
            found = candidates(self.inputs.config, self.inputs.layers, self.inputs.budget.sizes, groups)
        usable = self._usable(found)
        stages = Stages(self.plans, self._outline(len(usable)), usable, self.folder, self._say)
        return self._finish(stages.run(), stages)

    def _outline(self, candidates: int) -> SearchOutline:
        """Divide what is left of the budget."""
        left = self.budget - sum(self.trials.others.values())
        return outline_for(left, self.singles, self.inputs.budget.steps, candidates, self.options.folds)

    def _open(self) -> None:
        """Say in the folder what is searched, before anything else is written there."""
        write_json(self.folder / CONFIG, values_of(self.config))

    def _groups(self, first: Candidate) -> Sequence[Sequence[str]]:
        """Return the groups of related tasks, as a probe run measures them; none where it cannot."""
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
        """Leave out the candidates that cannot be, or would be too large."""
        usable: list[Candidate] = []
        for candidate in candidates:
            try:
                trial = self.plans.joint(candidate, 1.0, 1.0)
            except ConfigError as error:
                self.notes.append(f"{candidate.name} is no candidate: {error}")
                continue
            if trial.size > self.options.max_size or trial.passes > self.options.max_passes:
                self.notes.append(
                    f"{candidate.name} is no candidate: {trial.size:.2f} sizes, {trial.passes:.2f} passes"
                )
                continue
            usable.append(candidate)
        if not usable:
            raise ConfigError(f"no candidate can be trained: {'; '.join(self.notes)}")
        return usable

    def _trainings_in(self, hours: float, first: Candidate) -> float:
        """Return how many trainings fit into some hours, as one run tells, the first time only."""
        file = self.folder / HOURS
        known: dict[str, float] = read_json(file) if is_file(file) else {}
        if known.get("hours") == hours:
            return known["budget"]
        shares = usable_shares(self.inputs.budget.steps)
        trial = self.plans.joint(first, shares[-1] if shares else 1.0, 1.0)
        self._open()
        self.trials.console.print(f"auto: {first.name} at {trial.cost:.2f} of a training, to see how long one takes")
        self.trials.train([trial])
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
        left = "" if seconds is None else f", at most {max(0.0, self.budget - spent) * seconds / 60:.0f} min left"
        self.trials.console.print(f"auto: {text} ({spent:.1f} of {self.budget:.1f} trainings spent{left})")

    def _finish(self, state: SearchState, stages: Stages) -> AutoResult:
        """Ship the model, look at test once, and write down what was found."""
        bundle = self._ship(state)
        winner = state.winner
        assert winner is not None
        arms = {
            BASELINE: list(state.singles.values()),
            WINNER: [self.trials.folder(winner.trial)],
            SHIPPED: [self.folder / "model"],
        }
        seen = look(self.config, arms, self.inputs.judged, self.config.train.seed)
        parameters = count_parameters(bundle.model)
        size, passes = parameters.total / self.inputs.parameters, bundle.model.passes()
        single_size = sum(stages.final_single(task).size for task in self.inputs.judged)
        tasks = {task: task_record(task, state, seen, bundle.model.sharing, self.inputs) for task in self.inputs.judged}
        told = answer(tasks, size, passes, single_size, self.inputs.options)
        record = {
            "answer": told,
            "tasks": tasks,
            "size": round(size, 4),
            "passes": round(passes, 4),
            "parameters": parameters.total,
            "singles": {"size": round(single_size, 4), "passes": float(len(tasks))},
            "rows_per_second": seen.rows_per_second,
            "winner": winner.candidate.name,
            "options": {**self.options.model_dump(), "seed": self.config.train.seed},
            "budget": round(self.budget, 4),
            "spent": round(self.trials.spent, 4),
            "seconds_of_one_training": self.trials.seconds_of_one(),
            "rates": [rate_record(one) for one in state.rates],
            "candidates": [
                candidate_record(one, self.folder, self.trials.folder(one.trial)) for one in state.rated
            ],
            "ladder": [step_record(step) for step in state.steps],
            "evidence": evidence_record(state),
            "singles_runs": {task: str(place.relative_to(self.folder)) for task, place in state.singles.items()},
            "picture": bundle.model.sharing.picture(),
            "notes": [*self.notes, *stages.notes, *doubts(tasks)],
        }  # fmt: skip
        self._write_config(stages, told, tasks)
        write_json(self.folder / RECORD, record)
        self.trials.console.print(f"auto: {told}")
        return AutoResult(self.folder, tasks, size, passes, told, self.trials.spent, record)

    def _ship(self, state: SearchState) -> Bundle:
        """Put the model together, and write it in the place of an earlier one."""
        grafts = [load_bundle(model_folder(state.singles[task])) for task in state.grafted]
        base = [load_bundle(model_folder(state.base))] if state.base is not None else []
        bundle = join([*base, *grafts]) if len(base) + len(grafts) > 1 else (base or grafts)[0]
        made = self.folder / "model-new"
        shutil.rmtree(made, ignore_errors=True)
        save_bundle(made, bundle)
        put_in_place(made, self.folder / "model")
        return bundle

    def _write_config(self, stages: Stages, told: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the winner as a configuration that trains again, with what became of each task above it."""
        winner = stages.state.winner
        assert winner is not None
        values = values_of(winner.candidate.config(self.config, stages.options_of(winner)))
        lifted = [f"{task}: {one['lifted_by']}" for task, one in tasks.items() if one["lifted_by"]]
        head = [told, *(one["sentence"] for one in tasks.values())]
        if lifted:
            head.append(f"This trains the joint model; what polytask auto did to it then: {'; '.join(lifted)}.")
        text = "".join(f"# {json.dumps(line, ensure_ascii=False)[1:-1]}\n" for line in head)
        body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        write_text(self.folder / "config.yaml", text + body)
