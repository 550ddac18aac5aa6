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
    """Trains until the steps or the patience are used up, or a stop is requested.

    Args:
        parts: what it trains, and with what.
        requests: requests to stop or to save. Who trains listens for them until the run is saved, and reads those that
            come after the last step; by default there are none.
    """

    def __init__(self, parts: TrainerParts, requests: Requests | None = None) -> None:
        self.parts = parts
        options = parts.options
        torch.manual_seed(options.seed + parts.world.rank)  # dropout differs between processes
        self.state = TrainingState(parts)
        self.rows = StepRows(parts)
        precision = partial(autocast, parts.device, options.precision, cache_enabled=not parts.model.sharded)
        self.differentiator = Differentiator(
            parts.model,
            parts.tasks,
            parts.balancer,
            parts.world,
            precision,
            seen=self.state.trials.see,
            reads_errors=parts.schedule.reads_errors,
        )
        self.requests = Requests() if requests is None else requests
        self.pending = NOTHING  # requests to any process, agreed upon in the step

    @property
    def total_steps(self) -> int:
        """The maximum number of updates; it shrinks when a stage ends before its limit."""
        limit, max_steps = self.parts.schedule.limit, self.parts.options.max_steps
        return min(limit, max_steps) if max_steps else limit

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return (
            self.state.step >= self.total_steps
            or self.parts.schedule.finished is not None
            or self.state.snapshots.selection.exhausted
        )

    def run(self) -> None:
        """Train. Raises Interrupted after a requested stop, and TrainingError if training cannot continue."""
        window = Window()
        label = f"training {', '.join(self.parts.tasks)}"
        with (
            Bar(label, self.total_steps, show=self.parts.world.is_main, done=self.state.step) as bar,
            self.requests.saying(bar.say),
            nullcontext() if self.parts.checkpoints is None else self.parts.checkpoints.written(),
        ):
            self._log_start()
            stop: bool | None = None  # known once the last step has been made
            while not self.over:
                rows, tokens, measured = self.update()
                self.state.step += 1
                bar.advance(rows, tokens)
                window.add(measured)
                if self.state.step % self.parts.options.logging_steps == 0 or self.over:
                    self._log(window, bar)
                    window = Window()
                if self.over:
                    stop = self._finish()
                self._keep(bar)
            if stop is None:  # the last evaluation ended the training, or no step was left
                stop = self._finish()
            if stop and self.parts.checkpoints is not None:  # without a folder the model would be lost
                self._stop()

    def _finish(self) -> bool:
        """Note that no step is left, and return whether any process was asked to stop before."""
        return any(self.parts.world.all_reduce_sum([float(self.requests.finish())]))

    def _log_start(self) -> None:
        values = {
            "steps": self.total_steps,
            "steps_per_epoch": self.parts.schedule.steps_per_epoch,
            "processes": self.parts.world.size,
        }
        self.parts.events.write("start" if self.state.step == 0 else "resume", self.state.step, values)

    # one update

    def update(self) -> tuple[int, int, UpdateStats]:
        """Make one update, and return its number of rows, its number of tokens, and its statistics."""
        parts, options = self.parts, self.parts.options
        drawn = self.rows.draw()
        steps = min(self.state.stage.steps, self.total_steps - self.state.stage.first)
        set_rate(self.state.optimizer, rate_factor(self.state.step - self.state.stage.first, steps, options))
        self.state.wrapped.train()
        gradient = self._differentiate(drawn)
        losses, self.pending = gradient.losses, gradient.pending
        self._require_finite(losses)
        norm = clip_gradients(parts.model, options.max_grad_norm, parts.world)
        if not math.isfinite(norm):
            self._fail(f"step {self.state.step}: the gradient of {', '.join(losses)} is not finite")
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        if parts.balancer.wants_after:
            parts.balancer.after(self.differentiator.losses(self.rows.batches(drawn, self._label_weight())))
        self._update_schedule(Feedback(self.state.step, losses, errors=gradient.errors))
        if gradient.gram is not None and parts.policy is not None:
            self._follow(parts.policy, gradient.gram)
        tokens = self.state.exposure.count(drawn)
        if parts.policy is not None and self.state.trials.under_way:
            self._try_heads(parts.policy)
        return len(drawn), tokens, UpdateStats(losses, gradient.weights, norm)

    def _differentiate(self, drawn: Sequence[DrawnRow]) -> StepGradient:
        """Compute the gradient in the way that the balancer and the sharing policy require."""
        policy, balancer, pending = self.parts.policy, self.parts.balancer, self.requests.take()
        measures = policy is not None and policy.measures_at(self.state.step)
        in_pieces = balancer.shape == "losses" and self.parts.options.cuts_updates
        compares = balancer.measures_at(self.state.step)
        if measures or in_pieces or (compares and not balancer.options.top_only):
            return self.differentiator.by_task(
                self.rows.batches_by_task(drawn, self._label_weight()), pending, statistic=measures
            )
        if compares:
            return self.differentiator.by_top(self.rows.batches_by_task(drawn, self._label_weight()), pending)
        return self.differentiator.whole(self.state.wrapped, self.rows.batches(drawn, self._label_weight()), pending)

    def _label_weight(self) -> float:
        """Return the weight of the labels relative to the teachers in the losses of this step."""
        return label_weight(self.state.step, self.total_steps)

    def _update_schedule(self, feedback: Feedback) -> None:
        """Pass measurements to the schedule, and log the changes that it makes."""
        for change in self.parts.schedule.observe(feedback):
            self.parts.events.write(change.event, self.state.step + (feedback.dev is None), dict(change.values))

    def _follow(self, policy: SharingPolicy, gram: NDArray[np.float64]) -> None:
        """Pass the Gram matrix to the policy, and change the plan if it decides so."""
        model = self.parts.model
        # One matrix for all processes: a last bit that differs could make them decide differently.
        gram = np.asarray(self.parts.world.broadcast(gram))
        decision = policy.observe(gram, model.distances(policy.mergeable()) if policy.wants_distances else None)
        if decision is not None:
            self.state.change_plan(decision.plan)
            # Logged with the update that ends now: a run resumed from before it decides, and logs, again.
            self.parts.events.write(decision.action, self.state.step + 1, decision.to_json())

    def _try_heads(self, policy: SharingPolicy) -> None:
        """Train the trial heads on the step, and give tasks those that are better."""
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

    def _fail(self, reason: str) -> NoReturn:
        checkpoints = self.parts.checkpoints
        hint = "; the last checkpoint was kept" if checkpoints is not None and self.state.snapshots.best else ""
        self.parts.events.write("failed", self.state.step, {"reason": reason})
        raise TrainingError(f"{reason}; try a lower train.learning_rate, or train.precision=fp32{hint}")

    # what is kept

    def _keep(self, bar: Bar) -> None:
        """Evaluate and save if it is time to. Raises Interrupted after saving if a stop was requested."""
        schedule, options = self.parts.schedule, self.parts.options
        if self.parts.checkpoints is not None:
            self.parts.checkpoints.check()
        over = self.over
        save_steps = options.save_steps
        ended = schedule.stage != self.state.stage
        interval = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
        if (self.state.step - self.state.stage.first) % interval == 0 or ended or over:
            began = time.monotonic()
            self._evaluate(bar)
            self.state.enter_stage()
            self.state.save()
            bar.pause(time.monotonic() - began)
        elif self.pending.stop or self.pending.save or (save_steps and self.state.step % save_steps == 0):
            self.state.save()
        if self.pending.save and self.parts.world.is_main:
            kept = self.parts.checkpoints is not None
            self._wait_for_disk()
            bar.say(f"saved after step {self.state.step}" if kept else "nothing is saved: the run has no folder")
        if self.pending.stop and not over:
            self._stop()

    def _wait_for_disk(self) -> None:
        """Wait until what was saved is on disk, before reporting that it is."""
        if self.parts.checkpoints is not None:
            self.parts.checkpoints.wait()

    def _stop(self) -> NoReturn:
        self._wait_for_disk()
        self.parts.events.write("interrupted", self.state.step, {})
        stopped = f"stopped after step {self.state.step} of {self.total_steps}"
        if self.parts.checkpoints is None:
            raise Interrupted(f"{stopped}; nothing is saved: the run has no folder")
        raise Interrupted(f"{stopped}, and saved; go on with --resume")

    def _evaluate(self, bar: Bar) -> None:
        """Score the dev rows on the first process, or on all if the model is sharded, and broadcast the decision."""
        parts = self.parts
        dev: DevScores | None = None
        if parts.keeps_weights:
            bar.describe("evaluating")
            try:
                dev = parts.evaluate(parts.model)
            except TrainingError as error:  # the last update may have diverged, which no loss shows
                self._fail(f"step {self.state.step}: {error}")
            if parts.model.sharded:
                dev = cast("DevScores", parts.world.broadcast(dev))  # the last bits may differ
            best = self.state.snapshots.observe(self.state.step, dev, parts.model)
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
            summary = "  ".join(
                f"{task} {parts.tasks[task].metric} {_shown(scores[parts.tasks[task].metric])}"
                for task, scores in dev.scores.items()
            )
            bar.say(f"epoch {epoch:.2f}  {summary}" + ("  (best so far)" if best else ""))
            bar.describe(f"training {', '.join(parts.tasks)}")
        selection = self.state.snapshots.selection
        selection.load_state_dict(parts.world.broadcast(selection.state_dict()))  # type: ignore[arg-type]
        agreed = parts.world.broadcast(dev)
        assert isinstance(agreed, DevScores)
        self._update_schedule(Feedback(self.state.step, {}, agreed.scores, agreed.normalised))
        # Only now, since a gate may open by this very evaluation.
        if dev is not None and (self.over or parts.schedule.stage != self.state.stage):
            self.state.stages.add(self.state.stage.name, self.state.step, dev.scores)

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
