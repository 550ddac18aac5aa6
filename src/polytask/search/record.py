"""What a search found, as JSON and in sentences: auto.json, which the page and the terminal are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from polytask.comparison.predictions import read_record, rows_answered
from polytask.comparison.statistics import Difference, mean_of
from polytask.comparison.verdict import points
from polytask.search.choice import RatedCandidate
from polytask.search.final import FinalScores
from polytask.search.ladder import LadderStep, Standing
from polytask.search.options import AutoOptions
from polytask.search.outline import FOLDS
from polytask.search.plans import SearchInputs
from polytask.search.stages import SearchState
from polytask.sharing import Sharing
from polytask.tasks.arrays import rounded
from polytask.tasks.metric import smaller_is_better

SHIPPED, WINNER = "shipped", "winner"
# A task that lies above the floor with a smaller probability may well lie below it on new rows.
SURE = 0.9


def task_record(
    task: str, search: SearchState, look: FinalScores, sharing: Sharing, inputs: SearchInputs
) -> dict[str, Any]:
    """Return what became of a task."""
    now, seen = search.standings[task], look.differences[task][SHIPPED]
    how = "its own model" if task in search.grafted else way_of(task, sharing)
    touched = any(step.taken for step in search.steps if step.task == task)
    if not touched and any(step.taken and step.name == "lora" for step in search.steps):
        how = "shares the whole encoder"  # only there can steps add low-rank parts; the others' are empty
    shared_head = any(task in group for group in inputs.config.sharing.share_heads)
    if shared_head and task not in search.grafted and not any(task in group for group in sharing.heads):
        how += ", with a head of its own"
    how += "".join(
        f", trained further in the branch of {step.task}" for step in search.steps if task in step.trained_further
    )
    steps = [step for step in search.steps if step.task == task]
    below = now.comparable and now.above < inputs.options.certainty
    rows = {"dev": rows_answered(search.pairs[0].joint, task), "folds": rows_of_folds(task, search)}
    record = {
        "metric": inputs.metrics[task],
        "how": how,
        "split": look.splits[task],
        "single_learned": has_learned(search.singles[task], task, inputs.metrics[task]),
        "single": _number(mean_of(look.differences[task]["single"].values)),
        "winner": _number(mean_of(look.differences[task][WINNER].values)),
        "score": _number(mean_of(seen.values)),
        "delta": _number(seen.delta),
        "low": _number(seen.low),
        "high": _number(seen.high),
        "dev": _standing(now),
        "lifted_by": next((step.name for step in steps if step.taken and step.lifts), None),
        "judged": now.comparable,
        "below_floor": below,
        "rows": rows,
        "judged_by": judged_by(rows),
        "likelihood": _likely(task, search),
        "would_need": _would_need(steps) if below else "",
    }
    lost = 0.0 if search.winner is None or search.winner.rating is None else -search.winner.rating.deltas.get(task, 0.0)
    return {**record, "sentence": _sentence(task, record, seen, lost, inputs.options.floor)}


def _likely(task: str, search: SearchState) -> str:
    now = search.standings[task]
    return "exact" if task in search.grafted else likelihood(now.above) if now.comparable else "cannot be judged"


def _would_need(steps: Sequence[LadderStep]) -> str:
    """Say what would lift a task, or could."""
    unpaid = [step for step in steps if step.unpaid]
    told = [f"its own model would need {step.needs}" for step in steps if step.name == "graft" and step.needs]
    told += [f"its own model was not taken: {step.why}" for step in steps if step.name == "graft" and not step.needs]
    if unpaid:
        names = ", ".join(step.name.replace("_", " ") for step in unpaid)
        told.append(f"with a larger --budget the ladder would also try {names}")
    return "; ".join(told)


def has_learned(run: Path, task: str, metric: str) -> bool | None:
    """Whether a single model scores better on dev than always answering the majority; a correlation, than chance.

    None if its score is undefined.
    """
    score, majority = (read_record(run, f"{name}.json")["dev"][task].get(metric) for name in ("scores", "baselines"))
    if score is None:
        return None
    if smaller_is_better(metric):
        return majority is None or score < majority
    return score > (majority or 0.0)


def way_of(task: str, sharing: Sharing) -> str:
    """Say what a task shares in the shipped model."""
    way = sharing.way_of(task)
    plan = way.plan
    if len(plan.part(0, task)) == 1 and len(sharing.plan.tasks) > 1:
        return "a trunk of its own"
    if way.mixing is not None:
        return f"{way.mixing.method} from layer {way.mixing.from_layer}"
    own = [level for level in range(1, plan.layers + 1) if plan.part(level, task) == frozenset([task])]
    apart = [level for level in range(1, plan.layers + 1) if len(plan.part(level, task)) < len(plan.part(0, task))]
    parts = "" if way.kind.name in ("copy", "soft") else f"{way.kind.name} parts in "
    if own:
        return f"own {parts}{_layers(own)}"
    if not apart:
        return "shares the whole encoder"
    spans = [
        (part, list(levels)) for part, levels in groupby(range(1, plan.layers + 1), lambda one: plan.part(one, task))
    ]
    told = [f"{_layers(levels)} with {_others(task, part, sharing)}" for part, levels in spans]
    if parts:  # the layers themselves belong to all tasks of the trunk
        apart_spans = [text for text, (_, levels) in zip(told, spans, strict=True) if levels[0] in apart]
        told = [
            f"its layers with {_others(task, plan.part(0, task), sharing)}",
            *(parts + text for text in apart_spans),
        ]
    return f"shares {', '.join(told)}"


def _layers(levels: Sequence[int]) -> str:
    """Name consecutive layers.

    >>> _layers([3]), _layers([3, 4, 5])
    ('layer 3', 'layers 3 to 5')
    """
    return f"layers {levels[0]} to {levels[-1]}" if len(levels) > 1 else f"layer {levels[0]}"


def _others(task: str, part: frozenset[str], sharing: Sharing) -> str:
    return "all tasks" if part.issuperset(sharing.plan.tasks) else _and(sorted(part - {task}))


def _and(names: Sequence[str]) -> str:
    """List names in a sentence.

    >>> _and(["a"]), _and(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _sentence(task: str, record: Mapping[str, Any], seen: Difference, lost: float, floor: float) -> str:
    """Say what became of a task.

    Args:
        lost: what it lost in the best joint model on dev.
    """
    on, judged_by = f"on {record['split']}", record["judged_by"]
    if record["split"] == "dev":  # the rows that it was judged by: no further evidence
        on, folds = f"on {record['rows']['dev']} dev rows, which made every choice", record["rows"]["folds"]
        judged_by = "these rows" + (f" and {folds} held out of training" if folds else "")
    if record["lifted_by"] == "graft":
        told = "answers exactly as its own model"
    elif seen.delta is None or seen.low is None or seen.high is None:
        told = f"its difference in {record['metric']} to its own model is undefined {on}"
    else:
        span = f"[{points(seen.low)}, {points(seen.high)}]"
        told = f"{points(seen.delta)} points of {record['metric']} against its own model {span} {on}"
    below = ""
    if not record["judged"]:
        below = f"; it cannot be judged: the {record['metric']} of its own model is undefined on {judged_by}"
    elif record["would_need"]:
        standing = "not surely above the floor" if _may_hold(record, floor) else "below the floor"
        below = f"; {standing} on {judged_by}; {record['would_need']}"
    elif record["lifted_by"] != "graft":
        below = f"; by {judged_by} {record['likelihood']} to lie above the floor"
    why = f" (the best joint model lost {100 * lost:.1f} points on dev)" if record["lifted_by"] and lost > 0 else ""
    return f"{task}: {record['how']}{why}, {told}{below}"


def judged_by(rows: Mapping[str, int]) -> str:
    """Say what a task was judged by."""
    return f"{rows['dev']} dev rows" + (f" and {rows['folds']} held out of training" if rows["folds"] else "")


def likelihood(above: float) -> str:
    """Say how likely it is; rows never tell it for sure.

    >>> likelihood(0.714), likelihood(1.0)
    ('71 % likely', 'over 99 % likely')
    """
    percent = round(100 * above)
    return "over 99 % likely" if percent > 99 else "under 1 % likely" if percent < 1 else f"{percent} % likely"


def doubts(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return notes on tasks that may be below the floor on new rows, on what would settle it, and on the test rows."""
    unlearned = [name for name, task in tasks.items() if task["single_learned"] is False]
    told = (
        f"{', '.join(unlearned)}: its own model is no better than the majority on dev, so being above the floor means "
        "nothing; train longer, or with more rows"
    )
    behind = [told] if unlearned else []
    behind += [
        f"{name}: the {task['metric']} of its own model is undefined on {task['judged_by']}, as it is if all labels or "
        "all answers are equal, so nothing is known about its floor; give it dev rows with different labels, or train "
        "longer"
        for name, task in tasks.items()
        if not task["judged"]
    ]
    behind += [
        f"{name}: on {task['split']} it is behind its own model beyond the noise of these rows "
        f"({points(task['low'])} to {points(task['high'])} points), which {task['judged_by']} did not show; "
        "test scores do not affect the choice"
        for name, task in tasks.items()
        if not task["below_floor"] and task["split"] == "test" and task["high"] is not None and task["high"] < 0
    ]
    unsure = [
        name
        for name, task in tasks.items()
        if task["judged"] and not task["below_floor"] and task["lifted_by"] != "graft" and task["dev"]["above"] < SURE
    ]
    if not unsure:
        return behind
    folds = all(task["rows"]["folds"] for task in tasks.values())
    tell = "more dev rows" if folds else f"more dev rows, --folds {FOLDS} with a larger budget,"
    return [
        *behind,
        f"{', '.join(unsure)}: too few rows to tell for a floor this narrow; use {tell} or --certainty 0.9, which also "
        "lifts tasks that are not shown to be above it",
    ]


def rows_of_folds(task: str, search: SearchState) -> int:
    """Return how many rows of folds a task was judged by."""
    return sum(rows_answered(pair.joint, task) for pair in search.pairs[1:])


def evidence_record(search: SearchState) -> list[dict[str, Any]]:
    """Return the runs of each fold that the winner was judged by."""
    return [
        {
            "fold": fold,
            "of": FOLDS,
            "winner": pair.joint.name,
            "singles": {task: one.name for task, one in pair.singles.items()},
        }
        for fold, pair in enumerate(search.pairs[1:], start=1)
    ]


def candidate_record(rated: RatedCandidate, folder: Path, place: Path) -> dict[str, Any]:
    """Return what was found of a candidate at a share of the budget."""
    rating = rated.rating
    return {
        "name": rated.candidate.name,
        "changes": rated.candidate.overrides(),
        "share": rated.share,
        "size": rounded(rated.trial.size),
        "passes": rounded(rated.trial.passes),
        "cost": rounded(rated.trial.cost),
        "worst": None if rating is None else rounded(rating.worst),
        "mean": None if rating is None else rounded(rating.mean),
        "deltas": {} if rating is None else {task: rounded(value) for task, value in rating.deltas.items()},
        "failed": rated.failed,
        "run": str(place.relative_to(folder)),
    }


def rate_record(rates: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found of the learning rates of a single model, or (of "") of the joint ones."""
    scores = {f"{factor:g}": _number(score) for factor, score in rates["scores"].items()}
    return {"of": rates["of"], "scores": scores, "chosen": rates["chosen"]}


def step_record(step: LadderStep) -> dict[str, Any]:
    """Return what was found of a step of the ladder."""
    return {
        "task": step.task,
        "step": step.name,
        "lifts": step.lifts,
        "taken": step.taken,
        "trained_further": list(step.trained_further),
        "why": step.why,
        "size": rounded(step.size),
        "passes": rounded(step.passes),
        "cost": rounded(step.cost),
        "dev": None if step.standing is None else _standing(step.standing),
    }


def _may_hold(record: Mapping[str, Any], floor: float) -> bool:
    """Whether a task keeps the floor on the dev rows, if only without the certainty that was asked for."""
    delta = record["dev"]["delta"]
    return delta is not None and delta >= -floor / 100


def answer(
    tasks: Mapping[str, Mapping[str, Any]], size: float, passes: float, singles: float, options: AutoOptions
) -> str:
    """Return the answer in a sentence."""
    low = [name for name, task in tasks.items() if task["below_floor"]]
    unsure = [name for name in low if _may_hold(tasks[name], options.floor)]
    below = [name for name in low if name not in unsure]
    where = "dev rows" + (" and folds" if any(task["rows"]["folds"] for task in tasks.values()) else "")
    told = [f"{_listed(below, 'lies', 'lie')} below the floor on {where}"] if below else []
    if unsure:
        certain = f"above the floor with the certainty of {options.certainty:g} on {where}"
        told += [f"{_listed(unsure, 'is', 'are')} not {certain}"]
    unjudged = [name for name, task in tasks.items() if not task["judged"]]
    if unjudged:
        told += [] if told else [f"no other task lies below the floor on {where}"]
        told += [f"{', '.join(unjudged)} cannot be judged"]
    held = ", ".join(told) or f"no task lies below the floor on {where}"
    return (
        f"One model for {len(tasks)} tasks, {size:.2f} times one shared encoder ({passes:.2f} passes) in place of "
        f"{singles:.2f} for one model per task; {held}."
    )


def _listed(names: Sequence[str], singular: str, plural: str) -> str:
    return f"{', '.join(names)} {singular if len(names) == 1 else plural}"


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        "delta": _number(standing.delta),
        "low": _number(standing.low),
        "high": _number(standing.high),
        "above": rounded(standing.above),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else rounded(value)
