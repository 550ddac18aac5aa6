"""What each example scores on the bundled corpus, and what it costs to train it.

    python -m benchmarks.gallery
    python -m benchmarks.gallery examples/sharing/global.yaml examples/balancing/upgrad.yaml
    python -m benchmarks.gallery --show

Every run is kept as a JSON file in `--results` and not made again, so the benchmark goes on where it stopped, and
several processes may share it. A run's cost is what it did (updates, and epochs of each task's rows) and the processor
time of its threads, which other work on the machine lengthens far less than the time on the clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kept import keep, kept

ROOT = Path(__file__).parents[1]
FOLDERS = ("sharing", "scheduling", "balancing")
TASKS = ("sentiment", "topic", "entities")


def examples() -> list[Path]:
    """Return the examples on the bundled corpus, folder by folder."""
    return [file for name in FOLDERS for file in sorted((ROOT / "examples" / name).glob("*.yaml"))]


def measure(example: Path) -> dict[str, Any]:
    """Train an example beside the corpus, as in a checkout after `make quickstart`."""
    from polytask.api import train
    from polytask.corpus import write_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "quickstart" / "data")
        shutil.copytree(ROOT / "examples", folder / "examples")
        began = time.process_time()
        run = train(folder / "examples" / example.parent.name / example.name, folder / "run")
        cpu_seconds = time.process_time() - began
        record = json.loads((folder / "run" / "run.json").read_text("utf-8"))
    metrics = {task: one.metric for task, one in run.model.tasks.items()}
    return {
        "scores": {
            split: {task: scores[metrics[task]] for task, scores in found.items()}
            for split, found in run.scores.items()
        },
        "updates": record["steps"],
        "epochs": {task: seen["epochs"] for task, seen in record["exposure"].items()},
        "parameters": record["parameters"]["total"],
        "cpu_seconds": round(cpu_seconds, 1),
    }


def rows(folder: str, results: Path) -> list[str]:
    """Return the table of a folder's examples, as `docs/gallery.md` has it."""
    table = [
        "| example | what it shows | sentiment | topic | entities | mean | updates | parameters | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for example in (file for file in examples() if file.parent.name == folder):
        what = example.read_text("utf-8").splitlines()[0].removeprefix("# ")
        found = kept(results / f"{folder}-{example.stem}.json")
        cells = ["not run yet", *[""] * 6] if found is None else figures(found)
        table.append(f"| [`{example.stem}`](../{example.relative_to(ROOT)}) | {what} | {' | '.join(cells)} |")
    return table


def figures(found: dict[str, Any]) -> list[str]:
    """Return what is shown of a kept run."""
    scores = [found["scores"]["test"][task] for task in TASKS]
    shown = [f"{score:.3f}" for score in [*scores, statistics.mean(scores)]]
    return [*shown, f"{found['updates']}", f"{found['parameters'] / 1e6:.1f} M", f"{found['cpu_seconds'] / 60:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", nargs="*", type=Path, help="configurations; all of them by default")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "gallery")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print what is kept only")
    options = parser.parse_args()
    if not options.show:
        import torch

        torch.set_num_threads(options.threads)
        options.results.mkdir(parents=True, exist_ok=True)
        for example in [file.resolve() for file in options.examples] or examples():
            keep(options.results / f"{example.parent.name}-{example.stem}.json", measure, example)
    for folder in FOLDERS:
        print("\n".join(["", *rows(folder, options.results)]))


if __name__ == "__main__":
    main()
