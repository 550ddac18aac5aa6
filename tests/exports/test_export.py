"""`polytask export`: options, tasks and folders; a pruned folder answers as the whole one did."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import polytask as pt
from polytask.cli import app
from polytask.errors import ConfigError, OutputError
from polytask.exports import EXPORTS
from polytask.exports.push import push
from samples import small_job

TEXTS = ["A moving film by Ang Lee.", "The bank of England raised rates again.", "", "no"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    home = tmp_path_factory.mktemp("exporting")
    values = small_job(home, tiny, max_steps=2)
    values["tasks"]["entities"] |= {"needs": ["topic"], "reads": {"topic": "probabilities"}}
    values["sharing"] = {"strategy": "partial", "shared_layers": 1}
    pt.train(values, home / "run")
    return home / "run"


def test_a_pruned_folder_answers_as_the_whole_one(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), "--tasks", "sentiment", "--out", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "one")
    whole, one = pt.load(run / "model"), pt.load(tmp_path / "one")
    expected = [{"sentiment": answer["sentiment"]} for answer in whole.predict(TEXTS, ["sentiment"])]
    assert one.predict(TEXTS) == expected
    told = json.loads((tmp_path / "one" / "polytask.json").read_text("utf-8"))
    assert list(told["tasks"]) == ["sentiment"]
    assert all(list(scores) == ["sentiment"] for scores in told["about"]["scores"].values())


def test_a_task_that_is_read_has_to_be_kept(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'entities' reads the predictions of topic; add it: entities,topic"):
        pt.export(run, tmp_path / "out", tasks=["entities"])
    pt.export(run, tmp_path / "out", tasks=["topic", "entities"])
    assert pt.load(tmp_path / "out").predict(TEXTS) == pt.load(run / "model").predict(TEXTS, ["topic", "entities"])
    pt.export(run, tmp_path / "topic", tasks=["topic"])
    assert pt.load(tmp_path / "topic").predict(TEXTS) == pt.load(run / "model").predict(TEXTS, ["topic"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"to": "onx"}, r"to: found 'onx'; accepted: .*model"),
        ({"tasks": ["mood"]}, r"tasks: found 'mood'; accepted: entities, sentiment, topic"),
        ({"tasks": []}, r"tasks: found none; accepted: entities, sentiment, topic"),
        ({"quantise": "int8"}, r"quantise: unknown option of the export to 'model'"),
    ],
)
def test_mistakes_name_what_is_accepted(run: Path, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pt.export(run, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_left_alone(run: Path, tmp_path: Path) -> None:
    for name in EXPORTS:
        with pytest.raises(OutputError, match="the folder exists"):
            pt.export(run, run, to=name)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the hub was asked to do, in place of doing it."""
    import huggingface_hub

    asked: list[tuple[str, ...]] = []

    def create(self: Any, repo_id: str, *, private: bool | None, exist_ok: bool) -> None:
        assert exist_ok
        asked.append(("create", repo_id, "private" if private else "as the owner's others"))

    def upload(self: Any, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        asked.append(("upload", repo_id, str(folder_path), *sorted(file.name for file in folder_path.iterdir())))

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    return asked


def test_push_uploads_a_repository_for_each_folder(run: Path, tmp_path: Path, uploads: list[tuple[str, ...]]) -> None:
    found = pt.export(run, tmp_path / "one", tasks=["topic"], push="someone/small", private=True)
    assert uploads[0] == ("create", "someone/small", "private")
    assert uploads[1][:3] == ("upload", "someone/small", str(tmp_path / "one"))
    assert {"README.md", "model.safetensors", "polytask.json", "tokenizer.json"} <= set(uploads[1][3:])
    assert found.pushed == ("https://huggingface.co/someone/small",)
    folders = {"a": tmp_path / "one", "b": tmp_path / "one"}
    assert push(folders, "someone/small", private=False) == [
        "https://huggingface.co/someone/small-a",
        "https://huggingface.co/someone/small-b",
    ]


def test_a_push_that_fails_leaves_the_folder_and_says_how_to_go_on(run: Path, tmp_path: Path) -> None:
    command = ["export", str(run), "--out", str(tmp_path / "out"), "--push", "someone/small"]
    done = CliRunner().invoke(app, command)  # the tests are offline, and without a token
    assert isinstance(done.exception, OutputError)
    mend = f"hf upload someone/small {tmp_path / 'out'}"
    assert re.search(rf"push: someone/small: cannot be uploaded .*{re.escape(mend)}", str(done.exception))
    assert pt.load(tmp_path / "out").predict(TEXTS)


def test_options_need_what_they_belong_to(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="push: found 'small'; a repository of the hub is OWNER/NAME"):
        pt.export(run, tmp_path / "out", push="small")
    with pytest.raises(ConfigError, match="found private without push"):
        pt.export(run, tmp_path / "out", private=True)
    with pytest.raises(ConfigError, match="found max_loss without quantize; add quantize=int8"):
        pt.export(run, tmp_path / "out", to="onnx", max_loss=3)
    assert not (tmp_path / "out").exists()
