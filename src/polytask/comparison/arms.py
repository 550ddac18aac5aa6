"""The arms of a comparison. An arm is one configuration per model; a new kind is one function and one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from polytask.balance import BALANCERS
from polytask.comparison.budget import Budget
from polytask.config import Config, validate, values_of
from polytask.config.document import Path_, apply_overrides
from polytask.errors import ConfigError, nearest
from polytask.options import is_name
from polytask.registry import Table
from polytask.schedule import SCHEDULES
from polytask.sharing import SHARING

BASELINE = "single"
# Options of a task that only make sense with other tasks.
_JOINT_KEYS = ("needs", "reads", "detach_reads", "gate", "weight")


@dataclass(frozen=True)
class Arm:
    """One way to train the tasks.

    Attributes:
        name: name in tables and in the names of run folders.
        parts: configuration of each of its models, by name of the run.
        overrides: the overrides given by the user.
        has_teachers: whether the single models of the same seed are its teachers.
        answers: whether it has one score per task; pairs have several.
    """

    name: str
    parts: Mapping[str, Config]
    overrides: tuple[str, ...] = ()
    has_teachers: bool = False
    answers: bool = True


def _alone(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key not in _JOINT_KEYS}


def _training(values: Mapping[str, Any], tasks: Sequence[str], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the training options for some of the tasks under a budget; the number of steps follows from the epochs.

    All selection rules agree for a single task, so a rule is kept only for several tasks, and only if it names none.
    """
    options = {key: value for key, value in values.get("train", {}).items() if key not in ("max_steps", "teachers")}
    rule, baselines = options.pop("select", None), options.pop("baselines", None)
    if len(tasks) > 1 and rule is not None and rule not in values["tasks"]:
        options["select"] = rule
    if len(tasks) > 1 and baselines is not None:
        options["baselines"] = {task: baselines[task] for task in tasks}
    return {**options, **limits}


def single_config(config: Config, task: str, limits: Mapping[str, Any]) -> Config:
    """Return the configuration of a task's own model.

    Args:
        limits: training options that replace the joint model's, such as those of `Budget.alone`.
    """
    values = values_of(config)
    return validate({
        **{key: values[key] for key in ("encoder", "max_tokens") if key in values},
        "tasks": {task: _alone(values["tasks"][task])},
        "sharing": {"strategy": "global"},
        "train": _training(values, (task,), limits),
    })  # fmt: skip


def answering_tasks(config: Config) -> tuple[str, ...]:
    """Return the tasks that make predictions; the others have no single models, and nothing to compare."""
    return tuple(name for name, task in config.tasks.items() if task.answers)


def _single(config: Config, budget: Budget) -> Arm:
    return Arm(
        BASELINE,
        {f"{BASELINE}-{task}": single_config(config, task, budget.alone(task)) for task in answering_tasks(config)},
    )


def _shared_alike(strategy: str) -> Callable[[Config, Budget], Arm]:
    def build(config: Config, budget: Budget) -> Arm:
        del budget
        heads = [list(group) for group in config.sharing.share_heads]
        sharing = {"strategy": strategy, **({"share_heads": heads} if heads else {})}
        return Arm(strategy, {strategy: validate({**values_of(config), "sharing": sharing})})

    return build


def _as_it_is(config: Config, budget: Budget) -> Arm:
    del budget
    return Arm("config", {"config": config})


def _pairs(config: Config, budget: Budget) -> Arm:
    """Return models of two tasks each that share the whole encoder; each task sees as many rows as in the joint run."""
    values, parts = values_of(config), dict[str, Config]()
    for first, second in combinations(answering_tasks(config), 2):
        tasks = {task: _alone(values["tasks"][task]) for task in (first, second)}
        heads = [[first, second]] if any({first, second} <= set(group) for group in config.sharing.share_heads) else []
        parts[f"pairs-{first}-{second}"] = validate({
            **{key: values[key] for key in ("encoder", "max_tokens") if key in values},
            "tasks": tasks,
            "sharing": {"strategy": "global", "share_heads": heads},
            "schedule": {"strategy": "parallel", "proportions": {task: budget.rows[task] for task in (first, second)}},
            "train": _training(values, (first, second), budget.pair(first, second)),
        })  # fmt: skip
    return Arm("pairs", parts, answers=False)


