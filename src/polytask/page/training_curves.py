"""The course of a run from its event log: exposure, losses, dev scores, weights, similarities, stages, speed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from polytask.page.block import Block, Chart, Mark, MissingNote, TableBlock, TextBlock, drawn
from polytask.page.chart import Line, heat_map, line_chart
from polytask.page.folder import RunFolder
from polytask.page.wording import count, number

MOST_EVALUATIONS = 60  # rows of a table, in addition to the marked ones
_DEV = (
    "Main dev scores, with the majority baseline and, if given, a reference score. "
    "Each chart has its own vertical scale."
)
_LOSS = "Training losses: each point is the mean since the last line of the log."


class TrainingCurves:
    """The sections that draw what changed over the steps of a run."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._steps = run.events_of("step")
        self._evaluations = [event for event in run.events if event.event == "evaluation"]

    def __len__(self) -> int:
        """Return the number of evaluations."""
        return len(self._evaluations)

    def exposure(self) -> Iterator[Block]:
        """Yield the rows, tokens and epochs that each task has seen."""
        run = self._run
        exposure_by_task = run.record.exposure or (self._steps[-1].exposure if self._steps else {})
        if not exposure_by_task:
            yield MissingNote("the log contains no exposure yet.")
            return
        strategy = run.option("schedule", "strategy")
        if isinstance(strategy, str):
            yield TextBlock(f"Schedule: {strategy}.")
        charts = [
            line_chart(
                f"{name} by step",
                [
                    Line(task, [(event.step, event.exposure.get(task, {}).get(key)) for event in self._steps])
                    for task in exposure_by_task
                ],
                start=0.0,
            )
            for key, name in (("rows", "rows"), ("epochs", "epochs of its own data"))
        ]
        yield drawn(charts, "the log contains no exposure over time.", "Actual counts, not planned ones.")
        rows = [
            [
                task,
                count(exposure_of.get("rows")),
                count(exposure_of.get("tokens")),
                number(exposure_of.get("epochs"), 2),
            ]
            for task, exposure_of in exposure_by_task.items()
        ]
        yield TableBlock("Total", ["task", "rows", "tokens", "epochs of its own data"], rows)
        changes = run.events_of("gate", "stop", "go", "stage_end")
        if changes:
            rows = [
                [event.event.replace("_", " "), _decision(event.task, event.next, event.reason), f"{event.step}"]
                for event in changes
            ]
            yield TableBlock("Decisions of the schedule", ["decision", "details", "step"], rows, words=2)

    def curves(self) -> Iterator[Block]:
        """Yield the dev score and training loss of each task."""
        curves = (
            (self._dev, "nothing has been evaluated yet.", _DEV),
            (self._loss, "the log contains no losses yet.", _LOSS),
        )
        for curve, absent, caption in curves:
            charts = [chart for task in self._run.tasks if (chart := curve(task)) is not None]
            if charts or self._run.finished:
                yield drawn(charts, absent, caption)

    def _dev(self, task: str) -> Chart | None:
        metric, selection = self._run.metric(task), self._run.record.selection
        dev = Line("dev", [(event.step, event.dev.get(task, {}).get(metric)) for event in self._evaluations])
        known_points = dev.known()
        references = selection.baselines if selection is not None else None
        levels = {"majority": self._run.baseline("dev", task, metric), "baseline": (references or {}).get(task)}
        flat = [
            Line(name, [(known_points[0][0], value), (known_points[-1][0], value)])
            for name, value in levels.items()
            if known_points and value is not None
        ]
        return line_chart(f"{task}: {metric} on dev", [dev, *flat])

    def _loss(self, task: str) -> Chart | None:
        loss = Line("train", [(event.step, event.losses.get(task)) for event in self._steps])
        return line_chart(f"{task}: training loss", [loss])

    def evaluations(self) -> Iterator[Block]:
        """Yield the main dev scores at the evaluations, with the Pareto-optimal ones marked."""
        if not self._evaluations:
            yield MissingNote("nothing has been evaluated yet.")
            return
        run = self._run
        best, pareto = run.record.best_step, set(run.record.pareto)
        rows: list[list[str | Mark]] = []
        every = math.ceil(len(self._evaluations) / MOST_EVALUATIONS)
        kept_steps = {best, *pareto, self._evaluations[-1].step}
        shown = [
            evaluation
            for place, evaluation in enumerate(self._evaluations)
            if place % every == 0 or evaluation.step in kept_steps
        ]
        for event in shown:
            marks: list[str] = ["kept"] if event.step == best else []
            marks += ["Pareto"] if event.step in pareto else []
            scores = [number(event.dev.get(task, {}).get(run.metric(task))) for task in run.tasks]
            mark = Mark(", ".join(marks), "good" if "kept" in marks else "part") if marks else ""
            rows.append([f"{event.step}", event.stage or "", mark, *scores, number(event.mean)])
        columns = ["step", "stage", "note", *(f"{task}: {run.metric(task)}" for task in run.tasks), "mean, normalised"]
        some = "every evaluation" if every == 1 else f"{len(shown)} of {count(len(self._evaluations))} evaluations"
        yield TableBlock(f"Main dev scores at {some}", columns, rows, words=3)
        if run.chosen_by:
            yield TextBlock(f"The kept model is selected by {run.chosen_by}.")
        if pareto:
            yield TextBlock("Pareto: no other evaluation is at least as good in every task and better in one.")
        elif run.finished:
            yield MissingNote("the Pareto set: run.json does not contain it.")

    def weights(self) -> Iterator[Block]:
        """Yield the weights of the tasks in the updates of their shared parameters."""
        run = self._run
        method = run.option("balance", "method") or "sum"
        if any(event.weights for event in self._steps):
            lines = [Line(task, [(event.step, event.weights.get(task)) for event in self._steps]) for task in run.tasks]
            yield drawn(
                [line_chart("weight by step", lines, start=0.0)],
                "no weight is defined.",
                f"Weights from the balancer ({method}) for the shared parameters; means since the previous log line.",
            )
            return
        fixed = {name: task.weight for name, task in run.data.value.tasks.items()} if run.data.value is not None else {}
        listed = ", ".join(f"{task} {number(weight, 2)}" for task, weight in fixed.items())
        yield TextBlock(
            f"Method: {method}. The log contains no changing weights"
            + (f"; fixed weights: {listed}." if listed else ".")
        )

    def similarity(self) -> Iterator[Block]:
        """Yield the similarity of the tasks' gradients at each change of the plan."""
        changes = [event for event in self._run.events_of("split", "merge") if event.similarity]
        if not changes:
            return
        layers = sorted({(event.layer or 1) + offset for event in changes for offset in range(len(event.similarity))})
        rows = [f"{event.event} at step {event.step}" for event in changes]
        values = [
            [dict(enumerate(event.similarity, event.layer or 1)).get(layer) for layer in layers] for event in changes
        ]
        yield drawn(
            [
                heat_map(
                    "cosine of the groups' gradients, by layer",
                    rows,
                    [f"{layer}" for layer in layers],
                    values,
                    most=1.0,
                )
            ],
            "the similarities are undefined.",
            "For the two groups that split or merge, at each layer that changes. Orange: the gradients conflict.",
        )

    def forgetting(self) -> Iterator[Block]:
        """Yield every task's main dev score after each stage; nothing for a single stage."""
        stages = self._run.record.stages
        if len(stages) < 2:
            return
        tasks = list(dict.fromkeys(task for stage in stages for task in stage.scores))
        own_stage = {stage.stage: stage.scores.get(stage.stage) for stage in stages}
        rows: list[list[str]] = []
        for task in tasks:
            before, last = own_stage.get(task), stages[-1].scores.get(task)
            lost = "" if before is None or last is None else number(before - last)
            rows.append([task, *(number(stage.scores.get(task)) for stage in stages), lost])
        columns = ["task", *(f"after {stage.stage}" for stage in stages), "lost since its own stage"]
        yield TableBlock("Main dev scores after each stage", columns, rows)
        lines = [Line(task, [(stage.step, stage.scores.get(task)) for stage in stages]) for task in tasks]
        yield drawn([line_chart("main dev score after each stage", lines)], "no score of a stage is defined.")

    def speed(self) -> Chart | None:
        """Draw the training speed."""
        return line_chart(
            "tokens per second",
            [Line("all tasks", [(event.step, event.tokens_per_second) for event in self._steps])],
            start=0.0,
        )


def _decision(task: str | None, following: str | None, reason: str | None) -> str:
    words = [task or "", f"then {following}" if following else "", reason or ""]
    return ", ".join(word for word in words if word)
