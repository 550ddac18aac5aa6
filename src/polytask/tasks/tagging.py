"""One tag per word: entities and slots in BIO, or plain tags such as parts of speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polytask.errors import nearest
from polytask.tasks.arrays import Bools, Floats, Outputs, per_word, rounded
from polytask.tasks.bio import continued, is_bio, span_confusion_pairs, spans, word_tags
from polytask.tasks.calibration import fit_temperature_of
from polytask.tasks.cells import split_cell
from polytask.tasks.chain import Transitions, scheme_transitions
from polytask.tasks.choice import Choice, ChoiceOptions, balanced_weights
from polytask.tasks.label_stats import BadLabel, LabelStats, Rereading
from polytask.tasks.labels import label_text, says_nothing
from polytask.tasks.reader import Row
from polytask.tasks.tag_decoding import ByChain, ByScheme, Decoding, Greedy, own_words
from polytask.tasks.tag_rereading import ReadAsBio, odd_tags, remark_on_plain
from polytask.tasks.tag_scheme import find_scheme
from polytask.tasks.task import BY_HEAD, ON_DEV
from polytask.tasks.word import Column, WordOptions
from polytask.terms import OWN_TOKEN, HeadSpec, Label, WordSpan

if TYPE_CHECKING:
    from torch import Tensor


class TaggingOptions(ChoiceOptions, WordOptions):
    """Options of a tagging task."""

    type: Literal["tagging"]  # pyright: ignore[reportIncompatibleVariableOverride]
    tags: Column = Field(default="tags", description="column of the tags; in CoNLL files a column number, from 1")
    scheme: Literal["auto", "bio", "plain"] = Field(
        default="auto", description="bio: entities, scored by span; plain: scored by word; auto: depends on the tags"
    )
    class_weights: Literal["balanced"] | None = Field(
        default=None, description="weight of each tag in the loss; balanced: inversely proportional to its frequency"
    )
    decode: Literal["greedy", "viterbi"] | None = Field(
        default=None,
        description="viterbi (the default if tags mark entities, and always used with crf): the best sequence that "
        "the scheme allows; greedy: each word's best tag, repaired",
    )
    crf: bool = Field(default=False, description="linear-chain CRF: learn which tag follows which")

    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy", "macro_f1")
    learning: ClassVar[tuple[str, ...]] = ("class_weights", "decode", "crf")
    values_option: ClassVar[str] = "tags"
    reads_spans: ClassVar[bool] = True

    @model_validator(mode="after")
    def _a_chain_has_its_own_loss_and_decoding(self) -> Self:
        conflicts = [name for name in ("loss", "head", "class_weights", "label_smoothing") if getattr(self, name)]
        if self.crf and conflicts:
            raise ValueError(
                f"found crf and {' and '.join(conflicts)}; a chain has its own head, and a loss over whole rows; leave "
                "one out"
            )
        if self.crf and self.decode == "greedy":
            raise ValueError("found crf and decode: greedy; a chain is decoded as a whole: leave decode out")
        return self


@dataclass(frozen=True)
class Tagging(Choice):
    """Predicts a tag for each word from the state of the word's first sub-word.

    A sub-word that several words share belongs to the first of them: it learns and predicts that word's tag. The others
    continue its entity, or have the same plain tag.
    """

    name: str
    options: TaggingOptions
    tagset: tuple[str, ...]
    counts: tuple[int, ...]
    bio: bool
    temperature: float = field(default=1.0, metadata=ON_DEV)
    # The flattened table of a chain, see `Transitions.read`; empty before the head has been trained.
    transitions: tuple[float, ...] = field(default=(), metadata=BY_HEAD)

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
        tags = parted(tags, len(words))
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
            stats.scheme = remark_on_plain(stats.labels)
            return None
        if scheme.odd:
            raise BadLabel(stats.places.get(scheme.odd[0], ""), odd_tags(scheme, options.scheme, stats))
        return ReadAsBio(scheme, strict=options.data.strict)

    @classmethod
    def fit(cls, name: str, options: TaggingOptions, stats: LabelStats) -> Tagging:
        tags = set(stats.labels)
        if len(tags) < 2:
            tags_found = f"only the tag {min(tags)!r}" if tags else "no tag at all"
            raise ValueError(f"the training rows hold {tags_found}; tagging needs at least two tags")
        # Tags that mark entities have been converted to BIO by now.
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
        if options.decode == "viterbi" and not bio and not options.crf:
            raise ValueError("decode is viterbi, and plain tags may follow one another in any order; leave it out")
        return cls(name, options, tagset, tuple(stats.labels[tag] for tag in tagset), bio)

    def require_sound(self, learned: Mapping[str, Any]) -> None:
        size, count = len(self.tagset), len(self.transitions)
        if count and (count != size * (size + 2) or not self.options.crf):
            raise ValueError(f"{self.name}: found {count} transitions; expected {size} x {size + 2} with crf, or none")
        super().require_sound({key: value for key, value in learned.items() if key != "transitions"})

    @property
    def reading_options(self) -> TaggingOptions:
        return self.options.model_copy(update={"scheme": "bio" if self.bio else "plain"})

    @property
    def head(self) -> HeadSpec:
        options = self.options
        return HeadSpec("word", len(self.tagset), options.pooling, options.dropout, chained=options.crf)

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
        """Return the weight of each tag, or None if all weigh the same."""
        if self.options.class_weights is None:
            return None
        return balanced_weights([max(count, 1) for count in self.counts])

    @cached_property
    def default_tag(self) -> str:
        """The tag of words that the tokenizer drops or truncates: O, or the most frequent tag."""
        return "O" if self.bio else self.tagset[self.counts.index(max(self.counts))]

    @property
    def decides_words_together(self) -> bool:
        return not isinstance(self._decoding, Greedy)

    @cached_property
    def _decoding(self) -> Decoding:
        if not self.options.crf and (self.options.decode == "greedy" or not self.bio):
            return Greedy()
        scheme = scheme_transitions(self.tagset, bio=self.bio)
        if not self.options.crf:
            return ByScheme(scheme)
        size = len(self.tagset)
        table = np.array(self.transitions or [0.0] * size * (size + 2), np.float64).reshape(size + 2, size)
        return ByChain(scheme + Transitions.read(table))

    def with_learned(self, learned: Mapping[str, Floats]) -> Self:
        if not self.options.crf:
            return self
        # Nine digits identify a float32 uniquely.
        return replace(self, transitions=tuple(float(f"{value:.9g}") for value in learned["transitions"].flat))

    def as_teacher(self, outputs: Outputs) -> Outputs:
        if not isinstance(self._decoding, ByChain):
            return outputs
        log_probabilities = self._decoding.log_probabilities(outputs, [len(outputs)], 1.0)
        return np.maximum(log_probabilities, _NEVER).astype(np.float32)

    def decode(self, outputs: Outputs, words: Sequence[Sequence[int]] | None = None) -> list[Label]:
        assert words is not None
        lengths = own_words(words)
        best = iter(self._decoding.paths(outputs, lengths).tolist())
        return [
            self._of_words([self.tagset[next(best)] for _ in range(count)], row)
            for count, row in zip(lengths, words, strict=True)
        ]

    def certainty(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Bools]:
        assert words is not None
        lengths = own_words(words)
        best = self._decoding.paths(outputs, lengths)
        probabilities = self._decoding.probabilities(outputs.astype(np.float64), lengths, self.temperature)
        return np.take_along_axis(probabilities, best[:, None], 1)[:, 0], best == self.targets(labels, words)

    def temperature_for(
        self, outputs: Outputs, labels: Sequence[Label], words: Sequence[Sequence[int]] | None
    ) -> tuple[float, list[str]]:
        chain = self._decoding
        if not isinstance(chain, ByChain):
            return super().temperature_for(outputs, labels, words)
        assert words is not None
        lengths, targets = own_words(words), self.targets(labels, words)
        return fit_temperature_of(
            lambda temperature: chain.log_probabilities(outputs, lengths, temperature),
            chain.paths(outputs, lengths),
            targets,
        )

    def _of_words(self, tags: Sequence[str], words: Sequence[int]) -> list[str]:
        """Return the tag of each word, given those of the words that have a token of their own."""
        return word_tags(tags, words) if self.bio else per_word(tags, words, self.default_tag)

    def format_prediction(
        self, outputs: Outputs, text: str, words: Sequence[WordSpan], has_token: Sequence[int]
    ) -> list[dict[str, Any]]:
        best = self._decoding.paths(outputs, [len(outputs)])
        probabilities = self._decoding.probabilities(outputs, [len(outputs)], self.temperature)
        tags = self._of_words([self.tagset[at] for at in best.tolist()], has_token)
        scores = per_word(np.take_along_axis(probabilities, best[:, None], 1)[:, 0].tolist(), has_token, 0.0)
        if not self.bio:
            return [
                {"label": tag, "start": start, "end": end, "text": text[start:end], "score": rounded(value)}
                for tag, (start, end), value in zip(tags, words, scores, strict=True)
            ]  # fmt: skip
        entities: list[dict[str, Any]] = []
        for span in spans(tags):
            start, end = words[span.first][0], words[span.end - 1][1]
            token_scores = [scores[word] for word in range(span.first, span.end) if has_token[word] == OWN_TOKEN]
            mean = sum(token_scores) / len(token_scores)
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
        classes = [
            tag for label, row in pairs for tag, word in zip(self.encode(label), row, strict=True) if word == OWN_TOKEN
        ]
        return np.array(classes, np.int64)

    def word_targets(self, targets: NDArray[Any], words: NDArray[Any]) -> NDArray[Any]:
        classes = super().word_targets(targets, words)
        return (
            np.stack([classes, np.arange(len(classes)) == 0], axis=1).astype(np.int64) if self.options.crf else classes
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _crf().loss(outputs, targets) if self.options.crf else super().loss(outputs, targets)

    def loss_denominator(self, targets: Tensor) -> float:
        # Number of words, as without a chain, so that both losses are comparable.
        return super().loss_denominator(targets[:, 0] if self.options.crf else targets)

    def distillation_loss(self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor) -> Tensor:
        if self.options.crf:
            return _crf().distillation_loss(outputs, targets, teacher_logits)
        return super().distillation_loss(outputs, targets, teacher_logits)

    def loss_with_teacher(
        self, outputs: Tensor, targets: Tensor, teacher_logits: Tensor, label_weight: float
    ) -> Tensor:
        if self.options.crf:
            return _crf().loss_with_teacher(outputs, targets, teacher_logits, label_weight)
        return super().loss_with_teacher(outputs, targets, teacher_logits, label_weight)

    def training_errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return (
            _crf().training_errors(outputs, targets) if self.options.crf else super().training_errors(outputs, targets)
        )

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
        """Pair the labels of entities with equal boundaries, and all others with `O`; plain tags word by word."""
        pairs: list[tuple[str, str]] = []
        for label, tags in zip(labels, predictions, strict=True):
            assert isinstance(label, list)
            assert isinstance(tags, list)
            pairs.extend(span_confusion_pairs(label, tags) if self.bio else zip(label, tags, strict=True))
        return pairs


# The log-probability that students of a chain get in place of -inf.
_NEVER = -100.0


def _crf() -> ModuleType:
    """Return the module of the chain's losses, which imports torch."""
    from polytask.tasks import crf

    return crf


def as_words(value: Any, column: str) -> list[str] | None:  # noqa: ANN401
    """Return a cell of words or tags as a list; text is split at spaces. Raises ValueError on anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        return [item if isinstance(item, str) else label_text(item) for item in split_cell(value)]
    if isinstance(value, list):
        return [item if isinstance(item, str) else label_text(item) for item in value]
    raise ValueError(f"found {value!r} in {column!r}; words and tags are lists of text, or text split at spaces")


def parted(tags: list[str], words: int) -> list[str]:
    """Return a text of tags joined by commas as a list, if it has a tag for each of several words.

    >>> parted(["B-PER,O,O"], 3), parted(["B-PER,O"], 3), parted([","], 1)
    (['B-PER', 'O', 'O'], ['B-PER,O'], [','])
    """
    parts = tags[0].split(",") if len(tags) == 1 else tags
    return parts if len(parts) == words > 1 and all(parts) else tags
