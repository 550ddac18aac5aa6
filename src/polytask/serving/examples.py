"""Texts to try a model on. They are a part of the package: training rows may be private, and are never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from polytask.tasks import Task

Example: TypeAlias = str | tuple[str, str]


@dataclass(frozen=True)
class Examples:
    """Texts and pairs of texts in one language."""

    texts: tuple[str, str, str]
    pairs: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]


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
)
CHINESE = Examples(
    ("李安的这部电影很感人。", "开往上海的列车晚点两个小时，车站里没有人能帮忙。", "华为明年春天在成都开设研究中心。"),
    (
        ("一个男人在弹吉他。", "有人在演奏音乐。"),
        ("怎么重置密码？", "我忘了密码，该怎么办？"),
        ("这家店九点开门。", "这家店全天不营业。"),
    ),
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_KANA = re.compile(r"[\u3040-\u30ff]")


def examples_for(tasks: Iterable[Task], vocabulary: Iterable[str]) -> list[Example]:
    """Return three texts that a model can read: pairs where all of its tasks read pairs, one pair where some do.

    They are Chinese where a label is, or where a third of the encoder's tokens hold Chinese characters; else English.
    """
    listed = list(tasks)
    found = CHINESE if _is_chinese([label for task in listed for label in task.labels], list(vocabulary)) else ENGLISH
    paired = [task.options.inputs.second is not None for task in listed]
    if all(paired):
        return list(found.pairs)
    return [*found.texts[:2], found.pairs[0]] if any(paired) else list(found.texts)


def _is_chinese(labels: list[str], vocabulary: list[str]) -> bool:
    if any(map(_KANA.search, labels)):
        return False
    if any(map(_HAN.search, labels)):
        return True
    han, kana = (sum(1 for token in vocabulary if script.search(token)) for script in (_HAN, _KANA))
    return han > len(vocabulary) / 3 and kana < han / 10
