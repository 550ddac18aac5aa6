"""The options of rows for tasks that choose among them; each text is encoded once per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from polytask.data.engine import Engine, outputs_of
from polytask.data.tokens import Tokenization, TokenRow
from polytask.predict.record import Query
from polytask.tasks.arrays import Outputs


@dataclass(frozen=True)
class RowOptions:
    """The options of some rows.

    Attributes:
        tokens: tokens of each option's text, by task.
        outputs: outputs for the texts of each task in the same order, texts x size.
    """

    tokens: Mapping[str, Mapping[str, TokenRow]]
    outputs: Mapping[str, Outputs]

    @classmethod
    def of(cls, queries: Sequence[Query], tokens: Tokenization, engine: Engine) -> RowOptions:
        """Run the model on the options of rows."""
        wanted: dict[str, dict[str, None]] = {}
        for query in queries:
            for task, options in query.options.items():
                wanted.setdefault(task, {}).update(dict.fromkeys(options))
        tokens_by_task = {
            task: dict(zip(texts, tokens.rows(list(texts), None, [None] * len(texts)), strict=True))
            for task, texts in wanted.items()
        }
        return cls(
            tokens_by_task,
            {task: outputs_of(engine, task, list(rows.values())) for task, rows in tokens_by_task.items()},
        )

    def rows(self, query: Query) -> list[TokenRow]:
        """Return the tokens of a row's options."""
        return [self.tokens[task][text] for task, options in query.options.items() for text in options]

    def outputs_of(self, task: str, options: Sequence[str]) -> Outputs:
        """Return the outputs for some options, options x size."""
        return self.outputs[task][[self._places[task][text] for text in options]]

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {task: {text: at for at, text in enumerate(rows)} for task, rows in self.tokens.items()}
