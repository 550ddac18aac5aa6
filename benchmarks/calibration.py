"""How far a trained model's probabilities are from what they say, before and after calibration; and long texts.

    python -m benchmarks.calibration --model RUN/model --dev dev.jsonl --test test.jsonl

A temperature is fitted to each task on the dev rows, as `calibrate: true` does at the end of a run, and scored on the
test rows. `--windows N` scores the first N test rows twice: cut at the model's limit, and in windows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import polytask as pt
from polytask.api import answer_files
from polytask.evaluation.fitting import describe_fitted, fit_on_dev
from polytask.evaluation.scoring import TaskPredictions
from polytask.tasks import Task


def calibrating(task: Task) -> Task:
    """Return a task that asks for a temperature, whatever it was trained with."""
    if "calibrate" not in type(task.options).model_fields:
        return task
    return replace(task, options=task.options.model_copy(update={"calibrate": True}))  # type: ignore[type-var]


def calibration(model: pt.Model, dev: str, test: str) -> dict[str, Any]:
    _, on_dev = answer_files(model, {"all": dev})
    _, on_test = answer_files(model, {"all": test})
    fitted = fit_on_dev({name: calibrating(task) for name, task in model.tasks.items()}, on_dev)
    answers: dict[str, Mapping[str, TaskPredictions]] = {"dev": on_dev, "test": on_test}
    rows = {split: {name: len(one.labels) for name, one in found.items()} for split, found in answers.items()}
    return {"rows": rows, "notes": [note.message for note in fitted.notes], **describe_fitted(fitted.tasks, answers)}


def windows(model: pt.Model, test: str, rows: int) -> dict[str, Any]:
    with Path(test).open(encoding="utf-8") as lines, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"first{Path(test).suffix}")
        file.write_text("".join(islice(lines, rows)), "utf-8")
        found: dict[str, Any] = {"rows": rows, "max_tokens": model.tokens.max_tokens}
        for long in ("truncate", "windows"):
            began = time.monotonic()
            scores = pt.evaluate(model, {"all": str(file)}, long=long).scores
            seconds = round(time.monotonic() - began, 1)
            found[long] = {"seconds": seconds, **{name: one[model.tasks[name].metric] for name, one in scores.items()}}
        _, answers = answer_files(model, {"all": str(file)})
        found["truncated"] = {name: int(one.source.truncated.sum()) for name, one in answers.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "dev", "test"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--windows", type=int, default=0, help="test rows to read whole as well")
    options = parser.parse_args()
    model = pt.load(options.model)
    print(json.dumps(calibration(model, options.dev, options.test), indent=1), flush=True)
    if options.windows:
        print(json.dumps(windows(model, options.test, options.windows), indent=1))


if __name__ == "__main__":
    main()
