"""Ways to decode tags on real sets: greedy, viterbi, and a linear chain (crf).

    python -m benchmarks.types.tags --data ../shared/data
    python -m benchmarks.types.tags --sets snips wnut17 --seeds 13 --rows 1000
    python -m benchmarks.types.tags --show
    python -m benchmarks.types.tags --time

A model is trained without a chain and decoded in two ways, and another one is trained with it, all by the default
recipe. Every run is kept as a JSON file in `--results` and not made again; the tables are printed from what is there.
Shown is the strict F1 on test, and the share of test rows whose greedy tags were no valid sequence before mending.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.recipe import CHINESE, ENCODER, Cut, tags
from polytask.api import answer_files
from polytask.assemble import assemble
from polytask.config import validate
from polytask.evaluation.scoring import Scorer, TaskPredictions
from polytask.tasks.bio import repair
from polytask.tasks.tagging import Tagging
from polytask.training.distribution import World
from polytask.training.events import Events

SEEDS = (13, 14, 15)
SETS = {"snips": ("jsonl", ENCODER), "wnut17": ("conll", ENCODER), "weibo_ner": ("conll", CHINESE)}
# More rows than any of the sets has.
ALL = 100_000


def values(cut: Cut, name: str, options: argparse.Namespace, *, crf: bool, seed: int) -> dict[str, Any]:
    """Return the configuration of a run."""
    kind, encoder = SETS[name]
    data = cut(name, options.rows, kind, dev=options.held, test=options.held)
    return {
        "encoder": options.chinese if encoder == CHINESE else encoder,
        "max_tokens": 128 if name == "weibo_ner" else 64,
        "tasks": {"tags": tags(data, crf=crf)},
        "train": {"epochs": options.epochs, "seed": seed},
    }


def scores(task: Tagging, answers: TaskPredictions) -> dict[str, float | None]:
    """Score a head's outputs on labelled rows as a task decodes them."""
    decided = replace(answers, predictions=task.decode(answers.outputs, answers.words))
    return Scorer({"tags": task}).scores_of({"tags": decided})["tags"]


def orphans(task: Tagging, answers: TaskPredictions) -> float:
    """Return the share of rows whose greedy tags are no valid sequence."""
    assert answers.words is not None
    best = iter(answers.outputs.argmax(-1).tolist())
    rows = [[task.tagset[next(best)] for word in row if word == 1] for row in answers.words]
    return sum(repair(row)[1] > 0 for row in rows) / len(rows)


def measured(given: dict[str, Any]) -> dict[str, Any]:
    """Train one model, and score each way to decode it on dev and test."""
    began = time.monotonic()
    model = pt.train(given).model
    seconds = round(time.monotonic() - began, 1)
    task = model.tasks["tags"]
    assert isinstance(task, Tagging)
    found: dict[str, Any] = {"seconds": seconds}
    ways = ("crf",) if task.options.crf else ("greedy", "viterbi")
    for split in ("dev", "test"):
        (_, answers) = answer_files(model, {"tags": given["tasks"]["tags"]["data"][split]})
        for way in ways:
            decode = None if way == "crf" else way
            chosen = replace(task, options=task.options.model_copy(update={"decode": decode}))
            found.setdefault(way, {})[split] = scores(chosen, answers["tags"])
        found.setdefault("orphans", {})[split] = round(orphans(task, answers["tags"]), 4)
    return found


def step_time(given: dict[str, Any], steps: int) -> float:
    """Return the median seconds of an update."""
    trainer = assemble(validate(given)).trainer(World(0, 1), None, Events(None))
    taken: list[float] = []
    for _ in range(steps):
        began = time.perf_counter()
        trainer.update()
        taken.append(time.perf_counter() - began)
        trainer.step += 1
    return statistics.median(taken[2:])


def ratio(cut: Cut, name: str, options: argparse.Namespace) -> str:
    """Measure updates of both kinds in turn, and say how their times compare."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(3):
        for crf in found:
            found[crf].append(step_time(values(cut, name, options, crf=crf, seed=SEEDS[0]), 22))
    plain, chain = min(found[False]), min(found[True])
    return f"{name}: {1000 * plain:.1f} ms an update, with a chain {1000 * chain:.1f} ms ({chain / plain:.2f} x)"


def stem(kind: str, name: str, rows: int) -> str:
    """Return how the files of a benchmark begin that trains on so many rows of a set."""
    return f"{kind}-{name}" + ("" if rows == ALL else f"-{rows}")


def show(results: Path, names: Sequence[str], rows: int) -> None:
    """Print the table."""
    print("| set | seed | greedy | viterbi | crf | invalid greedy rows |\n|---|---|---|---|---|---|")
    for name in names:
        for seed in SEEDS:
            plain, chain = (
                kept(results / f"{stem('tags', name, rows)}-{kind}-{seed}.json") for kind in ("plain", "crf")
            )
            if plain is not None and chain is not None:
                figures = [100 * one["test"]["f1"] for one in (plain["greedy"], plain["viterbi"], chain["crf"])]
                told = " | ".join(f"{value:.2f}" for value in figures)
                print(f"| {name} | {seed} | {told} | {100 * plain['orphans']['test']:.1f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results" / "types")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--rows", type=int, default=ALL, help="training rows at most")
    parser.add_argument("--held", type=int, default=ALL, help="rows of dev and of test at most")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--chinese", default=CHINESE, help="the encoder of the Chinese set")
    parser.add_argument("--show", action="store_true", help="print what is there")
    parser.add_argument("--time", action="store_true", help="time updates with and without a chain")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cut = Cut(options.data, Path(folder))
        for name in options.sets if options.time else ():
            print(ratio(cut, name, options), flush=True)
        for seed in () if options.show or options.time else options.seeds:
            for name in options.sets:
                for kind in ("plain", "crf"):
                    given = values(cut, name, options, crf=kind == "crf", seed=seed)
                    keep(options.results / f"{stem('tags', name, options.rows)}-{kind}-{seed}.json", measured, given)
    show(options.results, options.sets, options.rows)


if __name__ == "__main__":
    main()
