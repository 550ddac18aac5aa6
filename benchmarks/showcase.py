"""Are the three texts that the README shows answered right, whatever the seed?

    python -m benchmarks.showcase
    python -m benchmarks.showcase --show

Trains the quickstart with each seed, about two minutes a run on two cores, and compares its answers with what
a person says. The texts are in no split of the corpus.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.kept import keep, kept
from polytask.quickstart import SAMPLES

SEEDS = (13, 14, 15, 16, 17)
RIGHT: dict[str, dict[str, Any]] = dict(
    zip(
        SAMPLES,
        (
            {"sentiment": "positive", "topic": "books", "entities": [["Maria Costa", "PER"], ["Lisbon", "LOC"]]},
            {"sentiment": "negative", "topic": "technology", "entities": [["Leeds", "LOC"]]},
            {"sentiment": "neutral", "topic": "travel", "entities": [["Lyon", "LOC"], ["Turin", "LOC"]]},
        ),
        strict=True,
    )
)


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """Return what the quickstart's model answers for each text and task, and its main scores."""
    from polytask.api import train
    from polytask.corpus import write_files
    from polytask.quickstart import quickstart_config

    write_files(folder / "data")
    config = folder / "config.yaml"
    config.write_text(quickstart_config(), "utf-8")
    run = train(config, overrides=[f"train.seed={seed}"])
    metrics = {name: task.metric for name, task in run.model.tasks.items()}
    answers = {
        text: {
            "sentiment": found["sentiment"]["label"],
            "topic": found["topic"]["label"],
            "entities": [[entity["text"], entity["label"]] for entity in found["entities"]],
        }
        for text, found in zip(SAMPLES, run.model.predict(SAMPLES), strict=True)
    }
    scores = {
        split: {task: found[metrics[task]] for task, found in tasks.items()} for split, tasks in run.scores.items()
    }
    return {"answers": answers, "scores": scores}


def show(options: argparse.Namespace) -> None:
    means: list[float] = []
    for seed in options.seeds:
        result = kept(options.results / f"{seed}.json")
        if result is not None:
            found, test = result["answers"], result["scores"]["test"]
            means.append(statistics.mean(test.values()))
            shown = ", ".join(f"{task} {score:.3f}" for task, score in test.items())
            wrong = [
                f"{task} of {text[:30]!r}: {found[text][task]}"
                for text, right in RIGHT.items()
                for task in right
                if found[text][task] != right[task]
            ]
            print(f"seed {seed}: {'; '.join(wrong) or 'all nine answers are right'}; test {shown}")
    if len(means) > 1:
        print(f"mean over tasks: {statistics.mean(means):.3f} (standard deviation {statistics.stdev(means):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "showcase")
    parser.add_argument("--show", action="store_true", help="print what is kept only")
    options = parser.parse_args()
    if not options.show:
        options.results.mkdir(parents=True, exist_ok=True)
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                keep(options.results / f"{seed}.json", measure, Path(folder), seed)
    show(options)


if __name__ == "__main__":
    main()
