"""The stages of a search: learning rates, successive halving, teachers, ladder; all decided on dev rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from polytask.comparison.preparation import fold_notes
from polytask.comparison.statistics import Difference
from polytask.config import Config
from polytask.errors import ConfigError, DataError, TrainingError
from polytask.search.candidates import Candidate
from polytask.search.choice import RatedCandidate, best_factor, best_of, smallest_of_the_best
from polytask.search.combination import Cost
from polytask.search.evidence import Pair, added, compare, is_clear
from polytask.search.ladder import Ladder, LadderStep, Standing, limits_of, worst_first
from polytask.search.lift import Lift, ModelPart
from polytask.search.outline import FOLDS, SearchOutline, fold_cost
from polytask.search.plans import TrialPlans, with_rates
from polytask.search.rating import Rating, advantage, rate
from polytask.search.trials import Trial
from polytask.tasks.metric import smaller_is_better

# Suffix for the name of a candidate with the single models as teachers.
TAUGHT = "_taught"
# Fraction by which folds may exceed the budget, since they differ in size.
SLACK = 0.04


@dataclass
class SearchState:
    """The state of a search.

    Attributes:
        factors: chosen multiples of the learning rates by task for the single models, and under "" for joint ones.
        rates: dev scores with each multiple by task, and the rating of the joint model.
        rated: all rated candidates in order.
        singles: folders of the single models.
        standings: comparison of the best joint model with the single model of each task.
        steps: steps of the ladder.
        pairs: models whose predictions the winner is judged on: those of all training rows, and those of each fold.
        parts: models that the shipped one is composed of.
        grafted: tasks that are answered by their single models.
    """

    factors: dict[str, float] = field(default_factory=dict[str, float])
    rates: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rated: list[RatedCandidate] = field(default_factory=list[RatedCandidate])
    singles: dict[str, Path] = field(default_factory=dict[str, Path])
    winner: RatedCandidate | None = None
    standings: dict[str, Standing] = field(default_factory=dict[str, Standing])
    pairs: list[Pair] = field(default_factory=list[Pair])
    steps: list[LadderStep] = field(default_factory=list[LadderStep])
    parts: list[ModelPart] = field(default_factory=list[ModelPart])
    grafted: list[str] = field(default_factory=list[str])


class Stages:
    """Runs the stages in turn; each consists of ordinary runs, which can be reused and resumed."""

    def __init__(
        self,
        plans: TrialPlans,
        outline: SearchOutline,
        candidates: Sequence[Candidate],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.plans, self.inputs, self.trials = plans, plans.inputs, plans.trials
        self.outline, self.folder = outline, folder
        self.candidates = list(candidates)[: outline.candidates]
        self.state = SearchState()
        self.notes: list[str] = []
        self.ladder_budget = outline.ladder
        self._known: dict[str, Difference] = {}
        self._undefined: set[str] = set()
        self._say = say

    def run(self) -> SearchState:
        """Run all stages."""
        self.choose_rates()
        finalists = self.halve()
        self.train_whole(finalists)
        if self.outline.teach:
            self.teach()
        self.choose_winner()
        self.judge()
        self.climb()
        return self.state

    def choose_rates(self) -> None:
        """Tune the learning rates of every single model and of the joint models with the same effort."""
        state, share = self.state, self.outline.rate_share
        state.factors = dict.fromkeys(["", *self.inputs.judged], 1.0)
        if len(self.outline.rates) < 2:
            return
        singles = {
            factor: {task: self.plans.single(task, share, factor) for task in self.inputs.judged}
            for factor in self.outline.rates
        }
        joint = {factor: self.plans.joint(self.candidates[0], share, factor) for factor in self.outline.rates}
        everything = [trial for trials in singles.values() for trial in trials.values()]
        self._train("learning rates", [*everything, *joint.values()], keep_models=share == 1.0)
        for task in self.inputs.judged:
            scores = {factor: self._score(trials[task], task) for factor, trials in singles.items()}
            self._warn_undefined(task, [trials[task] for trials in singles.values()])
            state.factors[task] = self._best_factor(task, scores)
            state.rates.append({"of": task, "scores": scores, "chosen": state.factors[task]})
        own_scores = {task: self._score(singles[state.factors[task]][task], task) for task in self.inputs.judged}
        ratings = {factor: self._rating(trial, own_scores) for factor, trial in joint.items()}
        valid_ratings = {factor: rating for factor, rating in ratings.items() if rating is not None}
        if not valid_ratings:
            raise TrainingError(f"no joint model could be trained: {self.trials.failed[joint[1.0].run.identity]}")
        state.factors[""] = best_factor(valid_ratings)
        means = {factor: None if rating is None else rating.mean for factor, rating in ratings.items()}
        state.rates.append({"of": "", "scores": means, "chosen": state.factors[""]})

    def _warn_undefined(self, task: str, trials: Sequence[Trial]) -> None:
        """Say as early as possible, and once, that a task cannot be judged by its dev rows."""
        scores = [self.trials.scores(trial)[task] for trial in trials if not self.trials.has_failed(trial)]
        if scores and task not in self._undefined and all(score is None for score in scores):
            self._undefined.add(task)
            metric = self.inputs.metrics[task]
            self._say(f"{task}: the {metric} of its own model is undefined on dev, so it cannot be judged there")

    def _best_factor(self, task: str, scores: Mapping[float, float | None]) -> float:
        """Return the multiple with the best score; in a tie, that of the configuration."""
        metric = self.inputs.metrics[task]
        best = 1.0
        for factor, score in scores.items():
            if advantage(score, scores[best], metric) > 0:
                best = factor
        return best

    def halve(self) -> list[Candidate]:
        """Rate the candidates at growing fractions of the budget, keeping the better half each time."""
        alive = list(self.candidates)
        rungs = self.outline.rungs()
        for number, (share, _) in enumerate(rungs):
            kept = rungs[number + 1][1] if number + 1 < len(rungs) else self.outline.finalists
            rated = self._rate(alive, share, f"{len(alive)} candidates at 1/{1 / share:g} of a training")
            self.state.rated += rated
            alive = [
                rated_candidate.candidate
                for rated_candidate in sorted(rated, key=lambda rated_candidate: rated_candidate.key, reverse=True)[
                    :kept
                ]
            ]
        return alive[: self.outline.finalists]

    def train_whole(self, finalists: Sequence[Candidate]) -> None:
        """Train the single models and the finalists with the whole budget."""
        label = "the single models and " + ", ".join(candidate.name for candidate in finalists)
        self.state.rated += self._rate(finalists, 1.0, label)
        self.state.singles = {task: self.trials.folder(self.final_single(task)) for task in self.inputs.judged}

    def teach(self) -> None:
        """Train the best finalist again, with the single models as its teachers."""
        best = best_of(self._whole())
        teachers = list(self.state.singles.values())
        taught = Candidate(best.candidate.name + TAUGHT, best.candidate.changes)
        trial = self.plans.joint(taught, 1.0, self.state.factors[""], teachers)
        self._train(f"{best.candidate.name}, taught by the single models", [trial], keep_models=True)
        self.state.rated.append(self._rated(taught, trial, 1.0))

    def choose_winner(self) -> None:
        """Select the best joint model, and compare each task with its single model."""
        state, best = self.state, smallest_of_the_best(self._whole(), self._standard_errors)
        place = self.trials.folder(best.trial)
        state.winner = best
        state.pairs = [Pair(state.singles, place)]
        self._stand()

    def judge(self) -> None:
        """Judge the winner on folds of the training rows too, until each task is clearly above or below the floor."""
        state, outline = self.state, self.outline
        singles = sum(self.plans.single(task, 1.0, 1.0).cost for task in self.inputs.judged)
        remaining = outline.ladder + outline.folds * fold_cost(singles)
        for fold in range(1, outline.folds + 1):
            if all(self._is_settled(now) for now in state.standings.values()):
                break
            before = self.trials.spent
            try:
                pair = self._pair_without(fold, remaining + SLACK * (outline.cost + outline.ladder))
            except (ConfigError, DataError, TrainingError) as error:
                self.notes.append(f"fold {fold} of {FOLDS} is not judged by: {error}")
                pair = None
            remaining -= self.trials.spent - before  # includes folds that failed
            if pair is None:
                break
            state.pairs.append(pair)
            self._stand()
        if len(state.pairs) > 1:
            self.notes += fold_notes(self.inputs.config)
        self.ladder_budget = max(0.0, remaining)

    def _is_settled(self, now: Standing) -> bool:
        """Whether more folds would not change what is known of a task: its first fold may make its score defined."""
        return is_clear(now.above) if now.comparable else len(self.state.pairs) > 1

    def _pair_without(self, fold: int, budget: float) -> Pair | None:
        """Train the single models and the winner without a fold; None if that exceeds the remaining budget.

        Raises ConfigError, DataError or TrainingError if that is impossible.
        """
        state, winner = self.state, self.state.winner
        assert winner is not None
        singles = {task: self.plans.single(task, 1.0, state.factors[task], fold) for task in self.inputs.judged}
        places = {task: self.trials.folder(trial) for task, trial in singles.items()}
        taught = list(places.values()) if winner.candidate.name.endswith(TAUGHT) else ()
        joint = self.plans.joint(winner.candidate, 1.0, state.factors[""], taught, fold)
        trials = [*singles.values(), joint]
        if sum(trial.cost for trial in trials) > budget:
            return None
        label = f"without fold {fold} of {FOLDS}: the single models and {winner.candidate.name}"
        # Students have to wait for their teachers.
        if taught and not self.trials.is_scored(joint):
            self._train(label, trials[:-1], keep_models=True)
        self._train(label, trials, keep_models=False)
        for trial in trials:
            if self.trials.has_failed(trial):
                raise TrainingError(self.trials.failed[trial.run.identity])
        return Pair(places, self.trials.folder(joint))

    def _stand(self) -> None:
        """Compare each task of the winner with its single model, on all pairs."""
        state = self.state
        compared = {
            task: compare(task, judged, state.pairs, self.trials.seed) for task, judged in self.inputs.judged.items()
        }
        self._known = {task: comparison.difference for task, comparison in compared.items()}
        state.standings = {
            task: replace(
                standing(comparison.difference, self.inputs.options.floor, self.inputs.metrics[task]),
                comparable=comparison.single is not None,
            )
            for task, comparison in compared.items()
        }

    def _whole(self) -> list[RatedCandidate]:
        """Return the joint models with a whole run. Raises TrainingError if there is none."""
        whole = [rated for rated in self.state.rated if rated.share == 1.0]
        if all(rated.rating is None for rated in whole):
            reasons = "; ".join(rated.failed for rated in whole)
            raise TrainingError(f"no joint model could be trained: {reasons}")
        return [rated for rated in whole if rated.rating is not None]

    def _standard_errors(self, one: RatedCandidate, other: RatedCandidate) -> dict[str, float]:
        """Return the standard error of the difference between two models on the dev rows, by task."""
        pair = Pair(dict.fromkeys(self.inputs.judged, self.trials.folder(other.trial)), self.trials.folder(one.trial))
        return {
            task: math.sqrt(compare(task, judged, [pair], self.trials.seed).difference.from_rows)
            for task, judged in self.inputs.judged.items()
        }

    def climb(self) -> None:
        """Lift the tasks that lie below the floor: try steps for each, and choose among all of them together."""
        state, options = self.state, self.inputs.options
        assert state.winner is not None
        winner = self.trials.folder(state.winner.trial)
        state.parts = [ModelPart(winner, tuple(state.standings))]
        if not worst_first(state.standings, options.certainty):
            return
        ladder = Ladder(
            config=state.winner.candidate.config(self.inputs.config, {}),
            rates=self.inputs.rates,
            factor=state.factors[""],
            budget=self.inputs.budget,
            layers=self.inputs.layers,
            folder=self.folder / "ladder",
            base=winner,
            size=state.winner.trial.size,
            passes=state.winner.trial.passes,
            shared=self.inputs.parameters,
            rows=self.trials.rows,
            limits=limits_of(options),
            standing_of=self.standing_of,
            left=self.ladder_budget,
            say=self._say,
        )
        for step in ladder.climb(state.standings):
            state.steps.append(step)
            if step.cost and not step.why:
                self.trials.others[f"{step.task}-{step.name}"] = step.cost
        lift = Lift(ladder, state.singles, self._costs_of_singles(), self.inputs.options.floor / 100)
        chosen = lift.choose(state.standings, state.steps)
        state.standings, state.grafted, state.parts = chosen.standings, list(chosen.grafted), lift.parts(chosen)
        state.steps = lift.told(chosen, state.steps)

    def _costs_of_singles(self) -> tuple[dict[str, Cost], Cost]:
        """Return what the single model of each task adds to a model, and what all of them together cost."""
        words = self.inputs.frozen_words
        each = {task: Cost(self.final_single(task).size - words, 1.0) for task in self.inputs.judged}
        return each, sum(each.values(), Cost(words, 0.0))

    def standing_of(self, task: str, folder: Path) -> Standing:
        """Compare a task in a model derived from the winner with its single model, on dev rows and the known pairs."""
        pairs, judged, seed = self.state.pairs, self.inputs.judged[task], self.trials.seed
        if len(pairs) == 1:
            difference = compare(task, judged, [Pair(pairs[0].singles, folder)], seed).difference
        else:
            step = compare(task, judged, [Pair({task: pairs[0].joint}, folder)], seed)
            difference = added(self._known[task], step.difference)
        now = standing(difference, self.inputs.options.floor, self.inputs.metrics[task])
        return replace(now, comparable=self.state.standings[task].comparable)

    def config_of(self, rated: RatedCandidate, config: Config) -> Config:
        """Return the configuration of a joint model.

        Args:
            rated: the model.
            config: the searched configuration, with test rows.
        """
        teachers = [str(folder.resolve()) for folder in self.state.singles.values()]
        taught = {"teachers": teachers} if rated.candidate.name.endswith(TAUGHT) else {}
        return with_rates(rated.candidate.config(config, taught), self.inputs.rates[""], self.state.factors[""])

    def final_single(self, task: str) -> Trial:
        """Return the trial of a task's single model: a whole run with the chosen learning rates."""
        return self.plans.single(task, 1.0, self.state.factors[task])

    def _rate(self, alive: Sequence[Candidate], share: float, label: str) -> list[RatedCandidate]:
        singles = {task: self.plans.single(task, share, self.state.factors[task]) for task in self.inputs.judged}
        joint = [self.plans.joint(candidate, share, self.state.factors[""]) for candidate in alive]
        self._train(label, [*singles.values(), *joint], keep_models=share == 1.0)
        for task, trial in singles.items():
            if self.trials.has_failed(trial):
                raise TrainingError(f"{task}: its single model failed: {self.trials.failed[trial.run.identity]}")
            self._warn_undefined(task, [trial])
        return [self._rated(candidate, trial, share) for candidate, trial in zip(alive, joint, strict=True)]

    def _rated(self, candidate: Candidate, trial: Trial, share: float) -> RatedCandidate:
        if self.trials.has_failed(trial):
            return RatedCandidate(candidate, trial, share, None, self.trials.failed[trial.run.identity])
        singles = {
            task: self._score(self.plans.single(task, share, self.state.factors[task]), task)
            for task in self.inputs.judged
        }
        return RatedCandidate(candidate, trial, share, self._rating(trial, singles))

    def _rating(self, trial: Trial, singles: Mapping[str, float | None]) -> Rating | None:
        if self.trials.has_failed(trial):
            return None
        return rate(self.trials.scores(trial), singles, self.inputs.metrics, self.inputs.options.floor)

    def _score(self, trial: Trial, task: str) -> float | None:
        return None if self.trials.has_failed(trial) else self.trials.scores(trial)[task]

    def _train(self, label: str, trials: Sequence[Trial], *, keep_models: bool) -> None:
        new = {trial.run.identity: trial.cost for trial in trials if trial.run.identity not in self.trials.costs}
        self._say(f"{label}: {len(new)} runs, {sum(new.values()):.2f} trainings")
        self.trials.train(trials, keep_models=keep_models)


def standing(difference: Difference, floor: float, metric: str) -> Standing:
    """Summarise the comparison of a task with its single model.

    Where both answer nearly all rows alike, no replicate differs, although so few rows cannot show that they are equal.
    So replicates of a score are spread as if one more row differed, by half in each direction.

    Source: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions".

    Args:
        difference: difference to the single model.
        floor: allowed loss in points, hundredths of the metric's unit.
        metric: name of the metric; errors have any unit, and are not spread.
    """
    above = 0.0
    if difference.delta is not None:
        distances = torch.from_numpy(difference.replicates) + floor / 100
        spread = 0.0 if smaller_is_better(metric) else 1.0 / max(1, difference.rows)
        certain = torch.special.ndtr(distances / spread) if spread else (distances >= 0).double()
        above = float(certain.nan_to_num(0.0).mean())  # an undefined replicate does not lie above
    return Standing(difference.delta, difference.low, difference.high, above)
