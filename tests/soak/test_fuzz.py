"""Whatever stands in a file or a folder is read, or refused in words: never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

import polytask as pt
from polytask.config import load_config
from polytask.data.cache import file_digest
from polytask.data.prepare import read_tables
from polytask.options import DataOptions
from polytask.page import report
from polytask.tasks import TASKS
from soaking import Rounds, refused_in_words

pytestmark = pytest.mark.soak
# What files in the wild hold beside what they should.
ODD = [
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n", b"\t", b";", b",", b'"', b"'", b"{", b"}", b"[" * 3000,
    b"null", b"NaN", b"1e999", b"-0", b"\\ud800", b"\xf0\x9f\x98\x80", "中文".encode(), "\u2028\u202e".encode(),
    b"[/b]", b"B-", b"I-", b"#", b"- ", b"9" * 400, b"x" * 5000, b"", b"&a *a", b"!!python/object:os.system ",
]  # fmt: skip


def altered(drawn: random.Random, whole: bytes) -> bytes:
    """Return a file with a few places cut, doubled, overwritten, or filled with what is odd."""
    for _ in range(drawn.choice((1, 1, 2, 5))):
        start = drawn.randint(0, len(whole))
        end = min(len(whole), start + drawn.choice((0, 0, 1, 5, 50)))
        put = drawn.choice((drawn.choice(ODD), drawn.choice(ODD), drawn.randbytes(3), whole[start:end] * 2))
        whole = whole[:start] + put + whole[end:]
    return whole[: drawn.randint(0, len(whole))] if drawn.random() < 0.1 else whole


def files(folder: Path) -> dict[str, Path]:
    """Write a good file of each format."""
    rows = [
        {"text": f"A text {number}, with a comma", "label": "ab"[number % 2], "n": number / 3} for number in range(8)
    ]
    lines = [f"{row['text']}\t{row['label']}\t{row['n']}" for row in rows]
    texts = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "csv": "text,label,n\n" + "".join(f'"{row["text"]}",{row["label"]},{row["n"]}\n' for row in rows),
        "tsv": "text\tlabel\tn\n" + "".join(f"{line}\n" for line in lines),
        "conll": "".join("Ang B-PER\nLee I-PER\nin O\nLyon B-LOC\n\n" for _ in rows),
        "conllu": "".join("# text = Lee\n1\tLee\tlee\tNOUN\t_\t_\t0\troot\t_\t_\n\n" for _ in rows),
    }
    for kind, text in texts.items():
        (folder / f"good.{kind}").write_text(text, "utf-8")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "good.parquet")
    return {kind: folder / f"good.{kind}" for kind in (*texts, "parquet")}


def task_of(drawn: random.Random, kind: str, path: Path) -> Any:
    data = DataOptions(train=str(path), dev=drawn.choice((str(path), 0.3)))
    if kind in ("conll", "conllu"):
        more: dict[str, Any] = {"tokens": "form", "tags": "upos", "scheme": "plain"} if kind == "conllu" else {}
        return TASKS["tagging"].Options(type="tagging", data=data, **more)
    name, column = drawn.choice((("classification", "label"), ("multilabel", "label"), ("regression", "n")))
    return TASKS[name].Options(type=name, data=data, label=column)


def test_files_of_every_format_are_read_or_refused_in_words(
    tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYTASK_CACHE", str(tmp_path / "cache"))
    good = files(tmp_path)
    outcomes = {"read": 0, "refused": 0}
    for drawn in rounds(0.1):
        for kind, path in good.items():
            target = tmp_path / f"rows.{kind}"
            target.write_bytes(altered(drawn, path.read_bytes()))
            task = task_of(drawn, kind, target)
            with refused_in_words() as told:
                read_tables({"t": task})
            outcomes["refused" if told else "read"] += 1
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert all(outcomes.values())


@pytest.fixture
def run(job: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    pt.train(job(rows=24, max_steps=2), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_folder_that_was_altered_is_refused_or_answers_as_before(
    run: Path, tmp_path: Path, rounds: Rounds
) -> None:
    before = pt.load(run).predict(["A text from Lyon."])
    for drawn in rounds(0.15):
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        path = drawn.choice(sorted(found for found in copy.rglob("*") if found.is_file()))
        path.write_bytes(altered(drawn, path.read_bytes()))
        if path.parent.name == "model" and path.name != "polytask.json" and drawn.random() < 0.5:
            vouch_for(path)
        with refused_in_words():
            assert pt.load(copy).predict(["A text from Lyon."]) == before or path.parent.name == "model"
        assert report(copy).is_file()
        (tmp_path / "config.yaml").write_bytes(altered(drawn, (run / "config.yaml").read_bytes()))
        with refused_in_words():
            load_config(tmp_path / "config.yaml")
        shutil.rmtree(copy)


def vouch_for(path: Path) -> None:
    """Write the hash of a file that was altered into its folder, as an enemy would."""
    description = path.with_name("polytask.json")
    told = json.loads(description.read_text("utf-8"))
    if path.name in told["sha256"]:
        told["sha256"][path.name] = file_digest(path)
        description.write_text(json.dumps(told), "utf-8")


def test_values_of_a_configuration_are_taken_or_refused_in_words(
    job: Callable[..., dict[str, Any]], tmp_path: Path, rounds: Rounds
) -> None:
    good = job(rows=12)
    odd: list[Any] = [
        None,
        "",
        "x",
        -1,
        0,
        1e308,
        10**400,
        True,
        [],
        {},
        [[]],
        {"x": 1},
        "中文",
        "\ud800",
        "1e-5",
        [None],
    ]
    for drawn in rounds(0.0):
        for _ in range(200):
            values = json.loads(json.dumps(good))
            place, keys = values, list(values)
            for _ in range(drawn.randint(0, 3)):
                inner = place.get(drawn.choice(keys))
                if isinstance(inner, dict) and inner:
                    place, keys = inner, list(inner)
            place[drawn.choice([*keys, "unknown"])] = drawn.choice(odd)
            (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), "utf-8", errors="surrogatepass")
            with refused_in_words():
                load_config(tmp_path / "config.yaml")
