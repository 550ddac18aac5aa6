"""Training of the runs: reuses complete ones, resumes interrupted ones, and trains several in parallel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from polytask.api import train
from polytask.artifact.description import NOT_KEPT
from polytask.comparison.arms import BASELINE
from polytask.comparison.preparation import PlannedRun, Prepared
from polytask.crew import Crew, ProcessJob, interrupted, reason_in
from polytask.errors import Interrupted, NothingToResume, OutputError, PolytaskError, TrainingError
from polytask.files import discard, remove, write_text
from polytask.lock import is_held, locked
from polytask.regular import is_file, is_folder
from polytask.run import is_run, sweep_run
from polytask.terminal import PlainConsole
from polytask.training.checkpoint import is_whole

NOT_WHOLE = "no checkpoint is complete"


@dataclass
class RunStore:
    """The folder of all runs of comparisons, each named by its label and the hash of everything that determines it.

    Attributes:
        trained: number of runs that this comparison trained.
        reused: number of runs that were complete before.
        ray: whether runs train on a Ray cluster.
    """

    folder: Path
    trained: int = 0
    reused: int = 0
    ray: bool = False

    def place(self, run: PlannedRun) -> Path:
        """Return the folder of a run; equal runs of two arms share one."""
        matches = sorted(self.folder.glob(f"*-{run.identity}"))
        return matches[0] if matches else self.folder / f"{run.label}-{run.identity}"

    def complete(self, folder: Path) -> bool:
        """Whether a run is finished and has its model."""
        return is_file(folder / "scores.json") and is_folder(folder / "model")

    def scored(self, folder: Path) -> bool:
        """Whether a run is finished; its model may have been deleted."""
        return self.complete(folder) or (is_file(folder / "scores.json") and is_file(folder / NOT_KEPT))

    def train_all(
        self,
        runs: Sequence[PlannedRun],
        jobs: int,
        failed: dict[str, str] | None = None,
        *,
        keep_models: bool = True,
    ) -> dict[str, Path]:
        """Train the runs that are not complete, and return the folder of each by hash.

        Args:
            runs: the runs.
            jobs: number of runs to train at the same time.
            failed: filled with the reasons, by hash, of runs that cannot continue, while the others are trained;
                without it such a reason is raised.
            keep_models: whether the models are needed; if not, each is deleted once its run has scores and predictions.

        Raises:
            Interrupted: stopped by Ctrl-C, after saving.
            PolytaskError: the error of a run, with its name.
        """
        different: dict[str, PlannedRun] = {}
        for run in runs:
            different.setdefault(run.identity, run)
        places = {identity: self.place(run) for identity, run in different.items()}
        waiting = {
            places[identity]: run
            for identity, run in different.items()
            if not self._finished(places[identity], keep_models=keep_models)
        }
        self.reused += len(places) - len(waiting)
        self.trained += len(waiting)
        console = PlainConsole(stderr=True, soft_wrap=True)
        for place in waiting:
            _check_begun(place, console)
        if jobs > 1 or (self.ray and waiting):
            _RunCrew(waiting, jobs, console, failed, ray=self.ray, keep_models=keep_models).work()
        else:
            for number, (place, run) in enumerate(waiting.items(), start=1):
                _log(console, f"run {number} of {len(waiting)}: {place.name}, seed {run.config.train.seed}")
                try:
                    _train_here(run, place, console)
                except TrainingError as error:
                    if failed is None:
                        raise
                    failed[run.identity] = str(error)
                else:
                    if not keep_models:
                        _drop_model(place)
        return places

    def _finished(self, place: Path, *, keep_models: bool) -> bool:
        """Tidy the folder of a run if it is finished, and return whether it is."""
        if self.complete(place) or (self.scored(place) and not keep_models):
            _sweep_complete(place)
            if not keep_models:
                _drop_model(place)
            return True
        if self.scored(place):
            discard(place)  # its model is needed after all
        return False


def _log(console: Console, text: str) -> None:
    console.print(text)


def _sweep_complete(place: Path) -> None:
    """Remove what a process left that was killed just after it completed a run: checkpoints, and its lock file."""
    if any(item.name.startswith(".") or item.name == "checkpoints" for item in place.iterdir()):
        with suppress(OutputError), locked(place):
            sweep_run(place)


def _drop_model(place: Path) -> None:
    """Delete the weights of a finished run. Its configuration, scores, predictions and logs stay."""
    if not is_folder(place / "model"):
        return
    with suppress(OutputError, OSError):  # on a full disk, for one: then the model stays
        text = "The model was deleted to save space: polytask train config.yaml --out DIR repeats this run.\n"
        write_text(place / NOT_KEPT, text)
        discard(place / "model")  # at once, since a partly deleted one could pass for a model
        remove(place / "best")


def _check_begun(place: Path, console: Console) -> None:
    """Set an unfinished run aside whose record of its rows is damaged, or every checkpoint: it cannot be resumed."""
    names = {item.name for item in place.iterdir()} if is_folder(place) else set[str]()
    if not names & {"data.json", "checkpoints"} or "model" in names or is_held(place):
        return
    if not is_run(place):
        _set_aside(place, "its data.json cannot be read", console)
    elif not is_whole(place / "checkpoints"):
        _set_aside(place, NOT_WHOLE, console)


def _set_aside(place: Path, why: str, console: Console) -> None:
    """Rename the folder of a run that cannot be resumed, so that it can be trained again and nothing is lost."""
    target = place.with_name(f"{place.name}.damaged-{secrets.token_hex(4)}")
    place.rename(target)
    _log(console, f"{place.name}: {why}; the run is trained again, and its old content is kept in {target.name}")


def _train_here(run: PlannedRun, place: Path, console: Console) -> None:
    if is_folder(place / "model"):
        raise OutputError(
            f"{place}: the scores of this run are missing; delete the folder, and the same command trains it again"
        )
    try:
        try:
            train(run.config, place, resume=is_folder(place))
        except NothingToResume:
            _set_aside(place, NOT_WHOLE, console)
            train(run.config, place, resume=False)
    except Interrupted as error:
        raise interrupted(place.name, error) from None
    except PolytaskError as error:
        raise type(error)(f"{place}: {error}") from None


class _RunCrew(Crew[Path]):
    """Trains runs in parallel processes.

    Args:
        waiting: the runs to train, by folder.
        excused: filled with the reasons, by hash, of runs that cannot continue; without it the first one ends all.
        keep_models: whether the models of finished runs are kept.
    """

    def __init__(
        self,
        waiting: Mapping[Path, PlannedRun],
        jobs: int,
        console: Console,
        excused: dict[str, str] | None,
        *,
        ray: bool,
        keep_models: bool,
    ) -> None:
        super().__init__(jobs, console, ray=ray)
        self._waiting, self._excused, self._keep_models = waiting, excused, keep_models
        self._left = list(enumerate(waiting.items(), start=1))

    def next_job(self) -> ProcessJob[Path] | None:
        if not self._left:
            return None
        number, (place, run) = self._left.pop(0)
        _log(self.console, f"run {number} of {len(self._waiting)}: {place.name}, seed {run.config.train.seed}")
        place.mkdir(parents=True, exist_ok=True)
        config = place / "config.yaml"
        write_text(config, yaml.safe_dump(run.config.to_json(), sort_keys=False, allow_unicode=True))
        return ProcessJob(place, ("train", str(config), "--out", str(place), "--resume"), place / "log.txt")

    def end(self, job: ProcessJob[Path], code: int) -> bool:
        if code == 0:
            _log(self.console, f"done: {job.key.name}")
            if not self._keep_models:
                _drop_model(job.key)
        elif code == 1 and self._excused is not None:
            self._excused[self._waiting[job.key].identity] = reason_in(job.log)
        else:
            return False
        return True


def plan_arm(
    arm: Prepared, seed: int, teachers: Sequence[PlannedRun], place: Callable[[PlannedRun], Path]
) -> list[PlannedRun]:
    """Return an arm's runs with a seed, one per model.

    Args:
        teachers: runs that teach models of the same fold.
        place: returns the folder of a run.
    """
    teacher_folders: dict[int, list[Path]] = {}
    for run in teachers:
        teacher_folders.setdefault(run.fold, []).append(place(run))
    return [part.seeded(seed, teacher_folders.get(part.fold, ())) for part in arm.parts]


def run_arms(
    prepared: Mapping[str, Prepared], seeds: Mapping[str, Sequence[int]], store: RunStore, jobs: int
) -> dict[str, dict[int, list[Path]]]:
    """Train every arm with each of its seeds, and return the folders by arm and seed, one per model of the arm.

    Args:
        prepared: the arms.
        seeds: seeds by arm; the baseline has those of all arms.
        store: the folder of the runs.
        jobs: number of runs to train at the same time.
    """
    planned: dict[str, dict[int, list[PlannedRun]]] = {}
    places: dict[str, Path] = {}

    def plan(name: str, teachers: Mapping[int, Sequence[PlannedRun]]) -> list[PlannedRun]:
        planned[name] = {
            seed: plan_arm(prepared[name], seed, teachers.get(seed, ()), lambda run: places[run.identity])
            for seed in seeds[name]
        }
        return [run for runs in planned[name].values() for run in runs]

    def folders(name: str) -> dict[int, list[Path]]:
        return {seed: [places[run.identity] for run in runs] for seed, runs in planned[name].items()}

    # Teachers first: their students can only start once they are done.
    first = [run for name, arm in prepared.items() if not arm.arm.has_teachers for run in plan(name, {})]
    places |= store.train_all(first, jobs)
    second = [run for name, arm in prepared.items() if arm.arm.has_teachers for run in plan(name, planned[BASELINE])]
    places |= store.train_all(second, jobs) if second else {}
    return {name: folders(name) for name in prepared}
