"""What tasks have in common whose head makes vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from polytask.tasks.answering import Answering
from polytask.tasks.task import Task
from polytask.terms import HeadSpec


class VectorTask(Task):
    """A task whose head makes a vector, as wide as the encoder's states unless the options say another `size`.

    Attributes:
        width: of the vector; 0 until the encoder is known.
    """

    width: int

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        """Refuse answers, of whatever kind: none tells the vector that gave it."""
        return Answering.outputs_of(self, answer)

    def on_encoder(self, width: int) -> Self:
        return replace(self, width=self.options.size or width)  # type: ignore[type-var]

    @property
    def head(self) -> HeadSpec:
        size = self.width or self.options.size
        assert size, "the size of a vector is known once the encoder is (`on_encoder`)"
        return HeadSpec("row", size, self.options.pooling, self.options.dropout)
