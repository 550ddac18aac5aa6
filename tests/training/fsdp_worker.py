"""One process of the tests of sharded runs: trains run after run, some of which are stopped or killed on their way."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import polytask as pt
from polytask.errors import Interrupted
from polytask.model.shards import local_part
from polytask.training.loop import Trainer


def main(file: Path) -> None:
    torch.set_num_threads(1)
    for port, run in json.loads(file.read_text()):
        os.environ["MASTER_PORT"] = str(port)  # the store of the run before may still hold its own
        train(**run)


def train(values: dict[str, Any], out: str, *, resume: bool = False, stop: int = -1, kill: int = -1) -> None:
    """Train, and end in a step as on Ctrl-C, or at once. What the process holds is written beside the run."""
    update = Trainer.update

    def ending(self: Trainer) -> Any:
        if self.state.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.state.step == stop:
            self.requests.stop = True
        measured = update(self)
        Path(f"{out}-{self.parts.world.rank}.json").write_text(json.dumps(held(self)))
        return measured

    with patch.object(Trainer, "update", ending):
        try:
            pt.train(values, out, resume=resume)
        except Interrupted:
            assert stop >= 0


def held(trainer: Trainer) -> int:
    """Return the bytes of parameters and of the optimizer's state in this process."""
    parameters = list(trainer.parts.model.parameters())
    states = [value for one in parameters for value in trainer.state.optimizer.state[one].values()]
    return sum(local_part(one).nbytes for one in (*parameters, *states))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
