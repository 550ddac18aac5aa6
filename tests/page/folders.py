"""Hand-made folders: what a page is made of, with names and labels that could break one."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

ODD = [
    "<script>alert(1)</script>",
    "情感分析",
    "مشاعر إيجابية",
    'a "quoted" & <b>bold</b> label',
    "https://example.org/x.js",
]
LONG = "a_task_whose_name_is_far_longer_than_any_place_for_it_on_a_page_and_goes_on"


def task_names(count: int) -> list[str]:
    """Names of tasks: plain ones, and one that is long."""
    return [*(f"task_{index}" for index in range(count - 1)), LONG][:count]


def plan(tasks: list[str], layers: int = 6, split: int = 4) -> dict[str, Any]:
    """A plan: from a layer on, the last task stands alone, and at the top every task does."""
    together, parted = [tasks], [part for part in (tasks[:-1], tasks[-1:]) if part]
    levels = [together] * split + [parted] * (layers - split) + [[[task] for task in tasks]]
    return {"tasks": tasks, "levels": levels}


def write(folder: Path, name: str, value: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def write_lines(folder: Path, name: str, values: list[Any]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), "utf-8")


def events(tasks: list[str], *, steps: int = 60, finished: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"event": "start", "step": 0, "time": 1000.0, "steps": steps}]
    for step in range(10, steps + 1, 5):
        found.append(
            {
                "event": "step", "step": step, "time": 1000.0 + step, "norm": 1.0, "rate": 1e-3,
                "tokens_per_second": 900.0 + step,
                "losses": {task: math.exp(-step / 40) + 0.1 * place for place, task in enumerate(tasks)},
                "weights": {task: 1 + 0.1 * place * step / steps for place, task in enumerate(tasks)},
                "exposure": {
                    task: {"rows": 4 * step + place, "tokens": 100 * step, "epochs": 0.1 * step}
                    for place, task in enumerate(tasks)
                },
            }
        )  # fmt: skip
        if step % 20 == 0:
            dev = {task: {"macro_f1": 0.2 + 0.01 * step / (1 + place), "mcc": None} for place, task in enumerate(tasks)}
            found.append(
                {"event": "evaluation", "step": step, "epoch": step / 20, "stage": "all", "dev": dev, "mean": 0.4}
            )
    if len(tasks) > 1:
        split = {
            "event": "split", "step": 40, "layer": 4, "groups": [tasks[:-1], tasks[-1:]], "measurements": 12,
            "similarity": [-0.1, -0.2, -0.35], "parameters": 1234567, "plan": plan(tasks),
        }  # fmt: skip
        found.append(split)
    found.append({"event": "gate", "step": 20, "task": tasks[0], "reason": "no gain in 2 evaluations"})
    return [*found, {"event": "scores", "step": steps, "scores": {}}] if finished else found


def confusion(labels: list[str]) -> dict[str, Any]:
    counts = [
        [40 if row == column else (row + 2 * column) % 5 for column in range(len(labels))] for row in range(len(labels))
    ]
    return {"labels": labels, "counts": counts}


def make_run(folder: Path, count: int = 3, labels: list[str] = ODD, *, finished: bool = True) -> Path:
    """Write a run: with all files, or as it stands while this process trains it."""
    tasks = task_names(count)
    listed = {
        task: {"type": "classification", "metric": "macro_f1", "needs": [], "weight": 1.0,
               "rows": {"train": 700, "dev": 80, "test": 90}, "labels": dict.fromkeys(labels, 140), "range": None}
        for task in tasks
    }  # fmt: skip
    listed[tasks[0]] |= {"needs": tasks[1:2]}
    source = {"split": "train", "tasks": tasks, "rows": 700, "median": 18, "p95": 40, "longest": 64, "truncated": 3}
    notes = [{"place": "dev of task_0", "message": f"2 rows stand in train as well, such as {labels[0]!r}"}]
    write(folder, "data.json", {"tasks": listed, "sources": [source], "notes": notes})
    configuration = {"encoder": "tiny", "tasks": {task: {"type": "classification"} for task in tasks}}
    configuration |= {"sharing": {"strategy": "adaptive"}, "balance": {"method": "uncertainty"}, "train": {"seed": 13}}
    write(folder, "config.yaml", configuration)  # JSON is YAML
    write_lines(folder, "events.jsonl", events(tasks, finished=finished))
    if not finished:
        write(folder, ".lock", {"pid": os.getpid(), "host": socket.gethostname()})
        return folder
    scores = {task: {"macro_f1": 0.5 + 0.3 / (1 + place), "mcc": None} for place, task in enumerate(tasks)}
    low = {task: {"macro_f1": 0.1, "mcc": 0.0} for task in tasks}
    write(folder, "scores.json", {"dev": scores, "test": scores})
    write(folder, "baselines.json", {"dev": low, "test": low})
    between = {
        task: {"macro_f1": [found["macro_f1"] - 0.05, found["macro_f1"] + 0.04], "mcc": None}
        for task, found in scores.items()
    }
    write(folder, "intervals.json", {"test": between})
    write(folder, "confusion.json", {task: confusion(labels) for task in tasks})
    start = {"tasks": tasks, "levels": [[tasks]] * 7}
    write(
        folder,
        "run.json",
        {
            "seconds": 61.5, "steps": 60, "best_step": 40, "notes": [], "versions": {"torch": "2.13.0"}, "processes": 1,
            "stages": [
                {"stage": task, "step": 20 * (place + 1), "scores": {other: 0.5 - 0.05 * place for other in tasks}}
                for place, task in enumerate(tasks)
            ],
            "exposure": {task: {"rows": 240, "tokens": 6000, "epochs": 6.0} for task in tasks},
            "sharing": {"plan": plan(tasks), "kind": {"name": "copy"}, "mixing": None, "heads": []},
            "start_plan": start, "picture": "layer 1-6  [all]", "peak_mib": 812.5, "predict_rows_per_second": 123.4,
            "parameters": {
                "total": 23, "single": 20, "apart": 60,
                "shared": dict.fromkeys(tasks, 20), "own": dict.fromkeys(tasks, 1)
            },
            "selection": {"rule": "gap", "baselines": dict.fromkeys(tasks, 0.3)}, "pareto": [40, 60], "device": "cpu",
            "predicted_split": dict.fromkeys(tasks, "test"),
        },
    )  # fmt: skip
    for task in tasks:
        lines = [
            {
                "row": row, "place": f"/data/reviews.csv:{row + 2}",
                "label": labels[row % len(labels)], "prediction": labels[(row // 2) % len(labels)],
                "text": f"{labels[row % len(labels)]} {'word ' * 40}",
            }
            for row in range(12)
        ]  # fmt: skip
        write_lines(folder, f"predictions/{task}.jsonl", lines)
    return folder


def differences(count: int, size: float) -> list[list[float | None]]:
    return [[None if row == column else size * (row - column) for column in range(count)] for row in range(count)]


def make_comparison(folder: Path, count: int = 3) -> Path:
    """Write a comparison."""
    tasks, arms = task_names(count), ["single", "global", "an_arm_with_quite_a_long_name_indeed", "lora"]
    verdicts = ["share", "share_partly", "keep_apart", "cannot_tell"]
    found: dict[str, Any] = {}
    for place, task in enumerate(tasks):
        scored = {}
        for number, arm in enumerate(arms):
            delta = 0.02 * number - 0.01 * place if number else 0.0
            scored[arm] = {
                "mean": 0.7 + delta, "std": 0.01, "delta": delta, "low": delta - 0.015 * bool(number),
                "high": delta + 0.015 * bool(number), "relative": delta / 0.7, "values": [0.7, 0.71, None],
            }  # fmt: skip
        sentence = f"{task}: {ODD[0]} gains 2 points."
        found[task] = {"metric": "accuracy", "arms": scored, "verdict": verdicts[place % 4], "sentence": sentence}
    example = {
        "row": 3,
        "text": ODD[2],
        "label": ["B-PER", "I-PER", "O", "B-LOC"],
        "single": ["O"] * 4,
        "prediction": ODD[1],
    }
    value = {
        "tasks": found,
        "arms": {
            arm: {
                "overrides": ["sharing.kind=lora"] if arm == "lora" else [], "parameters": 22_700_000,
                "train_seconds": 100.5, "predict_rows_per_second": 88.0, "exposure": dict.fromkeys(tasks, 2100),
                "runs": {"13": [f"runs/{arm}-0f3c", "javascript:alert(1)"]},
            }
            for arm in arms
        },
        "recommended": "global", "reason": "No task loses.", "floor": 0.5, "seeds": [13, 14, 15], "level": 0.95,
        "notes": ["the test rows are few"],
        "transfer": {"tasks": tasks, "matrix": differences(count, 0.01)},
        "examples": {tasks[0]: {"arm": "global", "fixed": [example], "broken": []}},
    }  # fmt: skip
    write(folder, "comparison.json", value)
    (folder / "runs" / "global-0f3c").mkdir(parents=True)
    (folder / "runs" / "global-0f3c" / "report.html").write_text("page", "utf-8")
    return folder


def make_relatedness(folder: Path, count: int = 3) -> Path:
    """Write a relatedness folder."""
    tasks = task_names(count)
    matrix = [[1.0 if a == b else round(math.cos(a + 2 * b), 3) for b in range(count)] for a in range(count)]
    value = {
        "tasks": tasks,
        "measures": {
            "gradient_cosine": {"matrix": matrix, "error": matrix, "layers": {"1": matrix, "2": matrix}},
            "look_ahead": {"matrix": differences(count, 0.001)},
        },
        "groups": [tasks[:-1], tasks[-1:]], "grouped_by": "gradient_cosine", "plan": plan(tasks), "picture": "layer 1",
        "cost": {"share_of_joint_run": 0.21, "row_passes": 2000, "joint_row_passes": 9500, "seconds": 31.0},
        "rank_correlation": {
            "gradient_cosine": {"spearman": 0.5, "pairs": 6}, "look_ahead": {"spearman": None, "pairs": 6},
        },
        "sentences": ["The measures agree."],
    }  # fmt: skip
    write(folder, "relatedness.json", value)
    write(folder, "affinity.json", {})
    return folder


def make_search(folder: Path, count: int = 30, **changed: Any) -> Path:
    """Write the folder of a tuning."""
    (folder / "trials" / "0000").mkdir(parents=True)
    trials = [
        {
            "trial": number, "state": "complete" if number % 3 else "pruned", "value": number / count,
            "parameters": {
                "train.learning_rate": 10 ** -(1 + number % 5), "balance.method": ODD[0] if number % 2 else "sum",
            },
            "seconds": 3.0, "reason": None if number % 3 else f"worse {ODD[0]}", "run": f"trials/{number:04d}",
        }
        for number in range(count)
    ]  # fmt: skip
    best = {**trials[-1], "dev": {"topic": {"accuracy": 0.9, "macro_f1": None}}}
    value: dict[str, Any] = {
        "best": best,
        "trials": trials,
        "search": {"train.learning_rate": {"kind": "log"}, "balance.method": {"kind": "choice"}},
        "selection": {"rule": "gap", "baselines": None},
        "as_it_is": 0.5,
        "importance": {"train.learning_rate": 0.8, "balance.method": 0.2},
        "test": {"scores": {"topic": {"accuracy": 0.85}}, "intervals": {"topic": {"accuracy": [0.8, 0.9]}}},
        "notes": [ODD[0]],
        **changed,
    }
    write(folder, "tune.json", value)
    (folder / "best.yaml").write_text(f"encoder: {ODD[0]}\n", "utf-8")
    return folder


def make_auto(folder: Path, count: int = 3) -> Path:
    """Write the folder of `auto`: a ladder, a candidate that failed, a task below the floor."""
    tasks = task_names(count)
    standing = {"delta": -0.02, "low": -0.05, "high": 0.01, "above": 0.2}
    listed = {
        task: {
            "metric": "macro_f1", "how": "shared" if place else "own third", "split": "test", "single": 0.8,
            "winner": 0.78, "score": 0.79, "delta": 0.01 * place - 0.02, "low": 0.01 * place - 0.04,
            "high": 0.01 * place, "dev": standing, "lifted_by": "own_third" if place == 0 else None,
            "below_floor": place == count - 1, "would_need": "", "sentence": f"{task}: {ODD[1]} 0.79",
        }
        for place, task in enumerate(tasks)
    }  # fmt: skip
    candidates = [
        {
            "name": name, "changes": [f"sharing.strategy={ODD[0]}"] if number else [], "share": share, "size": size,
            "passes": size, "cost": 1.0, "worst": worst, "mean": worst / 2, "deltas": dict.fromkeys(tasks, worst),
            "failed": failed, "run": f"runs/{name}",
        }
        for number, (name, share, size, worst, failed) in enumerate([
            ("global", 0.25, 1.0, -0.04, ""), ("global", 1, 1.0, -0.03, ""), ("upper_third_apart", 1, 1.6, -0.02, ""),
            ("upper_half_apart", 1, 2.0, -0.035, ""), ("a_candidate_of_a_long_name", 0.25, None, 0.0, "out of memory"),
        ])
    ]  # fmt: skip
    steps = [
        {"task": tasks[0], "step": "lora", "lifts": False, "why": "", "size": 1.1, "passes": 1.2, "cost": 0.5,
         "dev": standing},
        {"task": tasks[0], "step": "own_third", "lifts": True, "taken": True, "why": "", "size": 1.4, "passes": 1.3,
         "cost": 0.5, "dev": {**standing, "delta": -0.001}},
    ]  # fmt: skip
    value = {
        "answer": f"One model for {count} tasks, 1.4 times the size of one encoder.", "tasks": listed, "size": 1.4,
        "passes": 1.3, "parameters": 31_800_000, "singles": {"size": float(count), "passes": float(count)},
        "rows_per_second": {"shipped": 120.0, "single": 48.0}, "winner": "global", "options": {"floor": 3.0},
        "budget": 12.0, "spent": 10.5, "seconds_of_one_training": 140.0,
        "rates": [{"of": "", "scores": {"0.5": 0.01, "1": 0.02, "2": -0.01}, "chosen": 1.0},
                  {"of": tasks[0], "scores": {"1": 0.8, "2": None}, "chosen": 1.0}],
        "candidates": candidates, "ladder": steps, "picture": "", "notes": ["the dev rows are few"],
    }  # fmt: skip
    write(folder, "auto.json", value)
    (folder / "config.yaml").write_text("encoder: tiny\n", "utf-8")
    return folder
