"""Spans against tags on flat sets: the same entities, once as a tag a word and once as spans by character.

    python -m benchmarks.types.spans --data ../shared/data
    python -m benchmarks.types.spans --sets wnut17 --seeds 13 --rows 1000
    python -m benchmarks.types.spans --show

Entities of the sets never touch one another, so `tagging` can say all of them; what is compared is the strict F1 on
test, by the default recipe. Every run is kept as a JSON file in `--results` and not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polytask as pt
from benchmarks.kept import keep, kept
from benchmarks.recipe import CHINESE, ENCODER, Cut
from benchmarks.types.tags import ALL, SEEDS, SETS, stem
from polytask.data.words import join_words
from polytask.tasks.bio import repair, spans

_SCORES = {"tagging": "f1", "spans": "span_f1"}


def sentences(file: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the words and tags of a set's rows."""
    text = file.read_text("utf-8").strip("\n")
    if file.suffix == ".jsonl":
        for row in map(json.loads, text.split("\n")):
            yield row["tokens"], row["tags"]
        return
    for block in text.split("\n\n"):
        pairs = [line.split("\t") for line in block.split("\n") if line.strip()]
        yield [pair[0] for pair in pairs], [pair[-1] for pair in pairs]


def by_character(file: Path) -> str:
    """Write the rows of a file with words, tags, and spans by character; return the new file."""
    new = file.with_name(f"{file.stem}-spans.jsonl")
    with new.open("w", encoding="utf-8") as out:
        for tokens, tags in sentences(file):
            text, words = join_words(tokens)
            own = repair(tags)[0]
            found = [[words[one.first][0], words[one.end - 1][1], one.label] for one in spans(own)]
            row = {"text": text, "tokens": tokens, "tags": own, "spans": found}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(new)


def values(cut: Cut, name: str, kind: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the configuration of a run."""
    form, encoder = SETS[name]
    files = cut(name, options.rows, form, dev=options.held, test=options.held)
    data = {split: by_character(Path(file)) for split, file in files.items()}
    return {
        "encoder": options.chinese if encoder == CHINESE else ENCODER,
        "max_tokens": 128 if name == "weibo_ner" else 64,
        "tasks": {"entities": {"type": kind, "data": data}},
        "train": {"epochs": options.epochs, "seed": seed},
    }


def measured(given: dict[str, Any]) -> dict[str, Any]:
    """Train one model, and return its scores."""
    run = pt.train(given)
    return {split: scores["entities"] for split, scores in run.scores.items()}


def show(results: Path, names: list[str], rows: int) -> None:
    """Print the table."""
    print("| set | seed | tagging | spans |\n|---|---|---|---|")
    for name in names:
        for seed in SEEDS:
            found = {kind: kept(results / f"{stem('spans', name, rows)}-{kind}-{seed}.json") for kind in _SCORES}
            figures = [100 * one["test"][_SCORES[kind]] for kind, one in found.items() if one is not None]
            if len(figures) == len(_SCORES):
                print(f"| {name} | {seed} | {' | '.join(f'{value:.2f}' for value in figures)} |")


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
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cut = Cut(options.data, Path(folder))
        for seed in () if options.show else options.seeds:
            for name in options.sets:
                for kind in _SCORES:
                    given = values(cut, name, kind, options, seed)
                    keep(options.results / f"{stem('spans', name, options.rows)}-{kind}-{seed}.json", measured, given)
    show(options.results, options.sets, options.rows)


if __name__ == "__main__":
    main()
