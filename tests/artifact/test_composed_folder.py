"""A folder composed of several: every task answers as in its source, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polytask as pt
from polytask.cli import app
from polytask.errors import ConfigError, ModelError, OutputError

TEXTS = ["Ang Lee made a film.", "", "a word", "Never again, said the man from Leeds. " * 9]


def rows(*labels: str) -> list[dict[str, Any]]:
    texts = [f"text number {n}" for n in range(16)]
    return [
        {"text": text, "mood": labels[n % len(labels)], "tokens": text.split(), "tags": ["O", "B-X", "I-X"]}
        for n, text in enumerate(texts)
    ]


def trained(out: Path, encoder: Path, tasks: list[str], seed: int, **more: Any) -> Path:
    data = {"train": rows("a", "b"), "dev": rows("a", "b"), "test": rows("a", "b")}
    options = {"mood": {"type": "classification", "label": "mood"}, "names": {"type": "tagging"}}
    values = {
        "encoder": str(encoder),
        "max_tokens": 32,
        "tasks": {task: {**options[task.split("_")[0]], "data": data} for task in tasks},
        "train": {"max_steps": 2, "seed": seed, "precision": "fp32"},
        **more,
    }
    pt.train(values, out)
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("sources")
    return {
        "one": trained(at / "one", tiny, ["mood", "names"], 1),
        "other": trained(
            at / "other",
            tiny,
            ["mood_b", "names_b"],
            2,
            sharing={"strategy": "partial", "shared_layers": 1, "kind": "lora"},
        ),
        "short": trained(at / "short", tiny, ["mood_c"], 3, max_tokens=16),
    }


def test_answers_are_those_of_the_sources(folders: dict[str, Path], tmp_path: Path) -> None:
    # A run's folder, and some of the tasks of a model's.
    out = pt.compose([folders["one"], f"{folders['other'] / 'model'}:names_b"], tmp_path / "all")
    whole, one, other = pt.load(out), pt.load(folders["one"] / "model"), pt.load(folders["other"] / "model")
    expected = [
        {**first, "names_b": second["names_b"]}
        for first, second in zip(one.predict(TEXTS), other.predict(TEXTS), strict=True)
    ]
    assert whole.predict(TEXTS) == expected
    assert whole.about["scores"]["test"].keys() == {"mood", "names", "names_b"}
    assert whole.about["scores"]["test"]["names_b"] == other.about["scores"]["test"]["names_b"]
    # It is a model as any other: exported, cut, and composed once more.
    pt.export(out, tmp_path / "onnx", to="onnx")
    assert [set(row) for row in pt.load(tmp_path / "onnx").predict(TEXTS)] == [{"mood", "names", "names_b"}] * len(
        TEXTS
    )
    pt.export(out, tmp_path / "fewer", tasks=["names_b"])
    again = pt.compose([tmp_path / "fewer", f"{out}:mood"], tmp_path / "again")
    assert pt.load(again).predict(TEXTS) == [{"names_b": row["names_b"], "mood": row["mood"]} for row in expected]
    card = (out / "README.md").read_text("utf-8")
    assert "names_b" in card
    assert "the 3 tasks below in one call (2 passes of an encoder)" in card
    assert whole.about["passes"] == 2
    assert "the 2 tasks below in one pass" in (folders["one"] / "model" / "README.md").read_text("utf-8")


def test_a_composed_model_of_unlike_trunks_is_not_extended(
    folders: dict[str, Path], tmp_path: Path, tiny: Path
) -> None:
    out = pt.compose([folders["one"], folders["other"]], tmp_path / "all")
    task = {"type": "classification", "data": {"train": rows("a", "b")}, "label": "mood"}
    with pytest.raises(ConfigError, match="composed of trunks with different kinds of sharing"):
        pt.extend(out, {"encoder": str(tiny), "tasks": {"new": task}, "train": {"max_steps": 1}}, mode="frozen")


def test_what_does_not_fit_is_refused_with_both_values(folders: dict[str, Path], tmp_path: Path) -> None:
    one, other = str(folders["one"]), str(folders["other"])
    with pytest.raises(ConfigError, match=r"short: max_tokens: found 16, and .*one has 32"):
        pt.compose([one, folders["short"]], tmp_path / "out")
    with pytest.raises(ConfigError, match="it has a task 'mood', and so has .*one; take it from one of them"):
        pt.compose([one, f"{one}:mood"], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"other:moods: tasks: found 'moods'.*mood_b"):
        pt.compose([one, f"{other}:moods"], tmp_path / "out")
    with pytest.raises(ConfigError, match="found 1 source; name two or more"):
        pt.compose([one], tmp_path / "out")
    with pytest.raises(ModelError, match="nothing: not a model folder"):
        pt.compose([one, str(tmp_path / "nothing")], tmp_path / "out")
    with pytest.raises(OutputError, match="the folder exists"):
        pt.compose([one, other], tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_description_whose_trunks_are_not_its_tasks_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    out = pt.compose([folders["one"], folders["other"]], tmp_path / "all")
    file = out / "polytask.json"
    told = json.loads(file.read_text("utf-8"))
    for trunks in (told["sharing"]["trunks"][:1], told["sharing"]["trunks"] * 2, [{}], "mood"):
        file.write_text(json.dumps({**told, "sharing": {**told["sharing"], "trunks": trunks}}), "utf-8")
        with pytest.raises(ModelError, match="sharing|do not fit together"):
            pt.load(out)


def test_the_command(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "all"
    found = CliRunner().invoke(app, ["compose", str(folders["one"]), str(folders["other"]), "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert found.stdout.strip() == str(out)
    assert set(pt.load(out).tasks) == {"mood", "names", "mood_b", "names_b"}
