"""Teachers: trained models whose outputs on the training rows another model learns from.

Source: Clark et al. 2019, "BAM! Born-Again Multi-Task Networks for Natural Language Understanding", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from polytask.artifact.bundle import Bundle
from polytask.artifact.description import Description, read_description
from polytask.artifact.folder import load_bundle
from polytask.data.cache import cached, key_of
from polytask.data.collator import Collator
from polytask.data.columns import Matrices
from polytask.data.encode import Source, encode_table
from polytask.data.groups import groups_by_length
from polytask.data.rows import DataTable
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError
from polytask.model.device import pass_overhead
from polytask.model.engine import TorchEngine
from polytask.model.loading import pad_id
from polytask.progress import Bar
from polytask.regular import is_file
from polytask.signals import uninterrupted
from polytask.tasks import Task, TaskOptions
from polytask.tasks.alike import label_differences
from polytask.teacher_file import FileTeacher, read_teacher_file


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches some tasks.

    Attributes:
        model: description of the model.
        tasks: the tasks that it has in common with the configuration.
    """

    model: Description
    tasks: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hash of everything that its outputs depend on."""
        return self.model.digest


def load_teachers(
    folders: Sequence[str], options: Mapping[str, TaskOptions], tasks: Mapping[str, Task]
) -> tuple[Teacher | FileTeacher, ...]:
    """Return the teachers of a configuration's tasks.

    Args:
        folders: folders of runs or models, or files of predictions.
        options: task options by name.
        tasks: tasks by name.

    Raises:
        ModelError: a folder holds no model.
        ConfigError: a teacher has none of the tasks, a task has two teachers, or the labels of a teacher differ.
    """
    teachers: list[Teacher | FileTeacher] = []
    taught: dict[str, str] = {}
    for index, folder in enumerate(folders):
        place = f"train.teachers[{index}]"
        teacher: Teacher | FileTeacher
        if is_file(folder):
            teacher = read_teacher_file(place, Path(folder), tasks)
        else:
            teacher = _model_teacher(place, folder, options, tasks)
        for name in teacher.tasks:
            if name in taught:
                raise ConfigError(
                    f"{place}: {folder} has the task {name!r}, which {taught[name]} already teaches; "
                    "a task can have only one teacher: leave one of them out"
                )
            taught[name] = folder
        teachers.append(teacher)
    return tuple(teachers)


def _model_teacher(place: str, folder: str, options: Mapping[str, TaskOptions], tasks: Mapping[str, Task]) -> Teacher:
    model = read_description(Path(folder))
    common = tuple(name for name in tasks if name in model.tasks)
    if not common:
        raise ConfigError(
            f"{place}: {folder} has the tasks {', '.join(model.tasks)}, and the configuration has "
            f"{', '.join(tasks)}; a teacher needs a task of the same name: leave it out, or rename the task"
        )
    for name in common:
        _require_alike(place, folder, model.tasks[name], tasks[name], options[name])
    return Teacher(model, common)


def _require_alike(place: str, folder: str, teacher: Task, task: Task, options: TaskOptions) -> None:
    different = label_differences(task, teacher)
    if (teacher.options.text_pair is None) != (options.text_pair is None):
        different.append("one is about a text and one about a pair of texts")
    if different:
        raise ConfigError(
            f"{place}: {folder} cannot teach {task.name!r} (the first is the configuration's, the second its own): "
            f"{'; '.join(different)}; train the teacher on the same labels, or leave it out"
        )


def add_teacher_outputs(
    sources: Sequence[Source],
    tables: Sequence[DataTable],
    tasks: Mapping[str, Task],
    teachers: Sequence[Teacher | FileTeacher],
    device: torch.device,
    *,
    show: bool = True,
) -> tuple[Source, ...]:
    """Return the training rows with the teachers' outputs, from the cache or one pass per teacher without dropout.

    Args:
        sources: the training sources.
        tables: the tables that the sources were encoded from, in the same order.
        tasks: tasks by name.
        teachers: the teachers.
        device: where to run the teachers.
        show: whether to show a progress bar on stderr.
    """
    taught: list[dict[str, Matrices]] = [{} for _ in sources]
    for teacher in teachers:
        for number, (source, table) in enumerate(zip(sources, tables, strict=True)):
            names = [name for name in teacher.tasks if name in source.tasks]
            if not names:
                continue
            if isinstance(teacher, FileTeacher):
                taught[number] |= teacher.answers(source, table)
            else:
                taught[number] |= _answers(teacher, source, table, tasks, names, device, show=show)
    return tuple(replace(source, teacher_logits=logits) for source, logits in zip(sources, taught, strict=True))


def _answers(
    teacher: Teacher,
    source: Source,
    table: DataTable,
    tasks: Mapping[str, Task],
    names: Sequence[str],
    device: torch.device,
    *,
    show: bool,
) -> dict[str, Matrices]:
    def make(path: Path) -> None:
        bundle = load_bundle(model.folder)
        teacher_pass = _TeacherPass(bundle, _read_by(bundle, table, tasks), device)
        outputs = teacher_pass.outputs(names, source.carries, f"{model.folder} teaches {', '.join(names)}", show=show)
        path.write_bytes(save(outputs))  # not save_file, which raises an error of its own for a full disk

    model = teacher.model
    key = key_of(model.digest, model.max_tokens, model.precision, table.digest, list(names), device.type)
    file = cached(f"{key}.teacher_logits.safetensors", make)
    with uninterrupted():
        outputs = load_file(file)
    words = [len(source.word_tokens[row]) for row in range(len(source))]
    matrices: dict[str, Matrices] = {}
    for name in names:
        task = tasks[name]
        lines = np.asarray(words if task.level == "word" else [1] * len(source), dtype=np.int64)
        # In the units of this task: mean and spread of a number come from the task's own training rows.
        values = task.convert_teacher_logits(torch.from_numpy(outputs[name]), model.tasks[name])
        matrices[name] = Matrices(values.numpy(), np.cumsum(lines))
    return matrices


def _read_by(bundle: Bundle, table: DataTable, tasks: Mapping[str, Task]) -> Source:
    """Return the rows encoded by the teacher's tokenizer."""
    return encode_table(table, tasks, Tokenization.of(bundle.tokenizer, bundle.max_tokens))


