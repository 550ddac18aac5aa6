"""The words that several folders share, as small values without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Split: TypeAlias = Literal["train", "dev", "test"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
Activation: TypeAlias = Literal["softmax", "sigmoid", "cumulative", "identity"]
# A word of a text: its characters from the first number up to, not including, the second.
WordSpan: TypeAlias = tuple[int, int]
# Where a word's tag is read: nowhere (the tokenizer dropped it or cut it off), from its own first token, or from the
# token of the word before, which covers both (SentencePiece has one piece for several Chinese characters).
NO_TOKEN, OWN_TOKEN, SHARED_TOKEN = 0, 1, 2
# What a row says about one task: a class, a set of classes, a number, a tag (or number) for each word, or nothing.
Label: TypeAlias = "str | list[Any] | float | None"
# Scores of several tasks: {task: {metric: value}}; None where a metric is undefined.
Scores: TypeAlias = "dict[str, dict[str, float | None]]"
# Their 95 % intervals: {task: {metric: (low, high)}}; None where an interval is undefined.
Intervals: TypeAlias = "dict[str, dict[str, tuple[float, float] | None]]"


@dataclass(frozen=True)
class ReadOutputs:
    """What a head is given of another task's outputs, beside the encoder's states.

    Attributes:
        task: the task whose outputs are read.
        size: number of these outputs.
        activation: what the outputs become: a distribution over them, a probability of each, the probability that all
            up to each are true, or what they are.
        detach: whether the gradient stops here.
    """

    task: str
    size: int
    activation: Activation
    detach: bool


@dataclass(frozen=True)
class HeadSpec:
    """What a task asks of its head: the only thing that the tasks tell the model.

    Attributes:
        level: "row" for one output a text, "word" for one output a word.
        size: number of outputs, at least 1.
        pooling: how token states become one state a row; a word uses its first sub-word.
        dropout: probability in [0, 1) of dropping a feature before the output layer.
        reads: what the output layer is given of other tasks' outputs.
        head: the name of a row of the table of heads; by default the one of the level.
        pairs: labels of pairs of words that the head scores, by a table over what two words say; 0 for none.
        chained: whether the head also learns what each output adds behind another one, from word to word.
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
    """Which columns hold a row's input: one text, or a pair of texts."""

    first: str
    second: str | None = None


@dataclass(frozen=True)
class Stratum:
    """Rows of a source that carry the labels of the same tasks: what one of these tasks draws serves the others too.

    Attributes:
        tasks: whose labels each of the rows carries, at least one.
        rows: their number.
    """

    tasks: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Portion:
    """What a step draws of one stratum.

    Attributes:
        source: the number of the source among the training sources.
        stratum: the number of the stratum in its source.
        rows: for each task that trains on some of them, on how many.
    """

    source: int
    stratum: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class DataWarning:
    """Something in the input that a person should know, with the place and the number of cases."""

    place: str
    message: str
