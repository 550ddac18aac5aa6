"""What each example scores on the bundled corpus, and how long it trains.

    python -m benchmarks.gallery
    python -m benchmarks.gallery --show

Every run is kept as a JSON file in `--results` and not made again, so the benchmark goes on where it stopped, and
several processes may share it. Seconds are of this machine, whatever ran beside it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.kept import keep, kept

ROOT = Path(__file__).parents[1]
FOLDERS = ("sharing", "scheduling", "balancing")


def measure(example: Path) -> dict[str, Any]:
    """Train an example beside the corpus, as in a checkout after `make quickstart`."""
    from polytask.api import train
    from polytask.corpus import write_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder / "quickstart" / "data")
        shutil.copytree(ROOT / "examples", folder / "examples")
        began = time.perf_counter()
        run = train(folder / "examples" / example.parent.name / example.name)
        seconds = time.perf_counter() - began
    metrics = {task: one.metric for task, one in run.model.tasks.items()}
    scores = {task: found[metrics[task]] for task, found in run.scores["test"].items()}
    return {"scores": scores, "seconds": round(seconds, 1)}


def show(examples: list[Path], results: Path) -> None:
    """Print a row an example."""
    print("| example | sentiment | topic | entities | seconds |\n|---|---|---|---|---|")
    for example in examples:
        found = kept(results / f"{example.parent.name}-{example.stem}.json")
        if found is not None:
            scores = " | ".join(f"{found['scores'][task]:.3f}" for task in ("sentiment", "topic", "entities"))
            print(f"| `{example.relative_to(ROOT)}` | {scores} | {found['seconds']:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "gallery")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print what is kept only")
    options = parser.parse_args()
    examples = [file for name in FOLDERS for file in sorted((ROOT / "examples" / name).glob("*.yaml"))]
    if not options.show:
        import torch

        torch.set_num_threads(options.threads)
        options.results.mkdir(parents=True, exist_ok=True)
        for example in examples:
            keep(options.results / f"{example.parent.name}-{example.stem}.json", measure, example)
    show(examples, options.results)


if __name__ == "__main__":
    main()
