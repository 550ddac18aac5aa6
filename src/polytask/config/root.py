"""The root of the configuration; each section is declared next to the code that it configures."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from polytask.balance import BALANCERS, AutoOptions, BalanceOptions
from polytask.config.document import Path_
from polytask.errors import ConfigError, UserError
from polytask.extensions import import_allowed, import_extensions, require_imported
from polytask.options import NAME, Options, is_name
from polytask.registry import OneOf, modules_of
from polytask.regular import is_folder
from polytask.schedule import SCHEDULES, ParallelOptions, ScheduleOptions
from polytask.sharing import SHARING, GlobalOptions, SharingOptions
from polytask.sharing.growth import ExtendOptions
from polytask.tasks import TASKS, TaskOptions
from polytask.tasks.task_options import Names
from polytask.training.options import TrainOptions

# Names are looked up in their tables when a configuration is validated, since users add rows.
AnyTask: TypeAlias = Annotated[TaskOptions, OneOf(TASKS, lambda kind: kind.Options, tag="type")]
AnySharing: TypeAlias = Annotated[SharingOptions, OneOf(SHARING)]
AnySchedule: TypeAlias = Annotated[ScheduleOptions, OneOf(SCHEDULES)]
AnyBalance: TypeAlias = Annotated[BalanceOptions, OneOf(BALANCERS)]


def _require_name(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"found {value!r}; expected {NAME}")
    return value


TaskName: TypeAlias = Annotated[str, AfterValidator(_require_name)]


def extensions_in(values: Any) -> list[str]:  # noqa: ANN401
    """Return the extensions that plain values name; empty if they are not names, which the check reports."""
    named = values.get("extensions") if isinstance(values, Mapping) else None
    listed = [named] if isinstance(named, str) else named
    return [*listed] if isinstance(listed, list | tuple) and all(isinstance(item, str) for item in listed) else []


@dataclass(frozen=True)
class _Places:
    """File and line of values, by path; all compare equal, since they are not part of a configuration's content."""

    by_path: Mapping[Path_, str] = field(compare=False)


class Config(Options):
    """The configuration of a complete run."""

    encoder: str = Field(min_length=1, description="hub id, folder, or an installed model package")
    max_tokens: int = Field(
        default=128, ge=4, le=2**20, description="maximum number of tokens per text; truncation is counted and reported"
    )
    tasks: dict[TaskName, SerializeAsAny[AnyTask]] = Field(min_length=1, description="what to predict, by name")
    sharing: SerializeAsAny[AnySharing] = GlobalOptions(strategy="global")
    schedule: SerializeAsAny[AnySchedule] = ParallelOptions()
    balance: SerializeAsAny[AnyBalance] = AutoOptions()
    train: TrainOptions = TrainOptions()
    extend: ExtendOptions | None = Field(
        default=None, description="for `polytask extend`: how the new tasks are attached to the model"
    )
    extensions: Names = Field(
        default=(),
        description="modules with your own methods, imported before anything else is read: their code is run",
    )

    @model_validator(mode="before")
    @classmethod
    def _extensions_add_their_names_first(cls, values: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        import_allowed()
        names, context = extensions_in(values), info.context or {}
        if context.get("trusted", True):
            import_extensions(names, Path(context.get("base") or ""))
        else:
            require_imported(names, context.get("name", "extensions"), ConfigError)
        return values

    @model_validator(mode="after")
    def _modules_of_objects_are_extensions(self) -> Config:
        """Add the modules of classes and functions that were given as objects, so that a written file can be read."""
        chosen = [self.balance.method, self.schedule.strategy, self.sharing.strategy, self.train.optim]
        chosen += [name for task in self.tasks.values() for name in (task.head, task.pooling, task.loss) if name]
        chosen += [getattr(self.schedule, name, None) for name in ("policy", "proportions")]
        modules = [name for name in modules_of(chosen) if name not in self.extensions]
        import_extensions(modules)  # as child processes have to
        if modules:  # options are otherwise frozen
            object.__setattr__(self, "extensions", (*self.extensions, *modules))
            self.__pydantic_fields_set__.add("extensions")
        return self

    @field_validator("encoder")
    @classmethod
    def _folder_is_relative_to_the_file(cls, value: str, info: ValidationInfo) -> str:
        folder = Path((info.context or {}).get("base") or "", value)
        return str(folder.resolve()) if is_folder(folder) else value

    @field_validator("schedule", "balance", mode="before")
    @classmethod
    def _kind_has_a_default(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        kind = {"schedule": {"strategy": "parallel"}, "balance": {"method": "auto"}}[info.field_name or ""]
        return {**kind, **value} if isinstance(value, dict) else value

    _places: _Places = PrivateAttr(default_factory=lambda: _Places({}))

    def set_places(self, places: Mapping[Path_, str]) -> Config:
        """Store the file and line of each value, by its path."""
        self._places = _Places(dict(places))
        return self

    @contextmanager
    def at_its_line(self) -> Generator[None]:
        """Prefix an error that names an option of this configuration with the option's file and line."""
        try:
            yield
        except UserError as error:
            path, by_path = error.option, self._places.by_path
            places = (by_path[path[:length]] for length in range(len(path), 0, -1) if path[:length] in by_path)
            place = next(places, None)
            if place is None:
                raise
            raise type(error)(f"{place}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """Return the resolved configuration as JSON; reading it back gives an equal configuration."""
        return self.model_dump(mode="json")
