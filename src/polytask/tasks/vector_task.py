"""The base class of tasks whose head returns vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from polytask.tasks.answering import Answering
from polytask.tasks.task import Task
from polytask.terms import HeadSpec


class VectorTask(Task):
    """A task whose head returns a vector, as wide as the encoder's states unless the option `size` is set.

    Attributes:
        width: number of elements of the vector; 0 until the encoder is known.
    """

    width: int

    def outputs_of(self, answer: Any) -> list[float]:  # noqa: ANN401
        """Refuse every answer: none determines the vector that it was made from."""
        return Answering.outputs_of(self, answer)

    def on_encoder(self, width: int) -> Self:
        return replace(self, width=self.options.size or width)  # type: ignore[type-var]

    @property
    def head(self) -> HeadSpec:
        size = self.width or self.options.size
        assert size, "the size of a vector is known once the encoder is (`on_encoder`)"
        return HeadSpec("row", size, self.options.pooling, self.options.dropout)
