"""Words: cutting, finding and joining are inverse to one another."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from polytask.data.words import find_words, join_words, split_words
from polytask.terms import WordSpan

odd = st.sampled_from("中文。，あア한 \u3000\u00a0\u2028\u200b\x00.@#'é\u0301😀👩‍💻")
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), odd), max_size=40)
tokens = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), odd), min_size=1, max_size=6).filter(
    lambda token: not any(character.isspace() for character in token)
)
blanks = st.text(st.sampled_from(" \n\t\u3000\u00a0\u2028"), max_size=3)


def pieces(text: str, words: list[WordSpan]) -> list[str]:
    return [text[start:end] for start, end in words]


@given(texts)
def test_split_words_leaves_out_white_space_and_nothing_else(text: str) -> None:
    words = split_words(text)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(words))
    assert "".join(pieces(text, words)) == "".join(text.split())
    assert all(piece and not any(map(str.isspace, piece)) for piece in pieces(text, words))


@given(texts)
def test_the_words_of_a_text_are_found_in_it(text: str) -> None:
    words = split_words(text)
    assert find_words(text, pieces(text, words)) == words


@given(st.lists(tokens, max_size=8))
def test_joined_tokens_are_found_where_they_were_put(given_tokens: list[str]) -> None:
    text, words = join_words(given_tokens)
    assert pieces(text, words) == given_tokens
    assert find_words(text, given_tokens) == words


@given(st.lists(texts, max_size=6))
def test_join_words_spells_any_tokens(given_tokens: list[str]) -> None:
    text, words = join_words(given_tokens)
    assert pieces(text, words) == given_tokens
    assert all(0 <= second[0] - first[1] <= 1 for first, second in itertools.pairwise(words))


@given(st.lists(st.tuples(blanks, texts), max_size=5), blanks)
def test_found_words_spell_all_of_the_text(parts: list[tuple[str, str]], rest: str) -> None:
    given_tokens = [token for _, token in parts]
    text = "".join(blank + token for blank, token in parts) + rest
    words = find_words(text, given_tokens)
    if not any(map(str.isspace, "".join(given_tokens))):
        assert words is not None
    if words is None:
        return
    assert pieces(text, words) == given_tokens
    ends = [0, *(end for _, end in words)]
    starts = [*(start for start, _ in words), len(text)]
    assert all(not text[end:start].strip() for end, start in zip(ends, starts, strict=True))


@given(st.lists(tokens, min_size=1, max_size=6), st.integers(0, 5))
def test_a_missing_or_changed_token_is_not_found(given_tokens: list[str], at: int) -> None:
    at %= len(given_tokens)
    text, _ = join_words(given_tokens)
    assert find_words(text, given_tokens[:at] + given_tokens[at + 1 :]) is None
    assert find_words(text, [*given_tokens, "more"]) is None
    assert find_words(text, [*given_tokens[:at], given_tokens[at] + "x", *given_tokens[at + 1 :]]) is None


def test_chinese_and_japanese_are_joined_without_spaces_and_latin_with() -> None:
    assert join_words(["我", "爱", "北京", "。"])[0] == "我爱北京。"
    assert join_words(["これ", "は", "ペン"])[0] == "これはペン"
    assert join_words(["我", "用", "Python", "3", "写"])[0] == "我用 Python 3 写"
    assert join_words(["서울", "에서"])[0] == "서울 에서"
    assert join_words(["a", "，", "b"])[0] == "a ， b"


def test_each_chinese_character_is_a_word_and_korean_is_cut_at_spaces() -> None:
    text = "我爱Python3.11，真的 서울에서"
    assert pieces(text, split_words(text)) == ["我", "爱", "Python3.11", "，", "真", "的", "서울에서"]


def test_addresses_and_names_stay_whole_and_punctuation_stands_alone() -> None:
    text = "@ann see https://a.org/b?c=1 #now: Lee's U.S. film..."
    assert pieces(text, split_words(text)) == [
        "@ann", "see", "https://a.org/b?c=1", "#now", ":", "Lee", "'", "s", "U.S", ".", "film", ".", ".", ".",
    ]  # fmt: skip


def test_accents_and_vowel_signs_belong_to_their_letters() -> None:
    for text in ("हिन्दी", "e\u0301te\u0301", "שָׁלוֹם", "#हिन्दी", "مُحَمَّد"):
        assert pieces(text, split_words(text)) == [text]
    assert pieces("भाषा।", split_words("भाषा।")) == ["भाषा", "।"]
