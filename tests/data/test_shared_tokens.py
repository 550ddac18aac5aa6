"""Words that share a token: one of them reads it, the others go on, and labels survive the way through tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import pieces
from polytask.data.collator import Collator
from polytask.data.encode import Source
from polytask.data.prepare import DataTables, encode_tables, read_tables, shared_token_warnings
from polytask.data.stream import DrawnRow
from polytask.data.tokens import DROPPED, SHARED, Tokenization, TokenRow, first_tokens
from polytask.tasks import TaskOptions
from polytask.tasks.metrics import entity_f1, word_accuracy
from polytask.tasks.tagging import Tagging
from polytask.terms import NO_TOKEN, OWN_TOKEN, SHARED_TOKEN, Label

Build = Callable[..., TaskOptions]
REPOSITORY = Path(__file__).parents[2]
WEIBO = REPOSITORY.parent / "shared" / "data" / "weibo_ner"
ENCODER = REPOSITORY.parent / "shared" / "models" / "e5-small-zh-en"

# A text as its pieces, in scripts that are written without spaces.
SCRIPTS: dict[str, list[str]] = {
    "Chinese": ["我", "在", "北京大学", "天安门"],
    "Japanese": ["東京", "タワー", "が", "好き"],
    "Thai": ["ฉัน", "รัก", "เมืองไทย"],
    "emoji": ["😀😀", "👩\u200d💻", "❤\ufe0f", "好"],
}


def characters(text: str) -> list[tuple[int, int]]:
    return [(at, at + 1) for at in range(len(text))]


def row_of(tokenizer: Any, text: str, max_tokens: int = 64) -> TokenRow:
    return Tokenization.of(tokenizer, max_tokens).rows([text], None, [characters(text)])[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_first_word_of_a_token_reads_it_and_the_others_share_it(script: str) -> None:
    text = "".join(SCRIPTS[script])
    row = row_of(pieces.tokenizer(text, SCRIPTS[script]), text)
    # The first token is <s>, the second a bare word marker, which no word reads.
    expected = [at if first else SHARED for at, piece in enumerate(SCRIPTS[script], 2)
                for first in [True] + [False] * (len(piece) - 1)]  # fmt: skip
    assert list(row.word_tokens) == expected
    assert row.words == [SHARED_TOKEN if at == SHARED else OWN_TOKEN for at in expected]


def test_words_that_are_dropped_or_cut_off_share_nothing() -> None:
    tokens = Tokenization.of(pieces.tokenizer("我在北京", ["北京"]), 5)  # <s> ▁ 我 北京 </s>
    spans = [(0, 1), (1, 2), (2, 2), (2, 3), (3, 4), (4, 5)]
    (row,) = tokens.rows(["我北京在我"], None, [spans])
    assert list(row.word_tokens) == [2, 3, DROPPED, SHARED, DROPPED, DROPPED]
    assert row.words == [OWN_TOKEN, OWN_TOKEN, NO_TOKEN, SHARED_TOKEN, NO_TOKEN, NO_TOKEN]
    assert row.truncated


class Watched:
    """An encoding that notes what is asked of it."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._encoding, name)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_long_text_is_asked_for_its_offsets_token_by_token(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once are one call, which holds up a server for as long as it takes."""
    text = "".join(SCRIPTS[script])
    backend = pieces.tokenizer(text, SCRIPTS[script]).backend_tokenizer
    short, long = Watched(backend.encode(text)), Watched(backend.encode(text))
    found = first_tokens(short, characters(text))
    monkeypatch.setattr("polytask.data.tokens._AT_ONCE", 2)
    assert first_tokens(long, characters(text)) == found
    assert "offsets" in short.asked
    assert "offsets" not in long.asked


