"""The stages of a search: rates, candidates by successive halving, teachers, the ladder. Dev rows decide everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from polytask.comparison.preparation import doubts_of_folds
from polytask.comparison.statistics import Difference
from polytask.errors import ConfigError, DataError, TrainingError
from polytask.search.candidates import Candidate
from polytask.search.evidence import Pair, added, compare, is_clear
from polytask.search.ladder import Ladder, LadderStep, ModelLimits, Standing
from polytask.search.outline import FOLDS, SearchOutline, fold_cost
from polytask.search.plans import TrialPlans
from polytask.search.rating import Rating, advantage, rate
from polytask.search.trials import Trial

# Ends the name of a candidate that the single models teach.
TAUGHT = "_taught"
# Folds differ in size: the part of a budget that they may exceed it by.
SLACK = 0.04


@dataclass(frozen=True)
class RatedCandidate:
    """A candidate that was trained with a part of the budget, or whole.

    Attributes:
        share: of a training of the configuration.
        failed: why it could not be trained; empty where it was.
    """

    candidate: Candidate
    trial: Trial
    share: float
    rating: Rating | None
    failed: str = ""

    @property
    def key(self) -> tuple[float, float, float]:
        """What is compared; of equal ones the smaller model is better."""
        if self.rating is None:
            return (float("-inf"), float("-inf"), 0.0)
        return (*self.rating.key, -self.trial.size)


@dataclass
class SearchState:
    """What a search found so far.

    Attributes:
        factors: multiples of the learning rates that were chosen: by task for the single models; "" for joint ones.
        rates: the dev scores under each multiple, by task, and the joint model's rating.
        rated: every candidate that was rated, in order.
        singles: folders of the single models.
        standings: of the best joint model, by task.
        steps: of the ladder.
        pairs: the models whose answers the winner is judged by: those of all training rows, and those of each fold.
        base: folder of the model that is shipped, but for the grafted tasks.
    """

    factors: dict[str, float] = field(default_factory=dict[str, float])
    rates: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rated: list[RatedCandidate] = field(default_factory=list[RatedCandidate])
    singles: dict[str, Path] = field(default_factory=dict[str, Path])
    winner: RatedCandidate | None = None
    standings: dict[str, Standing] = field(default_factory=dict[str, Standing])
    pairs: list[Pair] = field(default_factory=list[Pair])
    steps: list[LadderStep] = field(default_factory=list[LadderStep])
    base: Path | None = None
    grafted: list[str] = field(default_factory=list[str])


class Stages:
    """Runs the stages one after another; every one is made of ordinary runs, which are reused and resumed."""

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
        self._say = say

    def run(self) -> SearchState:
        """Run all of them."""
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
        """Choose the learning rates of every single model and of the joint ones, each with the same care."""
        found, share = self.state, self.outline.rate_share
        found.factors = dict.fromkeys(["", *self.inputs.judged], 1.0)
        if len(self.outline.rates) < 2:
            return
        singles = {
            factor: {task: self.plans.single(task, share, factor) for task in self.inputs.judged}
            for factor in self.outline.rates
        }
        joint = {factor: self.plans.joint(self.candidates[0], share, factor) for factor in self.outline.rates}
        everything = [trial for one in singles.values() for trial in one.values()]
        self._train("learning rates", [*everything, *joint.values()])
        for task in self.inputs.judged:
            scores = {factor: self._score(one[task], task) for factor, one in singles.items()}
            found.factors[task] = self._best_factor(task, scores)
            found.rates.append({"of": task, "scores": scores, "chosen": found.factors[task]})
        own = {task: self._score(singles[found.factors[task]][task], task) for task in self.inputs.judged}
        ratings = {factor: self._rating(trial, own) for factor, trial in joint.items()}
        known = {factor: rating for factor, rating in ratings.items() if rating is not None}
        if not known:
            raise TrainingError(f"no joint model could be trained: {self.trials.failed[joint[1.0].run.identity]}")
        found.factors[""] = max(known, key=lambda factor: (known[factor].key, factor == 1.0))
        means = {factor: None if rating is None else rating.mean for factor, rating in ratings.items()}
        found.rates.append({"of": "", "scores": means, "chosen": found.factors[""]})

    def _best_factor(self, task: str, scores: Mapping[float, float | None]) -> float:
        """Return the multiple with the best score; the configuration's own of equal ones."""
        metric = self.inputs.metrics[task]
        best = 1.0
        for factor, score in scores.items():
            if advantage(score, scores[best], metric) > 0:
                best = factor
        return best

    def halve(self) -> list[Candidate]:
        """Rate the candidates at growing shares of the budget, each time keeping the better half."""
        alive = list(self.candidates)
        rungs = self.outline.rungs()
        for number, (share, _) in enumerate(rungs):
            left = rungs[number + 1][1] if number + 1 < len(rungs) else self.outline.finalists
            rated = self._rate(alive, share, f"{len(alive)} candidates at 1/{1 / share:g} of a training")
            self.state.rated += rated
            alive = [one.candidate for one in sorted(rated, key=lambda one: one.key, reverse=True)[:left]]
        return alive[: self.outline.finalists]

    def train_whole(self, finalists: Sequence[Candidate]) -> None:
        """Train the single models and the finalists with the whole budget."""
        what = "the single models and " + ", ".join(one.name for one in finalists)
        self.state.rated += self._rate(finalists, 1.0, what)
        self.state.singles = {task: self.trials.folder(self.final_single(task)) for task in self.inputs.judged}

    def teach(self) -> None:
        """Train the best of the finalists once more, with the single models as its teachers."""
        best = self._best()
        teachers = list(self.state.singles.values())
        taught = Candidate(best.candidate.name + TAUGHT, best.candidate.changes)
        trial = self.plans.joint(taught, 1.0, self.state.factors[""], teachers)
        self._train(f"{best.candidate.name}, taught by the single models", [trial])
        self.state.rated.append(self._rated(taught, trial, 1.0))

    def choose_winner(self) -> None:
        """Take the best joint model, and see where each task stands against its single model."""
        found, best = self.state, self._smallest_of_the_best()
        place = self.trials.folder(best.trial)
        found.winner, found.base = best, place
        found.pairs = [Pair(found.singles, place)]
        self._stand()

    def judge(self) -> None:
        """Judge the winner by folds of the training rows as well, until it is clear where each task stands."""
        found, outline = self.state, self.outline
        singles = sum(self.plans.single(task, 1.0, 1.0).cost for task in self.inputs.judged)
        left = outline.ladder + outline.folds * fold_cost(singles)
        for fold in range(1, outline.folds + 1):
            if all(is_clear(one.above) for one in found.standings.values()):
                break
            before = self.trials.spent
            try:
                pair = self._pair_without(fold, left + SLACK * (outline.cost + outline.ladder))
            except (ConfigError, DataError, TrainingError) as error:
                self.notes.append(f"fold {fold} of {FOLDS} is not judged by: {error}")
                pair = None
            left -= self.trials.spent - before  # of a fold that failed as well
            if pair is None:
                break
            found.pairs.append(pair)
            self._stand()
        if len(found.pairs) > 1:
            self.notes += doubts_of_folds(self.inputs.config)
        self.ladder_budget = max(0.0, left)

    def _pair_without(self, fold: int, most: float) -> Pair | None:
        """Train the single models and the winner without a fold; None where that costs more than is left.

        Raises ConfigError, DataError, TrainingError where it cannot be.
        """
        found, winner = self.state, self.state.winner
        assert winner is not None
        singles = {task: self.plans.single(task, 1.0, found.factors[task], fold) for task in self.inputs.judged}
        places = {task: self.trials.folder(trial) for task, trial in singles.items()}
        taught = list(places.values()) if winner.candidate.name.endswith(TAUGHT) else ()
        joint = self.plans.joint(winner.candidate, 1.0, found.factors[""], taught, fold)
        trials = [*singles.values(), joint]
        if sum(trial.cost for trial in trials) > most:
            return None
        what = f"without fold {fold} of {FOLDS}: the single models and {winner.candidate.name}"
        # What is taught has to wait for its teachers.
        for part in (trials[:-1], trials[-1:]) if taught else (trials,):
            self._train(what, part)
        for trial in trials:
            if self.trials.has_failed(trial):
                raise TrainingError(self.trials.failed[trial.run.identity])
        return Pair(places, self.trials.folder(joint))

    def _stand(self) -> None:
        """See where each task of the winner stands, by all that is known."""
        found = self.state
        self._known = {
            task: compare(task, judged, found.pairs, self.trials.seed) for task, judged in self.inputs.judged.items()
        }
        found.standings = {task: standing(one, self.inputs.options.floor) for task, one in self._known.items()}

    def _whole(self) -> list[RatedCandidate]:
        """Return the joint models that were trained whole. Raises TrainingError where none could be."""
        whole = [one for one in self.state.rated if one.share == 1.0]
        if all(one.rating is None for one in whole):
            why = "; ".join(one.failed for one in whole)
            raise TrainingError(f"no joint model could be trained: {why}")
        return [one for one in whole if one.rating is not None]

    def _best(self) -> RatedCandidate:
        return max(self._whole(), key=lambda one: one.key)

    def _smallest_of_the_best(self) -> RatedCandidate:
        """Return the smallest model as good as the best one: its worst task is, and its mean is within the floor."""
        best = self._best()
        worst, mean, _ = best.key
        floor = self.inputs.options.floor / 100
        near = [one for one in self._whole() if one.key[0] >= worst and one.key[1] >= mean - floor]
        return min(near, key=lambda one: (one.trial.passes, one.trial.size, -one.key[1]))

    def climb(self) -> None:
        """Lift the tasks that lie below the floor, the worst first."""
        found, options = self.state, self.inputs.options
        limits = ModelLimits(options.max_size, options.max_passes, options.certainty)
        below = [task for task, one in found.standings.items() if one.above < options.certainty]
        if not below:
            return
        assert found.winner is not None
        factors = self.plans.rate_options(found.factors[""])
        ladder = Ladder(
            config=found.winner.candidate.config(self.inputs.config, factors),
            budget=self.inputs.budget,
            layers=self.inputs.layers,
            folder=self.folder / "ladder",
            singles=found.singles,
            sizes={task: self.final_single(task).size for task in self.inputs.judged},
            shared=self.inputs.parameters,
            frozen_words=self.inputs.frozen_words,
            rows=self.trials.rows,
            limits=limits,
            standing_of=self.standing_of,
            left=self.ladder_budget,
            say=self._say,
        )
        for task in sorted(below, key=lambda one: found.standings[one].delta or 0.0):
            self._lift(ladder, task)

    def _lift(self, ladder: Ladder, task: str) -> None:
        found = self.state
        assert found.base is not None
        steps = list(ladder.lift(task, found.base, found.grafted))
        found.steps += steps
        for step in steps:
            if step.cost and not step.why:
                self.trials.others[f"{task}-{step.name}"] = step.cost
        last = steps[-1]
        if last.lifts and last.name == "graft":
            found.grafted.append(task)
            found.base, found.standings[task] = last.model, Standing(0.0, 0.0, 0.0, 1.0)
            return
        taken = last if last.lifts else _nearest(steps, found.standings[task])
        if taken is not None and taken.model is not None and taken.standing is not None:
            found.base, found.standings[task] = taken.model, taken.standing
            if taken.name == "branch":
                others = [name for name in found.standings if name != task and name not in found.grafted]
                found.standings |= {name: self.standing_of(name, taken.model.parent) for name in others}

    def standing_of(self, task: str, folder: Path) -> Standing:
        """See where a task stands in a model that was made of the winner: by dev rows, beside what is known of that."""
        pairs, judged, seed = self.state.pairs, self.inputs.judged[task], self.trials.seed
        if len(pairs) == 1:
            found = compare(task, judged, [Pair(pairs[0].singles, folder)], seed)
        else:
            step = compare(task, judged, [Pair({task: pairs[0].joint}, folder)], seed)
            found = added(self._known[task], step)
        return standing(found, self.inputs.options.floor)

    def options_of(self, rated: RatedCandidate) -> dict[str, Any]:
        """Return the training options of a joint model that are not the configuration's own."""
        teachers = [str(folder.resolve()) for folder in self.state.singles.values()]
        taught = {"teachers": teachers} if rated.candidate.name.endswith(TAUGHT) else {}
        return {**self.plans.rate_options(self.state.factors[""]), **taught}

    def final_single(self, task: str) -> Trial:
        """Return a task's single model: whole, under the rates that were chosen for it."""
        return self.plans.single(task, 1.0, self.state.factors[task])

    def _rate(self, alive: Sequence[Candidate], share: float, what: str) -> list[RatedCandidate]:
        singles = {task: self.plans.single(task, share, self.state.factors[task]) for task in self.inputs.judged}
        joint = [self.plans.joint(candidate, share, self.state.factors[""]) for candidate in alive]
        self._train(what, [*singles.values(), *joint])
        for task, trial in singles.items():
            if self.trials.has_failed(trial):
                raise TrainingError(f"{task}: its single model failed: {self.trials.failed[trial.run.identity]}")
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

    def _train(self, what: str, trials: Sequence[Trial]) -> None:
        new = {trial.run.identity: trial.cost for trial in trials if trial.run.identity not in self.trials.costs}
        self._say(f"{what}: {len(new)} runs, {sum(new.values()):.2f} trainings")
        self.trials.train(trials)


def standing(difference: Difference, floor: float) -> Standing:
    """Return where a task stands.

    Args:
        floor: in points, hundredths of the metric's unit.
    """
    replicates = difference.replicates
    above = float((replicates >= -floor / 100).mean()) if difference.delta is not None else 0.0
    return Standing(difference.delta, difference.low, difference.high, above)


def _nearest(steps: Sequence[LadderStep], now: Standing) -> LadderStep | None:
    """Return the step that came nearest to the floor without touching other tasks; None where none is better."""
    tried = [one for one in steps if one.model is not None and one.standing is not None and one.name != "branch"]
    better = partial(_is_better, now=now)
    return max(filter(better, tried), key=lambda one: _delta(one.standing), default=None)


def _is_better(step: LadderStep, now: Standing) -> bool:
    return _delta(step.standing) > _delta(now)


def _delta(standing: Standing | None) -> float:
    return float("-inf") if standing is None or standing.delta is None else standing.delta
