"""Types that several packages share, as small values without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Split: TypeAlias = Literal["train", "dev", "test"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
Activation: TypeAlias = Literal["softmax", "sigmoid", "cumulative", "identity"]
# A word of a text: its first character, and the one after its last.
WordSpan: TypeAlias = tuple[int, int]
# The token from which a word's tag is read: none (the tokenizer dropped the word or cut it off), its own first token,
# or that of the word before, which covers both (SentencePiece has single pieces for several Chinese characters).
NO_TOKEN, OWN_TOKEN, SHARED_TOKEN = 0, 1, 2
# The label of a row for one task: a class, a set of classes, a number, a tag (or number) for each word, or nothing.
Label: TypeAlias = "str | list[Any] | float | None"
# Scores of several tasks: {task: {metric: value}}; None where a metric is undefined.
Scores: TypeAlias = "dict[str, dict[str, float | None]]"
# Their 95 % intervals: {task: {metric: (low, high)}}; None where an interval is undefined.
Intervals: TypeAlias = "dict[str, dict[str, tuple[float, float] | None]]"


@dataclass(frozen=True)
class ReadOutputs:
    """Outputs of another task that a head reads in addition to the encoder's states.

    Attributes:
        task: the task whose outputs are read.
        size: number of these outputs.
        activation: function applied to the outputs: a distribution over them, a probability of each, the probability
            that all up to each are true, or the identity.
        detach: whether the gradient stops here.
    """

    task: str
    size: int
    activation: Activation
    detach: bool


@dataclass(frozen=True)
class HeadSpec:
    """Specification of a task's head: all that the model knows about the tasks.

    Attributes:
        level: "row" for one output per text, "word" for one output per word.
        size: number of outputs, at least 1.
        pooling: how token states become one state per row; a word uses its first sub-word.
        dropout: probability in [0, 1) of dropping a feature before the output layer.
        reads: outputs of other tasks that are inputs of the output layer.
        head: name of a row of the table of heads; by default the one of the level.
        pairs: number of labels of word pairs that the head scores; 0 for none.
        chained: whether the head also learns transition scores from word to word (CRF).
    """

    level: Literal["row", "word"]
    size: int
    pooling: str
    dropout: float
    reads: tuple[ReadOutputs, ...] = ()
    head: str | None = None
    chained: bool = False
    pairs: int = 0


@dataclass(frozen=True)
class Inputs:
    """The columns of a row's input: one text, or a pair of texts."""

    first: str
    second: str | None = None


@dataclass(frozen=True)
class Stratum:
    """Rows of a source that have labels of the same tasks: rows drawn for one of these tasks serve the others too.

    Attributes:
        tasks: the tasks whose labels each row has, at least one.
        rows: number of rows.
    """

    tasks: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Portion:
    """The rows that a step draws from one stratum.

    Attributes:
        source: index of the source among the training sources.
        stratum: index of the stratum in its source.
        rows: number of rows for each task that trains on some of them.
    """

    source: int
    stratum: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class DataWarning:
    """A note on the input for the user, with its place and the number of cases."""

    place: str
    message: str
