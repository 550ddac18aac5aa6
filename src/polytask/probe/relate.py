"""How related are the tasks of a configuration? What `polytask relate` calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.api import as_config
from polytask.config import Config
from polytask.errors import OutputError
from polytask.probe.compared import read_comparison, single_states
from polytask.probe.run import probe
from polytask.relatedness.record import Relatedness, conclude


def relate(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path | None = None,
    comparison: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
) -> Relatedness:
    """Measure how related a configuration's tasks are, from one short probe run.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        out: folder for relatedness.json and affinity.json; without one nothing is written.
        comparison: folder of a comparison of the same tasks: its single-task models are compared (CKA), and its
            transfer says what each measure foretold.
        overrides: such as "train.epochs=1".

    Raises:
        UserError: the input is at fault: a single task, a run too short for a probe, a comparison of other tasks.
    """
    checked = as_config(config, overrides)
    found = None if comparison is None else read_comparison(Path(comparison), list(checked.tasks))
    folder = None if out is None else _folder(Path(out))
    probed = probe(checked)
    evidence = probed.evidence
    notes = list(_notes(checked))
    if found is not None:
        states, missing = single_states(found, probed.assembly)
        evidence = replace(evidence, states=states, transfer=found.transfer)
        if missing:
            notes.append(f"No CKA: {missing}.")
        if found.transfer is None:
            notes.append("The comparison trained no pairs of tasks, so it does not say what each measure foretold.")
    related = conclude(evidence, probed.layers, probed.cost, notes)
    if folder is not None:
        related.write(folder)
    return related


def _folder(folder: Path) -> Path:
    """Make the folder, before anything costs time. Raises OutputError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    return folder


def _notes(config: Config) -> Iterator[str]:
    if config.sharing.strategy != "global":
        yield f"The probe shared the whole encoder, whatever the configuration's {config.sharing.strategy!r} shares."
    if any(task.reads for task in config.tasks.values()):
        yield "In the probe no head read another task's predictions."