def _distill(config: Config, budget: Budget) -> Arm:
    """Return the joint model with the single models of its seed as teachers, which are filled in once trained."""
    del budget
    return Arm("distill", {"distill": with_train(config, teachers=[])}, has_teachers=True)


_ARMS: dict[str, Callable[[Config, Budget], Arm]] = {
    BASELINE: _single,
    "global": _shared_alike("global"),
    "config": _as_it_is,
    "independent": _shared_alike("independent"),
    "pairs": _pairs,
    "distill": _distill,
}
ARMS = Table("arm of a comparison", _ARMS)


def read_named(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Parse `NAME=PATH=VALUE` arguments; a repeated name gets several overrides. Raises ConfigError."""
    named: dict[str, list[str]] = {}
    for text in arguments:
        name, equals, override = text.partition("=")
        if not equals or "=" not in override:
            raise ConfigError(
                f"--arm {text}: expected a name, a path and a value, such as lower=sharing.shared_layers=3; "
                "it changes nothing"
            )
        named.setdefault(name.strip(), []).append(override)
    return named


def require_arms(chosen: Sequence[str], named: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names of the arms, the baseline first. Raises ConfigError for unknown and ambiguous names."""
    for name, overrides in named.items():
        if name in ARMS:
            raise ConfigError(f"--arm {name}: this is the name of a built-in arm; choose another name")
        if not is_name(name):
            raise ConfigError(f"--arm {name}: found {name!r}; a name is a letter, then letters, digits, - and _")
        if not overrides:
            raise ConfigError(f"--arm {name}: it changes nothing; give an override such as sharing.strategy=global")
    for name in chosen:
        if name not in ARMS and name not in named:
            raise ConfigError(
                f"--arms: found {name!r}, which is not an arm; {nearest(name, [*ARMS, *named])}; "
                f"a variant of your own is --arm {name}=PATH=VALUE"
            )
        if list(chosen).count(name) > 1:
            raise ConfigError(f"--arms: found {name!r} twice; list an arm once")
    names = [BASELINE, *(name for name in chosen if name != BASELINE), *(name for name in named if name not in chosen)]
    if len(names) == 1:
        raise ConfigError(f"--arms: found only {BASELINE}, and nothing to compare it with; add global or config")
    return names


def build_arms(
    config: Config, budget: Budget, chosen: Sequence[str], named: Mapping[str, Sequence[str]]
) -> dict[str, Arm]:
    """Build the arms. Raises ConfigError naming the arm with an invalid configuration."""
    arms: dict[str, Arm] = {}
    for name in require_arms(chosen, named):
        try:
            arms[name] = ARMS[name](config, budget) if name in ARMS else _variant(name, config, named[name])
        except ConfigError as error:
            raise ConfigError(f"arm {name!r}: {error}") from None
    return arms


def _variant(name: str, config: Config, overrides: Sequence[str]) -> Arm:
    values, places = values_of(config), dict[Path_, str]()
    for override in overrides:
        _leave_behind(values, override)
    apply_overrides(values, overrides, places)
    return Arm(name, {name: validate(values, places=places)}, tuple(overrides))


def _leave_behind(values: dict[str, Any], override: str) -> None:
    """Remove options that do not exist in the strategy or method selected by an override.

    Thus a configuration with `{strategy: partial, shared_layers: 3}` can be compared with `sharing.strategy=global`.
    """
    path, _, text = override.partition("=")
    for section, key, kinds in (
        ("sharing", "strategy", SHARING),
        ("balance", "method", BALANCERS),
        ("schedule", "strategy", SCHEDULES),
    ):
        kind = kinds.get(text.strip()) if path.strip() == f"{section}.{key}" else None
        if kind is not None and section in values:
            values[section] = {name: value for name, value in values[section].items() if name in kind.model_fields}


def with_train(config: Config, **options: Any) -> Config:  # noqa: ANN401
    """Return a configuration with some training options replaced. Raises ConfigError for an unknown option."""
    values = values_of(config)
    return validate({**values, "train": {**values.get("train", {}), **options}})
