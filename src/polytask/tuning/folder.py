"""The folder of a search: its settings, the runs of its trials, and which files of them are kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from polytask.artifact.folder import load_bundle, save_bundle
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
# Files that stay of a trial whose model is not kept: its configuration, scores and logs.
_SMALL = (CONFIG, "data.json", "events.jsonl", "run.json", "scores.json", "baselines.json", "log.txt", LOCK)
# Seconds to wait for the processes of a killed search to save and exit.
ORPHANS_S = 15.0


def trial_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return folder / "trials" / f"{number:04d}"


def settings_of(axes: Sequence[SearchAxis], seed: int, identity: str, *, prune: bool) -> dict[str, Any]:
    """Return the settings that have to stay the same for a search to be continued."""
    search = {axis.path: axis.values.to_json() for axis in axes}
    return {"search": search, "seed": seed, "prune": prune, "identity": identity}


def has_search(folder: Path) -> bool:
    """Whether a search was begun in a folder. Raises OutputError if the folder holds other files."""
    names = sorted(item.name for item in folder.iterdir() if item.name != LOCK)
    begun = SETTINGS in names
    if not begun and not set(names) <= {CONFIG, f".{CONFIG}", f".{SETTINGS}", ROWS}:  # as a killed process may leave it
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise OutputError(f"{folder}: the folder holds other files ({listed}) and no search; name a new folder")
    return begun


def open_search(folder: Path, config: Config, settings: Mapping[str, Any]) -> None:
    """Write the settings of a search into its folder. Raises OutputError if the folder holds another search."""
    if is_file(folder / SETTINGS):
        _require_same(folder, config, settings)
    else:
        text = yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True)
        write_text(folder / CONFIG, text)
        write_json(folder / SETTINGS, settings)
    (folder / "trials").mkdir(exist_ok=True)


def _require_same(folder: Path, config: Config, settings: Mapping[str, Any]) -> None:
    saved = read_json(folder / SETTINGS, "restore it, or name another folder")
    mend = "use the same values as before, or name a new folder"
    before, now = saved.get("search", {}), settings["search"]
    if before != now:
        differing = [path for path in dict.fromkeys([*before, *now]) if before.get(path) != now.get(path)]
        differences = "; ".join(
            f"{path}: {_written(before.get(path))} -> {_written(now.get(path))}" for path in differing
        )
        differences = differences or "the order of the options"
        raise OutputError(f"{folder}: another search was begun here, with other values: {differences}; {mend}")
    for name in ("seed", "prune"):
        if saved.get(name) != settings[name]:
            differences = f"{name} {saved.get(name)} -> {settings[name]}"
            raise OutputError(f"{folder}: another search was begun here: {differences}; {mend}")
    if saved.get("identity") != settings["identity"]:
        differences = "; ".join(changes(folder / CONFIG, config.to_json())[:5])
        differences = differences or "the content of the data, or the encoder or its tokenizer"
        raise OutputError(
            f"{folder}: a search was begun here with another configuration, and its trials cannot be compared: "
            f"{differences}; {mend}"
        )


def _written(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "not searched"
    if "values" in values:
        return ",".join(map(str, values["values"]))
    step = f":{values['step']}" if values.get("step", 1) != 1 else ""
    return f"{'' if values['kind'] == 'uniform' else values['kind'] + ':'}{values['low']}:{values['high']}{step}"


def is_complete(run: Path) -> bool:
    """Whether a trial's run is finished: it has scores and a model."""
    return is_file(run / "scores.json") and is_folder(run / "model")


def evaluations_of(run: Path) -> list[float]:
    """Return the rating of each evaluation of a run, from its log."""
    try:
        lines = read_bytes(run / "events.jsonl").split(b"\n")
    except FileNotFoundError:
        return []
    ratings: list[float] = []
    for line in lines:
        try:
            event: Any = parse_json(line)
        except ValueError:  # a killed process may have truncated it
            continue
        if isinstance(event, dict) and event.get("event") == "evaluation":
            ratings.append(float(event["rating"]))
    return ratings


def wait_for_orphans(folder: Path, running: Iterable[int]) -> None:
    """Wait until the processes of a killed search have saved and exited. Raises OutputError if they do not."""
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
    """Delete the weights of trials that have ended, except for some of them.

    Args:
        numbers: trials whose models are kept.
    """
    kept_trials = set(numbers)
    for number in ended:
        run = trial_folder(folder, number)
        if number in kept_trials or not is_folder(run):
            continue
        for item in run.iterdir():
            if item.name == "model":
                discard(item)  # at once, since a partly deleted one could pass for a model
            elif item.name not in _SMALL:
                remove(item)


def place_model(folder: Path, run: Path) -> None:
    """Put the model of the best trial into FOLDER/model, as hard links to the files of the run to save disk space."""
    sweep(folder, ".placing-")
    temporary = folder / f".placing-{run.name}"
    remove(temporary)
    shutil.copytree(run / "model", temporary, copy_function=_link)
    put_in_place(temporary, folder / "model")


def add_test_scores(folder: Path, test: Mapping[str, Any] | None) -> None:
    """Write the test scores into FOLDER/model, so that its card names them; the model of the trial stays as it is.

    Args:
        test: result of `score_test`.
    """
    if test is None or not test.get("scores"):
        return
    bundle = load_bundle(folder / "model").with_scores("test", test["scores"], test["rows"])
    sweep(folder, ".placing-")
    temporary = folder / ".placing-scored"
    remove(temporary)
    save_bundle(temporary, bundle)
    put_in_place(temporary, folder / "model")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
