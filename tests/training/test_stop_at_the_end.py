"""Ctrl-C at the end of a run is not forgotten: what was announced happens, and no command begins the next run."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

import polytask as pt
from polytask import run as run_module
from polytask.errors import Interrupted
from polytask.training.checkpoint import Checkpoints
from polytask.training.loop import Trainer

Job = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]
# Where a run is when its last step has been made: an owner, and the name of what it does.
ENDINGS: dict[str, tuple[Any, str]] = {
    "last evaluation": (Trainer, "_evaluate"),
    "writing": (Checkpoints, "wait"),
    "fitting": (run_module, "fit_run"),
    "scoring": (run_module, "score_run"),
    "saving": (run_module, "save_bundle"),
}
ONE_FOLDER = "runs/*/events.jsonl"


@pytest.fixture(autouse=True)
def _interruptible() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Ctrl-C as in a terminal: a process that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def asked_in(patched: pytest.MonkeyPatch, ending: str, number: signal.Signals) -> None:
    """Send a signal when a run first gets to an ending."""
    owner, name = ENDINGS[ending]
    does, sent = getattr(owner, name), [False]

    def asked(*arguments: Any, **options: Any) -> Any:
        over = not isinstance(arguments[0], Trainer) or arguments[0].over
        done = does(*arguments, **options)
        if over and not sent[0]:
            sent[0] = True
            signal.raise_signal(number)
        return done

    patched.setattr(owner, name, asked)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("folder", [True, False], ids=["folder", "memory"])
def test_a_request_after_the_last_step_completes_the_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, folder: bool
) -> None:
    if ending in ("writing", "saving") and not folder:
        pytest.skip("a run in memory does not do this")
    # One evaluation, and thus one checkpoint: the first time that one is waited for is at the end.
    values = job(max_steps=2, evaluations_per_epoch=1)
    whole = pt.train(values)
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / number.name if folder else None
        with monkeypatch.context() as patched:
            asked_in(patched, ending, number)
            with pytest.raises(Interrupted, match="stopped, and the run is complete") as stopped:
                pt.train(values, out)
        assert stopped.value.run.scores == whole.scores
        if out is not None:
            assert pt.load(out).predict(["A fine film."]) == whole.model.predict(["A fine film."])
            assert not (out / "checkpoints").exists()


def test_a_request_during_the_last_step_ends_the_run_there_and_nothing_is_lost(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = job(max_steps=3)
    whole = pt.train(values, tmp_path / "whole")
    update = Trainer.update

    def asked(self: Trainer) -> Any:
        made = update(self)
        if self.state.step == 2:
            signal.raise_signal(signal.SIGINT)
        return made

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", asked)
        with pytest.raises(Interrupted, match="stopped after step 3 of 3, and saved; go on with --resume") as stopped:
            pt.train(values, tmp_path / "run")
        assert stopped.value.run is None
        with pytest.raises(Interrupted, match="stopped, and the run is complete") as stopped:
            pt.train(values)  # without a folder, the model would be lost
        assert stopped.value.run.scores == whole.scores
    assert not (tmp_path / "run" / "model").exists()
    assert pt.train(values, tmp_path / "run", resume=True).scores == whole.scores


def test_a_request_that_no_folder_can_keep_is_not_told_to_be_saved(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer.update

    def asked(self: Trainer) -> Any:
        signal.raise_signal(signal.SIGINT) if self.state.step == 0 else None
        return update(self)

    monkeypatch.setattr(Trainer, "update", asked)
    with pytest.raises(Interrupted, match="stopped after step 1 of 3; nothing is saved: the run has no folder"):
        pt.train(job(max_steps=3))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_train_command_does_all_and_exits_with_0(
    job: Job, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(job(max_steps=2, evaluations_per_epoch=1)))
    with monkeypatch.context() as patched:
        asked_in(patched, ending, signal.SIGINT)
        code, shown, told = call("train", config, "--out", tmp_path / "run")
    assert code == 0, told
    assert told.count("the last step was made: stopping once the run is scored and saved") == 1
    assert "sentiment" in shown
    assert f"model: {tmp_path / 'run' / 'model'}" in told


def test_the_second_ctrl_c_stops_at_once_and_tells_how_to_go_on(
    job: Job, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(job(max_steps=2, evaluations_per_epoch=1)))
    with monkeypatch.context() as patched:
        asked_in(patched, "fitting", signal.SIGINT)
        asked_in(patched, "scoring", signal.SIGINT)
        code, _, told = call("train", config, "--out", out)
    assert code == 130
    assert told.endswith("stopped; go on with --resume, from the newest checkpoint if there is one\n")
    assert not (out / "model").exists()
    assert call("train", config, "--out", out, "--resume")[0] == 0


Command = tuple[Callable[[Path, Path], list[object]], str]
COMMANDS: dict[str, Command] = {
    "compare": (
        lambda config, out: ["compare", config, "--out", out, "--arms", "single,global", "--seeds", "2"],
        ONE_FOLDER,
    ),
    "folds": (
        lambda config, out: [
            "compare", config, "--out", out, "--arms", "single,global", "--seeds", "2", "--folds", "2",
        ],
        ONE_FOLDER,
    ),
    "auto": (lambda config, out: ["auto", config, "--out", out, "--budget", "5"], ONE_FOLDER),
    "tune": (
        lambda config, out: [
            "tune", config, "--out", out, "--trials", "2", "--no-prune", "--search", "train.learning_rate=1e-9,3e-3",
        ],
        "trials/*/events.jsonl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["writing", "saving", "between runs"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_trains_several_runs_stops_and_goes_on(
    job: Job, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: str, ending: str
) -> None:
    values = job(rows=16, max_steps=2, evaluations_per_epoch=1)
    values["tasks"] = {name: values["tasks"][name] for name in ("sentiment", "topic")}
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(values))
    arguments, begun = COMMANDS[command]
    with monkeypatch.context() as patched:
        if ending == "between runs":
            between_runs(patched)
        else:
            asked_in(patched, ending, signal.SIGINT)
        code, _, told = call(*arguments(config, out))
    assert code == 130, told
    assert told.splitlines()[-1].endswith("; the same command continues from there"), told
    (run,) = out.glob(begun)
    assert (run.parent / "scores.json").exists()
    log = run.read_bytes()
    code, _, told = call(*arguments(config, out))
    assert code == 0, told
    assert run.read_bytes() == log  # it was not trained again


def between_runs(patched: pytest.MonkeyPatch) -> None:
    """Send Ctrl-C when the first run has ended."""
    for module, name in (("polytask.comparison.runs", "_train_here"), ("polytask.tuning.tune", "run_trial")):
        owner = importlib.import_module(module)
        patched.setattr(owner, name, _and_ctrl_c(getattr(owner, name)))


def _and_ctrl_c(does: Callable[..., None]) -> Callable[..., None]:
    def asked(*arguments: Any) -> None:
        does(*arguments)
        signal.raise_signal(signal.SIGINT)

    return asked
