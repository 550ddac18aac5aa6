"""What an earlier comparison of the same configuration found in the same folder takes part in the new one."""

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
# Of an arm: one seed says nothing about how much seeds vary.
FEWEST_SEEDS = 2


@dataclass(frozen=True)
class StoredComparison:
    """What the folder of a comparison already holds.

    Attributes:
        arms: the values that each arm sets.
        seeds: that they were trained with.
        importing: arms that import modules, and are none of these: a person has to ask for that, not a folder.
    """

    arms: Mapping[str, Sequence[str]]
    seeds: tuple[int, ...]
    importing: tuple[str, ...] = ()

    def with_arms(
        self, chosen: Sequence[str], named: Mapping[str, Sequence[str]]
    ) -> tuple[list[str], dict[str, Sequence[str]]]:
        """Return the arms that are asked for and behind them the earlier ones; a name that is asked for means that."""
        asked = {BASELINE, *chosen, *named}
        added = {name: overrides for name, overrides in self.arms.items() if name not in asked}
        plain = [name for name, overrides in added.items() if not overrides and name in ARMS]
        return [*chosen, *plain], {**named, **{name: found for name, found in added.items() if found}}


@dataclass(frozen=True)
class MergedRuns:
    """The arms and the seeds of a comparison, with what takes part from an earlier one.

    Attributes:
        seeds: by arm; the baseline has those of all arms.
    """

    prepared: Mapping[str, Prepared]
    seeds: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of the baseline, which are those of all arms."""
        return self.seeds[BASELINE]


def is_of(folder: Path, config: Config, name: str = CONFIG) -> bool:
    """Whether a folder holds the comparison, or what else keeps its configuration in a file, of a configuration."""
    try:
        before = parse_json(read_text(folder / name))
    except (OSError, ValueError):
        return False
    return before == json.loads(json.dumps(values_of(config)))


def keep_other(folder: Path) -> Path | None:
    """Keep the record of another configuration's comparison under a name of its own, before a new one is written.

    Returns its new place; None where there is no record.
    """
    record = folder / RECORD
    if not is_file(record):
        return None
    kept = folder / f"comparison-{file_digest(record)[:8]}.json"
    record.replace(kept)
    return kept


def has_folds(folder: Path, folds: int) -> bool:
    """Whether the comparison in a folder is by so many folds, or has no record yet."""
    try:
        record: Any = parse_json(read_text(folder / RECORD))
        return int(record.get("folds", 0)) == folds
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def read_earlier(folder: Path, config: Config, folds: int = 0) -> StoredComparison:
    """Read the arms and seeds of an earlier comparison of the same configuration; nothing where there is none."""
    nothing = StoredComparison({}, ())
    if not (is_of(folder, config) and has_folds(folder, folds)):
        return nothing
    try:
        record: Any = parse_json(read_text(folder / RECORD))
        arms = {str(name): tuple(map(str, arm["overrides"])) for name, arm in record["arms"].items()}
        importing = tuple(name for name, overrides in arms.items() if any(map(_imports, overrides)))
        kept = {name: overrides for name, overrides in arms.items() if name not in importing}
        return StoredComparison(kept, tuple(int(seed) for seed in record["seeds"]), importing)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return nothing


def _imports(override: str) -> bool:
    return override.partition("=")[0].strip().partition(".")[0] == "extensions"


def merge(
    prepared: Mapping[str, Prepared],
    asked: Sequence[str],
    seeds: Sequence[int],
    earlier: StoredComparison,
    store: RunStore,
) -> MergedRuns:
    """Add the earlier seeds with which all arms that are asked for are complete, then the earlier arms.

    Nothing is trained for what was not asked for: an earlier arm keeps the seeds that it is complete with, and a note
    says so. With fewer than two it stays out.

    Args:
        prepared: the arms that are asked for, and the earlier ones.
        asked: the arms that are asked for; the baseline always is.
    """
    wanted = {BASELINE, *asked}
    others = [seed for seed in earlier.seeds if seed not in seeds]
    there = _There(prepared, store)
    added = [seed for seed in others if all(there.is_complete(name, seed) for name in wanted)]
    chosen = sorted([*seeds, *added]) if added else list(seeds)
    there.count_in(wanted, seeds)
    candidates = chosen if added == others else sorted({*chosen, *others})
    own = {name: tuple(chosen) if name in wanted else there.complete_seeds(name, candidates) for name in prepared}
    kept = {name: found for name, found in own.items() if found == tuple(chosen) or len(found) >= FEWEST_SEEDS}
    used = {seed for found in kept.values() for seed in found}
    kept[BASELINE] = tuple(seed for seed in candidates if seed in used)
    notes = _notes(prepared, kept, earlier)
    return MergedRuns({name: prepared[name] for name in prepared if name in kept}, kept, tuple(notes))


class _There:
    """Which runs are complete, or will be."""

    def __init__(self, prepared: Mapping[str, Prepared], store: RunStore) -> None:
        self._prepared = prepared
        self._store = store
        self._coming: set[str] = set()

    def count_in(self, names: Iterable[str], seeds: Iterable[int]) -> None:
        """Count the runs that will be trained as complete: another arm may be made of the same ones."""
        self._coming = {run.identity for seed in seeds for name in names for run in self._runs(name, seed)}

    def is_complete(self, name: str, seed: int) -> bool:
        """Whether all runs of an arm with a seed are there, and those of its teachers."""
        has_teachers = self._prepared[name].arm.has_teachers
        runs = [*(self._runs(BASELINE, seed) if has_teachers else ()), *self._runs(name, seed)]
        return all(run.identity in self._coming or self._store.complete(self._store.place(run)) for run in runs)

    def complete_seeds(self, name: str, seeds: Iterable[int]) -> tuple[int, ...]:
        """Return the seeds with which an arm is complete, and its baseline."""
        return tuple(seed for seed in seeds if self.is_complete(name, seed) and self.is_complete(BASELINE, seed))

    def _runs(self, name: str, seed: int) -> list[PlannedRun]:
        arm = self._prepared[name]
        teachers = self._runs(BASELINE, seed) if arm.arm.has_teachers else []
        return plan_arm(arm, seed, teachers, self._store.place)


def _notes(
    prepared: Mapping[str, Prepared], kept: Mapping[str, tuple[int, ...]], earlier: StoredComparison
) -> Iterator[str]:
    """Say which arms have fewer seeds than others, and what of an earlier comparison does not take part."""
    left = [name for name in prepared if name not in kept]
    if left:
        yield (
            f"{_listed(left)} took part in an earlier comparison and not in this one: fewer than two of its seeds have "
            "all their runs; name them with --arms to train what is missing"
        )
    importing = [name for name in earlier.importing if name not in kept]
    if importing:
        yield (
            f"{_listed(importing)} took part in an earlier comparison and not in this one: what imports modules "
            "(extensions) has to be asked for again, with --arm or --arms-file"
        )
    fewer: dict[tuple[int, ...], list[str]] = {}
    for name, seeds in kept.items():
        if len(seeds) < len(kept[BASELINE]):
            fewer.setdefault(seeds, []).append(name)
    for seeds, names in fewer.items():
        yield (
            f"{_listed(names)}: over the seeds {_listed(seeds)} only, of {_listed(kept[BASELINE])}; name all arms with "
            "--arms and all seeds with --seeds to train what is missing"
        )
    lost = [seed for seed in earlier.seeds if seed not in kept[BASELINE]]
    if lost:
        yield f"the seeds {_listed(lost)} took part in an earlier comparison and not in this one: no arm has all runs"
    for name in kept:
        before, now = earlier.arms.get(name), prepared[name].arm.overrides
        if before is not None and tuple(before) != tuple(now):
            yield f"{name} was {_listed(before)} in an earlier comparison, and is {_listed(now)} in this one"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
