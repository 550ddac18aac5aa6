"""Reuse of the results of an earlier comparison of the same configuration in the same folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.comparison.arms import ARMS, BASELINE
from polytask.comparison.preparation import PlannedRun, Prepared
from polytask.comparison.runs import RunStore, plan_arm
from polytask.config import Config, values_of
from polytask.files import file_digest, parse_json
from polytask.regular import is_file, read_text

CONFIG, RECORD = "config.json", "comparison.json"
# Minimum number of seeds of an arm: one seed gives no variance.
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class StoredComparison:
    """Content of the folder of an earlier comparison.

    Attributes:
        arms: overrides of each arm.
        seeds: seeds that the arms were trained with.
        importing: further arms that import modules, which the user has to request explicitly.
        data: hash of the rows of all splits; None if unknown.
    """

    arms: Mapping[str, Sequence[str]]
    seeds: tuple[int, ...]
    importing: tuple[str, ...] = ()
    data: str | None = None

    def is_on(self, data: str) -> bool:
        """Whether its runs read rows with this hash, as far as is known."""
        return self.data in (None, data)

    def with_arms(
        self, chosen: Sequence[str], named: Mapping[str, Sequence[str]]
    ) -> tuple[list[str], dict[str, Sequence[str]]]:
        """Return the requested arms followed by the earlier ones; requested arms replace those of the same name."""
        requested = {BASELINE, *chosen, *named}
        added = {name: overrides for name, overrides in self.arms.items() if name not in requested}
        plain = [name for name, overrides in added.items() if not overrides and name in ARMS]
        return [*chosen, *plain], {**named, **{name: values for name, values in added.items() if values}}


@dataclass(frozen=True)
class MergedRuns:
    """The arms and seeds of a comparison, including those reused from an earlier one.

    Attributes:
        seeds: seeds by arm; the baseline has those of all arms.
    """

    prepared: Mapping[str, Prepared]
    seeds: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of the baseline, which are those of all arms."""
        return self.seeds[BASELINE]


def is_of(folder: Path, config: Config, name: str = CONFIG) -> bool:
    """Whether a folder belongs to a configuration, according to its configuration file."""
    try:
        before = parse_json(read_text(folder / name))
    except (OSError, ValueError):
        return False
    return before == json.loads(json.dumps(values_of(config)))


def is_damaged(path: Path) -> bool:
    """Whether a JSON file exists and cannot be read."""
    try:
        parse_json(read_text(path))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return False


def keep_other(folder: Path) -> Path | None:
    """Rename the record of another configuration's comparison, before a new one is written.

    Returns its new path; None if there is no record.
    """
    record = folder / RECORD
    if not is_file(record):
        return None
    target = folder / f"comparison-{file_digest(record)[:8]}.json"
    record.replace(target)
    return target


