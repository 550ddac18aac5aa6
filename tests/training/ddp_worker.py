"""One process of the gradient test: makes the first update's gradient and writes it down."""

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


def main(config: Path, out: Path) -> None:
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as world:
        trainer = assemble(validate(json.loads(config.read_text()))).trainer(world, None, Events(None))
        kept: dict[str, torch.Tensor] = {}

        def keep(*_: object) -> None:
            for name, parameter in trainer.parts.model.named_parameters():
                assert parameter.grad is not None, f"{name} has no gradient"
                kept[name] = parameter.grad.clone()

        trainer.optimizer.step = keep  # type: ignore[method-assign]
        trainer.update()
        save_file(kept, out / f"rank{world.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
