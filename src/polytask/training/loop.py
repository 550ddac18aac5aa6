"""The loop: schedule, draw, forward, losses, update; evaluate, select, save; resume exactly."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.balance import Balancer
from polytask.data.batch import Batch, Collator
from polytask.data.encode import Source
from polytask.data.stream import DrawnRow, Streams
from polytask.errors import Interrupted, TrainingError
from polytask.model.device import autocast
from polytask.model.multitask import MultiTaskModel
from polytask.progress import Bar
from polytask.schedule import Feedback, Schedule
from polytask.sharing import HeadGroups, Plan, SharingPolicy, groups_of
from polytask.tasks import Task
from polytask.training.checkpoint import Checkpoint, Checkpoints
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.gradient import Differentiator, StepGradient
from polytask.training.head_trials import HeadTrials
from polytask.training.optimizer import (
    build_optimizer,
    label_weight,
    load_optimizer_tensors,
    optimizer_tensors,
    rate_factor,
    rebuild_optimizer,
    set_rate,
)
from polytask.training.options import TrainOptions
from polytask.training.record import Exposures, StageScores, UpdateStats, Window
from polytask.training.selection import DevScores, Rule, Selection
from polytask.training.snapshots import Snapshots


@dataclass(frozen=True)
class TrainerParts:
    """Everything a run is made of; the composition root builds them."""

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    sources: Sequence[Source]
    streams: Streams
    collator: Collator
    schedule: Schedule
    balancer: Balancer
    policy: SharingPolicy | None
    evaluate: Callable[[MultiTaskModel], DevScores]
    rule: Rule
    options: TrainOptions
    device: torch.device
    world: World
    checkpoints: Checkpoints | None
    events: Events


class Trainer:
    """Trains until the steps are used up, the patience is, or someone asks to stop."""

    def __init__(self, parts: TrainerParts) -> None:
        self.parts = parts
        options = parts.options
        torch.manual_seed(options.seed + parts.world.rank)  # dropout differs between processes
        self.wrapped = parts.world.wrap(parts.model, parts.device)
        self.optimizer = build_optimizer(parts.model, options)
        precision = partial(autocast, parts.device, options.precision)
        assert options.head_learning_rate != "auto"
        self.trials = HeadTrials(parts.model, parts.tasks, parts.world, options.head_learning_rate)
        self.trials.follow(parts.policy.head_cuts() if parts.policy is not None else [])
        self.differentiator = Differentiator(
            parts.model,
            parts.tasks,
            parts.balancer,
            parts.world,
            precision,
            seen=self.trials.see,
            reads_errors=parts.schedule.reads_errors,
        )
        selection = Selection(options.patience, parts.rule)
        self.snapshots = Snapshots(parts.checkpoints, selection, each_task=options.best_of_each_task)
        self.stages = StageScores({name: task.metric for name, task in parts.tasks.items()})
        self.stage = parts.schedule.stage
        self.step = 0
        self.exposure = Exposures(list(parts.tasks), parts.sources)
        self.asked_to_stop = False  # this process, by a signal
        self.stopping = False  # all processes, agreed upon in the step

    @property
    def total_steps(self) -> int:
        """The greatest number of updates; a stage that ends before its limit makes it smaller."""
        limit, most = self.parts.schedule.limit, self.parts.options.max_steps
        return min(limit, most) if most else limit

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return (
            self.step >= self.total_steps
            or self.parts.schedule.finished is not None
            or self.snapshots.selection.exhausted
        )

    def run(self) -> None:
        """Train. Raises Interrupted after a requested stop, TrainingError when training cannot go on."""
        window = Window()
        label = f"training {', '.join(self.parts.tasks)}"
        with (
            Bar(label, self.total_steps, show=self.parts.world.is_main, done=self.step) as bar,
            self._stop_on_request(bar),
        ):
            self._note_start()
            while not self.over:
                rows, tokens, measured = self.update()
                self.step += 1
                bar.advance(rows, tokens)
                window.add(measured)
                if self.step % self.parts.options.logging_steps == 0 or self.over:
                    self._log(window, bar)
                    window = Window()
                self._keep(bar)

    def _note_start(self) -> None:
        values = {
            "steps": self.total_steps,
            "steps_per_epoch": self.parts.schedule.steps_per_epoch,
            "processes": self.parts.world.size,
        }
        self.parts.events.write("start" if self.step == 0 else "resume", self.step, values)

    # one update

    def update(self) -> tuple[int, int, UpdateStats]:
        """Make one update and return its rows, its tokens, and what was measured."""
        parts, options = self.parts, self.parts.options
        drawn = self.draw()
        steps = min(self.stage.steps, self.total_steps - self.stage.first)
        set_rate(self.optimizer, rate_factor(self.step - self.stage.first, steps, options))
        self.wrapped.train()
        gradient = self._differentiate(drawn)
        losses, self.stopping = gradient.losses, gradient.stopping
        self._require_finite(losses)
        norm = float(torch.nn.utils.clip_grad_norm_(parts.model.parameters(), options.max_grad_norm))
        if not math.isfinite(norm):
            self._fail(f"step {self.step}: the gradient of {', '.join(losses)} is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if parts.balancer.wants_after:
            parts.balancer.after(self.differentiator.losses(self.batches(drawn)))
        self._tell_schedule(Feedback(self.step, losses, errors=gradient.errors))
        if gradient.gram is not None and parts.policy is not None:
            self._follow(parts.policy, gradient.gram)
        tokens = self.exposure.count(drawn)
        if parts.policy is not None and self.trials.under_way:
            self._try_heads(parts.policy)
        return len(drawn), tokens, UpdateStats(losses, gradient.weights, norm)

    def draw(self) -> list[DrawnRow]:
        """Draw the rows of the next step, the shortest first, on all processes alike."""
        parts = self.parts
        drawn = parts.streams.draw(parts.schedule.next().portions)
        drawn.sort(key=lambda one: int(parts.sources[one.source].lengths[one.row]))
        return drawn

    def batches(self, drawn: Sequence[DrawnRow]) -> list[Batch]:
        """Return the pieces of a step that this process passes."""
        return self._collate([drawn[index] for index in self._share(drawn)])

    def batches_by_task(self, drawn: Sequence[DrawnRow]) -> list[Batch]:
        """Return them with each task's rows apart: a row that serves several tasks comes once for each."""
        mine = [drawn[index] for index in self._share(drawn)]
        own = ([replace(row, tasks=(task,)) for row in mine if task in row.tasks] for task in self.parts.tasks)
        return [batch for rows in own for batch in self._collate(rows)]

    def _share(self, drawn: Sequence[DrawnRow]) -> list[int]:
        """Return which rows this process passes: dealt like cards, or task by task."""
        world = self.parts.world
        if self.parts.schedule.placement == "mixed":
            return world.share(range(len(drawn)))
        first = {task: number for number, task in enumerate(self.parts.tasks)}
        order = sorted(range(len(drawn)), key=lambda index: first[drawn[index].tasks[0]])
        lengths = [int(self.parts.sources[drawn[index].source].lengths[drawn[index].row]) for index in order]
        return world.stretch(order, lengths)

    def _collate(self, rows: Sequence[DrawnRow]) -> list[Batch]:
        parts, pieces = self.parts, self.parts.options.gradient_accumulation_steps
        cut = [parts.collator.from_sources(parts.sources, rows[start::pieces]) for start in range(pieces)]
        share = label_weight(self.step, self.total_steps)
        return [batch.to(parts.device).with_label_weight(share) for batch in cut if batch.rows]

    def _differentiate(self, drawn: Sequence[DrawnRow]) -> StepGradient:
        """Differentiate the step in the way that the balancer and the sharing policy ask for."""
        policy, balancer, asked = self.parts.policy, self.parts.balancer, self.asked_to_stop
        measures = policy is not None and policy.measures_at(self.step)
        in_pieces = balancer.shape == "losses" and self.parts.options.gradient_accumulation_steps > 1
        compares = balancer.measures_at(self.step)
        if measures or in_pieces or (compares and not balancer.options.top_only):
            return self.differentiator.by_task(self.batches_by_task(drawn), asked, statistic=measures)
        if compares:
            return self.differentiator.by_top(self.batches_by_task(drawn), asked)
        return self.differentiator.whole(self.wrapped, self.batches(drawn), asked)

    def _tell_schedule(self, feedback: Feedback) -> None:
        """Show the schedule what was measured, and do what it changes."""
        for change in self.parts.schedule.observe(feedback):
            self.parts.events.write(change.event, self.step + (feedback.dev is None), dict(change.values))

    def _enter_stage(self) -> None:
        """Begin the schedule's next stage: freeze what it freezes. The learning rate follows by itself."""
        stage = self.parts.schedule.stage
        if stage.frozen != self.stage.frozen:
            self.parts.model.freeze(stage.frozen)
            self.wrapped = self.parts.world.wrap(self.parts.model, self.parts.device)
        self.stage = stage

    def _follow(self, policy: SharingPolicy, gram: NDArray[np.float64]) -> None:
        """Show the policy what was measured, and change the plan where it says so."""
        model = self.parts.model
        # One matrix for all processes: a last bit that differs could make them decide differently.
        gram = np.asarray(self.parts.world.broadcast(gram))
        decision = policy.observe(gram, model.distances(policy.mergeable()) if policy.wants_distances else None)
        if decision is not None:
            self._change_plan(decision.plan)
            # It belongs to the update that ends now: a run resumed from before it decides, and logs, once more.
            self.parts.events.write(decision.action, self.step + 1, decision.to_json())

    def _try_heads(self, policy: SharingPolicy) -> None:
        """Let heads on trial learn from the step, and give tasks those that proved themselves."""
        gains = self.parts.world.broadcast(self.trials.step(self.exposure.in_first_pass()))
        assert isinstance(gains, dict)
        decision = policy.observe_heads(gains) if gains else None
        if decision is not None:
            self._change_heads(decision.heads)
            self.trials.hand_over(decision.groups, self.optimizer)
            self.trials.follow(policy.head_cuts())
            self.parts.events.write("head_split", self.step + 1, decision.to_json())

    def _change_heads(self, groups: HeadGroups) -> None:
        """Let these groups of tasks share a head from now on."""
        origins = self.parts.model.share_heads(groups)
        self.optimizer = rebuild_optimizer(self.optimizer, self.parts.model, self.parts.options, origins)
        self.wrapped = self.parts.world.wrap(self.parts.model, self.parts.device)

    def _change_plan(self, plan: Plan) -> None:
        """Divide the layers anew; new copies take over the optimizer's state of those that they come from."""
        origins = self.parts.model.follow(plan)
        self.optimizer = rebuild_optimizer(self.optimizer, self.parts.model, self.parts.options, origins)
        self.wrapped = self.parts.world.wrap(self.parts.model, self.parts.device)

    def _require_finite(self, losses: Mapping[str, float]) -> None:
        for task, loss in losses.items():
            if not math.isfinite(loss):
                self._fail(f"step {self.step}: the loss of {task!r} is {loss}")

    def _fail(self, what: str) -> NoReturn:
        kept = self.parts.checkpoints
        before = "; the last checkpoint was kept" if kept is not None and self.snapshots.best else ""
        self.parts.events.write("failed", self.step, {"reason": what})
        raise TrainingError(f"{what}; try a lower train.learning_rate, or train.precision=fp32{before}")

    # what is kept

    def _keep(self, bar: Bar) -> None:
        """Evaluate and save where it is due. Raises Interrupted after saving when a stop was asked for."""
        schedule, options = self.parts.schedule, self.parts.options
        last = self.over
        every = options.save_steps
        ended = schedule.stage != self.stage
        often = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
        if (self.step - self.stage.first) % often == 0 or ended or last:
            began = time.monotonic()
            self._evaluate(bar)
            self._enter_stage()
            self._save()
            bar.pause(time.monotonic() - began)
        elif self.stopping or (every and self.step % every == 0):
            self._save()
        if self.stopping and not last:
            self.parts.events.write("interrupted", self.step, {})
            raise Interrupted(f"stopped after step {self.step} of {self.total_steps}, and saved; go on with --resume")

    def _evaluate(self, bar: Bar) -> None:
        """Score the dev rows on the first process; all take over its decision."""
        parts = self.parts
        dev: DevScores | None = None
        if parts.world.is_main:
            bar.describe("evaluating")
            try:
                dev = parts.evaluate(parts.model)
            except TrainingError as error:  # the last update may be the one that diverged: no loss tells of it
                self._fail(f"step {self.step}: {error}")
            best = self.snapshots.observe(self.step, dev, parts.model)
            if self.over or parts.schedule.stage != self.stage:
                self.stages.add(self.stage.name, self.step, dev.scores)
            epoch = (self.step - self.stage.first) / parts.schedule.steps_per_epoch
            parts.events.write(
                "evaluation",
                self.step,
                {
                    "epoch": round(epoch, 4),
                    "stage": self.stage.name,
                    "dev": dev.scores,
                    "mean": dev.mean,
                    "rating": self.snapshots.selection.rule(dev),
                    "best": best,
                },
            )
            shown = "  ".join(
                f"{task} {parts.tasks[task].metric} {_shown(scores[parts.tasks[task].metric])}"
                for task, scores in dev.scores.items()
            )
            bar.say(f"epoch {epoch:.2f}  {shown}" + ("  (best so far)" if best else ""))
            bar.describe(f"training {', '.join(parts.tasks)}")
        selection = self.snapshots.selection
        selection.load_state_dict(parts.world.broadcast(selection.state_dict()))  # type: ignore[arg-type]
        told = parts.world.broadcast(dev)
        assert isinstance(told, DevScores)
        self._tell_schedule(Feedback(self.step, {}, told.scores, told.normalised))

    def _log(self, window: Window, bar: Bar) -> None:
        self.parts.events.write(
            "step",
            self.step,
            {
                **window.to_json(),
                **(
                    {"label_weight": label_weight(self.step - 1, self.total_steps)}
                    if self.parts.options.teachers
                    else {}
                ),
                "rate": self.optimizer.param_groups[0]["lr"],
                "tokens_per_second": round(bar.tokens_per_second, 1),
                "exposure": self.exposure.to_json(),
            },
        )

    # resume

    def _save(self) -> None:
        generators = self.parts.world.gather(torch.get_rng_state())
        if self.parts.checkpoints is None or not self.parts.world.is_main:
            return
        others = optimizer_tensors(self.parts.model, self.optimizer)
        others |= self.trials.tensors()
        others |= {f"generator/{rank}": state for rank, state in enumerate(generators)}
        if self.parts.device.type == "cuda":
            others["generator/cuda"] = torch.cuda.get_rng_state()
        state = {
            "step": self.step,
            "processes": self.parts.world.size,
            "schedule": self.parts.schedule.state_dict(),
            "streams": self.parts.streams.state_dict(),
            "snapshots": self.snapshots.state_dict(),
            "stages": self.stages.to_json(),
            "plan": self.parts.model.plan.to_json(),
            "heads": [list(group) for group in self.parts.model.sharing.heads],
            "policy": None if self.parts.policy is None else self.parts.policy.state_dict(),
            "balancer": self.parts.balancer.state_dict(),
            "exposure": self.exposure.state_dict(),
        }
        weights = self.parts.model.state_dict()
        self.parts.checkpoints.save(self.step, Checkpoint(state, weights, others, self.snapshots.names))

    def resume(self) -> bool:
        """Go on from the newest checkpoint that is whole; False when there is none. Raises TrainingError."""
        checkpoints, world = self.parts.checkpoints, self.parts.world
        if checkpoints is None:
            return False
        name = world.broadcast(checkpoints.newest() if world.is_main else None)  # all go on from the same one
        if name is None:
            return False
        found = checkpoints.load(str(name))
        state = found.state
        if state["processes"] != self.parts.world.size:
            raise TrainingError(
                f"the checkpoint was written by {state['processes']} processes and this is {self.parts.world.size}; "
                f"resume with --processes {state['processes']}"
            )
        self._restore(state, found)
        return True

    def _restore(self, state: dict[str, Any], checkpoint: Checkpoint) -> None:
        plan = Plan.from_json(state["plan"])
        if plan != self.parts.model.plan:
            self._change_plan(plan)
        heads = groups_of(state["heads"])
        if heads != self.parts.model.sharing.heads:
            self._change_heads(heads)
        if self.parts.policy is not None:
            self.parts.policy.load_state_dict(state["policy"])
            self.trials.follow(self.parts.policy.head_cuts())
            self.trials.load(checkpoint.others)
        self.parts.model.load_state_dict(checkpoint.weights)
        generators = {name: value for name, value in checkpoint.others.items() if name.startswith("generator/")}
        tensors = {
            name: value for name, value in checkpoint.others.items() if not name.startswith(("generator/", "trial/"))
        }
        load_optimizer_tensors(self.parts.model, self.optimizer, tensors)
        torch.set_rng_state(generators[f"generator/{self.parts.world.rank}"])
        if "generator/cuda" in generators:
            torch.cuda.set_rng_state(generators["generator/cuda"])
        self.step = state["step"]
        self.parts.schedule.load_state_dict(state["schedule"])
        self._enter_stage()
        self.parts.streams.load_state_dict(state["streams"])
        self.snapshots.load_state_dict(state["snapshots"], is_main=self.parts.world.is_main)
        self.stages.load(state["stages"])
        self.parts.balancer.load_state_dict(state["balancer"])
        self.exposure.load_state_dict(state["exposure"])

    @contextmanager
    def _stop_on_request(self, bar: Bar) -> Generator[None]:
        """On the first Ctrl-C (or SIGTERM) finish the step and save; on the second stop at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            if self.asked_to_stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked_to_stop = True
            bar.say("stopping after this step; press Ctrl-C again to stop at once without saving")

        before: dict[int, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, ask)
        except ValueError:  # not the main thread: nobody can interrupt from here
            pass
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
