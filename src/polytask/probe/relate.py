"""Measure how related the tasks of a configuration are: the function behind `polytask relate`."""

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
        out: folder for relatedness.json and affinity.json; by default nothing is written.
        comparison: folder of a comparison of the same tasks: its single-task models are compared (CKA), and its
            transfer shows how well each measure predicts it.
        overrides: options to override, such as "train.epochs=1".

    Raises:
        UserError: if the input is wrong: a single task, a run too short for a probe, a comparison of other tasks.
    """
    checked = as_config(config, overrides)
    compared = None if comparison is None else read_comparison(Path(comparison), list(checked.tasks))
    folder = None if out is None else _folder(Path(out))
    probed = probe(checked)
    evidence = probed.evidence
    notes = list(_notes(checked))
    if compared is not None:
        states, missing = single_states(compared, probed.assembly)
        evidence = replace(evidence, states=states, transfer=compared.transfer)
        if missing:
            notes.append(f"No CKA: {missing}.")
        if compared.transfer is None:
            notes.append("The comparison trained no pairs of tasks, so it does not show what each measure predicts.")
    related = conclude(evidence, probed.layers, probed.cost, notes)
    if folder is not None:
        related.write(folder)
    return related


def _folder(folder: Path) -> Path:
    """Create the folder before any work is done. Raises OutputError if it cannot be written."""
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
