"""The state of a run: everything that a checkpoint holds, and how it is changed, saved and restored."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from polytask.errors import TrainingError
from polytask.model.shared_layer import Origins
from polytask.sharing import HeadGroups, Plan, groups_of
from polytask.tasks.cells import brief
from polytask.training.checkpoint import Checkpoint
from polytask.training.head_trials import HeadTrials
from polytask.training.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors, rebuild_optimizer
from polytask.training.parts import TrainerParts
from polytask.training.rates import head_rate
from polytask.training.record import Exposures, StageScores
from polytask.training.selection import Selection
from polytask.training.snapshots import Snapshots

# Errors of restoring a state that does not fit.
_UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)


class TrainingState:
    """The state of a run.

    Attributes:
        step: number of updates made.
        stage: current stage of the schedule.
        optimizer: optimizer of the model's current parameters.
        wrapped: the model, wrapped for distributed training if there are several processes.
        trials: trial heads of tasks that share a head.
        snapshots: the best weights.
        stages: dev scores at the end of each stage.
        exposure: rows and tokens that each task has seen.
    """

    def __init__(self, parts: TrainerParts) -> None:
        options = parts.options
        self.parts = parts
        self.step = 0
        self.stage = parts.schedule.stage
        self.wrapped = self._wrapped()
        self.optimizer = build_optimizer(parts.model, options, parts.tasks)
        self.trials = HeadTrials(parts.model, parts.tasks, parts.world, head_rate(options))
        self.trials.follow(parts.policy.head_cuts() if parts.policy is not None else [])
        selection = Selection(options.patience, parts.rule)
        self.snapshots = Snapshots(parts.checkpoints, selection, each_task=options.best_of_each_task)
        self.stages = StageScores({name: task.metric for name, task in parts.tasks.items()})
        self.exposure = Exposures(list(parts.tasks), parts.sources)

    def _wrapped(self) -> nn.Module:
        """Return the model, wrapped if there are several processes; a sharded one needs no wrapper."""
        model = self.parts.model
        return model if model.sharded else self.parts.world.wrap(model, self.parts.device)

    def enter_stage(self) -> None:
        """Enter the schedule's current stage: freeze what it freezes. The learning rate is set by each update."""
        stage = self.parts.schedule.stage
        if stage.frozen != self.stage.frozen:
            self.parts.model.freeze(stage.frozen)
            self.wrapped = self._wrapped()
        self.stage = stage

    def change_heads(self, groups: HeadGroups) -> None:
        """Let these groups of tasks share a head from now on."""
        origins = self.parts.model.share_heads(groups)
        self.optimizer = self._optimizer_for_now(origins)
        self.wrapped = self._wrapped()

    def change_plan(self, plan: Plan) -> None:
        """Apply a new plan; new copies of layers take over the optimizer state of those that they come from."""
        origins = self.parts.model.follow(plan)
        self.optimizer = self._optimizer_for_now(origins)
        self.wrapped = self._wrapped()

    def _optimizer_for_now(self, origins: Origins) -> torch.optim.Optimizer:
        parts = self.parts
        return rebuild_optimizer(self.optimizer, parts.model, parts.options, parts.tasks, origins)

    def save(self) -> None:
        """Write a checkpoint, if the run has a folder: the first process, with the random generators of all.

        If the model is sharded, all processes write their shards.
        """
        parts = self.parts
        generators = parts.world.gather(torch.get_rng_state())
        if parts.checkpoints is None or not parts.keeps_weights:
            return
        others = optimizer_tensors(parts.model, self.optimizer)
        others |= self.trials.tensors()
        others |= {f"generator/{rank}": state for rank, state in enumerate(generators)}
        if parts.device.type == "cuda":
            others["generator/cuda"] = torch.cuda.get_rng_state()
        state = {
            "step": self.step,
            "processes": parts.world.size,
            "schedule": parts.schedule.state_dict(),
            "streams": parts.streams.state_dict(),
            "snapshots": self.snapshots.state_dict(),
            "stages": self.stages.to_json(),
            "plan": parts.model.plan.to_json(),
            "heads": [list(group) for group in parts.model.sharing.heads],
            "policy": None if parts.policy is None else parts.policy.state_dict(),
            "balancer": parts.balancer.state_dict(),
            "exposure": self.exposure.state_dict(),
        }
        weights = parts.model.state_dict()
        parts.checkpoints.save(self.step, Checkpoint(state, weights, others, self.snapshots.names))

    def resume(self) -> bool:
        """Resume from the newest complete checkpoint; return False if there is none. Raises TrainingError."""
        checkpoints, world = self.parts.checkpoints, self.parts.world
        if checkpoints is None:
            return False
        name = world.broadcast(checkpoints.newest() if world.is_main else None)  # all resume from the same one
        if name is None:
            return False
        checkpoint = checkpoints.load(str(name), self.parts.model.state_dict())
        try:
            self._take(checkpoint)
        except torch.OutOfMemoryError:
            raise
        except _UNFIT as error:
            raise TrainingError(
                f"{checkpoints.folder / str(name)}: the checkpoint does not fit this run ({brief(error)}); train into "
                "a new folder"
            ) from None
        return True

    def _take(self, checkpoint: Checkpoint) -> None:
        world, written = self.parts.world, checkpoint.state["processes"]
        if written != world.size and not self.parts.options.fsdp:
            raise TrainingError(
                f"the checkpoint was written by {written} processes and this is {world.size}; "
                f"resume with --processes {written}, or --ray {written}"
            )
        self._restore(checkpoint.state, checkpoint)

    def _restore(self, state: dict[str, Any], checkpoint: Checkpoint) -> None:
        parts = self.parts
        plan = Plan.from_json(state["plan"])
        if plan != parts.model.plan:
            self.change_plan(plan)
        heads = groups_of(state["heads"])
        if heads != parts.model.sharing.heads:
            self.change_heads(heads)
        if parts.policy is not None:
            parts.policy.load_state_dict(state["policy"])
            self.trials.follow(parts.policy.head_cuts())
            self.trials.load(checkpoint.others)
        parts.model.load_state_dict(checkpoint.weights)
        generators = {name: value for name, value in checkpoint.others.items() if name.startswith("generator/")}
        tensors = {
            name: value for name, value in checkpoint.others.items() if not name.startswith(("generator/", "trial/"))
        }
        load_optimizer_tensors(parts.model, self.optimizer, tensors)
        # With more processes than before, the new ones have no saved generator and keep their initial one.
        torch.set_rng_state(generators.get(f"generator/{parts.world.rank}", torch.get_rng_state()))
        if "generator/cuda" in generators:
            torch.cuda.set_rng_state(generators["generator/cuda"])
        if not isinstance(state["step"], int) or state["step"] < 0:
            raise ValueError(f"found the step {state['step']!r}")
        self.step = state["step"]
        parts.schedule.load_state_dict(state["schedule"])
        self.enter_stage()
        parts.streams.load_state_dict(state["streams"])
        self.snapshots.load_state_dict(state["snapshots"], is_main=parts.keeps_weights)
        self.stages.load(state["stages"])
        parts.balancer.load_state_dict(state["balancer"])
        self.exposure.load_state_dict(state["exposure"])
