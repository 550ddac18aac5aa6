"""Texts to try a model on. They are a part of the package: training rows may be private, and are never shown."""

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
    """Return what a model can read: three texts, pairs where all of its tasks read pairs, one pair where some do.

    Where some of its tasks choose among options, a row with options is the last of them, and the only one where all do.
    They are Chinese where a label is, or where a third of the encoder's tokens hold Chinese characters; else English.
    """
    listed = list(tasks)
    found = CHINESE if _is_chinese([label for task in listed for label in task.labels], list(vocabulary)) else ENGLISH
    choosing = [task for task in listed if task.options_column is not None]
    rows: list[Example] = [_question(choosing, found)] if choosing else []
    paired = [task.options.inputs.second is not None for task in listed if task.options_column is None]
    if not paired:
        return rows
    if all(paired):
        return [*found.pairs[: 3 - len(rows)], *rows]
    texts: list[Example] = [*found.texts[:2], found.pairs[0]] if any(paired) else list(found.texts)
    return [*texts[: 3 - len(rows)], *rows]


def _question(tasks: Iterable[Task], examples: Examples) -> dict[str, str | list[str]]:
    """Return a row in which each of some tasks finds a text and options."""
    row: dict[str, str | list[str]] = {}
    for task in tasks:
        inputs = task.options.inputs
        row |= dict.fromkeys([one for one in (inputs.first, inputs.second) if one is not None], examples.question)
        row[str(task.options_column)] = list(examples.options)
    return row


def _is_chinese(labels: list[str], vocabulary: list[str]) -> bool:
    if any(map(_KANA.search, labels)):
        return False
    if any(map(_HAN.search, labels)):
        return True
    han, kana = (sum(1 for token in vocabulary if script.search(token)) for script in (_HAN, _KANA))
    return han > len(vocabulary) / 3 and kana < han / 10
