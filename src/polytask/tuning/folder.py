"""The folder of a search: what it searches, its trials' runs, and what is kept of them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from polytask.config import Config
from polytask.config.row_files import ROWS
from polytask.errors import OutputError
from polytask.files import discard, parse_json, put_in_place, read_json, remove, sweep, write_json, write_text
from polytask.lock import FILE as LOCK
from polytask.lock import locked
from polytask.reference_scores import changes
from polytask.regular import is_file, is_folder, read_bytes
from polytask.tuning.space import SearchAxis

RECORD, SETTINGS, BEST, CONFIG = "tune.json", "search.json", "best.yaml", "config.yaml"
# What stays of a trial whose model is not kept: what it was, what it scored, and how it went.
_SMALL = (CONFIG, "data.json", "events.jsonl", "run.json", "scores.json", "baselines.json", "log.txt", LOCK)
# Seconds that the processes of a killed search have to save and to end.
ORPHANS_S = 15.0


def trial_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return folder / "trials" / f"{number:04d}"


def settings_of(axes: Sequence[SearchAxis], seed: int, identity: str, *, prune: bool) -> dict[str, Any]:
    """Return what has to stay the same for a search to go on."""
    search = {axis.path: axis.values.to_json() for axis in axes}
    return {"search": search, "seed": seed, "prune": prune, "identity": identity}


def has_search(folder: Path) -> bool:
    """Whether a search was begun in a folder. Raises OutputError when other files lie there."""
    held = sorted(item.name for item in folder.iterdir() if item.name != LOCK)
    begun = SETTINGS in held
    if not begun and not set(held) <= {CONFIG, f".{CONFIG}", f".{SETTINGS}", ROWS}:  # as a kill may leave it
        listed = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise OutputError(f"{folder}: the folder holds other files ({listed}) and no search; name a new folder")
    return begun


def open_search(folder: Path, config: Config, settings: Mapping[str, Any]) -> None:
    """Write what is searched into the folder. Raises OutputError when another search lies there."""
    if is_file(folder / SETTINGS):
        _require_same(folder, config, settings)
    else:
        text = yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True)
        write_text(folder / CONFIG, text)
        write_json(folder / SETTINGS, settings)
    (folder / "trials").mkdir(exist_ok=True)


def _require_same(folder: Path, config: Config, settings: Mapping[str, Any]) -> None:
    found = read_json(folder / SETTINGS)
    mend = "give what was given before, or name a new folder"
    before, now = found.get("search", {}), settings["search"]
    if before != now:
        differing = [path for path in dict.fromkeys([*before, *now]) if before.get(path) != now.get(path)]
        told = "; ".join(f"{path}: {_told(before.get(path))} -> {_told(now.get(path))}" for path in differing)
        told = told or "the order of the options"
        raise OutputError(f"{folder}: another search was begun here, with other values: {told}; {mend}")
    for name in ("seed", "prune"):
        if found.get(name) != settings[name]:
            told = f"{name} {found.get(name)} -> {settings[name]}"
            raise OutputError(f"{folder}: another search was begun here: {told}; {mend}")
    if found.get("identity") != settings["identity"]:
        told = "; ".join(changes(folder / CONFIG, config.to_json())[:5])
        told = told or "the content of the data, or the encoder or its tokenizer"
        raise OutputError(
            f"{folder}: a search was begun here with another configuration, and its trials cannot be compared: {told}; "
            f"{mend}"
        )


def _told(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "not searched"
    if "values" in values:
        return ",".join(map(str, values["values"]))
    step = f":{values['step']}" if values.get("step", 1) != 1 else ""
    return f"{'' if values['kind'] == 'uniform' else values['kind'] + ':'}{values['low']}:{values['high']}{step}"


def is_complete(run: Path) -> bool:
    """Whether a trial's run has all that a finished one has."""
    return is_file(run / "scores.json") and is_folder(run / "model")


def evaluations_of(run: Path) -> list[float]:
    """Return what each evaluation of a run was rated, as its log tells."""
    try:
        lines = read_bytes(run / "events.jsonl").split(b"\n")
    except FileNotFoundError:
        return []
    found: list[float] = []
    for line in lines:
        try:
            event: Any = parse_json(line)
        except ValueError:  # a kill may have cut it short
            continue
        if isinstance(event, dict) and event.get("event") == "evaluation":
            found.append(float(event["rating"]))
    return found


def wait_for_orphans(folder: Path, running: Iterable[int]) -> None:
    """Wait until the processes of a killed search have saved and ended. Raises OutputError when they do not."""
    ends = time.monotonic() + ORPHANS_S
    for number in running:
        run = trial_folder(folder, number)
        while True:
            try:
                with locked(run):
                    break
            except OutputError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)


def keep_only(folder: Path, numbers: Iterable[int], ended: Iterable[int]) -> None:
    """Delete the weights of trials that have ended, but for some of them.

    Args:
        numbers: the trials whose models are kept.
    """
    kept = set(numbers)
    for number in ended:
        run = trial_folder(folder, number)
        if number in kept or not is_folder(run):
            continue
        for item in run.iterdir():
            if item.name == "model":
                discard(item)  # half of it would pass for a model
            elif item.name not in _SMALL:
                remove(item)


def place_model(folder: Path, run: Path) -> None:
    """Put the model of the best trial into FOLDER/model. Its files are those of the run, so they take no room twice."""
    sweep(folder, ".placing-")
    temporary = folder / f".placing-{run.name}"
    remove(temporary)
    shutil.copytree(run / "model", temporary, copy_function=_link)
    put_in_place(temporary, folder / "model")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