MARKED: dict[str, tuple[Any, Any, Any]] = {
    "sentencepiece": (pre_tokenizers.Metaspace(), None, None),
    "sentencepiece, legacy": (
        None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None,
    ),
    "sentencepiece after white space": (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]), None, None,
    ),
    "bytes": (pre_tokenizers.ByteLevel(add_prefix_space=True), None, processors.ByteLevel(trim_offsets=False)),
    "bytes, trimmed": (pre_tokenizers.ByteLevel(add_prefix_space=True), None, processors.ByteLevel(trim_offsets=True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", MARKED)
def test_a_word_is_not_read_from_a_bare_word_marker(kind: str) -> None:
    symbols = [*"▁ab", *sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {*"ab"})]
    backend = Tokenizer(models.BPE({symbol: at for at, symbol in enumerate(symbols)}, []))
    pre_tokenizer, normalizer, processor = MARKED[kind]
    for name, part in (("pre_tokenizer", pre_tokenizer), ("normalizer", normalizer), ("post_processor", processor)):
        if part is not None:
            setattr(backend, name, part)
    encoding = backend.encode("ab ba")
    assert {"▁", "Ġ"} & set(encoding.tokens)
    found = [encoding.tokens[at] for at in first_tokens(encoding, [(0, 2), (3, 5)])]
    assert found == ["a", "b"]


def test_the_sign_that_marks_words_is_read_where_the_text_itself_holds_it() -> None:
    tokenizer = pieces.tokenizer("a▁")
    row = row_of(tokenizer, "▁a")
    assert [tokenizer.convert_ids_to_tokens(row.ids[at]) for at in row.word_tokens] == ["▁", "a"]
    (alone,) = Tokenization.of(tokenizer, 8).rows(["▁"], None, [[(0, 1)]])
    assert list(alone.word_tokens) == [1]


CELLS = [
    {"tokens": [*"我在北京"], "tags": ["O", "O", "B-LOC", "I-LOC"]},
    {"tokens": [*"北京大学好"], "tags": ["B-ORG", "I-ORG", "I-ORG", "I-ORG", "O"]},
    {"tokens": [*"我爱北京"], "tags": ["O", "O", "O", "B-LOC"]},  # begins inside a token
]
PIECES = pieces.tokenizer("我在北京大学好爱", ["北京", "北京大学"])


def tables_of(options: Build, rows: list[dict[str, Any]], **more: Any) -> DataTables:
    return read_tables({"it": options("tagging", rows, dev=rows, test=rows[:2], **more)})


def through_tokens(task: Tagging, source: Source) -> tuple[list[Label], list[Label]]:
    """Return the labels of a source, and what is decoded where each token says what it was to learn."""
    labels: list[Label] = source.raw["label.it"]
    words = [source.tokens(row).words for row in range(len(source))]
    learned = np.concatenate([_targets(task, source, row) for row in range(len(source))])
    return labels, task.decode(np.eye(len(task.tagset), dtype=np.float32)[learned], words)


def _targets(task: Tagging, source: Source, row: int) -> Any:
    batch = Collator({"it": task}, 1, False, 64).from_sources([source], [DrawnRow(0, row, ("it",))])
    (chunk,) = batch.chunks
    assert chunk.tasks["it"].words is not None
    assert len({*map(tuple, chunk.tasks["it"].words.T.tolist())}) == len(batch.targets["it"])  # each token once
    return batch.targets["it"].numpy()


def test_a_token_learns_the_tag_of_its_first_word_once(options: Build) -> None:
    tables = tables_of(options, CELLS)
    task = tables.tasks["it"]
    assert isinstance(task, Tagging)
    (source,) = encode_tables(tables, Tokenization.of(PIECES, 32))["train"]
    learned = [[task.tagset[tag] for tag in _targets(task, source, row)] for row in range(3)]
    assert learned == [["O", "O", "B-LOC"], ["B-ORG", "O"], ["O", "O", "O"]]
    labels, found = through_tokens(task, source)
    assert found[:2] == labels[:2]
    assert found[2] == ["O"] * 4


@pytest.mark.parametrize("scheme", ["bio", "plain"])
def test_check_counts_words_that_share_a_token_and_tags_that_are_lost(scheme: str, options: Build) -> None:
    tables = tables_of(options, CELLS, scheme=scheme)
    notes = shared_token_warnings(encode_tables(tables, Tokenization.of(PIECES, 32)), tables.tasks)
    kept = "continue its entity; 1 tags differ from that and count as errors, the first at train row 3"
    plain = "get its tag; 5 tags differ from that and count as errors, the first at train row 1"
    said = [f"{note.place}: {note.message}" for note in notes]
    assert said[0] == (
        "train of it: 5 of 13 words (38.5 %) share a token with the previous word and "
        + (kept if scheme == "bio" else plain)
    )
    assert [note.place for note in notes] == ["train of it", "dev of it", "test of it"]
    if scheme == "bio":
        assert (
            said[2] == "test of it: 4 of 9 words (44.4 %) share a token with the previous word and continue its entity"
        )


def test_check_says_nothing_where_every_word_has_a_token(options: Build) -> None:
    tables = tables_of(options, CELLS)
    single = pieces.tokenizer("我在北京大学好爱")
    assert shared_token_warnings(encode_tables(tables, Tokenization.of(single, 32)), tables.tasks) == []


LABELLED = st.lists(
    st.tuples(st.sampled_from(["北京", "北京大学", "我", "在", "大", "好爱"]), st.sampled_from(["O", "A", "B", "+"])),
    min_size=1,
    max_size=8,
)


@given(LABELLED)
def test_entities_of_whole_tokens_survive_in_any_spelling(labelled: list[tuple[str, str]]) -> None:
    """An entity ("+" goes on with it) of whole tokens is the same read from one token or from one a character."""
    tags: list[str] = []
    for piece, mark in labelled:
        goes_on = mark == "+" and bool(tags) and tags[-1] != "O"
        first = f"I-{tags[-1][2:]}" if goes_on else "O" if mark in "O+" else f"B-{mark}"
        tags += [first, *[first if first == "O" else f"I-{first[2:]}"] * (len(piece) - 1)]
    text = "".join(piece for piece, _ in labelled)
    task = Tagging.from_json(
        "it",
        {
            "type": "tagging",
            "options": {"type": "tagging"},
            "fitted": {"tagset": ["O", "B-A", "I-A", "B-B", "I-B"], "counts": [1] * 5, "bio": True},
        },
    )
    assert isinstance(task, Tagging)
    whole = [piece for piece, _ in labelled]
    for tokenizer in (pieces.tokenizer(text), pieces.tokenizer(text, [piece for piece in whole if len(piece) > 1])):
        row = row_of(tokenizer, text)
        outputs = np.eye(5, dtype=np.float32)[task.targets([tags], [row.words])]
        assert task.decode(outputs, [row.words]) == [tags]


@pytest.mark.skipif(
    not (WEIBO.is_dir() and ENCODER.is_dir()), reason=f"the set or the encoder is not there: {WEIBO}, {ENCODER}"
)
def test_real_chinese_pieces_hardly_limit_what_entities_can_be_found(options: Build) -> None:
    files = {split: str(WEIBO / f"{split}.conll") for split in ("train", "dev", "test")}
    tables = read_tables({"it": options("tagging", **files)})
    tokens = Tokenization.read(ENCODER / "tokenizer.json", 512, type_ids=False)
    sources = encode_tables(tables, tokens)
    task = tables.tasks["it"]
    assert isinstance(task, Tagging)
    labels, found = through_tokens(task, sources["test"][0])
    assert entity_f1(labels, found) >= 0.98  # type: ignore[arg-type]
    assert (word_accuracy(labels, found) or 0) >= 0.998  # type: ignore[arg-type]
    notes = [f"{note.place}: {note.message}" for note in shared_token_warnings(sources, tables.tasks)]
    assert notes[2].startswith("test of it: 3317 of 14842 words (22.3 %) share a token with the previous word and")
