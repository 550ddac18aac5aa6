"""One process of the gradient tests: makes the first update's gradient of each case and writes it down."""

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
    kept: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        for name, parameter in trainer.parts.model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            kept[name] = parameter.grad.clone()

    trainer.optimizer.step = keep  # type: ignore[method-assign]
    trainer.update()
    return kept


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
