"""One process of the gradient tests: makes an update's gradient of each case and writes it down."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from polytask import assemble as assembling
from polytask.assemble import assemble
from polytask.config import validate
from polytask.model.encoder import Backbone
from polytask.model.shards import full_tensor
from polytask.training.distribution import join_world
from polytask.training.events import Events
from polytask.training.loop import Trainer


def main(cases: Path, out: Path) -> None:
    torch.set_num_threads(1)
    with read_once(), join_world(torch.device("cpu")) as world:
        for name, values in json.loads(cases.read_text()).items():
            trainer = assemble(validate(values)).trainer(world, None, Events(None))
            save_file(gradient(trainer), out / f"{name}-{world.rank}.safetensors")


@contextmanager
def read_once() -> Iterator[None]:
    """Read the encoder and the tokenizer, which all cases have, once; random numbers go on as where it is read."""
    load = Backbone.load
    known: dict[tuple[Any, ...], tuple[Backbone, torch.Tensor]] = {}

    def copied(*given: Any) -> Backbone:
        key = (torch.initial_seed(), *given)
        if key not in known:
            known[key] = load(*given), torch.get_rng_state()
        backbone, random = known[key]
        torch.set_rng_state(random)
        return deepcopy(backbone)

    tokenizer = cache(assembling.load_tokenizer)
    with patch.object(assembling, "load_tokenizer", tokenizer), patch.object(Backbone, "load", copied):
        yield


def gradient(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return the gradient of the second step, in which also tasks train that wait for others; the
    first changes nothing."""
    kept: dict[str, torch.Tensor | None] = {}

    def keep(*_: object) -> None:
        for name, parameter in trainer.parts.model.named_parameters():
            kept[name] = None if parameter.grad is None else full_tensor(parameter.grad).clone()

    trainer.state.optimizer.step = keep  # type: ignore[method-assign]
    for _ in range(2):
        trainer.update()
        trainer.state.step += 1
    missing = [name for name, found in kept.items() if found is None]
    assert not missing, f"{missing} have no gradient"
    return {name: found for name, found in kept.items() if found is not None}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
