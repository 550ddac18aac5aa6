"""Hyperparameter search: trials are ordinary runs, rated on dev, and the best one is scored on test once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from polytask.api import as_config
from polytask.assemble import assemble
from polytask.config import Config, values_of, without_test
from polytask.config.row_files import with_row_files
from polytask.crew import interrupted
from polytask.errors import ConfigError, Interrupted, PolytaskError, TrainingError
from polytask.files import read_json, write_json, write_text
from polytask.lock import locked
from polytask.ray_cluster.session import require_ray
from polytask.regular import is_file, is_folder
from polytask.terminal import PlainConsole, duration
from polytask.tuning.candidates import Candidates, check_candidates, require_searchable
from polytask.tuning.crew import TrialCrew
from polytask.tuning.folder import (
    BEST,
    RECORD,
    add_test_scores,
    has_search,
    keep_only,
    open_search,
    place_model,
    settings_of,
    trial_folder,
    wait_for_orphans,
)
from polytask.tuning.record import Tuning, best_of, score_test, to_record, trial_record
from polytask.tuning.space import Search, SearchAxis, read_search
from polytask.tuning.study import Study, mend_journal, quiet
from polytask.tuning.trial import run_trial

MOST_TRIALS = 10_000


def tune(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path,
    *,
    search: Search,
    trials: int = 20,
    jobs: int = 1,
    seed: int | None = None,
    prune: bool = True,
    keep: int = 3,
    ray: bool = False,
    overrides: Sequence[str] = (),
) -> Tuning:
    """Search values of some options for the best dev score, by the run's selection rule.

    Args:
        config: a YAML file, a mapping of the same form, or a Config.
        out: folder of the search. Trials that exist there count, and interrupted ones are resumed.
        search: by path, a range ("log:1e-5:1e-3", "int:0:6", "1:5") or a list of values; or texts as after `--search`.
        trials: total number of trials.
        jobs: number of trials that train in parallel, each in a process of its own.
        seed: seed of the suggestions; by default that of the configuration, with which all trials train.
        prune: whether to stop trials early that are worse than the median of those before them.
        keep: number of best trials whose models are kept.
        ray: whether to train on the Ray cluster at RAY_ADDRESS, or on a local one; its machines need this folder and
            the data at the same paths.
        overrides: overrides of the configuration, such as "train.epochs=1".

    Raises:
        UserError: the input is at fault; nothing has been trained.
        TrainingError: a trial cannot continue, for a reason other than its values; finished work is kept.
        Interrupted: stopped by Ctrl-C, after saving; the same call resumes it.
    """
    full, folder = as_config(config, overrides), Path(out)
    if ray:
        require_ray()
    axes = read_search(search)
    for name, value, most in (("trials", trials, MOST_TRIALS), ("jobs", jobs, 1000), ("keep", keep, MOST_TRIALS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"--{name}: found {value}; expected a whole number from 1 to {most:,}")
    chosen = full.train.seed if seed is None else seed
    if not 0 <= chosen < 2**63:
        raise ConfigError(f"--seed: found {chosen}; expected a whole number from 0 to {2**63 - 1}")
    require_searchable(axes, full)
    with locked(folder), quiet():
        full = with_row_files(full, folder, write=True)
        ready = _prepare(folder, full, axes, chosen, prune=prune)
        trained = _Search(ready, trials, jobs, keep, ray).run()
        record = _conclude(ready, trials)
    return Tuning(folder, record["best"], record["trials"], record["importance"], record["test"], trained, record)


@dataclass(frozen=True)
class _Ready:
    """A search that is ready for its first trial.

    Attributes:
        full: the configuration with its test rows, which only the best model is scored on.
        first: parameters of trial 0; None if the unchanged configuration is outside the search space.
        rule: the selection rule by which evaluations are rated.
    """

    folder: Path
    full: Config
    candidates: Candidates
    settings: Mapping[str, Any]
    study: Study
    first: Mapping[str, Any] | None
    rule: Mapping[str, Any]


def _prepare(folder: Path, full: Config, axes: Sequence[SearchAxis], seed: int, *, prune: bool) -> _Ready:
    blind = without_test(full)
    candidates = Candidates(values_of(blind), tuple(axes))
    if not has_search(folder):
        check_candidates(candidates)
    assembly = assemble(blind)
    settings = settings_of(axes, seed, assembly.identity, prune=prune)
    open_search(folder, blind, settings)
    mend_journal(folder)
    first = candidates.as_it_is(assembly.config, blind)
    return _Ready(
        folder, full, candidates, settings, Study(folder, axes, seed, prune=prune),
        None if isinstance(first, str) else first, assembly.rule.to_json(),
    )  # fmt: skip


@dataclass
class _Search:
    """Runs trials until the requested number is reached, and reports progress."""

    ready: _Ready
    requested: int
    jobs: int
    keep: int
    ray: bool = False
    trained: int = 0
    began: float = field(default_factory=time.monotonic)
    interrupted: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.console = PlainConsole(stderr=True, soft_wrap=True)

    def run(self) -> int:
        """Run the trials and return how many ran."""
        ready = self.ready
        self.interrupted = ready.study.running()
        wait_for_orphans(ready.folder, self.interrupted)
        self._clean()
        if self.jobs > 1 or self.ray:
            TrialCrew(ready.folder, self.jobs, self.console, self.next_trial, self.ended, ray=self.ray).work()
            return self.trained
        while (trial := self.next_trial()) is not None:
            self._run_here(*trial)
        return self.trained

    def next_trial(self) -> tuple[int, Config] | None:
        """Return the next trial: an interrupted one, or a new one; None if there are enough."""
        study = self.ready.study
        again = bool(self.interrupted)
        if not again and len(study.trials()) >= self.requested:
            return None
        number = self.interrupted.pop(0) if again else study.begin(self.ready.first)
        values = study.values(number)
        parameters = ", ".join(f"{path} {value}" for path, value in values.items())
        self.console.print(
            f"trial {number} ({number + 1} of {max(self.requested, number + 1)}){' continues' * again}: {parameters}"
        )
        return number, self.ready.candidates.config(values)

    def _run_here(self, number: int, config: Config) -> None:
        try:
            run_trial(self.ready.folder, self.ready.study, number, config)
        except Interrupted as error:
            raise interrupted(f"trial {number}", error) from None
        except PolytaskError as error:
            raise type(error)(f"{trial_folder(self.ready.folder, number)}: {error}") from None
        self.ended(number)

    def ended(self, number: int) -> None:
        """Print the result of a trial, and delete the weights that are not kept."""
        self.trained += 1
        folder, study = self.ready.folder, self.ready.study
        trials = [trial_record(folder, study, trial) for trial in study.trials()]
        best = next(iter(best_of(trials)), None)
        trial = trials[number]
        value = "" if trial["value"] is None else f" {trial['value']:.4f}"
        best_so_far = "" if best is None else f"; best so far: {best['value']:.4f}, trial {best['trial']}"
        reason = "" if trial["reason"] is None else f" ({trial['reason'].removeprefix(trial['state'] + ': ')})"
        self.console.print(f"trial {number}: {trial['state']}{value}{reason}{best_so_far}{self._time_left()}")
        self._clean()

    def _time_left(self) -> str:
        remaining = self.requested - sum(trial.state.is_finished() for trial in self.ready.study.trials())
        if remaining < 1:
            return ""
        seconds = (time.monotonic() - self.began) / self.trained * remaining
        return f"; about {duration(seconds)} left"

    def _clean(self) -> None:
        folder, study = self.ready.folder, self.ready.study
        trials = [trial_record(folder, study, trial) for trial in study.trials()]
        ended = [trial["trial"] for trial in trials if trial["state"] != "running"]
        keep_only(folder, [trial["trial"] for trial in best_of(trials)[: self.keep]], ended)


def _conclude(ready: _Ready, requested: int) -> dict[str, Any]:
    """Write best.yaml, model/ and tune.json, and score the best model on test unless that was done before."""
    folder, study = ready.folder, ready.study
    trials = [trial_record(folder, study, trial) for trial in study.trials()]
    if not best_of(trials):
        reasons = list(dict.fromkeys(trial["reason"] for trial in trials if trial["reason"]))[:3]
        raise TrainingError(
            f"{folder}: none of {len(trials)} trials could be completed ({'; '.join(reasons)}); search other values in "
            "a new folder"
        )
    record = to_record(folder, study, ready.settings, ready.rule, requested, ready.first is not None)
    best = record["best"]
    of = f"of {len(trials)} trials of polytask tune: trial {best['trial']}"
    comment = f"# The best {of}, rated {best['value']:.4f} on dev.\n"
    values = ready.candidates.written(ready.full, best["parameters"])
    write_text(folder / BEST, comment + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    earlier = _earlier_test(folder, best["trial"], ready.full)
    if earlier is None:
        # Before test rows are read, so that the results are kept whatever these hold.
        write_json(folder / RECORD, record)
        place_model(folder, folder / best["run"])
        earlier = {
            "trial": best["trial"],
            "of": _test_rows(ready.full),
            "scores": score_test(folder / "model", ready.full),
        }
        add_test_scores(folder, earlier["scores"])
    record["tested"], record["test"] = {name: earlier[name] for name in ("trial", "of")}, earlier["scores"]
    write_json(folder / RECORD, record)
    return read_json(folder / RECORD)  # so that this result is identical to that of the next call


def _test_rows(config: Config) -> dict[str, Any]:
    return {name: None if task.data.test is None else str(task.data.test)[:1000] for name, task in config.tasks.items()}


def _earlier_test(folder: Path, best: int, config: Config) -> dict[str, Any] | None:
    """Return earlier test scores of the same best model on the same test rows; None if there are none."""
    if not is_file(folder / RECORD) or not is_folder(folder / "model"):
        return None
    record = read_json(folder / RECORD)
    tested = record.get("tested")
    if tested is None or tested != {"trial": best, "of": _test_rows(config)}:
        return None
    return {**tested, "scores": record["test"]}
