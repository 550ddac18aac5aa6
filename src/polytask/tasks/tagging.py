"""One tag a word: entities and slots in BIO, or plain tags such as parts of speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from polytask.errors import nearest
from polytask.tasks.arrays import Outputs, per_word, rounded, softmax
from polytask.tasks.bio import continued, is_bio, span_confusion_pairs, spans, word_tags
from polytask.tasks.cells import split_cell
from polytask.tasks.choice import Choice, ChoiceOptions, balanced_weights
from polytask.tasks.label_stats import BadLabel, LabelStats, Rereading
from polytask.tasks.labels import label_text, says_nothing
from polytask.tasks.reader import Row
from polytask.tasks.tag_scheme import TagScheme, find_scheme
from polytask.tasks.task import ON_DEV  # fmt: skip
from polytask.tasks.word import Column, WordOptions
from polytask.terms import OWN_TOKEN, HeadSpec, Label, WordSpan

_Value = TypeVar("_Value")


class TaggingOptions(ChoiceOptions, WordOptions):
    """Options of a tagging task."""

    type: Literal["tagging"]  # pyright: ignore[reportIncompatibleVariableOverride]
    tags: Column = Field(default="tags", description="column of the tags; in CoNLL a column number from 1")
    scheme: Literal["auto", "bio", "plain"] = Field(
        default="auto", description="bio: entities, scored by span; plain: scored by word; auto: by the tags"
    )
    class_weights: Literal["balanced"] | None = Field(
        default=None, description="weight of each tag in the loss; balanced: inverse to its frequency"
    )

    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy", "macro_f1")
    values_option: ClassVar[str] = "tags"
    reads_spans: ClassVar[bool] = True


@dataclass(frozen=True)
class Tagging(Choice):
    """A tag for each word, read from the state of the word's first sub-word.

    A sub-word that several words share is the first of them: it learns and tells that word's tag. The others go on with
    its entity, or have the same plain tag.
    """

    name: str
    options: TaggingOptions
    tagset: tuple[str, ...]
    counts: tuple[int, ...]
    bio: bool
    temperature: float = field(default=1.0, metadata=ON_DEV)

    type_name = "tagging"
    also_called = (
        "ner", "named-entity-recognition", "token-classification", "sequence-labeling", "sequence-labelling",
        "sequence-tagging", "entities", "entity", "pos", "pos-tagging", "slot-filling", "slots", "chunking", "bio",
        "tagger",
    )  # fmt: skip
    Options = TaggingOptions
    level = "word"
    label_type = "list<string>"
    target_type = "list<int>"
    activation = "softmax"
    plain_form = True

    @classmethod
    def columns(cls, options: TaggingOptions) -> tuple[str, ...]:
        return (options.tokens, options.tags)

    @classmethod
    def read(cls, options: TaggingOptions, row: Row, stats: LabelStats) -> Label:
        cell = row.get(options.tags)
        tags = None if says_nothing(cell, options) else as_words(cell, options.tags)
        words = as_words(row.get(options.tokens), options.tokens)
        if tags is None:
            return None
        if words is None:
            others = [column for column in row if column != options.tags]
            raise ValueError(f"the row has tags but no {options.tokens!r} ({nearest(options.tokens, others)})")
        if len(words) != len(tags):
            raise ValueError(f"found {len(words)} tokens and {len(tags)} tags; each token needs one tag")
        tags = [tag.strip() for tag in tags]
        if not all(tags):
            raise ValueError(f"found an empty tag in {options.tags!r}; each token needs one tag")
        stats.labels.update(tags)
        return tags

    @classmethod
    def rereading(cls, options: TaggingOptions, stats: LabelStats) -> Rereading | None:
        if options.scheme == "plain":
            return None
        scheme = find_scheme(stats.labels, entities=options.scheme == "bio")
        if scheme is None:
            if "O" in stats.labels or any(tag[:2] in ("B-", "I-") for tag in stats.labels):
                stats.scheme = _PLAIN
            return None
        if scheme.odd:
            raise BadLabel(stats.places.get(scheme.odd[0], ""), _odd_tags(scheme, options, stats))
        return _ReadAsBio(scheme, strict=options.data.strict)

    @classmethod
    def fit(cls, name: str, options: TaggingOptions, stats: LabelStats) -> Tagging:
        tags = set(stats.labels)
        if len(tags) < 2:
            found = f"only the tag {min(tags)!r}" if tags else "no tag at all"
            raise ValueError(f"the training rows hold {found}; tagging needs at least two tags")
        # What marks entities has been read as BIO by now.
        bio = options.scheme == "bio" or (options.scheme == "auto" and is_bio(tags))
        if bio:
            # An entity type seen only as single words still needs its I- tag.
            types = sorted({tag[2:] for tag in tags if tag != "O"})
            tagset = ("O", *(f"{mark}-{label}" for label in types for mark in "BI"))
        else:
            tagset = tuple(sorted(tags))
        if options.metric in (("macro_f1",) if bio else ("f1", "precision", "recall")):
            kind = "BIO (f1, precision, recall, accuracy)" if bio else "plain (accuracy, macro_f1)"
            raise ValueError(f"the tags are {kind}, and the metric is {options.metric!r}")
        return cls(name, options, tagset, tuple(stats.labels[tag] for tag in tagset), bio)

    @property
    def reading_options(self) -> TaggingOptions:
        return self.options.model_copy(update={"scheme": "bio" if self.bio else "plain"})

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("word", len(self.tagset), self.options.pooling, self.options.dropout)

    @property
    def own_metrics(self) -> tuple[str, ...]:
        return ("f1", "precision", "recall", "accuracy") if self.bio else ("accuracy", "macro_f1")

    @property
    def finds_spans(self) -> bool:
        return self.bio

    @property
    def labels(self) -> tuple[str, ...]:
        return self.tagset

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(tag for tag in self.tagset if not (self.bio and tag.startswith("I-")))

    def encode(self, label: Label) -> list[int]:
        assert isinstance(label, list)
        return [self._places.get(tag, -100) for tag in label]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {tag: index for index, tag in enumerate(self.tagset)}

    def weights(self) -> list[float] | None:
        """Return the weight of each tag, or None when all weigh the same."""
        if self.options.class_weights is None:
            return None
        return balanced_weights([max(count, 1) for count in self.counts])

    @cached_property
    def default_tag(self) -> str:
        """The tag of a word that the tokenizer drops or cuts off: O, or the commonest tag."""
        return "O" if self.bio else self.tagset[self.counts.index(max(self.counts))]

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        assert words is not None
        best = iter(outputs.argmax(-1).tolist())
        return [self._of_words([self.tagset[next(best)] for word in row if word == OWN_TOKEN], row) for row in words]

    def _of_words(self, tags: Sequence[str], words: Sequence[int]) -> list[str]:
        """Return the tag of each word, from those of the words that have a token of their own."""
        return word_tags(tags, words) if self.bio else per_word(tags, words, self.default_tag)

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> list[dict[str, Any]]:
        probabilities = softmax(outputs / self.temperature)
        tags = self._of_words([self.tagset[at] for at in outputs.argmax(-1).tolist()], has_token)
        scores = per_word(probabilities.max(-1).tolist(), has_token, 0.0)
        if not self.bio:
            return [
                {"label": tag, "start": start, "end": end, "text": text[start:end], "score": rounded(value)}
                for tag, (start, end), value in zip(tags, words, scores, strict=True)
            ]  # fmt: skip
        entities: list[dict[str, Any]] = []
        for span in spans(tags):
            start, end = words[span.first][0], words[span.end - 1][1]
            own = [scores[word] for word in range(span.first, span.end) if has_token[word] == OWN_TOKEN]
            mean = sum(own) / len(own)
            entities.append(
                {
                    "label": span.label,
                    "start": start,
                    "end": end,
                    "text": text[start:end],
                    "score": rounded(mean),
                }
            )
        return entities

    def targets(self, labels: Sequence[Label], words: Sequence[Sequence[int]] | None) -> NDArray[np.int64]:
        assert words is not None
        pairs = zip(labels, words, strict=True)
        found = [
            tag for label, row in pairs for tag, word in zip(self.encode(label), row, strict=True) if word == OWN_TOKEN
        ]
        return np.array(found, np.int64)

    def continued(self, target: float) -> float:
        target = int(target)
        return self.tagset.index(continued(self.tagset[target])) if self.bio and target >= 0 else target

    def baseline(self, labels: Sequence[Label]) -> list[Label]:
        majority = self.tagset[self.counts.index(max(self.counts))]
        return [[majority] * len(label) if isinstance(label, list) else [] for label in labels]

    @property
    def absent(self) -> str | None:
        return "O" if self.bio else None

    def confusion_pairs(self, labels: Sequence[Label], predictions: Sequence[Label]) -> list[tuple[str, str]]:
        """Compare entities with both ends equal, and each other one with none; plain tags word by word."""
        pairs: list[tuple[str, str]] = []
        for label, tags in zip(labels, predictions, strict=True):
            assert isinstance(label, list)
            assert isinstance(tags, list)
            pairs.extend(span_confusion_pairs(label, tags) if self.bio else zip(label, tags, strict=True))
        return pairs


# Of tags that are plain, and might have been meant as entities.
_PLAIN = (
    "the tags are plain, and scored word by word; if they mark entities, write them as BIO (B-PER, I-PER, O); if not, "
    "say so with `scheme: plain`"
)


class _ReadAsBio(Rereading):
    """Reads tags of any scheme as BIO."""

    def __init__(self, scheme: TagScheme, *, strict: bool) -> None:
        self._scheme = scheme
        self._strict = strict
        self._orphans, self._orphan_at, self._begins, self._small = 0, "", 0, 0

    def read(self, label: list[str], place: str) -> list[str]:
        found = self._scheme.read(label)
        if found.orphans:
            self._orphans, self._orphan_at = self._orphans + found.orphans, self._orphan_at or place
        self._begins += found.begins
        self._small += label.count("o")
        return found.tags

    def finish(self, stats: LabelStats) -> None:
        # In IOB1 an entity begins with I-, and with B- only right behind another one of its type.
        iob1 = bool(self._orphans) and not self._begins and self._scheme.name == "BIO"
        if not iob1:
            stats.repaired, stats.repaired_at = self._orphans, self._orphan_at
        if self._strict and stats.repaired:
            raise BadLabel(self._orphan_at, "an I- tag continues no entity; begin it with B-, or leave out `strict`")
        stats.scheme = self._scheme.describe("IOB1" if iob1 else self._scheme.name)
        if self._small:
            stats.scheme = f"{stats.scheme}{'; ' if stats.scheme else ''}the tag o ({self._small} words) is read as O"


def _odd_tags(scheme: TagScheme, options: TaggingOptions, stats: LabelStats) -> str:
    """Say which tags do not fit the others, and how to mend that."""
    first, *others = scheme.odd
    fitting = next((tag for tag in stats.labels if scheme.style.split(tag)), None)
    more = ", ".join(f"{tag!r} at {stats.places.get(tag, '')}" for tag in others[:5])
    told = f"; so are {more}" + (f" and {len(others) - 5} more" if len(others) > 5 else "") if others else ""
    if fitting is None:
        accepted = "O, B-x and I-x (also written as BIOES, BILOU or IOB1)"
        return f"found the tag {first!r}; scheme {options.scheme} accepts {accepted}{told}"
    return (
        f"found the tag {first!r} ({stats.labels[first]} of {stats.labels.total()} words), which does not fit the "
        f"others: they are {scheme.name}, such as {fitting!r}; write it as they are (or O), or set `scheme: plain` to "
        f"score every tag word by word{told}"
    )


def as_words(value: Any, column: str) -> list[str] | None:  # noqa: ANN401
    """Return a cell of words or tags as a list; text is split at spaces. Raises ValueError on anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        return [item if isinstance(item, str) else label_text(item) for item in split_cell(value)]
    if isinstance(value, list):
        return [item if isinstance(item, str) else label_text(item) for item in value]
    raise ValueError(f"found {value!r} in {column!r}; words and tags are lists of text, or text split at spaces")