def has_folds(folder: Path, folds: int) -> bool:
    """Whether the comparison in a folder has this number of folds, or no record yet."""
    try:
        record: Any = parse_json(read_text(folder / RECORD))
        return int(record.get("folds", 0)) == folds
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def read_earlier(folder: Path, config: Config, folds: int = 0) -> StoredComparison:
    """Read the arms and seeds of an earlier comparison of the same configuration; empty if there is none."""
    nothing = StoredComparison({}, ())
    if not (is_of(folder, config) and has_folds(folder, folds)):
        return nothing
    try:
        record: Any = parse_json(read_text(folder / RECORD))
        arms = {str(name): tuple(map(str, arm["overrides"])) for name, arm in record["arms"].items()}
        importing = tuple(name for name, overrides in arms.items() if any(map(_imports, overrides)))
        kept_arms = {name: overrides for name, overrides in arms.items() if name not in importing}
        seeds = tuple(int(seed) for seed in record["seeds"])
        return StoredComparison(kept_arms, seeds, importing, record.get("data"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return nothing


def _imports(override: str) -> bool:
    return override.partition("=")[0].strip().partition(".")[0] == "extensions"


def merge(
    prepared: Mapping[str, Prepared],
    requested: Sequence[str],
    seeds: Sequence[int],
    earlier: StoredComparison,
    store: RunStore,
) -> MergedRuns:
    """Add the earlier seeds for which all requested arms are complete, and the earlier arms.

    Nothing is trained that was not requested: an earlier arm keeps the seeds for which it is complete, and a note says
    so. With fewer than two seeds it is left out.

    Args:
        prepared: the requested and the earlier arms.
        requested: names of the requested arms; the baseline is always included.
        seeds: the requested seeds.
        earlier: the earlier comparison.
        store: the folder of the runs.
    """
    wanted = {BASELINE, *requested}
    others = [seed for seed in earlier.seeds if seed not in seeds]
    there = _Availability(prepared, store)
    added = [seed for seed in others if all(there.is_complete(name, seed) for name in wanted)]
    chosen = sorted([*seeds, *added]) if added else list(seeds)
    there.count_in(wanted, seeds)
    candidates = chosen if added == others else sorted({*chosen, *others})
    complete = {name: tuple(chosen) if name in wanted else there.complete_seeds(name, candidates) for name in prepared}
    included = {
        name: arm_seeds
        for name, arm_seeds in complete.items()
        if arm_seeds == tuple(chosen) or len(arm_seeds) >= FEWEST_SEEDS
    }
    used = {seed for arm_seeds in included.values() for seed in arm_seeds}
    included[BASELINE] = tuple(seed for seed in candidates if seed in used)
    notes = _notes(prepared, included, earlier)
    return MergedRuns({name: prepared[name] for name in prepared if name in included}, included, tuple(notes))


class _Availability:
    """Knows which runs are complete, or will be."""

    def __init__(self, prepared: Mapping[str, Prepared], store: RunStore) -> None:
        self._prepared = prepared
        self._store = store
        self._coming: set[str] = set()

    def count_in(self, names: Iterable[str], seeds: Iterable[int]) -> None:
        """Count runs that will be trained as complete, since another arm may consist of the same ones."""
        self._coming = {run.identity for seed in seeds for name in names for run in self._runs(name, seed)}

    def is_complete(self, name: str, seed: int) -> bool:
        """Whether all runs of an arm with a seed are complete, including those of its teachers."""
        has_teachers = self._prepared[name].arm.has_teachers
        runs = [*(self._runs(BASELINE, seed) if has_teachers else ()), *self._runs(name, seed)]
        return all(run.identity in self._coming or self._store.complete(self._store.place(run)) for run in runs)

    def complete_seeds(self, name: str, seeds: Iterable[int]) -> tuple[int, ...]:
        """Return the seeds for which an arm and its baseline are complete."""
        return tuple(seed for seed in seeds if self.is_complete(name, seed) and self.is_complete(BASELINE, seed))

    def _runs(self, name: str, seed: int) -> list[PlannedRun]:
        arm = self._prepared[name]
        teachers = self._runs(BASELINE, seed) if arm.arm.has_teachers else []
        return plan_arm(arm, seed, teachers, self._store.place)


def _notes(
    prepared: Mapping[str, Prepared], included: Mapping[str, tuple[int, ...]], earlier: StoredComparison
) -> Iterator[str]:
    """Yield notes on arms with fewer seeds, and on arms and seeds of an earlier comparison that are left out."""
    left_out = [name for name in prepared if name not in included]
    if left_out:
        yield (
            f"{_listed(left_out)} took part in an earlier comparison but not in this one: fewer than two of its seeds "
            "have all their runs; name them with --arms to train what is missing"
        )
    importing = [name for name in earlier.importing if name not in included]
    if importing:
        yield (
            f"{_listed(importing)} took part in an earlier comparison but not in this one: arms that import modules "
            "(extensions) must be requested again, with --arm or --arms-file"
        )
    fewer: dict[tuple[int, ...], list[str]] = {}
    for name, seeds in included.items():
        if len(seeds) < len(included[BASELINE]):
            fewer.setdefault(seeds, []).append(name)
    for seeds, names in fewer.items():
        yield (
            f"{_listed(names)}: over the seeds {_listed(seeds)} only, of {_listed(included[BASELINE])}; name all arms "
            "with --arms and all seeds with --seeds to train what is missing"
        )
    lost = [seed for seed in earlier.seeds if seed not in included[BASELINE]]
    if lost:
        yield f"the seeds {_listed(lost)} took part in an earlier comparison but not in this one: no arm has all runs"
    for name in included:
        before, now = earlier.arms.get(name), prepared[name].arm.overrides
        if before is not None and tuple(before) != tuple(now):
            yield f"{name} was {_listed(before)} in an earlier comparison, and is {_listed(now)} in this one"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
