"""Every strategy's example runs end to end on the bundled corpus: trained, scored, saved, loaded, predicting."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from polytask import corpus
from polytask.api import load, train
from polytask.config import load_config
from polytask.sharing import SHARING

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples" / "sharing").glob("*.yaml"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, six_layers: Path) -> Path:
    """A folder with the examples and the data of the quickstart, as in a checkout after `make quickstart`."""
    found = tmp_path_factory.mktemp("project")
    corpus.write_files(found / "quickstart" / "data")
    shutil.copytree(ROOT / "examples", found / "examples")
    shutil.copytree(six_layers, found / "encoder")
    return found


def test_every_strategy_has_an_example() -> None:
    assert {load_config(example).sharing.strategy for example in EXAMPLES} == set(SHARING)


@pytest.mark.parametrize("example", [example.stem for example in EXAMPLES])
def test_an_example_trains_scores_saves_and_predicts(example: str, project: Path, tmp_path: Path) -> None:
    overrides = [f"encoder={project / 'encoder'}", "train.max_steps=3", "train.batch_rows=8", "train.precision=fp32"]
    if example == "adaptive":  # measure early, and split whatever is less than equal
        overrides += [
            "sharing.interval=1",
            "sharing.patience=1",
            "sharing.threshold=1.0",
            "sharing.confidence=0",
            "sharing.measurements=1",
        ]
    run = train(project / "examples" / "sharing" / f"{example}.yaml", tmp_path / "run", overrides=overrides)
    assert set(run.scores["test"]) == {"sentiment", "topic", "entities"}
    loaded = load(tmp_path / "run" / "model")
    assert loaded.network.sharing == run.model.network.sharing
    if example == "adaptive":
        assert len(loaded.network.plan.levels[-1]) > 1
    texts = ["A moving film by Ang Lee.", "The phone broke in Rome after two days."]
    assert loaded.predict(texts) == run.model.predict(texts)