@dataclass(frozen=True)
class _TeacherPass:
    """One pass of a teacher over the rows of a source."""

    bundle: Bundle
    source: Source
    device: torch.device

    def outputs(
        self, names: Sequence[str], carries: Mapping[str, NDArray[np.int32]], label: str, *, show: bool
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of each task per row or per word; nan for rows without a label and words not read."""
        source = self.source
        carried: dict[int, list[str]] = {}
        for name in names:
            for row in carries[name].tolist():
                carried.setdefault(row, []).append(name)
        rows = list(carried)
        by_row = {name: [self._nothing(name, row) for row in range(len(source))] for name in names}
        bundle = self.bundle
        network = bundle.model.to(self.device)
        heads = {name: task.head for name, task in bundle.tasks.items()}
        overhead = pass_overhead(self.device)
        collator = Collator(bundle.tasks, pad_id(bundle.tokenizer), network.uses_type_ids, overhead)
        engine = TorchEngine(network, heads, collator, self.device, bundle.precision)
        groups = list(groups_by_length([int(source.lengths[row]) for row in rows]))
        with Bar(label, len(groups), show=show) as bar:
            for group in groups:
                chosen = [rows[index] for index in group]
                self._answer(engine, chosen, [tuple(carried[row]) for row in chosen], by_row)
                bar.advance(len(chosen), int(source.lengths[chosen].sum()))
        return {name: np.concatenate(by_row[name]) for name in names}

    def _nothing(self, name: str, row: int) -> NDArray[np.float32]:
        task = self.bundle.tasks[name]
        lines = len(self.source.word_tokens[row]) if task.level == "word" else 1
        return np.full((lines, task.teacher_size), np.nan, dtype=np.float32)

    def _answer(
        self,
        engine: TorchEngine,
        rows: Sequence[int],
        tasks_of_rows: Sequence[tuple[str, ...]],
        by_row: Mapping[str, list[NDArray[np.float32]]],
    ) -> None:
        outputs = engine.run([self.source.tokens(row) for row in rows], tasks_of_rows)
        for row, names, output in zip(rows, tasks_of_rows, outputs, strict=True):
            for name in names:
                by_word = self.bundle.tasks[name].level == "word"
                tokens = np.asarray(self.source.word_tokens[row] if by_word else [0], dtype=np.int64)
                by_row[name][row][tokens >= 0] = self.bundle.tasks[name].as_teacher(output[name])
