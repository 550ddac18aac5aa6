"""Does sharing pay off? Train every arm under the same budget, and compare each task with its single model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.api import as_config
from polytask.arm_tables import to_csv, to_latex, to_markdown
from polytask.comparison.arms import BASELINE, answering_tasks
from polytask.comparison.grid import axes_of, grid_arms, read_arms_file, read_axes
from polytask.comparison.merging import (
    CONFIG,
    FEWEST_SEEDS,
    RECORD,
    MergedRuns,
    StoredComparison,
    has_folds,
    is_damaged,
    is_of,
    keep_other,
    merge,
    read_earlier,
)
from polytask.comparison.predictions import read_predictions, require_answers_to
from polytask.comparison.preparation import Prepared, data_of, fold_notes, prepare, short_notes
from polytask.comparison.record import Findings, to_json
from polytask.comparison.runs import RunStore, run_arms
from polytask.comparison.statistics import compare_arms
from polytask.config import Config, values_of
from polytask.config.row_files import with_row_files
from polytask.errors import ConfigError, OutputError
from polytask.files import write_json
from polytask.inputs import names_in, texts_in
from polytask.lock import locked
from polytask.ray_cluster.session import ray_session, require_ray
from polytask.regular import is_file
from polytask.result import Result, listed
from polytask.tasks import TASKS, Task

RESAMPLES = 2000
MOST_FOLDS = 20


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """The result of a comparison.

    Attributes:
        folder: folder with comparison.json and the runs.
        tasks: metric of each task, scores and difference to `single` of each arm, and the verdict.
        arms: overrides, parameters, times, exposure and run folders of each arm.
        recommended: the recommended arm.
        reason: reason for the recommendation.
        trained, reused: number of runs that were trained now, and of runs that existed already.
        record: content of comparison.json.
    """

    folder: Path
    tasks: Mapping[str, Any]
    arms: Mapping[str, Any]
    recommended: str
    reason: str
    trained: int
    reused: int
    record: Mapping[str, Any]

    def to_csv(self) -> str:
        """Return one line per task and arm, with all figures unrounded."""
        return to_csv(self.record)

    def to_latex(self) -> str:
        """Return a table for a paper: arms by tasks, mean and spread, best arms marked, significance after Holm."""
        return to_latex(self.record)

    def to_markdown(self) -> str:
        """Return the same table in Markdown."""
        return to_markdown(self.record)

    def summary(self) -> str:
        return f"{listed(self.tasks)} under {listed(self.arms)}; recommended: {self.recommended}"

    def records(self) -> list[dict[str, Any]]:
        columns = ("mean", "std", "delta", "low", "high", "relative")
        return [
            {"task": task, "metric": result["metric"], "arm": arm, **{name: values[name] for name in columns}}
            for task, result in self.tasks.items()
            for arm, values in result["arms"].items()
        ]


def compare(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path,
    *,
    arms: Sequence[str] | None = None,
    named: Mapping[str, Sequence[str]] | None = None,
    grid: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    arms_file: str | Path | None = None,
    seeds: int | Sequence[int] = 3,
    folds: int = 0,
    floor: float = 0.5,
    jobs: int = 1,
    ray: bool = False,
    overrides: Sequence[str] = (),
) -> Comparison:
    """Train each arm with each seed, and report for every task whether sharing pays off.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        out: folder of the comparison; complete runs in it are not trained again.
        arms: single, global, config, independent, pairs, distill, or names of `named`, as a list or as a text with
            commas. `single` is always included, and so are arms and seeds that an earlier comparison of the same
            configuration completed in `out`. By default single, global and config; with a grid or a file of arms,
            single and these.
        named: variants of the configuration by name, each a list of overrides such as "sharing.shared_layers=3".
        grid: values of options by path; every combination is an arm.
        arms_file: YAML file with the options of each arm by name.
        seeds: number of seeds, starting from train.seed, or a list of seeds.
        folds: number of folds of the training rows; every model is trained without each fold in turn and predicts it.
            Test rows are then not read. 0 to compare on test rows.
        floor: points (hundredths of the metric's unit) that a task may lose.
        jobs: number of runs to train at the same time.
        ray: whether to train on the Ray cluster at RAY_ADDRESS, or on a local one; its machines need this folder and
            the data at the same paths.
        overrides: changes to the configuration, for all arms.

    Raises:
        UserError: the input is invalid; nothing has been trained.
        TrainingError: a run cannot continue; finished runs are kept.
        Interrupted: stopped by Ctrl-C, after saving; the same call continues.
    """
    checked, folder = as_config(config, overrides), Path(out)
    chosen = chosen_seeds(seeds, checked.train.seed)
    if folds != 0 and not (isinstance(folds, int) and 2 <= folds <= MOST_FOLDS):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"--folds: found {folds}; expected 2 to {MOST_FOLDS} folds of the training rows, such as 5")
    if floor < 0:
        raise ConfigError(f"--floor: found {floor:g}; expected points that a task may lose, 0 or more")
    if jobs < 1:
        raise ConfigError(f"--jobs: found {jobs}; expected at least 1")
    if ray:
        require_ray()
    requested, named = requested_arms(arms, named or {}, grid, arms_file)
    with locked(folder):
        checked = with_row_files(checked, folder, write=True)
        before = read_earlier(folder, checked, folds)
        included, variants = before.with_arms(requested, named)
        prepared = prepare(checked, included, variants, folds)
        data = data_of(prepared)
        notes = [*open_comparison(folder, checked, folds, data), *(fold_notes(checked) if folds else ())]
        if not before.is_on(data):
            before = StoredComparison({}, ())
            prepared = {name: arm for name, arm in prepared.items() if name in {BASELINE, *requested, *named}}
        notes += short_notes(_epochs_alone(prepared), checked.train)
        store = RunStore(folder / "runs", ray=ray)
        merged = merge(prepared, [*requested, *named], chosen, before, store)
        with ray_session() if ray else nullcontext():
            runs = run_arms(merged.prepared, merged.seeds, store, jobs)
        findings = _findings(checked, merged, runs, folds, floor, notes)
        record: dict[str, Any] = {**to_json(findings, folder), "data": data}
        write_json(folder / RECORD, record)
    return Comparison(
        folder, record["tasks"], record["arms"], record["recommended"], record["reason"], store.trained, store.reused,
        record,
    )  # fmt: skip


def requested_arms(
    arms: Sequence[str] | None,
    named: Mapping[str, Sequence[str]],
    grid: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
    arms_file: str | Path | None = None,
) -> tuple[list[str], dict[str, Sequence[str]]]:
    """Return the names of the requested arms, and the overrides of the variants among them. Raises ConfigError."""
    axes = axes_of(grid) if isinstance(grid, Mapping) else read_axes(texts_in(grid or (), "grid", "train.epochs=1,2"))
    file = None if arms_file is None else read_arms_file(Path(arms_file))
    sources = (("--arm", named), ("--grid", grid_arms(axes)), ("--arms-file", {} if file is None else file.named))
    variants: dict[str, Sequence[str]] = {}
    for _, overrides_by_name in sources:
        for name, overrides in overrides_by_name.items():
            if name in variants:
                options = [option for option, arms_of_option in sources if name in arms_of_option]
                raise ConfigError(f"{' and '.join(options)}: both define an arm {name!r}; rename one of them")
            variants[name] = texts_in(overrides, f"named: {name}", "train.epochs=1")
    default = (BASELINE, "global", "config") if not axes and file is None else (BASELINE,)
    chosen = list(default) if arms is None else names_in(arms, "arms")
    return [*chosen, *(name for name in (file.built_in if file else ()) if name not in chosen)], variants


def chosen_seeds(seeds: int | Sequence[int], first: int) -> list[int]:
    """Return the seeds. Raises ConfigError for fewer than two, which give no variance over seeds."""
    if isinstance(seeds, str):
        raise ConfigError(f"seeds: found {seeds[:100]!r}; expected a number of seeds, or a list of whole numbers")
    seed_list = list(range(first, first + seeds)) if isinstance(seeds, int) else list(seeds)
    if len(set(seed_list)) != len(seed_list):
        raise ConfigError(f"--seeds: found {', '.join(map(str, seed_list))}; list a seed once")
    if len(seed_list) < FEWEST_SEEDS:
        raise ConfigError(
            f"--seeds: found {len(seed_list)}; an interval over seeds needs two or more; "
            f"set --seeds 3, or list them: 13,14"
        )
    return seed_list


def open_comparison(folder: Path, config: Config, folds: int, data: str) -> list[str]:
    """Create the folder; return a note if it holds a comparison of another configuration or other rows, which is kept.

    Args:
        data: hash of the rows.
    """
    other = is_file(folder / CONFIG) and not (is_of(folder, config) and has_folds(folder, folds))
    changed = not other and not read_earlier(folder, config, folds).is_on(data)
    damaged = next((name for name in (CONFIG, RECORD) if is_damaged(folder / name)), None) if other else None
    kept = keep_other(folder) if other or changed else None
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be used as the folder of a comparison ({error})") from None
    write_json(folder / CONFIG, values_of(config))
    addition = "" if kept is None else f", and its results are kept in {kept.name}"
    if changed:
        return [f"{folder} held a comparison on other data: the rows have changed since; its runs are kept{addition}"]
    if not other:
        return []
    if damaged is not None:
        return [f"{folder / damaged} was damaged, so earlier arms are not listed; their runs are kept{addition}"]
    return [f"{folder} held a comparison of another configuration, or with other folds; its runs are kept{addition}"]


def _epochs_alone(prepared: Mapping[str, Prepared]) -> dict[str, float]:
    """Return the epochs of each task's single model; empty without the arm of single models."""
    parts = prepared[BASELINE].parts if BASELINE in prepared else ()
    return {task: part.config.train.epochs for part in parts for task in part.config.tasks}


def _findings(
    config: Config,
    merged: MergedRuns,
    runs: Mapping[str, Mapping[int, Sequence[Path]]],
    folds: int,
    floor: float,
    notes: Sequence[str],
) -> Findings:
    prepared = merged.prepared
    judged = {task: found for part in prepared[BASELINE].parts for task, found in part.judged.items()}
    answering = {name: folders for name, folders in runs.items() if prepared[name].arm.answers}
    tasks = answering_tasks(config)
    answers = read_predictions(answering, list(tasks), folds or 1)
    parts = prepared[BASELINE].parts
    labels = {
        task: [label for part in parts if task in part.judged for label in part.judged[task].labels] for task in tasks
    }
    for task in tasks:
        if TASKS.of(config.tasks[task]).readable_label is not Task.readable_label:  # the runs wrote readable labels
            labels[task] = [None] * len(labels[task])
    require_answers_to(labels, answers)
    differences = {
        task: compare_arms(
            judged[task].metric, judged[task].level, judged[task].measured(found),
            baseline=BASELINE, resamples=RESAMPLES, seed=0,
        )
        for task, found in answers.items()
    }  # fmt: skip
    metrics = {task: judged[task].metric for task in tasks}
    unequal = (arm.unequal.note(name) for name, arm in prepared.items() if arm.unequal)
    return Findings(
        metrics, prepared, runs, answers, differences, merged.all_seeds, floor, (*unequal, *notes, *merged.notes), folds
    )
