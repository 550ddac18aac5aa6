"""Chooses an encoder by the language of the texts, and the maximum number of tokens by their lengths."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.data.words import split_words
from polytask.errors import PolytaskError
from polytask.model.loading import PACKAGES, locate
from polytask.regular import is_folder, read_text

ENGLISH = next(iter(PACKAGES))
MULTILINGUAL = "intfloat/multilingual-e5-small"
# Texts with a greater share of non-English letters are in another language; French has about 4 %.
_FOREIGN_LETTERS = 0.1
# Japanese texts have a greater share of kana among their letters than this.
_KANA = 0.1
# Least share of a text's words that are frequent words of its language.
_FREQUENT = 0.05
# Frequent words of languages with mostly English letters, without words that two of these languages share.
_WORDS = {
    "English": "the and of that it was for with this are you have but they from not be",
    "German": "der die das und nicht ein ich zu mit auf ist den von sich auch wir",
    "French": "le les et est une des pas je dans pour qui sur mais nous avec",
    "Spanish": "el los y es una por para muy pero las del como más lo",
    "Italian": "il di che è non per sono gli della anche ma questo molto",
    "Portuguese": "os um uma não com em muito mas foi ao você isso",
    "Dutch": "het een en van niet ik op dat voor zijn maar",
    "Scandinavian": "och att det är som inte på og er ikke jeg av",
    "Polish": "w nie na się jest z że jak ale tak bardzo",
    "Turkish": "bir ve bu için çok ama değil olarak daha",
    "Indonesian": "yang dan ini itu dengan untuk tidak saya",
    "Romanian": "și nu este pe cu mai din pentru care",
}
_TOKENS = (32, 64, 128, 256)
# Share of the texts that may be truncated.
_CUT = 0.02


@dataclass(frozen=True)
class Reader:
    """An encoder for some texts.

    Attributes:
        why: a comment on the choice.
        max_tokens: maximum number of tokens per text; `length` is a comment on it.
    """

    encoder: str
    why: str
    max_tokens: int
    length: str


def choose_reader(texts: Sequence[str], requested: str | None) -> Reader:
    """Choose an encoder and a length for texts.

    Args:
        requested: encoder that the user named, if any.
    """
    language = language_of(texts)
    encoder, why = (ENGLISH, "the texts look English; 22 million parameters, fast on a CPU")
    if requested is not None:
        encoder, why = requested, "as requested"
    elif language != "English":
        encoder = MULTILINGUAL
        why = (
            f"the texts {f'look {language}' if language else 'do not look English'}: a multilingual encoder, fetched "
            "from the Hugging Face hub on first use; a folder works too"
        )
    lengths, how = _lengths(texts, encoder)
    most = min(_TOKENS[-1], _limit(encoder) or _TOKENS[-1])
    fitting = (size for size in _TOKENS if _share(lengths, size) >= 1 - _CUT)
    size = max(4, min(most, next(fitting, most)))
    fitting_share = _share(lengths, size)
    cut = (
        ""
        if fitting_share >= 1 - _CUT
        else "; the others are truncated: a greater number reads more of them, but is slower"
    )
    return Reader(
        encoder, why, size, f"{100 * fitting_share:.0f} % of the texts have at most this many tokens ({how}){cut}"
    )


def language_of(texts: Sequence[str]) -> str:
    """Return the language according to script and frequent words; "" if it is not recognized.

    >>> language_of(["The film was not for you."]), language_of(["电影很好看"])
    ('English', 'Chinese')
    """
    text = " ".join(texts).lower()
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not character.isascii() for character in letters)
    if 2 * foreign > len(letters):
        return _by_script(letters)
    words = Counter(re.findall(r"[^\W\d_]+", text))
    counts = {name: sum(words[word] for word in listed.split()) for name, listed in _WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best] > 2 * counts["English"] and counts[best] >= _FREQUENT * words.total():
        return best
    return "" if foreign > _FOREIGN_LETTERS * len(letters) else "English"


def _by_script(letters: Sequence[str]) -> str:
    """Return the language of a script that most letters belong to; "" if there is none."""
    scripts = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in letters)
    most = max(scripts, key=lambda script: scripts[script])
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if most in ("CJK", "HIRAGANA", "KATAKANA"):
        return "Japanese" if kana > _KANA * len(letters) else "Chinese"
    return "Korean" if most == "HANGUL" else ""


def _share(lengths: Sequence[int], size: int) -> float:
    return sum(length <= size for length in lengths) / len(lengths) if lengths else 1.0


def _folder(encoder: str) -> Path | None:
    """Return the folder of an encoder that is available locally."""
    try:
        folder = Path(locate(encoder))
    except PolytaskError:
        return None
    return folder if is_folder(folder) else None


def _lengths(texts: Sequence[str], encoder: str) -> tuple[list[int], str]:
    """Return the texts' lengths in tokens, and whether they were counted, or estimated from words."""
    folder = _folder(encoder)
    file = folder / "tokenizer.json" if folder is not None else None
    tokenizer = _tokenizer(file) if file is not None and file.is_file() else None
    if tokenizer is not None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))], "counted in a sample"
    return [round(1.4 * len(split_words(text))) + 2 for text in texts], "estimated from words"


def _tokenizer(file: Path) -> Any:  # noqa: ANN401
    """Read a tokenizer; None if it is damaged, which `polytask check` reports."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # noqa: BLE001 - the library raises plain exceptions
        return None


def _limit(encoder: str) -> int | None:
    """Return the maximum number of tokens of an encoder that is available locally."""
    folder = _folder(encoder)
    try:
        config = json.loads(read_text((folder or Path()) / "config.json"))
        # The RoBERTa family counts positions from the one after the padding id.
        return int(config["max_position_embeddings"]) - 2
    except (OSError, ValueError, KeyError, TypeError):
        return None
