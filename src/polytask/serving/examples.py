"""Example texts to try a model. They are part of the package: training rows may be private, and are never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from polytask.tasks import Task

Example: TypeAlias = "str | tuple[str, str] | dict[str, str | list[str]]"


@dataclass(frozen=True)
class Examples:
    """Texts, pairs of texts, and a question with its options, in one language."""

    texts: tuple[str, str, str]
    pairs: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
    question: str
    options: tuple[str, ...]


ENGLISH = Examples(
    (
        "A moving film by Ang Lee.",
        "The train to Lyon was two hours late, and nobody at the station could help.",
        "Siemens opens a research centre in Porto next spring.",
    ),
    (
        ("A man plays a guitar.", "Someone makes music."),
        ("How do I reset my password?", "I forgot my password; what can I do?"),
        ("The shop opens at nine.", "The shop is closed all day."),
    ),
    "What do you need to open a locked door?",
    ("a key", "a spoon", "an umbrella"),
)
CHINESE = Examples(
    ("李安的这部电影很感人。", "开往上海的列车晚点两个小时，车站里没有人能帮忙。", "华为明年春天在成都开设研究中心。"),
    (
        ("一个男人在弹吉他。", "有人在演奏音乐。"),
        ("怎么重置密码？", "我忘了密码，该怎么办？"),
        ("这家店九点开门。", "这家店全天不营业。"),
    ),
    "打开锁着的门需要什么？",
    ("钥匙", "勺子", "雨伞"),
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_KANA = re.compile(r"[\u3040-\u30ff]")


def examples_for(tasks: Iterable[Task], vocabulary: Iterable[str]) -> list[Example]:
    """Return examples that a model can read: three texts, or pairs if all tasks read pairs, or one pair if some do.

    If some tasks choose among options, the last example is a row with options; if all do, it is the only one.
    The examples are Chinese if a label is, or if a third of the encoder's tokens contain Chinese characters.
    """
    listed = list(tasks)
    language = (
        CHINESE if _is_chinese([label for task in listed for label in task.labels], list(vocabulary)) else ENGLISH
    )
    choosing = [task for task in listed if task.options_column is not None]
    rows: list[Example] = [_question(choosing, language)] if choosing else []
    paired = [task.options.inputs.second is not None for task in listed if task.options_column is None]
    if not paired:
        return rows
    if all(paired):
        return [*language.pairs[: 3 - len(rows)], *rows]
    texts: list[Example] = [*language.texts[:2], language.pairs[0]] if any(paired) else list(language.texts)
    return [*texts[: 3 - len(rows)], *rows]


def _question(tasks: Iterable[Task], examples: Examples) -> dict[str, str | list[str]]:
    """Return a row with a text and options for each of some tasks."""
    row: dict[str, str | list[str]] = {}
    for task in tasks:
        inputs = task.options.inputs
        row |= dict.fromkeys(
            [column for column in (inputs.first, inputs.second) if column is not None], examples.question
        )
        row[str(task.options_column)] = list(examples.options)
    return row


def _is_chinese(labels: list[str], vocabulary: list[str]) -> bool:
    if any(map(_KANA.search, labels)):
        return False
    if any(map(_HAN.search, labels)):
        return True
    han, kana = (sum(1 for token in vocabulary if script.search(token)) for script in (_HAN, _KANA))
    return han > len(vocabulary) / 3 and kana < han / 10
