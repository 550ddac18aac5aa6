"""Turn the official IMDb files (aclImdb, Maas et al. 2011) into the jsonl files that the IMDb examples read.

python examples/imdb_official.py aclImdb imdb
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

# Reviews of the official training set that are held out to choose the model by.
HELD_OUT = 2000


def reviews(folder: Path) -> list[dict[str, str]]:
    """Read the labelled reviews of one split; a file is named ID_RATING.txt."""
    found: list[dict[str, str]] = []
    for label in ("neg", "pos"):
        for file in sorted((folder / label).glob("*.txt")):
            identity, rating = file.stem.split("_")
            text = file.read_text("utf-8")
            found.append({"text": text, "label": label, "rating": rating, "id": f"{label}/{identity}"})
    return found


def main(source: Path, target: Path) -> None:
    """Write train.jsonl, dev.jsonl and test.jsonl."""
    train = reviews(source / "train")
    random.Random(13).shuffle(train)
    held_out = min(HELD_OUT, len(train) // 10)
    target.mkdir(parents=True, exist_ok=True)
    for name, rows in {"dev": train[:held_out], "train": train[held_out:], "test": reviews(source / "test")}.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (target / f"{name}.jsonl").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
