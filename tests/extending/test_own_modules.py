"""A module as a head, a function as a loss, a factory as an optimizer: trained, resumed, or refused with a reason."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import polytask as pt
from polytask.errors import ConfigError, Interrupted, UserError
from polytask.training.loop import Trainer

Job = Callable[..., dict[str, Any]]
SOURCE = """
import torch
import torch.nn.functional as F
from torch import nn


class Deep(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 8), nn.GELU(), nn.Linear(8, outputs))

    def forward(self, states):
        return self.layers(states)


class Scales(nn.Module):
    # Without a matrix.
    def __init__(self, features, outputs):
        super().__init__()
        self.outputs, self.scales = outputs, nn.Parameter(torch.ones(outputs))

    def forward(self, states):
        return states[:, : self.outputs] * self.scales


class Narrow(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(features, 1)

    def forward(self, states):
        return self.layer(states)


def focal(outputs, targets):
    each = F.cross_entropy(outputs, targets, reduction="none")
    return (1 - torch.exp(-each)) ** 2 * each


def usual(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def multilabel(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(-1)


def regression(outputs, targets):
    return (outputs.squeeze(-1) - targets).square()


def mean(outputs, targets):
    return F.cross_entropy(outputs, targets)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs, targets):
        return self.scale * F.cross_entropy(outputs, targets, reduction="none")


class Signs(torch.optim.Optimizer):
    # Keeps a number and a tensor, and nothing yet in the first step.
    def __init__(self, groups):
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["steps"] = state.get("steps", 0) + 1
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 / min(state["steps"], 10))
                parameter.add_(mean.sign(), alpha=-group["lr"] * group.get("pace", 1.0))
            group["pace"] = group.get("pace", 1.0) * 0.9


def momentum(groups):
    return torch.optim.SGD(groups, momentum=0.9)


def merged(groups):
    return torch.optim.SGD([one for group in groups for one in group["params"]], lr=0.1)


def nothing(groups):
    return None


def listing(groups):
    optimizer = torch.optim.SGD(groups, lr=0.1)
    first = optimizer.param_groups[0]["params"][0]
    optimizer.register_step_post_hook(lambda self, *_: self.state[first].update(seen=[1]))
    return optimizer
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a user's own, imported as a program imports it."""
    (tmp_path / "own_modules.py").write_text(SOURCE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("own_modules")


def with_own(job: Job, own: ModuleType, **train: Any) -> dict[str, Any]:
    values = job(rows=24, **{"max_steps": 4, "optim": own.Signs, **train})
    values["tasks"]["topic"].update(head=own.Deep, loss=own.focal)
    values["tasks"]["entities"].update(head=own.Deep, loss=own.usual)
    return values


def weights(run: pt.Run) -> dict[str, torch.Tensor]:
    assert run.folder is not None
    return load_file(run.folder / "model" / "model.safetensors")


def test_they_train_and_are_found_again_by_their_import_paths(job: Job, own: ModuleType, tmp_path: Path) -> None:
    run = pt.train(with_own(job, own), tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert written["train"]["optim"] == "own_modules:Signs"
    assert written["tasks"]["topic"]["head"] == "own_modules:Deep"
    assert written["tasks"]["topic"]["loss"] == "own_modules:focal"
    assert written["extensions"] == ["own_modules"]
    assert any(".module.layers.2." in name for name in weights(run))
    assert pt.load(tmp_path / "run" / "model").predict(["A fine film."]) == run.model.predict(["A fine film."])


@pytest.mark.parametrize("optimizer", ["Signs", "momentum"])
def test_an_own_optimizer_is_resumed_bit_for_bit(
    job: Job, own: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    values = with_own(job, own, optim=getattr(own, optimizer))
    whole = pt.train(values, tmp_path / "whole")
    update = Trainer.update

    def stopping(self: Trainer) -> Any:
        self.requests.stop = self.state.step == 1
        return update(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "update", stopping)
        with pytest.raises(Interrupted):
            pt.train(values, tmp_path / "cut")
    resumed = pt.train(values, tmp_path / "cut", resume=True)
    expected = weights(whole)
    assert all(torch.equal(found, expected[name]) for name, found in weights(resumed).items())


def test_the_usual_loss_by_hand_trains_what_the_type_does(job: Job, own: ModuleType) -> None:
    values = job(rows=24, max_steps=3)
    plain = pt.train(values)
    values["tasks"]["topic"]["loss"] = own.usual
    values["tasks"]["entities"]["loss"] = own.usual
    by_hand = pt.train(values)
    for split, found in plain.scores.items():
        assert {task: pytest.approx(scores) for task, scores in found.items()} == by_hand.scores[split]


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_the_usual_loss_by_hand_is_that_of_other_types_too(kind: str, tiny: Path, own: ModuleType) -> None:
    rows = [{"text": f"row {place}", "label": ["a", "b"][: 1 + place % 2] if kind == "multilabel" else place % 5}
            for place in range(24)]  # fmt: skip
    task = {"type": kind, "data": {"train": rows, "dev": rows}, "label": "label"}
    values = {
        "encoder": str(tiny),
        "max_tokens": 16,
        "tasks": {"one": task},
        "train": {"max_steps": 3, "batch_size": 8},
    }
    plain = pt.train(values)
    by_hand = pt.train({**values, "tasks": {"one": {**task, "loss": getattr(own, kind)}}})
    assert by_hand.scores["dev"]["one"] == pytest.approx(plain.scores["dev"]["one"], nan_ok=True)


def test_a_loss_counts_for_nothing_where_a_word_has_no_token(own: ModuleType) -> None:
    from polytask.tasks.losses import LOSSES, own_loss

    name = LOSSES.adopt(own.usual)
    outputs, targets = torch.randn(3, 2), torch.tensor([0, -100, 1])
    expected = torch.nn.functional.cross_entropy(outputs, targets, reduction="sum")
    torch.testing.assert_close(own_loss(name, outputs, targets), expected)


def test_a_model_answers_without_the_loss_and_the_optimizer(job: Job, own: ModuleType, tmp_path: Path) -> None:
    import json

    values = job(rows=24, max_steps=2, optim=own.Signs)
    values["tasks"]["topic"]["loss"] = own.focal
    pt.train(values, tmp_path / "run")
    described = json.loads((tmp_path / "run" / "model" / "polytask.json").read_text("utf-8"))
    assert described["extensions"] == []
    assert "loss" not in described["tasks"]["topic"]["options"]


@pytest.mark.slow
def test_a_module_as_a_head_is_exported_to_onnx(job: Job, own: ModuleType, tmp_path: Path) -> None:
    values = with_own(job, own)
    run = pt.train(values, tmp_path / "run")
    pt.export(tmp_path / "run", tmp_path / "onnx", to="onnx")
    texts = ["A fine film by Ang Lee.", "No."]
    for answer, same in zip(pt.load(tmp_path / "onnx").predict(texts), run.model.predict(texts), strict=True):
        assert answer["topic"]["label"] == same["topic"]["label"]
        assert answer["topic"]["probabilities"] == pytest.approx(same["topic"]["probabilities"], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda own: {"loss": own.mean},
            r"tasks.topic.loss: .*returned \[\] for outputs of .*one number for each of the 2",
        ),
        (lambda own: {"loss": torch.nn.CrossEntropyLoss}, r"tasks.topic.loss: .*returned \[\]"),
        (lambda own: {"loss": own.Scaled}, r"tasks.topic.loss: .*has parameters, which would not be trained"),
        (lambda own: {"loss": own.focal, "label_smoothing": 0.1}, r"found loss and label_smoothing, which belong to"),
        (lambda own: {"head": own.Narrow}, r"head: Narrow: returned \[2, 1\] for 2 x 32; expected 2 x \d"),
        (lambda own: {"head": torch.nn.GELU}, r"head: GELU: has to take the numbers of features and outputs"),
        (lambda own: {"loss": "own_modules:focal"}, r"the module own_modules was not requested"),
        (lambda own: {"loss": "focal"}, r"found 'focal'"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    job: Job, own: ModuleType, change: Callable[[ModuleType], dict[str, Any]], message: str
) -> None:
    values = job(rows=24, max_steps=1)
    values["tasks"]["topic"].update(change(own))
    with pytest.raises(ConfigError, match=message):
        pt.check(values)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("merged", "its parameter groups are not those it was created with"),
        ("nothing", r"returned NoneType; expected a torch\.optim\.Optimizer"),
        ("LBFGS", "cannot be built from parameter groups|need a closure"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused_before_the_first_step(
    job: Job, own: ModuleType, name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"train\.optim: .*{message}"):
        pt.check(job(rows=24, max_steps=1, optim=getattr(own, name, None) or torch.optim.LBFGS))


def test_a_state_that_no_checkpoint_can_hold_is_told(job: Job, own: ModuleType, tmp_path: Path) -> None:
    with pytest.raises((UserError, pt.TrainingError), match=r"train\.optim: SGD keeps list as 'seen'"):
        pt.train(job(rows=24, max_steps=2, optim=own.listing, save_steps=1), tmp_path / "run")


def test_processes_of_a_comparison_find_the_objects(
    job: Job, own: ModuleType, tmp_path: Path, quick_processes: None
) -> None:
    values = with_own(job, own)
    del values["tasks"]["sentiment"]
    found = pt.compare(values, tmp_path / "compared", arms=["config"], seeds=2, jobs=2)
    assert set(found.tasks) == {"topic", "entities"}


def test_a_head_without_a_matrix_is_probed(job: Job, own: ModuleType, tmp_path: Path) -> None:
    values = job(rows=48, epochs=30)
    for name in ("sentiment", "topic"):
        values["tasks"][name]["head"] = own.Scales
    del values["tasks"]["entities"]
    assert set(pt.relate(values, tmp_path / "related").groups[0]) <= {"sentiment", "topic"}
