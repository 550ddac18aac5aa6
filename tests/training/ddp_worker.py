"""One process of the gradient tests: makes an update's gradient of each case and writes it down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from polytask.assemble import assemble
from polytask.config import validate
from polytask.training.distribution import join_world
from polytask.training.events import Events
from polytask.training.loop import Trainer


def main(cases: Path, out: Path) -> None:
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as world:
        for name, values in json.loads(cases.read_text()).items():
            trainer = assemble(validate(values)).trainer(world, None, Events(None))
            save_file(gradient(trainer), out / f"{name}-{world.rank}.safetensors")


def gradient(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return the gradient of the second step, in which also tasks train that wait for others; the
    first changes nothing."""
    kept: dict[str, torch.Tensor | None] = {}

    def keep(*_: object) -> None:
        for name, parameter in trainer.parts.model.named_parameters():
            kept[name] = None if parameter.grad is None else parameter.grad.clone()

    trainer.state.optimizer.step = keep  # type: ignore[method-assign]
    for _ in range(2):
        trainer.update()
        trainer.state.step += 1
    missing = [name for name, found in kept.items() if found is None]
    assert not missing, f"{missing} have no gradient"
    return {name: found for name, found in kept.items() if found is not None}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
