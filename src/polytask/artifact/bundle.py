"""A trained model in memory, with everything that a model folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from polytask.artifact.description import extensions_of
from polytask.heads import HEADS
from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task, head_specs
from polytask.terms import Precision, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Bundle:
    """A trained model with everything that prediction needs.

    Attributes:
        max_tokens: maximum length of a text in tokens.
        precision: precision of the scored predictions; bf16 and auto may differ from fp32 in the third decimal.
        about: scores, versions and the encoder's name, for information only.
    """

    model: MultiTaskModel
    tasks: Mapping[str, Task]
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    precision: Precision = "auto"
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def extensions(self) -> set[str]:
        """Return the modules that have to be allowed to load the model."""
        heads = {HEADS.extensions.get(spec.head or "") for spec in head_specs(self.tasks).values()}
        return extensions_of(self.tasks) | {module for module in heads if module is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the part of the description that does not depend on the runtime."""
        return {
            "about": {**self.about, "passes": round(self.model.passes(), 4)},
            "extensions": sorted(self.extensions()),
            "max_tokens": self.max_tokens,
            "sharing": self.model.sharing.to_json(),
            "tasks": {name: task.to_json() for name, task in self.tasks.items()},
        }

    def with_scores(
        self, split: Split, scores: Mapping[str, Mapping[str, float | None]], rows: Mapping[str, int]
    ) -> Bundle:
        """Return the model with its scores on a split that was evaluated after training.

        Args:
            split: the split.
            scores: scores by task and metric; tasks that are not named keep theirs.
            rows: number of labelled rows of each of these tasks.
        """
        all_scores: dict[str, Any] = dict(self.about.get("scores", {}))
        all_scores[split] = {**all_scores.get(split, {}), **scores}
        data: dict[str, Any] = dict(self.about.get("data", {}))
        for task in scores:
            facts = data.get(task, {})
            data[task] = {**facts, "rows": {**facts.get("rows", {}), split: rows[task]}}
        return replace(self, about={**self.about, "scores": all_scores, "data": data})


def as_learned(tasks: Mapping[str, Task], model: MultiTaskModel) -> dict[str, Task]:
    """Return tasks with the model's current learned parameters that decoding needs."""
    return {
        name: task.with_learned(
            {key: value.detach().double().cpu().numpy() for key, value in model.head(name).learned().items()}
        )
        for name, task in tasks.items()
    }
