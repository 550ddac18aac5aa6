"""The loop: schedule, draw, forward, losses, update; evaluate, select, save."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.data.stream import DrawnRow
from polytask.errors import Interrupted, TrainingError
from polytask.model.device import autocast
from polytask.progress import Bar
from polytask.schedule import Feedback
from polytask.sharing import SharingPolicy
from polytask.training.gradient import Differentiator, StepGradient
from polytask.training.optimizer import clip_gradients, label_weight, rate_factor, set_rate
from polytask.training.parts import TrainerParts
from polytask.training.record import UpdateStats, Window
from polytask.training.requests import NOTHING, Requests
from polytask.training.selection import DevScores
from polytask.training.state import TrainingState
from polytask.training.step_rows import StepRows


class Trainer:
    """Trains until the steps are used up, the patience is, or someone asks to stop."""

    def __init__(self, parts: TrainerParts) -> None:
        self.parts = parts
        options = parts.options
        torch.manual_seed(options.seed + parts.world.rank)  # dropout differs between processes
        self.state = TrainingState(parts)
        self.rows = StepRows(parts)
        precision = partial(autocast, parts.device, options.precision, keeps=not parts.model.sharded)
        self.differentiator = Differentiator(
            parts.model,
            parts.tasks,
            parts.balancer,
            parts.world,
            precision,
            seen=self.state.trials.see,
            reads_errors=parts.schedule.reads_errors,
        )
        self.requests = Requests()
        self.asked = NOTHING  # all processes, agreed upon in the step

    @property
    def total_steps(self) -> int:
        """The greatest number of updates; a stage that ends before its limit makes it smaller."""
        limit, most = self.parts.schedule.limit, self.parts.options.max_steps
        return min(limit, most) if most else limit

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return (
            self.state.step >= self.total_steps
            or self.parts.schedule.finished is not None
            or self.state.snapshots.selection.exhausted
        )

    def run(self) -> None:
        """Train. Raises Interrupted after a requested stop, TrainingError when training cannot go on."""
        window = Window()
        label = f"training {', '.join(self.parts.tasks)}"
        with (
            Bar(label, self.total_steps, show=self.parts.world.is_main, done=self.state.step) as bar,
            self.requests.listening(bar),
            nullcontext() if self.parts.checkpoints is None else self.parts.checkpoints.written(),
        ):
            self._note_start()
            while not self.over:
                rows, tokens, measured = self.update()
                self.state.step += 1
                bar.advance(rows, tokens)
                window.add(measured)
                if self.state.step % self.parts.options.logging_steps == 0 or self.over:
                    self._log(window, bar)
                    window = Window()
                self._keep(bar)
            # Also where it was asked while the last rows were scored: more runs may follow.
            if self.asked.stop or any(self.parts.world.all_reduce_sum([float(self.requests.stop)])):
                self._stop()

    def _note_start(self) -> None:
        values = {
            "steps": self.total_steps,
            "steps_per_epoch": self.parts.schedule.steps_per_epoch,
            "processes": self.parts.world.size,
        }
        self.parts.events.write("start" if self.state.step == 0 else "resume", self.state.step, values)

    # one update

    def update(self) -> tuple[int, int, UpdateStats]:
        """Make one update and return its rows, its tokens, and what was measured."""
        parts, options = self.parts, self.parts.options
        drawn = self.rows.draw()
        steps = min(self.state.stage.steps, self.total_steps - self.state.stage.first)
        set_rate(self.state.optimizer, rate_factor(self.state.step - self.state.stage.first, steps, options))
        self.state.wrapped.train()
        gradient = self._differentiate(drawn)
        losses, self.asked = gradient.losses, gradient.asked
        self._require_finite(losses)
        norm = clip_gradients(parts.model, options.max_grad_norm, parts.world)
        if not math.isfinite(norm):
            self._fail(f"step {self.state.step}: the gradient of {', '.join(losses)} is not finite")
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        if parts.balancer.wants_after:
            parts.balancer.after(self.differentiator.losses(self.rows.batches(drawn, self._label_weight())))
        self._tell_schedule(Feedback(self.state.step, losses, errors=gradient.errors))
        if gradient.gram is not None and parts.policy is not None:
            self._follow(parts.policy, gradient.gram)
        tokens = self.state.exposure.count(drawn)
        if parts.policy is not None and self.state.trials.under_way:
            self._try_heads(parts.policy)
        return len(drawn), tokens, UpdateStats(losses, gradient.weights, norm)

    def _differentiate(self, drawn: Sequence[DrawnRow]) -> StepGradient:
        """Differentiate the step in the way that the balancer and the sharing policy ask for."""
        policy, balancer, asked = self.parts.policy, self.parts.balancer, self.requests.take()
        measures = policy is not None and policy.measures_at(self.state.step)
        in_pieces = balancer.shape == "losses" and self.parts.options.cuts_updates
        compares = balancer.measures_at(self.state.step)
        if measures or in_pieces or (compares and not balancer.options.top_only):
            return self.differentiator.by_task(
                self.rows.batches_by_task(drawn, self._label_weight()), asked, statistic=measures
            )
        if compares:
            return self.differentiator.by_top(self.rows.batches_by_task(drawn, self._label_weight()), asked)
        return self.differentiator.whole(self.state.wrapped, self.rows.batches(drawn, self._label_weight()), asked)

    def _label_weight(self) -> float:
        """Return the share of the labels in the losses of this step, beside what teachers answer."""
        return label_weight(self.state.step, self.total_steps)

    def _tell_schedule(self, feedback: Feedback) -> None:
        """Show the schedule what was measured, and do what it changes."""
        for change in self.parts.schedule.observe(feedback):
            self.parts.events.write(change.event, self.state.step + (feedback.dev is None), dict(change.values))

    def _follow(self, policy: SharingPolicy, gram: NDArray[np.float64]) -> None:
        """Show the policy what was measured, and change the plan where it says so."""
        model = self.parts.model
        # One matrix for all processes: a last bit that differs could make them decide differently.
        gram = np.asarray(self.parts.world.broadcast(gram))
        decision = policy.observe(gram, model.distances(policy.mergeable()) if policy.wants_distances else None)
        if decision is not None:
            self.state.change_plan(decision.plan)
            # It belongs to the update that ends now: a run resumed from before it decides, and logs, once more.
            self.parts.events.write(decision.action, self.state.step + 1, decision.to_json())

    def _try_heads(self, policy: SharingPolicy) -> None:
        """Let heads on trial learn from the step, and give tasks those that proved themselves."""
        gains = self.parts.world.broadcast(self.state.trials.step(self.state.exposure.in_first_pass()))
        assert isinstance(gains, dict)
        decision = policy.observe_heads(gains) if gains else None
        if decision is not None:
            self.state.change_heads(decision.heads)
            self.state.trials.hand_over(decision.groups, self.state.optimizer)
            self.state.trials.follow(policy.head_cuts())
            self.parts.events.write("head_split", self.state.step + 1, decision.to_json())

    def _require_finite(self, losses: Mapping[str, float]) -> None:
        for task, loss in losses.items():
            if not math.isfinite(loss):
                self._fail(f"step {self.state.step}: the loss of {task!r} is {loss}")

    def _fail(self, what: str) -> NoReturn:
        kept = self.parts.checkpoints
        before = "; the last checkpoint was kept" if kept is not None and self.state.snapshots.best else ""
        self.parts.events.write("failed", self.state.step, {"reason": what})
        raise TrainingError(f"{what}; try a lower train.learning_rate, or train.precision=fp32{before}")

    # what is kept

    def _keep(self, bar: Bar) -> None:
        """Evaluate and save where it is due. Raises Interrupted after saving when a stop was asked for."""
        schedule, options = self.parts.schedule, self.parts.options
        if self.parts.checkpoints is not None:
            self.parts.checkpoints.check()
        last = self.over
        every = options.save_steps
        ended = schedule.stage != self.state.stage
        often = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
        if (self.state.step - self.state.stage.first) % often == 0 or ended or last:
            began = time.monotonic()
            self._evaluate(bar)
            self.state.enter_stage()
            self.state.save()
            bar.pause(time.monotonic() - began)
        elif self.asked.stop or self.asked.save or (every and self.state.step % every == 0):
            self.state.save()
        if self.asked.save and self.parts.world.is_main:
            kept = self.parts.checkpoints is not None
            self._wait_for_disk()
            bar.say(f"saved after step {self.state.step}" if kept else "nothing is saved: the run has no folder")
        if self.asked.stop and not last:
            self._stop()

    def _wait_for_disk(self) -> None:
        """Wait until what was saved is on the disk, before that is told."""
        if self.parts.checkpoints is not None:
            self.parts.checkpoints.wait()

    def _stop(self) -> NoReturn:
        self._wait_for_disk()
        self.parts.events.write("interrupted", self.state.step, {})
        raise Interrupted(f"stopped after step {self.state.step} of {self.total_steps}, and saved; go on with --resume")

    def _evaluate(self, bar: Bar) -> None:
        """Score the dev rows on the first process, or on all where the model is sharded; all take over its decision."""
        parts = self.parts
        dev: DevScores | None = None
        if parts.keeps_weights:
            bar.describe("evaluating")
            try:
                dev = parts.evaluate(parts.model)
            except TrainingError as error:  # the last update may be the one that diverged: no loss tells of it
                self._fail(f"step {self.state.step}: {error}")
            if parts.model.sharded:
                dev = cast("DevScores", parts.world.broadcast(dev))  # the last bits may differ
            best = self.state.snapshots.observe(self.state.step, dev, parts.model)
            if self.over or parts.schedule.stage != self.state.stage:
                self.state.stages.add(self.state.stage.name, self.state.step, dev.scores)
            epoch = (self.state.step - self.state.stage.first) / parts.schedule.steps_per_epoch
            parts.events.write(
                "evaluation",
                self.state.step,
                {
                    "epoch": round(epoch, 4),
                    "stage": self.state.stage.name,
                    "dev": dev.scores,
                    "mean": dev.mean,
                    "rating": self.state.snapshots.selection.rule(dev),
                    "best": best,
                },
            )
            shown = "  ".join(
                f"{task} {parts.tasks[task].metric} {_shown(scores[parts.tasks[task].metric])}"
                for task, scores in dev.scores.items()
            )
            bar.say(f"epoch {epoch:.2f}  {shown}" + ("  (best so far)" if best else ""))
            bar.describe(f"training {', '.join(parts.tasks)}")
        selection = self.state.snapshots.selection
        selection.load_state_dict(parts.world.broadcast(selection.state_dict()))  # type: ignore[arg-type]
        told = parts.world.broadcast(dev)
        assert isinstance(told, DevScores)
        self._tell_schedule(Feedback(self.state.step, {}, told.scores, told.normalised))

    def _log(self, window: Window, bar: Bar) -> None:
        self.parts.events.write(
            "step",
            self.state.step,
            {
                **window.to_json(),
                **(
                    {"label_weight": label_weight(self.state.step - 1, self.total_steps)}
                    if self.parts.options.teachers
                    else {}
                ),
                "rate": self.state.optimizer.param_groups[0]["lr"],
                "tokens_per_second": round(bar.tokens_per_second, 1),
                "exposure": self.state.exposure.to_json(),
            },
        )


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
