"""The folder of a run, read once: the content of each file, or the reason why it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.lock import is_held
from polytask.page.form import BySplit, ConfusionForm, DataForm, EventForm, Intervals, RunForm, SharingForm
from polytask.page.reading import ReadResult, read, read_config, read_events, read_text

# Descriptions of the selection rules; any other name is that of a task.
RULES = {
    "gap": "the mean gap between the dev scores and their baselines",
    "mean": "the mean of the main dev scores",
    "worst": "the dev score of the task with the smallest gain over its baseline",
}


class RunFolder:
    """Content of the files of a run.

    Attributes:
        record: run.json; empty if it is missing.
        goes_on: whether a process on this machine is known to train it.
        problems: files that exist but could not be read.
    """

    config_name = "config.yaml"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.config: ReadResult[dict[str, Any]] = read_config(folder)
        self.config_text = read_text(folder, self.config_name)
        self.scores: ReadResult[BySplit] = read(folder, "scores.json", BySplit)
        self.baselines: ReadResult[BySplit] = read(folder, "baselines.json", BySplit)
        self.intervals: ReadResult[Intervals] = read(folder, "intervals.json", Intervals)
        self.confusion: ReadResult[dict[str, ConfusionForm]] = read(folder, "confusion.json", dict[str, ConfusionForm])
        self.data: ReadResult[DataForm] = read(folder, "data.json", DataForm)
        run = read(folder, "run.json", RunForm)
        self.record = run.value or RunForm()
        log = read_events(folder, grows=not self.finished)
        self.events: tuple[EventForm, ...] = log.values
        self.goes_on = not self.finished and is_held(folder) is True
        absent = "run.json is not in the folder."
        messages = [
            log.problem,
            self.config.problem,
            "" if run.problem == absent and not self.finished else run.problem,
        ]
        self.problems = [problem for problem in messages if problem]
        self.tasks = self._tasks()

    @property
    def finished(self) -> bool:
        """Whether the run has scores."""
        return self.scores.value is not None

    @property
    def final_split(self) -> str:
        """The split of the main scores: test if there is one."""
        return "test" if "test" in (self.scores.value or {}) else "dev"

    @property
    def planned_steps(self) -> int | None:
        """Maximum number of updates."""
        return next((event.steps for event in reversed(self.events) if event.steps is not None), None)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time for the remaining updates, at the pace since the last start."""
        begun = next((event for event in reversed(self.events) if event.event in ("start", "resume")), None)
        last = self.events[-1] if self.events else None
        if begun is None or last is None or begun.time is None or last.time is None or self.planned_steps is None:
            return None
        done = last.step - begun.step
        return (last.time - begun.time) / done * (self.planned_steps - last.step) if done > 0 else None

    @property
    def chosen_by(self) -> str:
        """Description of the rule that selected the kept evaluation; empty if unknown."""
        if self.record.selection is None:
            return ""
        rule = self.record.selection.rule
        return RULES.get(rule, f"the dev score of {rule}")

    @property
    def sharing(self) -> SharingForm | None:
        """The sharing at the end."""
        return self.record.sharing

    def events_of(self, *names: str) -> list[EventForm]:
        """Return the events with some names, in order."""
        return [event for event in self.events if event.event in names]

    def option(self, *path: str) -> Any:  # noqa: ANN401
        """Return a value of the configuration, or None."""
        value: Any = self.config.value
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def metric(self, task: str) -> str:
        """Return a task's main metric, as recorded, or else the first one."""
        task_form = self.data.value.tasks.get(task) if self.data.value is not None else None
        if task_form is not None and task_form.metric:
            return task_form.metric
        chosen = self.option("tasks", task, "metric")
        if isinstance(chosen, str):
            return chosen
        return next(iter(self._any_scores(task)), "score")

    def is_error(self, task: str) -> bool:
        """Whether smaller values of a task's main metric are better."""
        task_form = self.data.value.tasks.get(task) if self.data.value is not None else None
        return task_form is not None and task_form.smaller_is_better

    def scale(self, task: str) -> list[str]:
        """Return the ordered labels of a task; empty if they have no order."""
        task_form = self.data.value.tasks.get(task) if self.data.value is not None else None
        return [] if task_form is None else task_form.scale

    def score(self, split: str, task: str, metric: str) -> float | None:
        """Return a score of the kept model."""
        return (self.scores.value or {}).get(split, {}).get(task, {}).get(metric)

    def baseline(self, split: str, task: str, metric: str) -> float | None:
        """Return the majority baseline's score."""
        return (self.baselines.value or {}).get(split, {}).get(task, {}).get(metric)

    def has_intervals(self, split: str) -> bool:
        """Whether scores of a split have intervals."""
        return split in (self.intervals.value or {})

    def interval(self, split: str, task: str, metric: str) -> tuple[float, float] | tuple[None, None]:
        """Return a score's interval."""
        return (self.intervals.value or {}).get(split, {}).get(task, {}).get(metric) or (None, None)

    def _any_scores(self, task: str) -> dict[str, float | None]:
        for split in (self.scores.value or {}).values():
            if task in split:
                return split[task]
        return next((event.dev[task] for event in self.events if task in event.dev), {})

    def _tasks(self) -> list[str]:
        """Return the tasks in the order of the configuration, or else of the other files."""
        configured = self.option("tasks")
        names: list[str] = [str(name) for name in configured] if isinstance(configured, dict) else []
        names += self.data.value.tasks if self.data.value is not None else []
        names += [task for split in (self.scores.value or {}).values() for task in split]
        names += [task for event in self.events for task in (*event.losses, *event.dev)]
        return list(dict.fromkeys(names))
